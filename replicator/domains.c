/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/domains.h"
#include "common/log.h"
#include "replicator/tags.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xenstore.h>

enum { OPEN_RETRY_S = 1, SCAN_DELAY_MS = 2, SCAN_AGAIN_MS = 1000, DOMAINS_MAX = 1024 };

#define VIF_PATH "/local/domain/0/backend/vif"
#define VBD_PATH "/local/domain/0/backend/vbd"

struct domains {
	struct event_base *base;
	struct xs_handle *xs;
	struct event *readable, *scan;
	bool scan_due, ready;
	struct domain_entry *list;
	size_t nr;
	void (*changed)(void *arg);
	void *arg;
};

static void scan_in(struct domains *ds, unsigned int ms)
{
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};

	event_add(ds->scan, &tv);
}

static struct domain_entry *entry_add(struct domains *ds, uint32_t domid)
{
	struct domain_entry *list;

	if (ds->nr == DOMAINS_MAX)
		return NULL;
	list = realloc(ds->list, (ds->nr + 1) * sizeof(*list));
	if (!list)
		return NULL;
	ds->list = list;
	list[ds->nr] = (struct domain_entry){.domid = domid};
	return &list[ds->nr++];
}

/* -errno but for a node that is not there. */
static int node_read(struct domains *ds, uint32_t domid, const char *node, char **value)
{
	char path[64];
	unsigned int len;

	snprintf(path, sizeof(path), "/local/domain/%u/%s", domid, node);
	*value = xs_read(ds->xs, XBT_NULL, path, &len);
	return *value || errno == ENOENT ? 0 : -errno;
}

static int entry_read(struct domains *ds, struct domain_entry *e)
{
	char *name, *vm = NULL;
	int rc;

	rc = node_read(ds, e->domid, "name", &name);
	if (!rc)
		rc = node_read(ds, e->domid, "vm", &vm);
	if (name && vm && !strncmp(vm, "/vm/", 4) && !uuid_parse(vm + 4, e->uuid)) {
		snprintf(e->name, sizeof(e->name), "%s", name);
		e->known = true;
	}
	free(name);
	free(vm);
	return rc;
}

static bool parse_domid(const char *text, uint32_t *domid)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	*domid = (uint32_t)n;
	return !*end && end != text && n > 0 && n < 0x7ff0;
}

static int scan_domains(struct domains *ds)
{
	unsigned int nr, i;
	uint32_t domid;
	char **names;
	int rc = 0;

	names = xs_directory(ds->xs, XBT_NULL, "/local/domain", &nr);
	if (!names)
		return -errno;
	for (i = 0; !rc && i < nr; i++) {
		struct domain_entry *e;

		if (!parse_domid(names[i], &domid))
			continue;
		e = entry_add(ds, domid);
		rc = e ? entry_read(ds, e) : -ENOMEM;
	}
	free(names);
	return rc;
}

/* Every domain with a device of `kind` needs a worker. */
static int scan_devices(struct domains *ds, const char *kind)
{
	unsigned int nr, i;
	uint32_t domid;
	char **names;

	names = xs_directory(ds->xs, XBT_NULL, kind, &nr);
	if (!names)
		return errno == ENOENT ? 0 : -errno;
	for (i = 0; names && i < nr; i++) {
		struct domain_entry *e;

		if (!parse_domid(names[i], &domid))
			continue;
		e = (struct domain_entry *)domains_by_id(ds, domid);
		if (!e)
			e = entry_add(ds, domid);
		if (e)
			e->has_vifs = true;
	}
	free(names);
	return 0;
}

static void domains_close(struct domains *ds)
{
	if (ds->readable)
		event_free(ds->readable);
	ds->readable = NULL;
	xs_close(ds->xs);
	ds->xs = NULL;
}

/* That xenstore does not answer says nothing about the domains: what was seen last stays, for as long as it takes. */
static void domains_scan(struct domains *ds)
{
	struct domain_entry *before = ds->list;
	size_t nr_before = ds->nr;
	int rc;

	ds->list = NULL;
	ds->nr = 0;
	rc = scan_domains(ds);
	if (!rc)
		rc = scan_devices(ds, VIF_PATH);
	if (!rc)
		rc = scan_devices(ds, VBD_PATH);
	if (rc) {
		log_err(NULL, "xenstore: the domains cannot be read: %s", strerror(-rc));
		free(ds->list);
		ds->list = before;
		ds->nr = nr_before;
		scan_in(ds, SCAN_AGAIN_MS);
		return;
	}
	free(before);
	ds->ready = true;
	ds->changed(ds->arg);
}

