/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/untold.h"
#include "common/clock.h"
#include "common/fault.h"
#include "common/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

struct entry {
	struct tag tag;
	/* An answer to an earlier untag of the same guest must not count for this one. */
	uint64_t serial;
	uint64_t again_at_us;
	UT_hash_handle hh;
};

struct untold {
	const char *guests_dir, *dir; /* the caller's */
	untold_ask *ask;
	void *arg;
	uint64_t last_serial;
	struct entry *entries; /* by uuid */
};

static struct entry *find(const struct untold *u, const uint8_t uuid[16])
{
	struct entry *e;

	HASH_FIND(hh, u->entries, uuid, 16, e);
	return e;
}

/* Of the clock, so that a restarted daemon does not use one twice while a guest lives. */
static uint64_t new_serial(struct untold *u)
{
	uint64_t now = clock_us();

	u->last_serial = now > u->last_serial ? now : u->last_serial + 1;
	return u->last_serial;
}

static struct entry *enter(struct untold *u, const struct tag *t)
{
	struct entry *e = find(u, t->uuid);

	if (!e) {
		e = calloc(1, sizeof(*e));
		if (!e)
			return NULL;
		memcpy(e->tag.uuid, t->uuid, sizeof(e->tag.uuid));
		HASH_ADD(hh, u->entries, tag.uuid, sizeof(e->tag.uuid), e);
	}
	e->tag = *t;
	e->serial = new_serial(u);
	e->again_at_us = 0;
	return e;
}

static void leave(struct untold *u, struct entry *e)
{
	HASH_DEL(u->entries, e);
	free(e);
}

static void load_one(void *arg, const struct tag *t)
{
	if (enter(arg, t))
		log_info(t->name, "untagged; the peer has not confirmed it yet");
	else
		log_err(t->name, "untagged, and no memory to tell the peer of it");
}

int untold_new(const char *guests_dir, const char *dir, untold_ask *ask, void *arg,
	       struct untold **out)
{
	struct untold *u = calloc(1, sizeof(*u));
	int rc;

	if (!u)
		return -ENOMEM;
	u->guests_dir = guests_dir;
	u->dir = dir;
	u->ask = ask;
	u->arg = arg;
	rc = tags_load(dir, load_one, u);
	if (rc < 0) {
		untold_free(u);
		return rc;
	}
	*out = u;
	return 0;
}

void untold_free(struct untold *u)
{
	struct entry *e, *next;

	if (!u)
		return;
	HASH_ITER (hh, u->entries, e, next)
		leave(u, e);
	free(u);
}

static void ask(struct untold *u, struct entry *e, uint64_t now)
{
	if (!u->ask(u->arg, &e->tag, e->serial))
		e->again_at_us = now + UNTOLD_AGAIN_MS * 1000ull;
}

int untold_add(struct untold *u, const struct tag *t)
{
	int rc = tag_move(u->guests_dir, u->dir, t->uuid);
	struct entry *e;

	if (rc)
		return rc;
	fi_point("D_UNTOLD");
	e = enter(u, t);
	if (!e)
		return -ENOMEM;
	ask(u, e, clock_us());
	return 0;
}

const struct tag *untold_find(const struct untold *u, const uint8_t uuid[16])
{
	const struct entry *e = find(u, uuid);

	return e ? &e->tag : NULL;
}

unsigned int untold_count(const struct untold *u)
{
	return HASH_COUNT(u->entries);
}

const struct tag *untold_next(const struct untold *u, const struct tag *after)
{
	const struct entry *e = after ? find(u, after->uuid)->hh.next : u->entries;

	return e ? &e->tag : NULL;
}

int untold_forget(struct untold *u, const uint8_t uuid[16])
{
	struct entry *e = find(u, uuid);
	int rc;

	if (!e)
		return 0;
	rc = tag_remove(u->dir, uuid);
	if (rc)
		log_err(e->tag.name, "%s: its untag cannot be removed: %s", u->dir, strerror(-rc));
	leave(u, e);
	return rc;
}

bool untold_answered(const struct untold *u, const uint8_t uuid[16], uint64_t serial)
{
	const struct entry *e = find(u, uuid);

	return e && e->serial == serial;
}

void untold_ask_all(struct untold *u, uint64_t now, bool anew)
{
	struct entry *e, *next;

	HASH_ITER (hh, u->entries, e, next)
		if (anew || now >= e->again_at_us)
			ask(u, e, now);
}
