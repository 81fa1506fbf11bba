/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who runs a guest and lets its output out: two hosts, a witness, one guest, a client. README.md says what is modelled and
 * how time is. LIVE chooses the configuration in which it must get protected again.
 */
#ifndef EPOCHS
#define EPOCHS 4		/* the guest runs epochs 1..EPOCHS */
#endif
#ifndef TERMS
#define TERMS 3
#endif
#ifndef FAULTS
#define FAULTS 2		/* LIVE only */
#endif
#define TTL 2			/* of the record, in ticks of true time */
#define PROMISE 2
#define WINDOW 2
#define OUTAGE 6		/* LIVE: the longest outage */
#define DRIFT 1			/* by how much any one measured length may be wrong */
#define MARGIN 1		/* by how much the act may come later than the look at the clock */

/*
 * Mutations: each breaks one rule. pan takes the number from its environment, spin from -DMUTATION. `hidden` keeps it out of
 * the states: it is constant throughout a search.
 */
#define M_NO_PROMISE 1			/* activate while the promise lasts */
#define M_EARLY_RELEASE 2		/* release before the acknowledgement */
#define M_SKIP_CURRENT 3		/* go on without the backup, without backup_current = false */
#define M_NOT_CURRENT 4			/* claim whatever backup_current says */
#define M_NO_LEASE 5			/* activate without the lease */
#define M_NO_CAS 6			/* write the claim over any revision */
#define M_SAME_TERM 7			/* activate without a new term */
#define M_PROMISE_FROM_RECEIPT 8	/* count the promise from its receipt */
#define M_LEASE_FROM_RECEIPT 9		/* count the lease from the answer */
#define M_NO_DRIFT_HOLDER 10		/* the holder ignores drift */
#define M_NO_DRIFT_CLAIMER 11		/* the claimer ignores drift */
#define M_NO_MARGIN 12			/* the holder ignores the time from look to act */
#define M_RESUME_LOST 13		/* resume an incarnation whose term was lost */
#define M_JOIN_EARLY 14			/* backup_current = true before the first whole epoch */
#define M_PASS_JOINING 15		/* let output pass while the first epoch is under way */
#define M_ALONE_BY_READ 16		/* take a read for a write of backup_current = false */
#define M_BASELINE_CURRENT 17		/* begin a baseline while the record calls the copy current */
#define M_FORGET_PROMISE 18		/* a restarted daemon forgets what was promised */
#define M_TORN 19			/* apply an epoch before it is whole */
#define M_NEVER_ALONE 20		/* do not go on without the backup (LIVE) */
#ifndef MUTATION
#define MUTATION 0
#endif
hidden byte mutation = MUTATION;
#define IS(m) (mutation == m)

/* R-drift, R-margin: what the holder may use of a length, what the claimer waits; then what each clock makes of it. */
#define LEAST(l) ((l) - (IS(M_NO_DRIFT_HOLDER) -> 0 : DRIFT) - (IS(M_NO_MARGIN) -> 0 : MARGIN))
#define MOST(l) ((l) + (IS(M_NO_DRIFT_CLAIMER) -> 0 : DRIFT))
#define HELD(l) (LEAST(l) + DRIFT + MARGIN)	/* slow clock, late act */
#define WAITED(l) (MOST(l) - DRIFT)		/* fast clock */

#define NONE 0			/* role: neither guest nor shell */
#define PRIMARY 1
#define BACKUP 2
#define ALONE 0			/* mode of a primary: output passes */
#define PREPARING 1		/* output passes */
#define JOINING 2		/* from the capture of the first whole epoch on: output is held */
#define PROTECTED 3
#define HOLDING 4		/* the backup is lost, the record still calls its copy current */
#define READ 1			/* requests to the witness */
#define WRITE_TRUE 2		/* also the renewal */
#define WRITE_FALSE 3
#define CLAIM 4
#define PREPARE 1		/* primary to backup */
#define HALF 2			/* an epoch without its end */
#define END 3
#define PREPARED 1		/* backup to primary */
#define ACK 2

