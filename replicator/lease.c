/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/lease.h"
#include "common/clock.h"

#include <stdio.h>
#include <string.h>

enum { RENEWALS_PER_TTL = 3 };

uint64_t lease_least(const struct lease_limits *l, uint64_t length_us)
{
	uint64_t less = clock_drift_us(length_us, l->drift_ppm) + l->margin_us;

	return length_us > less ? length_us - less : 0;
}

uint64_t lease_most(const struct lease_limits *l, uint64_t length_us)
{
	return length_us + clock_drift_us(length_us, l->drift_ppm);
}

static struct witness_record record_of(const uint8_t host[16], const char *name, const struct lease_limits *l,
				       uint64_t term, bool current, uint64_t serial)
{
	struct witness_record r = {.term = term, .current = current, .ttl_ms = (uint32_t)(l->ttl_us / 1000), .serial = serial};

	memcpy(r.holder, host, sizeof(r.holder));
	snprintf(r.host, sizeof(r.host), "%s", name);
	return r;
}

static bool held_by(const struct witness_record *r, const uint8_t host[16])
{
	return !memcmp(r->holder, host, sizeof(r->holder));
}

/* ---- the holder ---- */

void lease_begin(struct lease *l, const struct lease_limits *limits, const uint8_t host[16], const char *name,
		 uint64_t term, bool alone)
{
	*l = (struct lease){.limits = *limits, .term = term, .alone = alone, .wants_current = !alone};
	memcpy(l->host, host, sizeof(l->host));
	snprintf(l->host_name, sizeof(l->host_name), "%s", name);
}

/* From now on a request may be under way that lets the copy be claimed, and only a right that ends will do. */
void lease_join(struct lease *l, uint64_t now_us)
{
	l->wants_current = true;
	if (!l->alone)
		return;
	l->alone = false;
	l->until_us = now_us + lease_least(&l->limits, l->limits.ttl_us);
}

void lease_leave(struct lease *l)
{
	l->wants_current = false;
}

void lease_renounced(struct lease *l)
{
	l->wants_current = false;
	l->alone = true;
}

bool lease_alone(const struct lease *l)
{
	return l->alone && !l->wants_current;
}

uint64_t lease_until_us(const struct lease *l)
{
	return l->alone ? LEASE_FOR_EVER : l->until_us;
}

static bool ours(const struct lease *l)
{
	return l->exists && held_by(&l->record, l->host) && l->record.term == l->term;
}

bool lease_settled(const struct lease *l)
{
	return lease_alone(l) && l->known && ours(l) && !l->record.current;
}

void lease_rest(struct lease *l, bool rest)
{
	l->rest = rest;
}

const struct witness_record *lease_seen(const struct lease *l)
{
	return l->exists ? &l->record : NULL;
}

/* R-outranked. Of another holder an earlier term is left over: the operator has decided without the witness. */
static bool outranked(const struct lease *l)
{
	return l->exists && (l->record.term > l->term || (l->record.term == l->term && !held_by(&l->record, l->host)));
}

static bool write_due(const struct lease *l, uint64_t now_us)
{
	if (!ours(l))
		return true;
	if (!l->wants_current)
		return !l->alone || l->record.current;
	return !l->record.current ||
	       now_us + l->limits.ttl_us - l->limits.ttl_us / RENEWALS_PER_TTL >= l->until_us;
}

enum lease_ask lease_plan(struct lease *l, uint64_t now_us, struct witness_record *r, uint64_t *revision)
{
	if (l->open || now_us < l->retry_at_us)
		return LEASE_NOTHING;
	if (!l->known)
		return l->open = LEASE_READ;
	if (outranked(l) || l->rest || !write_due(l, now_us))
		return LEASE_NOTHING;
	/* Nobody may have read "current" before the first request for it was begun: lease_join() has seen to the right. */
	l->open_current = l->wants_current;
	*r = record_of(l->host, l->host_name, &l->limits, l->term, l->open_current, l->record.serial + 1);
	*revision = l->exists ? l->revision : 0;
	return l->open = LEASE_WRITE;
}

/* Whether it was done is not known, and it may still be: read again before anything is built on it (R-reread). */
static enum lease_news lease_unanswered(struct lease *l, uint64_t now_us)
{
	l->known = false;
	l->retry_at_us = now_us + l->limits.retry_us;
	return LEASE_UNANSWERED;
}

/* R-from-sending: the write was done after it was sent, so nobody can have waited for longer than that. */
static void extend(struct lease *l, uint64_t sent_us)
{
	uint64_t until = sent_us + lease_least(&l->limits, l->limits.ttl_us);

	if (until > l->until_us)
		l->until_us = until;
}

