/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/events.h"
#include "common/clock.h"
#include "common/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct events {
	struct event_record ring[EVENTS_KEPT];
	uint64_t last;
	void (*added)(void *arg, const struct event_record *r);
	void *arg;
};

struct events *events_new(void (*added)(void *arg, const struct event_record *r), void *arg)
{
	struct events *e = calloc(1, sizeof(*e));

	if (e) {
		e->added = added;
		e->arg = arg;
	}
	return e;
}

void events_free(struct events *e)
{
	free(e);
}

static void event_log(const struct event_record *r)
{
	char line[512];
	int n = snprintf(line, sizeof(line), "event %s: %s", r->kind, r->text);
	unsigned int i;

	for (i = 0; i < r->nr_fields && n > 0 && (size_t)n < sizeof(line); i++)
		n += snprintf(line + n, sizeof(line) - (size_t)n, " %s=%" PRId64, r->fields[i].key,
			      r->fields[i].value);
	log_info(r->guest[0] ? r->guest : NULL, "%s", line);
}

void events_add(struct events *e, const char *guest, const char *kind, const char *text,
		const char *keys, ...)
{
	struct event_record *r = &e->ring[e->last % EVENTS_KEPT];
	va_list ap;

	memset(r, 0, sizeof(*r));
	r->serial = ++e->last;
	r->wall_us = clock_wall_us();
	r->mono_us = clock_us();
	r->kind = kind;
	snprintf(r->guest, sizeof(r->guest), "%s", guest ? guest : "");
	snprintf(r->text, sizeof(r->text), "%s", text ? text : "");

	va_start(ap, keys);
	while (*keys && r->nr_fields < EVENT_FIELDS_MAX) {
		size_t len = strcspn(keys, " ");

		snprintf(r->fields[r->nr_fields].key, EVENT_KEY_MAX, "%.*s", (int)len, keys);
		r->fields[r->nr_fields++].value = va_arg(ap, int64_t);
		keys += len;
		keys += strspn(keys, " ");
	}
	va_end(ap);

	event_log(r);
	if (e->added)
		e->added(e->arg, r);
}

const struct event_record *events_next(const struct events *e, uint64_t since)
{
	uint64_t serial, first = e->last > EVENTS_KEPT ? e->last - EVENTS_KEPT + 1 : 1;

	if (since >= e->last)
		return NULL;
	serial = since + 1 > first ? since + 1 : first;
	return &e->ring[(serial - 1) % EVENTS_KEPT];
}