typedef host {
	byte role, term;		/* term: the incarnation's or the copy's */
	/* primary */
	byte mode, epoch, acked, sending, sent;
	bit alone;				/* the record says for certain: no current copy */
	byte right;				/* ticks for which lease or promise lasts */
	byte asked_for, promise_for;	/* the same, if the request or epoch under way is answered */
	/* backup */
	byte copy, bound, wait;	/* bound: by its own promise; wait: until the record is free */
	bit whole, torn, mine, current;	/* mine, current: the record as seen */
	byte record_term;
	/* the witness's client */
	bit open, known, asked;	/* known: the revision that it knows is the latest one */
	byte request, late, answer;	/* late: a request that was given up, but may still arrive */
	bit request_fits, late_fits, answer_fits;	/* the revision in it is the latest one */
	bit answer_holder, answer_current;
	byte answer_term;
	/* LIVE */
	byte down, cut;
	bit ran;				/* it has captured an epoch since the last tick */
};
host h[2];
bit holder, current;		/* the record; its revision is what known and *_fits compare with */
byte record_term;
bit connected, from;		/* the stream and which side is its primary */
byte to_backup, to_primary;
byte client;			/* the last epoch of which the client has seen output */
byte active_term;		/* ghost: the highest term in which the guest ran */
bit excused;			/* ghost: a host crashed with the record in its name, or with a claim under way */
byte faults, cut_link;		/* LIVE */

#define MAY(x) (h[x].role == PRIMARY && (h[x].alone || h[x].right > 0))
#define RAISE(a, b) if :: (b) > (a) -> a = b :: else fi
#define LOWER(a) if :: (a) > 0 -> a = (a) - 1 :: else fi
#define protected_now ((h[0].mode == PROTECTED && MAY(0) && h[1].whole || \
			h[1].mode == PROTECTED && MAY(1) && h[0].whole) && connected)

#ifdef LIVE
#define UP(x) (h[x].down == 0)
#define REACHED(x) (h[x].cut == 0 && h[x].down == 0)
#define LINK (cut_link == 0 && h[0].down == 0 && h[1].down == 0)
#define ONCE(x) (!h[x].asked)
#define STEP atomic
#define DONE fault()
#define SUSPECTS(x) (!connected)
#define ROOM(x) true
#define RESTED(x) (!h[x].ran)
#define RAN(x) h[x].ran = 1
#else
#define UP(x) true
#define REACHED(x) true
#define LINK true
#define ONCE(x) true
#define STEP d_step			/* the same states, sooner; nothing in it may choose: give_up() does */
#define DONE skip
#define SUSPECTS(x) true
#define ROOM(x) (h[x].epoch < EPOCHS)
#define RESTED(x) true
#define RAN(x) skip
#endif
#define I2 assert(!(MAY(0) && MAY(1)))

inline disconnect() { connected = 0; to_backup = 0; to_primary = 0; from = 0 }

inline forget_primary(x)
{
	h[x].mode = 0; h[x].epoch = 0; h[x].acked = 0; h[x].sending = 0; h[x].sent = 0; h[x].alone = 0;
	h[x].right = 0; h[x].asked_for = 0; h[x].promise_for = 0
}

inline forget_backup(x)
{
	h[x].copy = 0; h[x].bound = 0; h[x].wait = 0; h[x].whole = 0; h[x].torn = 0; h[x].mine = 0; h[x].current = 0;
	h[x].record_term = 0
}

/* The request is given up; it may still arrive, unless it is lost. A write's outcome is in doubt: R-reread. */
inline give_up(x)
{
	if
	:: h[x].request > READ && h[x].late == 0 -> h[x].late = h[x].request; h[x].late_fits = h[x].request_fits
	:: true
	fi;
	h[x].request = 0; h[x].request_fits = 0; h[x].answer = 0; h[x].answer_fits = 0; h[x].answer_holder = 0;
	h[x].answer_current = 0; h[x].answer_term = 0; h[x].open = 0; h[x].known = 0; h[x].asked_for = 0
}

