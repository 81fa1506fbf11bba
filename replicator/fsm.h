/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's state machine as a pure table: no I/O, no clock. guest.c is the only place that
 * applies it.
 */
#ifndef REPLICATOR_FSM_H
#define REPLICATOR_FSM_H

enum guest_state {
	GUEST_ABSENT, /* tagged, and this host neither runs it nor has a shell of it */
	/* the guest runs here */
	GUEST_UNPROTECTED,
	GUEST_PREPARING, /* the peer builds or readies the shell */
	GUEST_SYNCING,	 /* baseline on its way */
	GUEST_PROTECTED,
	GUEST_DEGRADED,	    /* stream lost, output held, being decided */
	GUEST_SWITCHING,    /* switchover: final epoch on its way */
	GUEST_HANDING_OVER, /* switchover: paused behind the final epoch, the peer activates */
	GUEST_RETIRING,	    /* another host runs it in a later term: ours is being destroyed */
	GUEST_UNTAGGING,    /* protection is being taken away for good */
	/* a shell of it is here */
	GUEST_BUILDING,
	GUEST_WAITING, /* shell ready, no whole epoch yet */
	GUEST_STANDBY, /* could be activated */
	GUEST_ACTIVATING,
	GUEST_REMOVING, /* the shell is being destroyed */
	GUEST_STATES,
};

enum guest_event {
	GUEST_APPEARED,	   /* a domain of that name and uuid runs here */
	GUEST_VANISHED,	   /* ... or the shell is gone */
	GUEST_TRY_PROTECT, /* worker, peer and back-off allow another attempt */
	GUEST_PREPARED,
	GUEST_REFUSED, /* by the peer, a time-out, or a worker that cannot */
	GUEST_SYNCED,  /* first whole epoch committed */
	GUEST_LOST,    /* the worker lost its stream and holds */
	GUEST_DROPPED, /* the worker passes output freely */
	GUEST_WORKER_GONE,
	GUEST_SWITCH,	  /* the operator asks for a switchover */
	GUEST_FINISHED,	  /* paused behind a committed final epoch */
	GUEST_CALLED_OFF, /* the switchover is not done; the guest goes on here */
	GUEST_OUTRANKED,  /* the peer runs it in a later term */
	GUEST_RETIRED,	  /* our outranked copy is destroyed */
	GUEST_PREPARE,	  /* the peer asks for a shell */
	GUEST_SHELL_READY,
	GUEST_SHELL_FAILED,
	GUEST_CURRENT, /* a whole epoch is in the shell */
	GUEST_STALE,   /* what is in the shell must not run */
	GUEST_UNPREPARE,
	GUEST_SHELL_GONE,
	GUEST_TAKE_OVER,
	GUEST_ACTIVATED,
	GUEST_ACTIVATE_FAILED,
	GUEST_UNTAG,
	GUEST_FOUND_SYNCING, /* a restarted daemon finds a worker in the middle of a baseline */
	GUEST_EVENTS,
};

extern const char *const guest_state_name[GUEST_STATES];
extern const char *const guest_event_name[GUEST_EVENTS];

/* The next state, or -EINVAL for a pair that must not happen. */
int fsm_next(enum guest_state state, enum guest_event event);

/* True in the states in which the guest's domain (not a shell) is here. */
int fsm_runs_here(enum guest_state state);

/* True in the states in which a shell is here. */
int fsm_has_shell(enum guest_state state);

#endif
