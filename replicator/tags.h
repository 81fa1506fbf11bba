/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a daemon must remember of a tagged guest over its own restart and the host's: one small text
 * file per guest, STATE-DIR/guests/UUID.state, replaced atomically and synced before anything is
 * built on it.
 */
#ifndef REPLICATOR_TAGS_H
#define REPLICATOR_TAGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TAG_NAME_MAX = 64, UUID_TEXT = 37 };

struct tag {
	char name[TAG_NAME_MAX], policy[TAG_NAME_MAX];
	uint8_t uuid[16];
	bool backup;  /* role of this host */
	bool current; /* primary: the backup was not told yet that its copy is stale; backup: the
			 copy may be activated */
	bool handing_over; /* primary: activation there was ordered, the outcome is not known */
	uint64_t term;
	uint64_t epoch; /* last committed when the file was written */
};

/* One line per key, ending in a checksum over the lines before it. Returns the length, or -ENOBUFS.
 */
int tag_format(const struct tag *t, char *out, size_t len);

/* 0 or -EINVAL; `why` names the line and what is wrong with it. */
int tag_parse(struct tag *t, const char *text, size_t len, char *why, size_t why_len);

/* Below `dir`, which exists. 0 or -errno. Blocking for one fsync. */
int tag_save(const char *dir, const struct tag *t);
int tag_remove(const char *dir, const uint8_t uuid[16]);

/* The file is in one directory or in the other at every instant, also over a power cut: both are of
 * one file system. */
int tag_move(const char *from, const char *to, const uint8_t uuid[16]);

/*
 * Calls `found` for every good file in `dir`. A bad one is logged, renamed to *.bad and skipped.
 * Returns how many were found, or -errno.
 */
int tags_load(const char *dir, void (*found)(void *arg, const struct tag *t), void *arg);

void uuid_format(const uint8_t uuid[16], char out[UUID_TEXT]);
/* "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", nothing else. 0 or -EINVAL. */
int uuid_parse(const char *text, uint8_t uuid[16]);

#endif
