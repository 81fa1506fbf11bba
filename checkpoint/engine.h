/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One epoch, from drain to commit, over all participants (Remus, NSDI 2008, section 3; docs/architecture.md, "The epoch").
 */
#ifndef CHECKPOINT_ENGINE_H
#define CHECKPOINT_ENGINE_H

#include "checkpoint/participant.h"

enum { ENGINE_PARTICIPANTS_MAX = 8 };

/* How the guest is brought to a standstill. `pause`: the hypervisor stops its vCPUs, it never knows. */
struct quiesce_ops {
	const char *name;
	int (*stop)(void *arg);		/* after 0 the guest stands still */
	int (*go)(void *arg);		/* must succeed or the worker dies: a successor lets the guest go */
};

struct engine {
	const char *guest;
	const struct quiesce_ops *quiesce;
	void *quiesce_arg;
	unsigned int nr;
	struct participant *part[ENGINE_PARTICIPANTS_MAX];
};

/* All or none: a failed setup tears down those before it. */
int engine_setup(struct engine *en);
void engine_teardown(struct engine *en);

/*
 * Captures one epoch into `e` (number, term and flags are set by the caller): drain, stop, drain, capture, go. With EPOCH_FINAL the guest
 * stays stopped. Sets captured_us and pause_us. Any error: the guest runs, all participants were told to abort, `e` is void. -EAGAIN:
 * try again shortly.
 */
int engine_capture(struct engine *en, struct epoch *e);

/* The backup has everything up to `number`. The first participant's error ends it: what comes after it (output) is
 * not released. */
int engine_commit(struct engine *en, uint64_t number);

int engine_activate(struct engine *en, const struct epoch *last);

#endif
