/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/keeper.h"
#include "common/clock.h"
#include "common/fault.h"
#include "common/log.h"
#include "replicator/events.h"
#include "replicator/guest.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	KEEPER_TEXT_MAX = 192,
	RETRIES_PER_TTL = 10,		/* of a request that failed */
	RETRY_MIN_MS = 50,
	WATCH_MS = 10000,		/* how long a record is watched for nothing */
};

enum keeper_role { KEEPER_IDLE, KEEPER_HOLDS, KEEPER_CLAIMS };

struct keeper {
	struct guest *g;
	enum keeper_role role;
	struct lease lease;
	struct claim claim;
	bool wants_claim;
	bool claimed_by_other, recalled; /* during a switchover that is recalled */
	bool recalls;			 /* the write under way was begun for that */
	uint64_t watch_until_us;
	struct witness_request *request;
	uint64_t told_us;		/* the worker, until when */
	char problem[KEEPER_TEXT_MAX];
};

int keeper_setup(struct daemon *d)
{
	if (!d->config.witness.nr_endpoints)
		return 0;
	return witness_new(d->base, &d->config.witness, &d->witness);
}

bool keeper_decides(const struct guest *g)
{
	return g->d->witness && guest_policy(g)->takeover == TAKEOVER_AUTOMATIC;
}

static struct lease_limits limits_of(const struct guest *g)
{
	const struct config *c = &g->d->config;
	uint32_t retry_ms = c->witness_ttl_ms / RETRIES_PER_TTL;

	return (struct lease_limits){
		.ttl_us = c->witness_ttl_ms * 1000ull,
		.margin_us = c->witness_margin_ms * 1000ull,
		.drift_ppm = c->witness_drift_ppm,
		.retry_us = (retry_ms > RETRY_MIN_MS ? retry_ms : RETRY_MIN_MS) * 1000ull,
	};
}

static struct keeper *keeper_of(struct guest *g)
{
	if (!g->keeper) {
		g->keeper = calloc(1, sizeof(*g->keeper));
		if (g->keeper)
			g->keeper->g = g;
	}
	return g->keeper;
}

static void take_role(struct keeper *k, enum keeper_role role)
{
	struct guest *g = k->g;
	struct lease_limits limits = limits_of(g);

	if (k->request)
		witness_cancel(k->request);
	k->request = NULL;
	k->role = role;
	k->wants_claim = k->claimed_by_other = k->recalled = false;
	k->told_us = 0;
	k->problem[0] = '\0';
	if (role == KEEPER_HOLDS)
		lease_begin(&k->lease, &limits, g->d->host.id, g->d->config.host, g->tag.term, !g->tag.current);
	else if (role == KEEPER_CLAIMS)
		claim_begin(&k->claim, &limits, g->d->host.id, g->d->config.host, g->tag.term);
}

/* Nobody waits for it: the guest may be gone by then. */
static void removed(void *arg, const struct witness_answer *a)
{
	if (a->error || !a->written)
		log_info(NULL, "a record stays at the witness: %s", a->error ? a->text : "it has changed");
}

void keeper_forget(struct guest *g)
{
	const struct keeper *k = g->keeper;

	if (k && k->role == KEEPER_HOLDS && !k->request && lease_settled(&k->lease))
		(void)witness_remove(g->d->witness, g->tag.uuid, k->lease.revision, removed, NULL);
}

void keeper_free(struct guest *g)
{
	if (!g->keeper)
		return;
	take_role(g->keeper, KEEPER_IDLE);
	free(g->keeper);
	g->keeper = NULL;
}

static void __attribute__((format(printf, 2, 3))) set_problem(struct keeper *k, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(k->problem, sizeof(k->problem), fmt, ap);
	va_end(ap);
}

const char *keeper_problem(const struct guest *g)
{
	return g->keeper ? g->keeper->problem : "";
}

static void ask_witness(struct keeper *k, enum lease_ask ask, const struct witness_record *r, uint64_t revision, witness_done done)
{
	struct witness *w = k->g->d->witness;
	const uint8_t *uuid = k->g->tag.uuid;

	if (ask == LEASE_NOTHING)
		return;
	k->request = ask == LEASE_WRITE ? witness_write(w, uuid, r, revision, done, k) : witness_read(w, uuid, done, k);
	if (!k->request)
		done(k, &(struct witness_answer){.error = -ENOMEM, .text = "no memory"});
}

/* ---- the holder ---- */

static bool holds(const struct guest *g)
{
	return g->keeper && g->keeper->role == KEEPER_HOLDS;
}

bool keeper_alone(const struct guest *g)
{
	return !keeper_decides(g) || (holds(g) && lease_alone(&g->keeper->lease));
}

bool keeper_settled(const struct guest *g)
{
	return !keeper_decides(g) || (holds(g) && lease_settled(&g->keeper->lease));
}