inline crash(x)
{
	if
	:: holder == x || h[x].request == CLAIM || h[x].late == CLAIM -> excused = 1
	:: else
	fi;
	give_up(x); forget_primary(x); forget_backup(x);
	h[x].role = NONE; h[x].term = 0;
	if :: connected -> disconnect() :: else fi
}

/* The daemon alone: the worker, the guest and the copy go on; what only the daemon's memory held is gone. */
inline daemon_crash(x)
{
	give_up(x); h[x].right = 0; h[x].promise_for = 0;
	h[x].mine = 0; h[x].current = 0; h[x].record_term = 0; h[x].wait = 0;
	if
	:: !IS(M_FORGET_PROMISE) && h[x].role == BACKUP && h[x].whole -> h[x].bound = WAITED(PROMISE)
	:: IS(M_FORGET_PROMISE) && h[x].role == BACKUP -> h[x].bound = 0
	:: else
	fi
}

#ifdef LIVE
byte length;
inline fault()
{
	if
	:: faults < FAULTS && protected_now ->
		faults++;
		select(length : 1 .. OUTAGE);
		if
		:: true -> crash(0); h[0].down = length
		:: true -> crash(1); h[1].down = length
		:: h[0].cut = length
		:: h[1].cut = length
		:: h[0].cut = length; h[1].cut = length		/* the witness is out */
		:: cut_link = length; disconnect()
		:: cut_link = length; disconnect(); h[0].cut = length
		:: cut_link = length; disconnect(); h[1].cut = length
		:: disconnect()
		fi;
		length = 0
	:: true
	fi
}
#endif

/* ---- the witness ---- */

/* Every write makes a new revision: whatever was built on the one before does not fit any more. */
inline new_revision()
{
	h[0].known = 0; h[0].request_fits = 0; h[0].late_fits = 0; h[0].answer_fits = 0;
	h[1].known = 0; h[1].request_fits = 0; h[1].late_fits = 0; h[1].answer_fits = 0
}

#define NEXT(term) (IS(M_SAME_TERM) -> (term) : (term) + 1)

inline perform(x, kind, fits, result)
{
	result = READ;
	if
	:: kind == WRITE_TRUE && fits -> current = 1; new_revision(); result = kind
	:: kind == WRITE_FALSE && fits -> current = 0; new_revision(); result = kind
	:: kind == CLAIM && (fits || IS(M_NO_CAS)) ->	/* R-cas */
		holder = x; current = 0; new_revision(); result = kind;
		record_term = NEXT(record_term)		/* R-term */
	:: else
	fi
}

inline serve(x)
{
	perform(x, h[x].request, h[x].request_fits, h[x].answer);
	h[x].request = 0; h[x].request_fits = 0; h[x].answer_fits = 1;
	h[x].answer_holder = holder; h[x].answer_term = record_term; h[x].answer_current = current
}

byte unheard;
proctype witness()
{
	do
	:: d_step { h[0].request != 0 && REACHED(0) -> serve(0) }
	:: d_step { h[1].request != 0 && REACHED(1) -> serve(1) }
	:: d_step { h[0].late != 0 -> perform(0, h[0].late, h[0].late_fits, unheard); h[0].late = 0; h[0].late_fits = 0; unheard = 0 }
	:: d_step { h[1].late != 0 -> perform(1, h[1].late, h[1].late_fits, unheard); h[1].late = 0; h[1].late_fits = 0; unheard = 0 }
	od
}

/* ---- a host ---- */

inline ask(x, kind)
{
	h[x].open = 1; h[x].request = kind; h[x].request_fits = h[x].known;
#ifdef LIVE
	h[x].asked = 1
#endif
}

/* R-outranked: another host has a later term. What is destroyed must live on there. */
inline destroy(x)
{
	assert(excused || h[1 - x].role == PRIMARY || (h[1 - x].role == BACKUP && h[1 - x].whole));
	forget_primary(x); h[x].role = NONE; h[x].term = 0
}

#define STILL_MINE(x) (h[x].answer_holder == x && h[x].answer_term == h[x].term)

