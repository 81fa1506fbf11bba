/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/fsm.h"

#include <errno.h>

const char *const guest_state_name[GUEST_STATES] = {
	[GUEST_ABSENT] = "absent",	     [GUEST_UNPROTECTED] = "unprotected",
	[GUEST_PREPARING] = "preparing",     [GUEST_SYNCING] = "syncing",
	[GUEST_PROTECTED] = "protected",     [GUEST_DEGRADED] = "degraded",
	[GUEST_SWITCHING] = "switching",     [GUEST_HANDING_OVER] = "handing-over",
	[GUEST_RETIRING] = "retiring",	     [GUEST_UNTAGGING] = "untagging",
	[GUEST_BUILDING] = "shell-building", [GUEST_WAITING] = "waiting",
	[GUEST_STANDBY] = "standby",	     [GUEST_ACTIVATING] = "activating",
	[GUEST_REMOVING] = "removing",
};

const char *const guest_event_name[GUEST_EVENTS] = {
	[GUEST_APPEARED] = "appeared",
	[GUEST_VANISHED] = "vanished",
	[GUEST_TRY_PROTECT] = "try-protect",
	[GUEST_PREPARED] = "prepared",
	[GUEST_REFUSED] = "refused",
	[GUEST_SYNCED] = "synced",
	[GUEST_LOST] = "lost",
	[GUEST_DROPPED] = "dropped",
	[GUEST_WORKER_GONE] = "worker-gone",
	[GUEST_SWITCH] = "switch",
	[GUEST_FINISHED] = "finished",
	[GUEST_CALLED_OFF] = "called-off",
	[GUEST_OUTRANKED] = "outranked",
	[GUEST_RETIRED] = "retired",
	[GUEST_PREPARE] = "prepare",
	[GUEST_SHELL_READY] = "shell-ready",
	[GUEST_SHELL_FAILED] = "shell-failed",
	[GUEST_CURRENT] = "current",
	[GUEST_STALE] = "stale",
	[GUEST_UNPREPARE] = "unprepare",
	[GUEST_SHELL_GONE] = "shell-gone",
	[GUEST_TAKE_OVER] = "take-over",
	[GUEST_ACTIVATED] = "activated",
	[GUEST_ACTIVATE_FAILED] = "activate-failed",
	[GUEST_UNTAG] = "untag",
	[GUEST_FOUND_SYNCING] = "found-syncing",
};

/* A state plus one: what is not named here is 0 and illegal. */
#define TO(state) (GUEST_##state + 1)

