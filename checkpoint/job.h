/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One blocking piece of work beside the event loop: so that a guest keeps its network while its memory is being mapped. */
#ifndef CHECKPOINT_JOB_H
#define CHECKPOINT_JOB_H

#include <stdbool.h>

struct event_base;

/* Runs `work` in a thread of its own, then `done` with its result in the loop. */
int job_start(struct event_base *base, int (*work)(void *arg), void (*done)(void *arg, int rc),
	      void *arg);

/* Whether some thread works; until none does: as long as its work takes, whose waits are bounded. `done` is left to the loop. */
bool job_running(void);
void job_wait_all(void);

#endif
