/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The operator's programs that are run when a guest changes hosts; understudy.conf(5), [hooks]. */
#ifndef REPLICATOR_HOOK_H
#define REPLICATOR_HOOK_H

#include <stdbool.h>
#include <stdint.h>

struct guest;

enum hook {
	HOOK_ACTIVATE,	 /* the guest runs here now */
	HOOK_DEACTIVATE, /* it ran here and does not any more */
	HOOK_FENCE,	 /* the peer is to be made unable to run it */
	HOOKS,
};
extern const char *const hook_name[HOOKS];

/* Where a guest's fencing stands; zero: nothing was asked for. */
enum fence { FENCE_NONE, FENCE_RUNS, FENCE_DONE, FENCE_FAILED };

/* Runs the hook if one is configured. Its end is an event, its failure an alarm; nothing waits for it. */
void hook_run(struct guest *g, enum hook hook, const char *cause);

/*
 * Whether the peer, which is declared dead, is fenced as far as policy wants it: with no hook configured, at once. Call it again until it is:
 * the hook is run in the background, and again a while after it failed if policy calls it required.
 */
bool hook_fenced(struct guest *g, uint64_t now_us);

/* The peer is heard again: the next death is fenced anew. */
void hook_forget_fence(struct guest *g);

#endif
