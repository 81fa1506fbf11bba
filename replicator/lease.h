/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest's record at the witness as one host uses it: what to ask next, what an answer means, until when this host may run
 * the guest. Pure: no I/O and no clock of its own. tests/model/lease.pml has the same protocol as a model; rules are named
 * R-... there and here.
 *
 * The record names the holder, its term, and whether the other host's copy is current. Who wants to take the guest over must see the
 * record not change for its time to live and then replace it by comparison; so each write by the holder gives it a right for that time.
 * A record that calls no copy current cannot be claimed: its holder needs no right that ends.
 */
#ifndef REPLICATOR_LEASE_H
#define REPLICATOR_LEASE_H

#include "replicator/witness.h"

#include <stdbool.h>
#include <stdint.h>

#define LEASE_FOR_EVER UINT64_MAX

struct lease_limits {
	uint64_t ttl_us;
	uint64_t margin_us;	/* from a look at the clock to the act that it allows */
	uint32_t drift_ppm;	/* by how much either host's clock may be wrong about a length */
	uint64_t retry_us;	/* after a request that failed */
};

/* R-drift, R-margin: what a holder may use of a length, and what a claimer waits. */
uint64_t lease_least(const struct lease_limits *l, uint64_t length_us);
uint64_t lease_most(const struct lease_limits *l, uint64_t length_us);

enum lease_ask { LEASE_NOTHING, LEASE_READ, LEASE_WRITE };

/* What the other side of an answer should know. */
enum lease_news {
	LEASE_SAME,
	LEASE_UNANSWERED,
	LEASE_IS_ALONE,		/* the record says, written by us: no copy is current */
	LEASE_IS_CURRENT,	/* ... the copy is; the right has been extended */
	LEASE_OUTRANKED,	/* another host holds it: this incarnation is over */
	LEASE_GIVEN_BACK,	/* a switchover was not done: it is ours in lease_seen()'s later term */
};

/* ---- the holder ---- */

struct lease {
	struct lease_limits limits;
	uint8_t host[16];
	char host_name[64];
	uint64_t term;
	bool wants_current;	/* what the record shall say of the copy */
	bool alone;		/* for certain no copy is current, and no request that could make one so is under way */
	bool rest;
	uint64_t until_us;	/* not alone: as long as this the record cannot be claimed */

	bool known, exists;	/* the revision is the latest that we have seen; there is a record */
	uint64_t revision;
	struct witness_record record;

	enum lease_ask open;	/* the request under way */
	bool open_current;	/* WRITE: what it says */
	uint64_t retry_at_us;
};

/* A guest that starts to run here in `term`, with the record unknown. `alone`: nobody can have a current copy of this incarnation, since
 * it was written down so, here, before (a tag that says "not current", a takeover whose claim said it). */
void lease_begin(struct lease *l, const struct lease_limits *limits, const uint8_t host[16], const char *name,
		 uint64_t term, bool alone);

/* The copy may be called current from now on: the right is a timed one, as from this moment (R-join). */
void lease_join(struct lease *l, uint64_t now_us);

/* The copy shall not be called current any more. Output may pass freely once lease_alone() is true: the record has been written, or
 * the other host has renounced its copy. */
void lease_leave(struct lease *l);
void lease_renounced(struct lease *l);
bool lease_alone(const struct lease *l);

/* The record itself says so: a new copy may be begun (R-baseline). */
bool lease_settled(const struct lease *l);

/* While another host is asked to take the guest over it must find the record as it is. */
void lease_rest(struct lease *l, bool rest);

/* The record could not be claimed from us any more, it says so: by whom, in which term. */
const struct witness_record *lease_seen(const struct lease *l);

/* Until when this host may run the guest and let its output out, as far as the record goes. */
uint64_t lease_until_us(const struct lease *l);

/* What to ask the witness for now; a WRITE's contents and the revision it replaces are in *r and *revision. Marks it as under way. */
enum lease_ask lease_plan(struct lease *l, uint64_t now_us, struct witness_record *r, uint64_t *revision);

enum lease_news lease_answer(struct lease *l, uint64_t now_us, const struct witness_answer *a);

/* ---- the claimer ---- */

enum claim_state {
	CLAIM_READING,		/* the record is not known */
	CLAIM_WAITING,		/* for its time to live, or for our own promise */
	CLAIM_REFUSED,		/* it does not call our copy current, or is of another term */
	CLAIM_MINE,		/* the guest may be run here, in claim_term() */
};

struct claim {
	struct lease_limits limits;
	uint8_t host[16];
	char host_name[64];
	uint64_t term;		/* of the copy */
	bool known, exists, mine, invited, returning;
	bool in_doubt;		/* a claim over doubt_revision was sent, and what became of it is not known */
	uint64_t doubt_revision;
	uint64_t revision, same_since_us;
	struct witness_record record, before;	/* before: what the claim replaced */
	enum lease_ask open;
	uint64_t retry_at_us;
};

void claim_begin(struct claim *c, const struct lease_limits *limits, const uint8_t host[16], const char *name, uint64_t term);

/* As lease_plan(). `bound_until_us`: until then this host has promised not to activate (R-promise). */
enum lease_ask claim_plan(struct claim *c, uint64_t now_us, uint64_t bound_until_us, struct witness_record *r,
			  uint64_t *revision);
enum lease_news claim_answer(struct claim *c, uint64_t now_us, const struct witness_answer *a);

/* The holder itself asks for it (switchover), so there is nothing to wait for. */
void claim_invited(struct claim *c);

/* It was ours and nothing came of it: the record that gives it back to its holder, for claim_plan() to write. */
void claim_return(struct claim *c);

/* No claim is under way or in doubt, and none was done: this host may say that it will not run the guest. */
bool claim_clean(const struct claim *c);
enum claim_state claim_state(const struct claim *c);
uint64_t claim_term(const struct claim *c);

#endif