static const unsigned char table[GUEST_STATES][GUEST_EVENTS] = {
	[GUEST_ABSENT] =
		{
			[GUEST_APPEARED] = TO(UNPROTECTED),
			[GUEST_VANISHED] = TO(ABSENT),
			[GUEST_OUTRANKED] = TO(ABSENT),
			[GUEST_PREPARE] = TO(BUILDING),
			[GUEST_SHELL_READY] = TO(WAITING), /* a restarted daemon finds its shell */
			[GUEST_UNPREPARE] = TO(ABSENT),
			[GUEST_UNTAG] = TO(UNTAGGING),
		},
	[GUEST_UNPROTECTED] =
		{
			[GUEST_VANISHED] = TO(ABSENT),
			[GUEST_TRY_PROTECT] = TO(PREPARING),
			[GUEST_DROPPED] = TO(UNPROTECTED),
			[GUEST_WORKER_GONE] = TO(UNPROTECTED),
			[GUEST_OUTRANKED] = TO(RETIRING),
			[GUEST_UNTAG] = TO(UNTAGGING),
			/* a restarted daemon finds a worker that went on */
			[GUEST_FOUND_SYNCING] = TO(SYNCING),
			[GUEST_SYNCED] = TO(PROTECTED),
			[GUEST_LOST] = TO(DEGRADED),
			[GUEST_FINISHED] = TO(HANDING_OVER),
		},
	[GUEST_PREPARING] =
		{
			[GUEST_VANISHED] = TO(ABSENT),
			[GUEST_PREPARED] = TO(SYNCING),
			[GUEST_REFUSED] = TO(UNPROTECTED),
			[GUEST_DROPPED] = TO(PREPARING),
			[GUEST_WORKER_GONE] = TO(UNPROTECTED),
			[GUEST_OUTRANKED] = TO(RETIRING),
			[GUEST_UNTAG] = TO(UNTAGGING),
		},
	[GUEST_SYNCING] =
		{
			[GUEST_VANISHED] = TO(ABSENT),
			[GUEST_SYNCED] = TO(PROTECTED),
			[GUEST_REFUSED] = TO(UNPROTECTED),
			[GUEST_LOST] = TO(DEGRADED),
			[GUEST_DROPPED] = TO(UNPROTECTED),
			[GUEST_WORKER_GONE] = TO(UNPROTECTED),
			[GUEST_OUTRANKED] = TO(RETIRING),
			[GUEST_UNTAG] = TO(UNTAGGING),
		},
	[GUEST_PROTECTED] =
		{
			[GUEST_VANISHED] = TO(ABSENT),
			[GUEST_LOST] = TO(DEGRADED),
			[GUEST_DROPPED] = TO(UNPROTECTED),
			[GUEST_WORKER_GONE] = TO(UNPROTECTED),
			[GUEST_SWITCH] = TO(SWITCHING),
			[GUEST_OUTRANKED] = TO(RETIRING),
			[GUEST_UNTAG] = TO(UNTAGGING),
		},
	[GUEST_DEGRADED] =
		{
			[GUEST_VANISHED] = TO(ABSENT),
			[GUEST_LOST] = TO(DEGRADED),
			[GUEST_DROPPED] = TO(UNPROTECTED),
			[GUEST_WORKER_GONE] = TO(UNPROTECTED),
			[GUEST_OUTRANKED] = TO(RETIRING),
			[GUEST_UNTAG] = TO(UNTAGGING),
		},
	[GUEST_SWITCHING] =
		{
			[GUEST_VANISHED] = TO(ABSENT),
			[GUEST_FINISHED] = TO(HANDING_OVER),
			[GUEST_CALLED_OFF] = TO(PROTECTED),
			[GUEST_LOST] = TO(DEGRADED),
			[GUEST_DROPPED] = TO(UNPROTECTED),
			[GUEST_WORKER_GONE] = TO(UNPROTECTED),
			[GUEST_OUTRANKED] = TO(RETIRING),
		},
	[GUEST_HANDING_OVER] =
		{
			[GUEST_VANISHED] = TO(ABSENT),
			[GUEST_FINISHED] = TO(HANDING_OVER),
			[GUEST_CALLED_OFF] =
				TO(DEGRADED), /* resumed, output held until the peer knows */
			[GUEST_LOST] = TO(HANDING_OVER), /* the stream has done its work */
			[GUEST_DROPPED] = TO(HANDING_OVER),
			/* the successor leaves the guest as it is */
			[GUEST_WORKER_GONE] = TO(HANDING_OVER),
			[GUEST_OUTRANKED] = TO(RETIRING),
		},
	[GUEST_RETIRING] =
		{
			[GUEST_VANISHED] = TO(ABSENT),
			[GUEST_RETIRED] = TO(ABSENT),
			[GUEST_LOST] = TO(RETIRING),
			[GUEST_DROPPED] = TO(RETIRING),
			[GUEST_WORKER_GONE] = TO(RETIRING),
			[GUEST_OUTRANKED] = TO(RETIRING),
		},
	[GUEST_UNTAGGING] =
		{
			[GUEST_VANISHED] = TO(UNTAGGING),
			[GUEST_LOST] = TO(UNTAGGING),
			[GUEST_DROPPED] = TO(UNTAGGING),
			[GUEST_WORKER_GONE] = TO(UNTAGGING),
			[GUEST_SHELL_GONE] = TO(UNTAGGING),
			[GUEST_UNTAG] = TO(UNTAGGING),
		},
	[GUEST_BUILDING] =
		{
			[GUEST_SHELL_READY] = TO(WAITING),
			[GUEST_SHELL_FAILED] = TO(REMOVING),
			[GUEST_WORKER_GONE] = TO(BUILDING),
			[GUEST_UNPREPARE] = TO(REMOVING),
			[GUEST_VANISHED] = TO(REMOVING),
			[GUEST_UNTAG] = TO(UNTAGGING),
		},
	[GUEST_WAITING] =
		{
			[GUEST_PREPARE] = TO(WAITING), /* the shell can be used again */
			[GUEST_SHELL_FAILED] = TO(REMOVING),
			[GUEST_CURRENT] = TO(STANDBY),
			[GUEST_ACTIVATED] =
				TO(UNPROTECTED), /* while no daemon was there to hear of it */
			[GUEST_STALE] = TO(WAITING),
			[GUEST_WORKER_GONE] = TO(WAITING),
			[GUEST_UNPREPARE] = TO(REMOVING),
			[GUEST_VANISHED] = TO(ABSENT),
			[GUEST_UNTAG] = TO(UNTAGGING),
		},
	[GUEST_STANDBY] =
		{
			[GUEST_PREPARE] = TO(WAITING),
			[GUEST_CURRENT] = TO(STANDBY),
			[GUEST_STALE] = TO(WAITING),
			[GUEST_WORKER_GONE] = TO(WAITING), /* its copy died with it */
			[GUEST_TAKE_OVER] = TO(ACTIVATING),
			[GUEST_ACTIVATED] = TO(UNPROTECTED),
			[GUEST_UNPREPARE] = TO(REMOVING),
			[GUEST_VANISHED] = TO(ABSENT),
			[GUEST_UNTAG] = TO(UNTAGGING),
		},
	[GUEST_ACTIVATING] =
		{
			[GUEST_ACTIVATED] = TO(UNPROTECTED),
			[GUEST_ACTIVATE_FAILED] = TO(STANDBY),
			[GUEST_WORKER_GONE] = TO(ACTIVATING), /* it may run already: asked before
								 anything is destroyed */
			[GUEST_SHELL_FAILED] =
				TO(REMOVING), /* it does not, and its epoch died with the worker */
			[GUEST_VANISHED] = TO(ABSENT),
			[GUEST_CURRENT] = TO(ACTIVATING),
			[GUEST_STALE] = TO(ACTIVATING), /* the stream closes behind the final epoch
							 */
		},
	[GUEST_REMOVING] =
		{
			[GUEST_SHELL_GONE] = TO(ABSENT),
			[GUEST_VANISHED] = TO(REMOVING),
			[GUEST_WORKER_GONE] = TO(REMOVING),
			[GUEST_SHELL_READY] = TO(REMOVING),
			[GUEST_SHELL_FAILED] = TO(REMOVING),
			[GUEST_CURRENT] = TO(REMOVING),
			[GUEST_STALE] = TO(REMOVING),
			[GUEST_UNPREPARE] = TO(REMOVING),
			[GUEST_UNTAG] = TO(UNTAGGING),
		},
};

int fsm_next(enum guest_state state, enum guest_event event)
{
	if ((unsigned int)state >= GUEST_STATES || (unsigned int)event >= GUEST_EVENTS)
		return -EINVAL;
	return table[state][event] ? table[state][event] - 1 : -EINVAL;
}

int fsm_runs_here(enum guest_state state)
{
	return state >= GUEST_UNPROTECTED && state <= GUEST_RETIRING;
}

int fsm_has_shell(enum guest_state state)
{
	return state >= GUEST_BUILDING && state <= GUEST_REMOVING;
}