inline answered_primary(x)
{
	if
	:: STILL_MINE(x) ->
		h[x].known = h[x].answer_fits;
		if
		:: h[x].answer == WRITE_TRUE ->
			RAISE(h[x].right, (IS(M_LEASE_FROM_RECEIPT) -> HELD(TTL) : h[x].asked_for));	/* R-from-sending */
			if :: h[x].mode == JOINING -> h[x].mode = PROTECTED :: else fi
		:: h[x].answer == WRITE_FALSE && h[x].mode == HOLDING -> h[x].alone = 1; h[x].right = 0; h[x].mode = ALONE
		:: IS(M_ALONE_BY_READ) && h[x].answer == READ && h[x].mode == HOLDING && !h[x].answer_current ->
			h[x].alone = 1; h[x].right = 0; h[x].mode = ALONE
		:: else
		fi;
		h[x].asked_for = 0
	:: !STILL_MINE(x) && IS(M_RESUME_LOST) ->
		RAISE(h[x].right, HELD(TTL)); h[x].asked_for = 0; h[x].known = 0
	:: else ->
		destroy(x);				/* what is under way could as well have arrived before */
		if :: connected && from == x -> disconnect() :: else fi
	fi
}

inline answered_backup(x)
{
	if
	:: h[x].known && h[x].answer_fits		/* the same revision: the wait goes on, not anew */
	:: else ->
		h[x].known = h[x].answer_fits; h[x].current = h[x].answer_current; h[x].record_term = h[x].answer_term;
		h[x].wait = WAITED(TTL);
		h[x].mine = (h[x].answer_holder == x && h[x].answer_term > h[x].term)
	fi;
	if :: h[x].answer == CLAIM -> h[x].mine = 1 :: else fi
}

inline answered(x)
{
	h[x].open = 0;
	if
	:: h[x].role == PRIMARY -> answered_primary(x)
	:: h[x].role == BACKUP -> answered_backup(x)
	:: else
	fi;
	h[x].answer = 0; h[x].answer_fits = 0; h[x].answer_holder = 0; h[x].answer_current = 0; h[x].answer_term = 0
}

inline activate(x)
{
	assert(h[x].whole && !h[x].torn);		/* I3 */
	assert(h[x].copy >= client);			/* I1: what the client saw is in what runs now */
	if :: h[x].open -> give_up(x) :: else fi;
	h[x].role = PRIMARY;
	h[x].term = NEXT(h[x].term);
	assert(h[x].term > active_term);		/* a term has one holder */
	active_term = h[x].term;
	h[x].epoch = h[x].copy + 1; h[x].acked = h[x].copy; h[x].alone = 1; h[x].mode = ALONE;
	if :: connected -> disconnect() :: else fi;
	forget_backup(x);
	I2
}

inline prepare(x)
{
	if
	:: h[x].role == PRIMARY && h[x].term >= h[from].term || h[x].role == BACKUP && (h[x].mine || h[x].term > h[from].term) ->
		disconnect()
	:: else ->
		if :: h[x].open -> give_up(x) :: else fi;
		if :: h[x].role == PRIMARY -> destroy(x) :: else fi;
		h[x].role = BACKUP; h[x].term = h[from].term;
		/* The promise binds on; the record is to be read anew. */
		h[x].whole = 0; h[x].torn = 0; h[x].copy = 0; h[x].mine = 0; h[x].known = 0; h[x].current = 0; h[x].wait = 0;
		h[x].record_term = 0;
		to_backup = 0; to_primary = PREPARED
	fi
}

inline received(x)
{
	if
	:: to_backup == PREPARE -> prepare(x)
	:: to_backup == HALF ->
		h[x].torn = IS(M_TORN); to_backup = 0
	:: to_backup == END ->				/* R-whole */
		h[x].copy = h[from].sending; h[x].whole = 1; h[x].torn = 0; to_backup = 0; to_primary = ACK;
		RAISE(h[x].bound, WAITED(PROMISE))	/* R-promise */
	fi
}

inline capture_first(x)
{
	if :: h[x].epoch < EPOCHS -> h[x].epoch++ :: else fi;
	h[x].sending = h[x].epoch - 1; h[x].sent = HALF; h[x].mode = JOINING; to_primary = 0; to_backup = HALF
}

