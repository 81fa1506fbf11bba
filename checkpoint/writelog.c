/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/writelog.h"

#include <errno.h>
#include <stdlib.h>

struct epoch_log {
	uint64_t number;
	uint64_t bytes;
	struct writelog_entry *first, **last;
	struct epoch_log *next;
};

struct writelog {
	uint64_t limit_bytes, kept_bytes, reserved_bytes;
	bool refused, broken;
	void (*room)(void *arg);
	void *arg;
	struct epoch_log *open; /* never NULL */
	struct epoch_log *closed, **last_closed;
};

static struct epoch_log *epoch_log_new(void)
{
	struct epoch_log *e = calloc(1, sizeof(*e));

	if (e)
		e->last = &e->first;
	return e;
}

static void entries_free(struct epoch_log *e)
{
	while (e->first) {
		struct writelog_entry *entry = e->first;

		e->first = entry->next;
		free(entry->change.data);
		free(entry);
	}
	e->last = &e->first;
	e->bytes = 0;
}

/* A single change is let in whatever its size, or it would wait for ever. */
static bool reserve(void *arg, uint64_t bytes)
{
	struct writelog *l = arg;
	uint64_t used = writelog_bytes(l);

	if (used && used + bytes + WRITELOG_ENTRY_BYTES > l->limit_bytes) {
		l->refused = true;
		return false;
	}
	l->reserved_bytes += bytes + WRITELOG_ENTRY_BYTES;
	return true;
}

static void say_room(struct writelog *l)
{
	if (!l->refused || writelog_bytes(l) >= l->limit_bytes)
		return;
	l->refused = false;
	if (l->room)
		l->room(l->arg);
}

static void unreserve(void *arg, uint64_t bytes)
{
	struct writelog *l = arg;

	l->reserved_bytes -= bytes + WRITELOG_ENTRY_BYTES;
	say_room(l);
}

static void change(void *arg, const struct block_change *c, bool reserved)
{
	uint64_t data_bytes = c->kind == BLOCK_WRITE ? c->bytes : 0;
	struct writelog *l = arg;
	struct writelog_entry *entry = malloc(sizeof(*entry));

	if (reserved)
		l->reserved_bytes -= data_bytes + WRITELOG_ENTRY_BYTES;
	if (!entry) {
		free(c->data);
		l->broken = true;
		return;
	}
	*entry = (struct writelog_entry){.change = *c};
	*l->open->last = entry;
	l->open->last = &entry->next;
	l->open->bytes += data_bytes + WRITELOG_ENTRY_BYTES;
	l->kept_bytes += data_bytes + WRITELOG_ENTRY_BYTES;
}

const struct block_log_ops writelog_ops = {
	.reserve = reserve,
	.unreserve = unreserve,
	.change = change,
};

int writelog_new(uint64_t limit_bytes, void (*room)(void *arg), void *arg, struct writelog **out)
{
	struct writelog *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->open = epoch_log_new();
	if (!l->open) {
		free(l);
		return -ENOMEM;
	}
	l->limit_bytes = limit_bytes;
	l->room = room;
	l->arg = arg;
	l->last_closed = &l->closed;
	*out = l;
	return 0;
}

int writelog_close(struct writelog *l, uint64_t number)
{
	struct epoch_log *fresh;

	if (l->broken)
		return -ENOMEM;
	fresh = epoch_log_new();
	if (!fresh)
		return -ENOMEM;
	l->open->number = number;
	*l->last_closed = l->open;
	l->last_closed = &l->open->next;
	l->open = fresh;
	return 0;
}

void writelog_reopen(struct writelog *l, uint64_t number)
{
	struct epoch_log **at = &l->closed, *e;

	while (*at && (*at)->number != number)
		at = &(*at)->next;
	e = *at;
	if (!e || e->next)
		return;
	*at = NULL;
	l->last_closed = at;
	*e->last = l->open->first;
	if (l->open->first)
		e->last = l->open->last;
	e->bytes += l->open->bytes;
	e->number = 0;
	free(l->open);
	l->open = e;
}

const struct writelog_entry *writelog_epoch(const struct writelog *l, uint64_t number)
{
	const struct epoch_log *e = l->closed;

	while (e && e->number != number)
		e = e->next;
	return e ? e->first : NULL;
}

static void free_oldest(struct writelog *l)
{
	struct epoch_log *e = l->closed;

	l->closed = e->next;
	if (!l->closed)
		l->last_closed = &l->closed;
	l->kept_bytes -= e->bytes;
	entries_free(e);
	free(e);
}

void writelog_commit(struct writelog *l, uint64_t number)
{
	while (l->closed && l->closed->number <= number)
		free_oldest(l);
	say_room(l);
}

void writelog_drop(struct writelog *l)
{
	while (l->closed)
		free_oldest(l);
	l->kept_bytes -= l->open->bytes;
	entries_free(l->open);
	l->broken = false;
	say_room(l);
}

void writelog_free(struct writelog *l)
{
	if (!l)
		return;
	l->room = NULL;
	writelog_drop(l);
	free(l->open);
	free(l);
}

uint64_t writelog_bytes(const struct writelog *l)
{
	return l->kept_bytes + l->reserved_bytes;
}
