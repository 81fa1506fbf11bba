/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The end of protection, on both hosts: one of them is told, however long it is away. */
#include "common/log.h"
#include "replicator/events.h"
#include "replicator/guest.h"
#include "replicator/peer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { UNTAG_AGAIN_MS = 2000 }; /* after a state directory that cannot be written */

static int send_untag(struct daemon *d, const struct tag *t, bool active, uint64_t serial)
{
	Understudy__PeerUntag m = UNDERSTUDY__PEER_UNTAG__INIT;

	m.uuid.data = (uint8_t *)t->uuid;
	m.uuid.len = sizeof(t->uuid);
	m.term = t->term;
	m.active = active;
	m.serial = serial;
	return peer_send(d->peer, PEER_UNTAG, &m.base);
}

/* ---- telling ---- */

static int ask(void *arg, const struct tag *t, uint64_t serial)
{
	struct daemon *d = arg;

	if (!domains_ready(d->domains))
		return -EAGAIN; /* whether it runs here is not known yet */
	return send_untag(d, t, !t->backup && domains_by_uuid(d->domains, t->uuid), serial);
}

int guest_untold_load(struct daemon *d)
{
	return untold_new(d->guests_dir, d->untold_dir, ask, d, &d->untold);
}

int guest_untold(struct guest *g)
{
	int rc;

	guest_save(g); /* or the file as it was: the peer is told nevertheless */
	rc = untold_add(g->d->untold, &g->tag);
	if (rc)
		guest_problem(g, "cannot be untagged, %s cannot be written: %s", g->d->untold_dir,
			      strerror(-rc));
	return rc;
}

void guest_untag_done(struct guest *g)
{
	const struct daemon *d = g->d;
	const char *zone = peer_info(d->peer)->zone;
	char text[EVENT_TEXT_MAX] = "";

	/* Who has asked for it has forgotten it. */
	if (!g->untag_serial && guest_untold(g)) {
		guest_deadline(g, UNTAG_AGAIN_MS);
		return;
	}
	if (!peer_up(d->peer))
		snprintf(text, sizeof(text), "%s will be told when it is back",
			 zone[0] ? zone : "the peer");
	events_add(d->events, g->tag.name, "untagged", text, "");
	g->finalize = true;
}

void guest_request_untag(struct guest *g)
{
	send_untag(g->d, &g->tag, false, 0);
}

bool guest_untag_stands(struct daemon *d, const uint8_t *uuid, const char *name, uint64_t term)
{
	const struct tag *t = untold_find(d->untold, uuid);
	char text[EVENT_TEXT_MAX];

	if (!t)
		return false;
	/* In a later term than the peer, or it is the primary of the copy that was here. */
	if (term < t->term || (term == t->term && t->backup))
		return true;
	snprintf(text, sizeof(text), "it was untagged here, but %s runs it: both hosts may run it",
		 peer_info(d->peer)->host);
	events_add(d->events, name, "alarm", text, "term untagged_term", (int64_t)term,
		   (int64_t)t->term);
	untold_forget(d->untold, uuid);
	return false;
}

void guest_peer_untagged(struct daemon *d, const Understudy__PeerUntagged *m)
{
	const struct tag *t = untold_find(d->untold, m->uuid.data);

	if (!t || !untold_answered(d->untold, m->uuid.data, m->serial))
		return;
	events_add(d->events, t->name, "untag-confirmed", peer_info(d->peer)->host, "");
	untold_forget(d->untold, m->uuid.data);
}

/* ---- being told ---- */

void guest_confirm_untag(struct daemon *d, const uint8_t uuid[16], uint64_t serial)
{
	Understudy__PeerUntagged m = UNDERSTUDY__PEER_UNTAGGED__INIT;

	m.uuid.data = (uint8_t *)uuid;
	m.uuid.len = 16;
	m.serial = serial;
	peer_send(d->peer, PEER_UNTAGGED, &m.base);
}

static void untag_unknown(struct daemon *d, const Understudy__PeerUntag *m)
{
	const struct domain_entry *e = domains_by_uuid(d->domains, m->uuid.data);

	if (m->active && e)
		events_add(d->events, e->name, "alarm",
			   "untagged on both hosts, and both run it: destroy one of them by hand",
			   "domid", (int64_t)e->domid);
	if (m->serial)
		guest_confirm_untag(d, m->uuid.data, m->serial);
}

/* It runs here. True: it is the one that the peer has untagged. */
static bool untag_meant(struct guest *g, const Understudy__PeerUntag *m)
{
	if (m->term > g->tag.term && m->active) {
		/* It took over and was untagged then; ours is an earlier life. The peer asks again
		 * when that is destroyed. */
		guest_outranked(g, m->term);
		return false;
	}
	if (m->term >= g->tag.term && !m->active)
		return true;
	log_warn(g->tag.name, "untagged on the peer in term %" PRIu64 ", but it runs here",
		 m->term);
	guest_tell_peer(g); /* which settles it */
	return false;
}

void guest_peer_untag(struct daemon *d, const Understudy__PeerUntag *m)
{
	struct guest *g = guest_by_uuid(d, m->uuid.data);

	if (!d->looked)
		return; /* a shell may be here that was not found yet; the peer asks again */
	if (!g) {
		untag_unknown(d, m);
		return;
	}
	if (fsm_runs_here(g->state) && g->state != GUEST_RETIRING && !untag_meant(g, m))
		return;
	if (fsm_next(g->state, GUEST_UNTAG) < 0) {
		log_info(g->tag.name, "untagged on the peer, but it is %s: not now",
			 guest_state_name[g->state]);
		return;
	}
	if (m->serial)
		g->untag_serial = m->serial;
	if (g->state != GUEST_UNTAGGING)
		guest_event(g, GUEST_UNTAG, "untagged on the peer");
}