enum lease_news lease_answer(struct lease *l, uint64_t now_us, const struct witness_answer *a)
{
	enum lease_ask was = l->open;

	l->open = LEASE_NOTHING;
	if (a->error)
		return lease_unanswered(l, now_us);
	l->known = true;
	l->exists = a->exists;
	l->revision = a->revision;
	l->record = a->record;
	if (outranked(l))
		return held_by(&l->record, l->host) ? LEASE_GIVEN_BACK : LEASE_OUTRANKED;
	/* A read tells what is there, not what a write that was given up will still do: only our own write counts. */
	if (was != LEASE_WRITE || !a->written)
		return LEASE_SAME;
	if (l->open_current) {
		extend(l, a->sent_us);
		return LEASE_IS_CURRENT;
	}
	if (l->wants_current)
		return LEASE_SAME;
	l->alone = true;
	return LEASE_IS_ALONE;
}

/* ---- the claimer ---- */

void claim_begin(struct claim *c, const struct lease_limits *limits, const uint8_t host[16], const char *name, uint64_t term)
{
	*c = (struct claim){.limits = *limits, .term = term};
	memcpy(c->host, host, sizeof(c->host));
	snprintf(c->host_name, sizeof(c->host_name), "%s", name);
}

uint64_t claim_term(const struct claim *c)
{
	return c->term + 1;
}

void claim_invited(struct claim *c)
{
	c->invited = true;
}

void claim_return(struct claim *c)
{
	c->returning = true;
	c->known = false;
}

bool claim_clean(const struct claim *c)
{
	return c->open != LEASE_WRITE && !c->in_doubt && !c->mine;
}

/* R-current; R-term: a copy of an earlier term than the record's is of an incarnation that is over. */
static bool claimable(const struct claim *c)
{
	return c->exists && c->record.current && c->record.term == c->term && !held_by(&c->record, c->host);
}

enum claim_state claim_state(const struct claim *c)
{
	if (c->mine && !c->returning)
		return CLAIM_MINE;
	if (!c->known)
		return CLAIM_READING;
	return claimable(c) ? CLAIM_WAITING : CLAIM_REFUSED;
}

/* The record's own time to live counts: the holder's configuration may differ from ours. */
static uint64_t wait_us(const struct claim *c)
{
	return lease_most(&c->limits, (uint64_t)c->record.ttl_ms * 1000);
}

enum lease_ask claim_plan(struct claim *c, uint64_t now_us, uint64_t bound_until_us, struct witness_record *r,
			  uint64_t *revision)
{
	if (c->open || now_us < c->retry_at_us || (c->mine && !c->returning))
		return LEASE_NOTHING;
	if (!c->known)
		return c->open = LEASE_READ;
	*revision = c->revision;
	if (c->mine) {
		if (!c->before.term)
			return LEASE_NOTHING;	/* claimed by the daemon before this one: whose it was is not known */
		*r = c->before;		/* its holder again, in our term: what it had done in its own is over */
		r->term = claim_term(c);
		r->current = false;
		r->serial = c->record.serial + 1;
		return c->open = LEASE_WRITE;
	}
	if (!claimable(c)) {
		c->known = false;	/* asked again after a while */
		c->retry_at_us = now_us + c->limits.retry_us;
		return LEASE_NOTHING;
	}
	if (!c->invited && (now_us < c->same_since_us + wait_us(c) || now_us < bound_until_us))
		return LEASE_NOTHING;
	c->before = c->record;
	*r = record_of(c->host, c->host_name, &c->limits, claim_term(c), false, c->record.serial + 1);
	return c->open = LEASE_WRITE;
}

enum lease_news claim_answer(struct claim *c, uint64_t now_us, const struct witness_answer *a)
{
	enum lease_ask was = c->open;

	c->open = LEASE_NOTHING;
	if (a->error) {
		c->known = false;	/* its revision stays the one that is watched */
		if (was == LEASE_WRITE && a->in_doubt) {
			c->in_doubt = true;
			c->doubt_revision = c->revision;
		}
		c->retry_at_us = now_us + c->limits.retry_us;
		return LEASE_UNANSWERED;
	}
	if (was == LEASE_WRITE && !a->written)
		c->invited = false;	/* the holder has written since: it has called that off */
	if (!c->same_since_us || !a->exists || a->revision != c->revision)
		c->same_since_us = now_us;	/* of the answer: it had not changed when that was sent, at the latest */
	c->known = true;
	c->exists = a->exists;
	c->revision = a->revision;
	c->record = a->record;
	c->in_doubt &= a->revision == c->doubt_revision;	/* what was sent does not fit another one any more */
	c->mine = a->exists && held_by(&a->record, c->host) && a->record.term == claim_term(c);
	return LEASE_SAME;
}
