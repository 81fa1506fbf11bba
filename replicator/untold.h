/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Untags that the peer has not confirmed yet: until it has, it may hold a copy that it would run.
 * One file per guest, STATE-DIR/untold/UUID.state: its tag as it was in the end.
 */
#ifndef REPLICATOR_UNTOLD_H
#define REPLICATOR_UNTOLD_H

#include "replicator/tags.h"

struct untold;

/* Asked and not confirmed: it could not be done just then, or word was lost. */
enum { UNTOLD_AGAIN_MS = 3000 };

/* Asks the peer to confirm the untag `serial`. 0, or -errno: it cannot be asked now. */
typedef int untold_ask(void *arg, const struct tag *t, uint64_t serial);

/* Loads what is in `dir`, which exists, as does `guests_dir`. 0 or -errno. */
int untold_new(const char *guests_dir, const char *dir, untold_ask *ask, void *arg,
	       struct untold **out);
void untold_free(struct untold *u);

/* The tag's file moves from guests_dir to dir, in one step; then the peer is asked. 0 or -errno: to
 * be tried again. */
int untold_add(struct untold *u, const struct tag *t);

/* NULL: there is none. */
const struct tag *untold_find(const struct untold *u, const uint8_t uuid[16]);
unsigned int untold_count(const struct untold *u);
/* One after the other, from NULL to NULL. */
const struct tag *untold_next(const struct untold *u, const struct tag *after);

/* It is not to be told any more: confirmed, or tagged again. 0, or -errno: the file is left
 * (logged). */
int untold_forget(struct untold *u, const uint8_t uuid[16]);

/* The peer's answer. True: to what is to be told now; call untold_forget(). */
bool untold_answered(const struct untold *u, const uint8_t uuid[16], uint64_t serial);

/* At every tick, and when a session begins (`anew`). */
void untold_ask_all(struct untold *u, uint64_t now, bool anew);

#endif