uint64_t keeper_left_us(const struct guest *g)
{
	uint64_t now = clock_us(), until;

	if (!holds(g))
		return LEASE_FOR_EVER;
	until = lease_until_us(&g->keeper->lease);
	if (until == LEASE_FOR_EVER)
		return until;
	return until > now ? until - now : 0;
}

bool keeper_quiet(const struct guest *g)
{
	return !holds(g) || (!g->keeper->request && !g->keeper->lease.open);
}

bool keeper_claimed_by_other(const struct guest *g)
{
	return holds(g) && g->keeper->claimed_by_other;
}

bool keeper_unclaimed(const struct guest *g)
{
	return holds(g) && g->keeper->recalled;
}

void keeper_override(struct guest *g)
{
	const struct witness_record *r = holds(g) ? lease_seen(&g->keeper->lease) : NULL;

	if (!r || r->term < g->tag.term || !g->keeper->claimed_by_other)
		return;
	g->tag.term = r->term + 1;
	guest_save(g); /* logged */
	take_role(g->keeper, KEEPER_HOLDS);
}

void keeper_renounced(struct guest *g)
{
	if (holds(g))
		lease_renounced(&g->keeper->lease);
}

/* The copy may be called current in these states, and nowhere else. */
static bool shares(const struct guest *g)
{
	return g->state == GUEST_PROTECTED || g->state == GUEST_SWITCHING || g->state == GUEST_HANDING_OVER;
}

static void tell_worker(struct keeper *k)
{
	Understudy__WorkerCommand c = UNDERSTUDY__WORKER_COMMAND__INIT;
	Understudy__WorkerRight m = UNDERSTUDY__WORKER_RIGHT__INIT;
	uint64_t until = lease_until_us(&k->lease);

	if (until == k->told_us || !guest_worker(k->g) || fsm_next(k->g->state, GUEST_LOST) < 0)
		return;
	m.until_us = until;
	c.command_case = UNDERSTUDY__WORKER_COMMAND__COMMAND_RIGHT;
	c.right = &m;
	if (!guest_command(k->g, &c, -1))
		k->told_us = until;
}

/* The other host runs it, or will. What was never protected in this term cannot have been taken over: that record is left over. */
static void outranked(struct keeper *k)
{
	const struct witness_record *r = lease_seen(&k->lease);
	struct guest *g = k->g;

	if (!g->tag.current) {
		set_problem(k, "the witness has a record of it as %.60s's, in term %" PRIu64, r->host, r->term);
		return;
	}
	if (g->state == GUEST_HANDING_OVER) {
		k->claimed_by_other = true; /* as was asked for; the peer's word decides */
		return;
	}
	guest_outranked(g, r->term);
}

static void given_back(struct keeper *k)
{
	struct guest *g = k->g;

	g->tag.term = lease_seen(&k->lease)->term;
	if (!guest_save(g))
		k->lease.term = g->tag.term;
	log_info(g->tag.name, "the record is given back in term %" PRIu64, g->tag.term);
}

static void holder_answered(void *arg, const struct witness_answer *a)
{
	struct keeper *k = arg;
	struct guest *g = k->g;
	enum lease_news news;

	k->request = NULL;
	if (k->role != KEEPER_HOLDS)
		return;
	news = lease_answer(&k->lease, clock_us(), a);
	if (news != LEASE_UNANSWERED && k->problem[0]) {
		log_info(g->tag.name, "the witness answers");
		k->problem[0] = '\0';
	}
	switch (news) {
	case LEASE_UNANSWERED:
		if (!k->problem[0])
			log_warn(g->tag.name, "the witness does not answer: %s", a->text);
		set_problem(k, "the witness does not answer: %.120s", a->text);
		break;
	case LEASE_OUTRANKED:
		outranked(k);
		break;
	case LEASE_GIVEN_BACK:
		given_back(k);
		break;
	case LEASE_IS_CURRENT:
		fi_point("D_LEASE_CURRENT");
		k->recalled = k->recalls;
		break;
	case LEASE_IS_ALONE:
		fi_point("D_LEASE_ALONE");
		break;
	case LEASE_SAME:
		break;
	}
}

static void holder_tick(struct keeper *k, uint64_t now)
{
	struct witness_record r;
	struct guest *g = k->g;
	uint64_t revision = 0;
	enum lease_ask ask;

	k->lease.term = g->tag.term;
	if (shares(g))
		lease_join(&k->lease, now);
	else
		lease_leave(&k->lease);
	if (!g->recalling)
		k->claimed_by_other = k->recalled = false;
	/* While the peer claims it on our behalf it must find it as it was. */
	lease_rest(&k->lease, g->state == GUEST_HANDING_OVER && !g->recalling);
	tell_worker(k);
	if (k->request)
		return;
	k->recalls = g->recalling;
	ask = lease_plan(&k->lease, now, &r, &revision);
	ask_witness(k, ask, &r, revision, holder_answered);
}