inline acknowledged(x)
{
	h[x].acked = h[x].sending; h[x].sent = 0; h[x].sending = 0; to_primary = 0;
	if
	:: IS(M_PROMISE_FROM_RECEIPT) -> RAISE(h[x].right, HELD(PROMISE))
	:: !IS(M_PROMISE_FROM_RECEIPT) && !h[x].alone -> RAISE(h[x].right, h[x].promise_for)	/* R-from-sending */
	:: else
	fi;
	h[x].promise_for = 0;
#ifdef LIVE
	/* The epochs go on for ever: they are counted from the one that is acknowledged. */
	h[x].epoch = h[x].epoch - h[x].acked + 1;
	client = (client >= h[x].acked -> client - h[x].acked + 1 : 0);
	h[1 - x].copy = 1; h[x].acked = 1
#endif
}

/* R-join: not before the first whole epoch is acknowledged; from when the request is begun, the right is a timed one. */
inline join(x)
{
	if :: h[x].alone -> RAISE(h[x].right, HELD(TTL)) :: else fi;
	h[x].alone = 0; ask(x, WRITE_TRUE); h[x].asked_for = HELD(TTL)
}

/* The primary's frames leave; R-release, R-right. */
#define FREE(x) ((h[x].mode <= PREPARING || IS(M_PASS_JOINING) && h[x].mode == JOINING) && \
		 (h[x].alone || IS(M_JOIN_EARLY) && h[x].right > 0))
#define RELEASABLE(x) (IS(M_EARLY_RELEASE) -> h[x].epoch - 1 : h[x].acked)

#define MAY_JOIN(x) (h[x].mode == JOINING && h[x].sent == 0 || h[x].mode == PROTECTED || \
		     IS(M_JOIN_EARLY) && (h[x].mode == PREPARING || h[x].mode == JOINING))
#define MAY_PREPARE(x) (h[x].mode == ALONE && h[x].alone || \
			IS(M_BASELINE_CURRENT) && (h[x].mode == ALONE || h[x].mode == HOLDING))	/* R-baseline */
#define UNBOUND(x) (h[x].bound == 0 || IS(M_NO_PROMISE))				/* R-promise */
#define CLAIMABLE(x) ((h[x].current || IS(M_NOT_CURRENT)) && h[x].record_term == h[x].term)	/* R-current */
#define OWNS(x) (h[x].mine || IS(M_NO_LEASE))

