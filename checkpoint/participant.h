/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Everything that takes part in an epoch: the guest's memory and context, each kind of device, the xenstore mirror. A table entry
 * is mandatory; the functions are called by checkpoint/engine.c only, on the worker's one thread, in the order of the
 * participants' array, which ends with whatever lets output go.
 */
#ifndef CHECKPOINT_PARTICIPANT_H
#define CHECKPOINT_PARTICIPANT_H

#include "checkpoint/epoch.h"

struct participant;

struct participant_ops {
	const char *name;

	/* Once, when protection begins; the guest runs. An error: protection does not begin, nothing needs undoing. */
	int (*setup)(struct participant *p);

	/*
	 * Before every capture, twice: while the guest still runs (paused = false; may block for some ms) and
	 * right after it was stopped (paused = true; must be short). -EAGAIN: not now; the epoch is tried again
	 * shortly. Another error: protection is lost.
	 */
	int (*drain)(struct participant *p, bool paused);

	/*
	 * Once per epoch while the guest stands still: add to `e` what changed since the last successful capture.
	 * Errors as for drain(); what was taken from the dirty log must then be added again by the next capture.
	 */
	int (*capture)(struct participant *p, struct epoch *e);

	/* The backup holds epoch `number` and all before it. An error: nothing of this epoch is released and protection
	 * is lost. */
	int (*commit)(struct participant *p, uint64_t number);

	/* The epoch that drain() or capture() was called for will not be sent; the guest runs on. */
	void (*abort)(struct participant *p);

	/*
	 * Once, on the backup, at activation; the shell stands still and holds the memory of the committed epoch. `last` holds the latest of
	 * each blob. An error: the guest is not started.
	 */
	int (*activate)(struct participant *p, const struct epoch *last);

	/* Protection ends; the guest runs (or is gone). Leaves no trace. Also after a failed setup of another. */
	void (*teardown)(struct participant *p);
};

struct participant {
	const struct participant_ops *ops;
};

#define participant_self(p, type, member) ((type *)((char *)(p) - offsetof(type, member)))

#endif