static void domains_watched(evutil_socket_t fd, short what, void *arg)
{
	struct domains *ds = arg;
	char **event;
	int seen = 0;

	while ((event = xs_check_watch(ds->xs))) {
		free(event);
		seen++;
	}
	if (errno != EAGAIN && errno != EINTR) {
		log_err(NULL, "xenstore: %s", strerror(errno));
		domains_close(ds);
		scan_in(ds, SCAN_AGAIN_MS);
		return;
	}
	if (seen)
		scan_in(ds, SCAN_DELAY_MS);
}

static int domains_open(struct domains *ds)
{
	ds->xs = xs_open(XS_UNWATCH_FILTER);
	if (!ds->xs)
		return -errno;
	if (!xs_watch(ds->xs, "@introduceDomain", "domains") ||
	    !xs_watch(ds->xs, "@releaseDomain", "domains") || !xs_watch(ds->xs, VIF_PATH, "vifs") ||
	    !xs_watch(ds->xs, VBD_PATH, "vbds"))
		return -errno;
	ds->readable =
		event_new(ds->base, xs_fileno(ds->xs), EV_READ | EV_PERSIST, domains_watched, ds);
	if (!ds->readable || event_add(ds->readable, NULL))
		return -ENOMEM;
	return 0;
}

static void domains_due(evutil_socket_t fd, short what, void *arg)
{
	struct domains *ds = arg;
	struct timeval again = {.tv_sec = OPEN_RETRY_S};
	int rc;

	if (!ds->readable) {
		rc = domains_open(ds);
		if (rc) {
			if (!ds->scan_due)
				log_warn(NULL, "xenstore cannot be opened yet: %s", strerror(-rc));
			ds->scan_due = true;
			domains_close(ds);
			event_add(ds->scan, &again);
			return;
		}
		log_info(NULL, "xenstore is open");
	}
	domains_scan(ds);
}

int domains_new(struct event_base *base, void (*changed)(void *arg), void *arg,
		struct domains **out)
{
	struct domains *ds = calloc(1, sizeof(*ds));

	if (!ds)
		return -ENOMEM;
	ds->base = base;
	ds->changed = changed;
	ds->arg = arg;
	ds->scan = evtimer_new(base, domains_due, ds);
	if (!ds->scan) {
		free(ds);
		return -ENOMEM;
	}
	scan_in(ds, 0);
	*out = ds;
	return 0;
}

void domains_free(struct domains *ds)
{
	if (!ds)
		return;
	domains_close(ds);
	event_free(ds->scan);
	free(ds->list);
	free(ds);
}

bool domains_ready(const struct domains *ds)
{
	return ds->ready;
}

const struct domain_entry *domains_list(const struct domains *ds, size_t *nr)
{
	*nr = ds->nr;
	return ds->list;
}

const struct domain_entry *domains_by_id(const struct domains *ds, uint32_t domid)
{
	size_t i;

	for (i = 0; i < ds->nr; i++)
		if (ds->list[i].domid == domid)
			return &ds->list[i];
	return NULL;
}

const struct domain_entry *domains_by_name(const struct domains *ds, const char *name)
{
	size_t i;

	for (i = 0; i < ds->nr; i++)
		if (ds->list[i].known && !strcmp(ds->list[i].name, name))
			return &ds->list[i];
	return NULL;
}

const struct domain_entry *domains_by_uuid(const struct domains *ds, const uint8_t uuid[16])
{
	const struct domain_entry *found = NULL;
	size_t i;

	/* During a reboot the old domain may still be dying: the newer one counts. */
	for (i = 0; i < ds->nr; i++)
		if (ds->list[i].known && !memcmp(ds->list[i].uuid, uuid, 16) &&
		    (!found || ds->list[i].domid > found->domid))
			found = &ds->list[i];
	return found;
}