proctype runs(bit x)
{
	do
	/* as a primary: its frames */
	:: d_step { h[x].role == PRIMARY && UP(x) && MAY(x) && client < RELEASABLE(x) ->
		assert(h[x].term == active_term); client = RELEASABLE(x) }
	:: d_step { h[x].role == PRIMARY && UP(x) && FREE(x) && client < h[x].epoch ->
		assert(h[x].term == active_term); client = h[x].epoch }
	:: d_step { IS(M_SKIP_CURRENT) && h[x].role == PRIMARY && h[x].mode == HOLDING && MAY(x) && client < h[x].epoch ->
		client = h[x].epoch }
	/* its epochs */
	:: STEP { h[x].role == PRIMARY && UP(x) && LINK && MAY_PREPARE(x) && !connected && ROOM(x) ->
		connected = 1; from = x; to_backup = PREPARE; h[x].mode = PREPARING; DONE }
	:: STEP { connected && from == x && to_primary == PREPARED && h[x].mode == PREPARING -> capture_first(x); DONE }
	:: d_step { h[x].role == PRIMARY && UP(x) && (h[x].mode == PROTECTED || h[x].mode == HOLDING) && h[x].epoch < EPOCHS &&
		h[x].epoch - h[x].acked <= WINDOW && RESTED(x) -> h[x].epoch++; RAN(x) }
	:: STEP { connected && from == x && h[x].mode == PROTECTED && h[x].sent == 0 && h[x].acked + 1 < h[x].epoch &&
		to_backup == 0 -> h[x].sending = h[x].acked + 1; h[x].sent = HALF; to_backup = HALF; DONE }
	:: STEP { connected && from == x && h[x].sent == HALF && to_backup == 0 ->
		h[x].sent = END; to_backup = END; h[x].promise_for = HELD(PROMISE); DONE }
	:: STEP { connected && from == x && to_primary == ACK -> acknowledged(x); I2; DONE }
	:: STEP { h[x].role == PRIMARY && UP(x) && !connected && (h[x].mode >= PREPARING && h[x].mode <= PROTECTED) ->
		h[x].sent = 0; h[x].sending = 0; h[x].promise_for = 0;
		if :: h[x].alone -> h[x].mode = ALONE :: else -> h[x].mode = HOLDING fi; DONE }
	/* its record */
	:: STEP { h[x].role == PRIMARY && UP(x) && !h[x].open && !h[x].known && ONCE(x) -> ask(x, READ); DONE }
	:: STEP { h[x].role == PRIMARY && UP(x) && !h[x].open && h[x].known && ONCE(x) && MAY_JOIN(x) -> join(x); I2; DONE }
	:: STEP { h[x].role == PRIMARY && UP(x) && !h[x].open && h[x].known && ONCE(x) && h[x].mode == HOLDING &&
		!IS(M_NEVER_ALONE) -> ask(x, WRITE_FALSE); h[x].asked_for = HELD(TTL); DONE }
	/* as a backup */
	:: atomic { connected && from != x && to_backup != 0 && to_primary == 0 -> received(x); I2; DONE }
	:: STEP { h[x].role == BACKUP && UP(x) && h[x].whole && !h[x].open && ONCE(x) && SUSPECTS(x) && !h[x].mine &&
		!h[x].known -> ask(x, READ); DONE }
	:: STEP { h[x].role == BACKUP && UP(x) && h[x].whole && !h[x].open && ONCE(x) && SUSPECTS(x) && !h[x].mine &&
		h[x].wait == 0 && CLAIMABLE(x) && UNBOUND(x) && record_term < TERMS -> ask(x, CLAIM); DONE }
	:: atomic { h[x].role == BACKUP && UP(x) && h[x].whole && SUSPECTS(x) && OWNS(x) && UNBOUND(x) && h[x].term < TERMS ->
		activate(x); DONE }
	/* as either */
	:: STEP { h[x].answer != 0 && REACHED(x) -> answered(x); I2; DONE }
#ifdef LIVE
	:: atomic { h[x].open && !REACHED(x) && UP(x) -> give_up(x) }
#else
	:: atomic { h[x].open -> give_up(x) }
	:: atomic { h[x].role != NONE -> crash(x) }
	:: atomic { h[x].role != NONE -> daemon_crash(x) }
#endif
	od
}

/* ---- time, and what it brings ---- */

inline tick(x)
{
	LOWER(h[x].right); LOWER(h[x].asked_for); LOWER(h[x].promise_for); LOWER(h[x].bound); LOWER(h[x].wait);
#ifdef LIVE
	LOWER(h[x].down); LOWER(h[x].cut); h[x].asked = 0; h[x].ran = 0
#endif
}

proctype clock()
{
	do
#ifdef LIVE
	:: atomic { timeout -> tick(0); tick(1); LOWER(cut_link); DONE }	/* what can be done is done before time passes */
#else
	:: d_step { h[0].right + h[0].asked_for + h[0].promise_for + h[0].bound + h[0].wait +
		h[1].right + h[1].asked_for + h[1].promise_for + h[1].bound + h[1].wait > 0 -> tick(0); tick(1) }
	:: d_step { connected -> disconnect() }
#endif
	od
}

init
{
	atomic {
		c_code { if (getenv("MUTATION")) mutation = atoi(getenv("MUTATION")); };
		holder = 0; record_term = 1; active_term = 1;
		h[0].role = PRIMARY; h[0].term = 1; h[0].epoch = 1; h[0].alone = 1; h[0].mode = ALONE; h[0].known = 1;
		run runs(0); run runs(1); run witness(); run clock()
	}
}

#ifdef LIVE
ltl again { [] <> protected_now }
#endif
