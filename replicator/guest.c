/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/guest.h"
#include "checkpoint/record.h"
#include "common/clock.h"
#include "common/fault.h"
#include "common/log.h"
#include "replicator/child.h"
#include "replicator/events.h"
#include "replicator/keeper.h"
#include "replicator/peer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { REMOVE_AGAIN_MS = 2000 }; /* its file */

struct guest *guest_by_uuid(struct daemon *d, const uint8_t *uuid)
{
	struct guest *g;

	HASH_FIND(hh, d->guests, uuid, 16, g);
	return g;
}

struct guest *guest_by_name(struct daemon *d, const char *name)
{
	struct guest *g;

	for (g = d->guests; g; g = g->hh.next)
		if (!strcmp(g->tag.name, name))
			return g;
	return NULL;
}

int guest_save(struct guest *g)
{
	int rc = tag_save(g->d->guests_dir, &g->tag);

	if (rc)
		log_err(g->tag.name, "its state cannot be written to %s: %s", g->d->guests_dir,
			strerror(-rc));
	return rc;
}

Understudy__WorkerTls *guest_tls(const struct guest *g, Understudy__WorkerTls *tls)
{
	struct config *c = &g->d->config;

	tls->ca = c->tls_ca;
	tls->cert = c->tls_cert;
	tls->key = c->tls_key;
	tls->peer = c->tls_peer;
	return c->tls_peer[0] ? tls : NULL;
}

const struct policy *guest_policy(const struct guest *g)
{
	const struct policy *p = config_policy(&g->d->config, g->tag.policy);

	return p ? p : config_policy(&g->d->config, "standard");
}

void guest_deadline(struct guest *g, uint64_t ms)
{
	g->deadline_us = clock_us() + ms * 1000;
}

