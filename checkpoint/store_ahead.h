/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Puts the guest's xenstore nodes into the shell ahead of activation, whenever a new store blob is committed, in a thread with a
 * connection of its own: hundreds of round trips that a failover need not wait for.
 */
#ifndef CHECKPOINT_STORE_AHEAD_H
#define CHECKPOINT_STORE_AHEAD_H

#include "common/buf.h"

#include <stdint.h>

struct event_base;
struct xs_handle;
struct store_ahead;

/* `there(arg)` is called on the loop whenever the latest blob's nodes are in place. */
int store_ahead_new(struct event_base *base, uint32_t domid, const char *guest,
		    void (*there)(void *arg), void *arg, struct store_ahead **out);

/* A thread that is at it frees it when it is done. */
void store_ahead_free(struct store_ahead *sa);

/* `blob` is committed: begin to write it. Never blocks; an error is logged and leaves the work to store_ahead_finish(). */
void store_ahead_update(struct store_ahead *sa, const struct buf *blob);

/* Activation: on return the nodes of `blob` are in place, and nothing is written any more until the next update. Writes only what
 * is missing. */
int store_ahead_finish(struct store_ahead *sa, struct xs_handle *xs, const struct buf *blob);

#endif
