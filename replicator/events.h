/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The last things that happened, for `understudy events`: a ring in memory, every record also one
 * line in the log. */
#ifndef REPLICATOR_EVENTS_H
#define REPLICATOR_EVENTS_H

#include <stdint.h>

enum {
	EVENTS_KEPT = 2048,
	EVENT_FIELDS_MAX = 16,
	EVENT_TEXT_MAX = 192,
	EVENT_NAME_MAX = 64,
	EVENT_KEY_MAX = 24
};

struct event_record {
	uint64_t serial; /* from 1, without gaps */
	uint64_t wall_us, mono_us;
	char guest[EVENT_NAME_MAX]; /* empty: about the host */
	const char *kind;	    /* static */
	char text[EVENT_TEXT_MAX];
	unsigned int nr_fields;
	struct {
		char key[EVENT_KEY_MAX];
		int64_t value;
	} fields[EVENT_FIELDS_MAX];
};

struct events;

/* `added` is called with every new record (for followers). */
struct events *events_new(void (*added)(void *arg, const struct event_record *r), void *arg);
void events_free(struct events *e);

/*
 * Adds a record. `keys` names the numbers that follow, separated by blanks in a string literal:
 * each is an int64_t;
 * "" for none. events_add(e, g, "dropped", "link lost", "term epoch", (int64_t)3, (int64_t)77).
 */
void events_add(struct events *e, const char *guest, const char *kind, const char *text,
		const char *keys, ...);

/* The oldest kept record with a serial above `since`, or NULL. */
const struct event_record *events_next(const struct events *e, uint64_t since);

#endif