void guest_problem(struct guest *g, const char *fmt, ...)
{
	char text[GUEST_PROBLEM_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (text[0] && strcmp(text, g->problem))
		log_warn(g->tag.name, "%s", text);
	strcpy(g->problem, text);
}

struct worker_view *guest_worker(struct guest *g)
{
	struct worker_view *w = g->domid ? workers_find(g->d->workers, g->domid) : NULL;

	return w && w->ready ? w : NULL;
}

int guest_command(struct guest *g, Understudy__WorkerCommand *c, int fd)
{
	return g->domid ? workers_send(g->d->workers, g->domid, c, fd) : -ENOTCONN;
}

void guest_tell_peer(struct guest *g)
{
	Understudy__PeerGuest m = UNDERSTUDY__PEER_GUEST__INIT;

	if (!domains_ready(g->d->domains))
		return; /* whether it runs here is not known yet */
	m.uuid.data = g->tag.uuid;
	m.uuid.len = sizeof(g->tag.uuid);
	m.name = g->tag.name;
	m.policy = g->tag.policy;
	m.term = g->tag.term;
	m.active = fsm_runs_here(g->state) && g->state != GUEST_RETIRING;
	m.protected_ = m.active && g->tag.current &&
		       (g->worker_unknown ||
			(g->state != GUEST_UNPROTECTED && g->state != GUEST_PREPARING));
	m.epoch = g->tag.epoch;
	m.backup = fsm_has_shell(g->state);
	peer_send(g->d->peer, PEER_GUEST, &m.base);
}

bool guest_wants_worker(const struct guest *g)
{
	if (g->state == GUEST_RETIRING || g->state == GUEST_REMOVING || g->state == GUEST_UNTAGGING)
		return false;
	return clock_us() >= g->successor_from_us;
}

/* Tagged again before the peer has heard of the untag: its copy is of that term, and it may still
 * call it current. */
static void resume_tag(struct guest *g)
{
	const struct tag *untagged = untold_find(g->d->untold, g->tag.uuid);

	if (!untagged || g->tag.backup)
		return;
	if (untagged->term > g->tag.term)
		g->tag.term = untagged->term;
	g->tag.current |= untagged->current && !untagged->backup;
}

struct guest *guest_new(struct daemon *d, const struct tag *tag, bool save)
{
	struct guest *g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	g->d = d;
	g->tag = *tag;
	g->state = GUEST_ABSENT;
	g->peer_active = true; /* until it says otherwise */
	heard_init(&g->heard);
	g->since_us = clock_us();
	if (save)
		resume_tag(g);
	if (save && guest_save(g)) {
		free(g);
		return NULL;
	}
	/* Not before the tag is on disk, and where both are found the tag counts. */
	untold_forget(d->untold, g->tag.uuid);
	HASH_ADD(hh, d->guests, tag.uuid, sizeof(g->tag.uuid), g);
	return g;
}

static void guest_free(struct guest *g)
{
	keeper_free(g);
	heard_free(&g->heard);
	if (g->prepare)
		understudy__peer_prepare__free_unpacked(g->prepare, NULL);
	HASH_DEL(g->d->guests, g);
	free(g);
}

int guest_remove(struct guest *g)
{
	struct daemon *d;
	uint32_t domid;
	int rc = tag_remove(g->d->guests_dir, g->tag.uuid);

	if (rc) {
		log_err(g->tag.name, "its state cannot be removed: %s", strerror(-rc));
		return rc;
	}
	if (g->untag_serial) {
		fi_point("D_UNTAGGED");
		guest_confirm_untag(g->d, g->tag.uuid, g->untag_serial);
	}
	d = g->d;
	domid = g->domid;
	guest_free(g);
	/* A successor that had to wait for us need not any more. */
	if (domid)
		workers_kick(d->workers, domid);
	return 0;
}

static void load_one(void *arg, const struct tag *tag)
{
	struct guest *g = guest_new(arg, tag, false);

	if (!g)
		return;
	log_info(tag->name, "tagged with policy %s, %s at term %" PRIu64, tag->policy,
		 tag->backup ? "backup" : "primary", tag->term);
	if (!config_policy(&g->d->config, tag->policy))
		log_err(tag->name, "policy %s is not in the configuration; standard is used",
			tag->policy);
}

int guests_load(struct daemon *d)
{
	int rc = guest_untold_load(d);

	if (!rc)
		rc = tags_load(d->guests_dir, load_one, d);
	return rc < 0 ? rc : 0;
}

void guests_free(struct daemon *d)
{
	struct guest *g, *next;

	HASH_ITER (hh, d->guests, g, next)
		guest_free(g);
	untold_free(d->untold);
}

/* ---- the one place that changes a state ---- */

void guest_event(struct guest *g, enum guest_event event, const char *cause)
{
	enum guest_state old = g->state;
	int next = fsm_next(old, event);

	if (next < 0) {
		g->d->illegal_events++;
		log_err(g->tag.name, "event %s does not fit state %s (%s): ignored",
			guest_event_name[event], guest_state_name[old], cause);
		return;
	}
	g->state = (enum guest_state)next;
	if (g->state != old) {
		log_info(g->tag.name, "%s -> %s (%s: %s)", guest_state_name[old],
			 guest_state_name[g->state], guest_event_name[event], cause);
		g->since_us = clock_us();
		g->deadline_us = 0;
		if (!g->destroying)
			g->shell_serial++; /* a tool that still runs has nobody who waits for it */
	}
	if (fsm_has_shell(g->state) || (fsm_has_shell(old) && g->state == GUEST_ABSENT) ||
	    (g->state == GUEST_UNTAGGING && g->tag.backup))
		guest_backup_entered(g, old, event, cause);
	else
		guest_primary_entered(g, old, event, cause);
}

/* ---- tools ---- */

struct shell_run {
	struct daemon *d;
	uint8_t uuid[16];
	unsigned int serial;
	void (*done)(struct guest *g, int status, const char *out, const char *err);
};

static void shell_done(void *arg, int status, const char *out, const char *err)
{
	struct shell_run run = *(struct shell_run *)arg;
	struct guest *g = guest_by_uuid(run.d, run.uuid);

	free(arg);
	if (g && g->shell_serial == run.serial)
		run.done(g, status, out, err);
}

int guest_shell(struct guest *g, const char *verb, const char *arg, const char *input,
		unsigned int limit_ms,
		void (*done)(struct guest *g, int status, const char *out, const char *err))
{
	struct shell_run *run = malloc(sizeof(*run));
	char domid[16];
	const char *const argv[] = {g->d->config.shell_path, verb, domid, arg, NULL};

	if (!run)
		return -ENOMEM;
	*run = (struct shell_run){.d = g->d, .serial = g->shell_serial, .done = done};
	memcpy(run->uuid, g->tag.uuid, sizeof(run->uuid));
	snprintf(domid, sizeof(domid), "%u", g->domid);
	if (child_run(g->d->children, argv, input, limit_ms, shell_done, run))
		return 0;
	free(run);
	return -EIO;
}

int guest_destroy(struct guest *g,
		  void (*done)(struct guest *g, int status, const char *out, const char *err))
{
	char uuid[UUID_TEXT];

	uuid_format(g->tag.uuid, uuid);
	return guest_shell(g, "destroy", uuid, NULL, 60000, done);
}

/* ---- domains ---- */

/* The guest was created anew (`xl create` gives another uuid): the tag goes with the name. NULL: it
 * does not. */
static struct guest *guest_rekey(struct guest *g, const struct domain_entry *e)
{
	struct daemon *d = g->d;
	struct tag tag = g->tag;

	memcpy(tag.uuid, e->uuid, sizeof(tag.uuid));
	tag.current = tag.handing_over = false;
	log_info(tag.name, "runs with another uuid as domain %u; its tag goes along", e->domid);
	if (guest_untold(g) || guest_remove(g))
		return NULL;
	return guest_new(d, &tag, true);
}

static void guest_look(struct guest *g)
{
	const struct domain_entry *e = domains_by_uuid(g->d->domains, g->tag.uuid);
	char cause[64];

	if (fsm_has_shell(g->state) || (g->tag.backup && g->state == GUEST_ABSENT)) {
		guest_backup_domains_changed(g, e);
		return;
	}
	if (e && g->domid && e->domid != g->domid && fsm_runs_here(g->state))
		guest_event(g, GUEST_VANISHED, "another domain id, it was restarted");
	if (!e && g->state == GUEST_ABSENT) {
		e = domains_by_name(g->d->domains, g->tag.name);
		if (e && !guest_by_uuid(g->d, e->uuid))
			g = guest_rekey(g, e);
		else
			e = NULL;
	}
	if (!g)
		return;
	if (e && g->state == GUEST_ABSENT) {
		g->domid = e->domid;
		snprintf(cause, sizeof(cause), "domain %u", e->domid);
		guest_event(g, GUEST_APPEARED, cause);
		/* The daemon before this one died between activating it and naming it. */
		if (strlen(e->name) > strlen("--shell") &&
		    !strcmp(e->name + strlen(e->name) - strlen("--shell"), "--shell"))
			guest_take_name(g);
		if (guest_worker(g))
			guest_primary_hello(g, guest_worker(g));
	} else if (!e && g->domid && (fsm_runs_here(g->state) || g->state == GUEST_UNTAGGING)) {
		guest_event(g, GUEST_VANISHED, "the domain is gone");
	}
}

static void drop_unneeded(void *arg, struct worker_view *w)
{
	struct daemon *d = arg;

	if (!domains_by_id(d->domains, w->domid))
		workers_release(d->workers, w->domid);
}

static void want_workers(struct daemon *d)
{
	const struct domain_entry *e;
	size_t nr, i;

	e = domains_list(d->domains, &nr);
	for (i = 0; i < nr; i++) {
		struct guest *g = e[i].known ? guest_by_uuid(d, e[i].uuid) : NULL, *other;
		Understudy__WorkerRole role = UNDERSTUDY__WORKER_ROLE__WORKER_PRIMARY;

		for (other = d->guests; !g && other; other = other->hh.next)
			if (other->domid == e[i].domid && fsm_has_shell(other->state))
				g = other; /* its shell, before it has a name */
		if (g && g->domid == e[i].domid && fsm_has_shell(g->state))
			role = UNDERSTUDY__WORKER_ROLE__WORKER_BACKUP;
		if (g && (g->state == GUEST_RETIRING || g->state == GUEST_REMOVING ||
			  g->state == GUEST_UNTAGGING))
			continue;
		if (!e[i].has_vifs && !(g && g->domid == e[i].domid && e[i].known))
			continue;
		workers_want(d->workers, e[i].domid, role);
	}
}

void guests_domains_changed(void *arg)
{
	struct daemon *d = arg;
	struct guest *g, *next;

	HASH_ITER (hh, d->guests, g, next)
		guest_look(g);
	if (!d->looked) {
		d->looked = true;
		HASH_ITER (hh, d->guests, g, next) {
			if (d->same_boot)
				guest_primary_looked(g);
			guest_tell_peer(g);
		}
	}
	workers_each(d->workers, drop_unneeded, d);
	want_workers(d);
}

/* ---- workers ---- */

static struct guest *guest_of_worker(struct daemon *d, uint32_t domid)
{
	struct guest *g;

	for (g = d->guests; g; g = g->hh.next)
		if (g->domid == domid)
			return g;
	return NULL;
}

static void on_hello(void *arg, struct worker_view *w)
{
	struct daemon *d = arg;
	struct guest *g = guest_of_worker(d, w->domid);
	const struct domain_entry *e;

	if (g && memcmp(g->tag.uuid, w->uuid, 16)) {
		log_err(g->tag.name, "the worker of domain %u serves another guest, released",
			w->domid);
		workers_release(d->workers, w->domid);
		return;
	}
	log_info(g ? g->tag.name : w->name, "worker %d of domain %u is here, %s", w->pid, w->domid,
		 w->unpaused_at_start ? "it let the guest go on" : "ready");
	if (w->unpaused_at_start)
		events_add(d->events, g ? g->tag.name : w->name, "resumed",
			   "the guest stood still when its worker died; the new one let it go on",
			   "domid pid", (int64_t)w->domid, (int64_t)w->pid);
	if (!g) {
		/* It has let a guest go whose tag is gone, and has no devices to serve. */
		e = domains_by_id(d->domains, w->domid);
		if (e && !e->has_vifs && !guest_by_uuid(d, w->uuid))
			workers_release(d->workers, w->domid);
		return;
	}
	if (fsm_has_shell(g->state))
		guest_backup_hello(g, w);
	else
		guest_primary_hello(g, w);
}

static void on_event(void *arg, struct worker_view *w, const Understudy__WorkerEvent *e)
{
	struct daemon *d = arg;
	struct guest *g = guest_of_worker(d, w->domid);

	if (e->event_case == UNDERSTUDY__WORKER_EVENT__EVENT_ALARM)
		events_add(d->events, g ? g->tag.name : w->name, "alarm", e->alarm->text, "");
	if (!g)
		return;
	if (fsm_has_shell(g->state))
		guest_backup_worker_event(g, w, e);
	else
		guest_primary_worker_event(g, w, e);
}

static void on_gone(void *arg, struct worker_view *w, const char *cause)
{
	struct daemon *d = arg;
	struct guest *g = guest_of_worker(d, w->domid);

	if (!g)
		return;
	events_add(d->events, g->tag.name, "worker-gone", cause, "domid", (int64_t)w->domid);
	g->worker_unknown = false;
	if (g->state == GUEST_ABSENT || g->finalize)
		return;
	if (fsm_has_shell(g->state))
		heard_close(&g->heard);
	else
		guest_primary_worker_gone(g);
	guest_event(g, GUEST_WORKER_GONE, cause);
}

static bool may_start(void *arg, uint32_t domid)
{
	struct guest *g = guest_of_worker(arg, domid);

	return !g || guest_wants_worker(g);
}

const struct workers_ops guests_workers_ops = {
	.hello = on_hello,
	.event = on_event,
	.gone = on_gone,
	.may_start = may_start,
};

/* ---- the peer ---- */

void guests_peer_up(void *arg, bool again)
{
	struct daemon *d = arg;
	struct guest *g, *next;

	if (!again)
		events_add(d->events, NULL, "peer-up", peer_info(d->peer)->host, "");
	untold_ask_all(d->untold, clock_us(), true);
	HASH_ITER (hh, d->guests, g, next) {
		guest_tell_peer(g);
		if (!fsm_has_shell(g->state))
			guest_primary_peer_up(g);
	}
}

void guests_peer_down(void *arg, const char *cause)
{
	struct daemon *d = arg;
	struct guest *g;

	events_add(d->events, NULL, strcmp(cause, "silent") ? "peer-down" : "peer-silent", cause,
		   "silent_us", (int64_t)(clock_us() - peer_heard_us(d->peer)));
	for (g = d->guests; g; g = g->hh.next)
		g->drop_told = false;
}

void guest_outranked(struct guest *g, uint64_t term)
{
	char cause[192];

	snprintf(cause, sizeof(cause), "%s runs it in term %" PRIu64 ", here it is term %" PRIu64,
		 peer_info(g->d->peer)->host, term, g->tag.term);
	g->tag.term = term;
	events_add(g->d->events, g->tag.name, "outranked", cause, "term", (int64_t)term);
	guest_event(g, GUEST_OUTRANKED, cause);
}

/* Whether the name can go to another uuid, the one that the peer runs. */
static bool gives_name_up(struct guest *same, const Understudy__PeerGuest *m)
{
	if (same->state == GUEST_ABSENT)
		return m->active && !guest_remove(same);
	if (same->state != GUEST_UNTAGGING)
		log_err(m->name, "the peer has a tagged guest of that name with another uuid");
	return false;
}

static struct guest *tagged_by_peer(struct daemon *d, const Understudy__PeerGuest *m)
{
	struct tag tag = {.backup = true, .term = m->term, .epoch = m->epoch};
	struct guest *g;

	snprintf(tag.name, sizeof(tag.name), "%s", m->name);
	snprintf(tag.policy, sizeof(tag.policy), "%s", m->policy);
	memcpy(tag.uuid, m->uuid.data, sizeof(tag.uuid));
	g = guest_new(d, &tag, true);
	if (g)
		log_info(tag.name, "tagged by the peer");
	return g;
}

/* The peer's word about a guest: who runs it, in which term. */
static void peer_says(struct daemon *d, const Understudy__PeerGuest *m)
{
	struct guest *g = guest_by_uuid(d, m->uuid.data);
	struct guest *same = guest_by_name(d, m->name);

	/* What we no longer know and the peer only holds: it hears of the untag in a moment. */
	if (!g && (!m->active || guest_untag_stands(d, m->uuid.data, m->name, m->term)))
		return;
	if (!g && same && !gives_name_up(same, m))
		return;
	if (!g)
		g = tagged_by_peer(d, m);
	if (!g)
		return;
	g->peer_active = m->active;
	if (m->term > g->peer_term)
		g->peer_term = m->term;
	if (g->state == GUEST_UNTAGGING || g->state == GUEST_RETIRING)
		return;
	if (m->active && fsm_runs_here(g->state)) {
		if (m->term > g->tag.term) {
			guest_outranked(g, m->term);
		} else if (m->term == g->tag.term) {
			guest_problem(g,
				      "it runs on both hosts in the same term %" PRIu64
				      ": destroy one of them by hand",
				      m->term);
		}
		return;
	}
	if (m->active && m->term >= g->tag.term) {
		if (g->tag.term != m->term || !g->tag.backup) {
			g->tag.term = m->term;
			g->tag.backup = true;
			guest_save(g);
		}
		if (!m->protected_)
			guest_backup_not_current(g);
	}
}

/* The session is up, so it does not run here unless our xenstore says so: the guest need not stand
 * still over there for a copy that is gone. */
static void activate_unknown(struct daemon *d, const Understudy__PeerActivate *m)
{
	Understudy__PeerFailed failed = UNDERSTUDY__PEER_FAILED__INIT;

	if (!domains_ready(d->domains) || domains_by_uuid(d->domains, m->uuid.data))
		return;
	failed.uuid = m->uuid;
	failed.term = m->term;
	failed.cause = "it is not tagged here";
	peer_send(d->peer, PEER_FAILED, &failed.base);
}

void guests_peer_message(void *arg, enum peer_type type, const ProtobufCMessage *m)
{
	/* Every message but these begins with the uuid: frame_kinds.c has checked it. */
	const struct {
		ProtobufCMessage base;
		ProtobufCBinaryData uuid;
	} *head = (const void *)m;
	struct daemon *d = arg;
	struct guest *g = guest_by_uuid(d, head->uuid.data);

	switch (type) {
	case PEER_GUEST:
		peer_says(d, (const Understudy__PeerGuest *)m);
		break;
	case PEER_UNTAG:
		guest_peer_untag(d, (const Understudy__PeerUntag *)m);
		break;
	case PEER_UNTAGGED:
		guest_peer_untagged(d, (const Understudy__PeerUntagged *)m);
		break;
	case PEER_PREPARE:
		guest_backup_prepare(d, (const Understudy__PeerPrepare *)m);
		break;
	case PEER_UNPREPARE:
	case PEER_DROPPED:
	case PEER_ACTIVATE:
		if (g)
			guest_backup_peer_message(g, type, m);
		else if (type == PEER_ACTIVATE)
			activate_unknown(d, (const Understudy__PeerActivate *)m);
		break;
	default:
		if (g)
			guest_primary_peer_message(g, type, m);
		break;
	}
}

void guests_stream_arrived(void *arg, const struct stream_hello *hello, int fd)
{
	struct guest *g = guest_by_uuid(arg, hello->uuid);

	/* A further connection may come first, or when the stream already runs: its token says of which it is. */
	if (!g || !(g->awaiting_stream || hello->lane) || g->token != hello->token) {
		log_warn(g ? g->tag.name : NULL, "a stream that was not agreed on came in, closed");
		close(fd);
		return;
	}
	guest_backup_stream_arrived(g, hello, fd);
}

/* ---- time ---- */

void guests_tick(struct daemon *d, uint64_t now)
{
	struct guest *g, *next;

	HASH_ITER (hh, d->guests, g, next) {
		keeper_tick(g, now);
		if (g->successor_from_us && now >= g->successor_from_us) {
			g->successor_from_us = 0;
			workers_kick(d->workers, g->domid);
		}
		if (fsm_has_shell(g->state) || (g->state == GUEST_UNTAGGING && g->tag.backup))
			guest_backup_tick(g, now);
		else
			guest_primary_tick(g, now);
	}
	HASH_ITER (hh, d->guests, g, next)
		if (g->finalize && guest_remove(g)) {
			g->finalize = false;
			guest_deadline(g, REMOVE_AGAIN_MS);
		}
	untold_ask_all(d->untold, now, false);
}