/* ---- the claimer ---- */

static bool claims(const struct guest *g)
{
	return g->keeper && g->keeper->role == KEEPER_CLAIMS;
}

bool keeper_clean(const struct guest *g)
{
	return !claims(g) || claim_clean(&g->keeper->claim);
}

static void explain_claim(struct keeper *k)
{
	const struct claim *c = &k->claim;

	switch (claim_state(c)) {
	case CLAIM_REFUSED:
		if (!c->exists)
			set_problem(k, "the witness has no record of it");
		else if (!c->record.current)
			set_problem(k, "the witness does not call this copy current");
		else
			set_problem(k, "the witness says that %.60s holds it in term %" PRIu64 ", this copy is of term %" PRIu64,
				    c->record.host, c->record.term, c->term);
		break;
	case CLAIM_WAITING:
		set_problem(k, "waits for the lease of %.60s to run out", c->record.host);
		break;
	default:
		k->problem[0] = '\0';
	}
}

static void claim_answered(void *arg, const struct witness_answer *a)
{
	struct keeper *k = arg;
	struct guest *g = k->g;

	k->request = NULL;
	if (k->role != KEEPER_CLAIMS)
		return;
	if (claim_answer(&k->claim, clock_us(), a) == LEASE_UNANSWERED) {
		set_problem(k, "the witness does not answer: %.120s", a->text);
		return;
	}
	explain_claim(k);
	if (claim_state(&k->claim) == CLAIM_MINE && a->written) {
		fi_point("D_CLAIMED");
		events_add(g->d->events, g->tag.name, "claimed", "", "term", (int64_t)claim_term(&k->claim));
	}
}

static bool may_run(const struct guest *g)
{
	return g->state == GUEST_STANDBY || g->state == GUEST_ACTIVATING;
}

static void claimer_tick(struct keeper *k, uint64_t now)
{
	struct guest *g = k->g;
	struct witness_record r;
	uint64_t revision = 0;
	enum lease_ask ask;

	/* Ours, and nothing here that could be run: back to who holds the guest. */
	if (!may_run(g) && claim_state(&k->claim) == CLAIM_MINE)
		claim_return(&k->claim);
	if (!k->request && claim_clean(&k->claim) && (!may_run(g) || (!k->wants_claim && now >= k->watch_until_us))) {
		take_role(k, KEEPER_IDLE);
		return;
	}
	if (k->request)
		return;
	ask = claim_plan(&k->claim, now, k->wants_claim ? 0 : LEASE_FOR_EVER, &r, &revision);
	if (ask == LEASE_WRITE)
		fi_point("D_CLAIM");
	ask_witness(k, ask, &r, revision, claim_answered);
}

void keeper_watch(struct guest *g)
{
	struct keeper *k = keeper_of(g);

	if (!k)
		return;
	if (k->role != KEEPER_CLAIMS)
		take_role(k, KEEPER_CLAIMS);
	k->watch_until_us = clock_us() + WATCH_MS * 1000ull;
}

enum claim_state keeper_claim(struct guest *g, bool invited)
{
	keeper_watch(g);
	if (!claims(g))
		return CLAIM_READING;
	if (invited && !g->keeper->wants_claim)
		claim_invited(&g->keeper->claim);
	g->keeper->wants_claim = true;
	return claim_state(&g->keeper->claim);
}

bool keeper_owned(const struct guest *g)
{
	return claims(g) && claim_state(&g->keeper->claim) == CLAIM_MINE;
}

void keeper_calm(struct guest *g)
{
	if (claims(g))
		g->keeper->wants_claim = false;
}

bool keeper_returned(struct guest *g)
{
	if (!claims(g))
		return true;
	g->keeper->wants_claim = false;
	if (keeper_owned(g))
		claim_return(&g->keeper->claim);
	return claim_clean(&g->keeper->claim);
}

/* ---- both ---- */

void keeper_tick(struct guest *g, uint64_t now)
{
	struct keeper *k;

	if (!keeper_decides(g) || !keeper_of(g))
		return;
	k = g->keeper;
	if (fsm_runs_here(g->state) && g->state != GUEST_RETIRING) {
		if (k->role != KEEPER_HOLDS)
			take_role(k, KEEPER_HOLDS);
		holder_tick(k, now);
	} else if (k->role == KEEPER_HOLDS && g->state != GUEST_UNTAGGING) {
		take_role(k, KEEPER_IDLE);
	} else if (k->role == KEEPER_HOLDS) {
		holder_tick(k, now);
	} else if (k->role == KEEPER_CLAIMS) {
		claimer_tick(k, now);
	}
}
