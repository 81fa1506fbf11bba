/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the daemon does for a guest that runs here. */
#include "common/clock.h"
#include "common/fault.h"
#include "common/log.h"
#include "replicator/child.h"
#include "replicator/events.h"
#include "replicator/guest.h"
#include "replicator/keeper.h"
#include "replicator/peer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	SETTLE_MS = 2000, /* after a domain appeared: its toolstack is not done with it */
	RETRY_FIRST_MS = 250,
	RETRY_MAX_MS = 10000,
	CONFIG_MAX_MS = 30000,	   /* understudy-shell config */
	PREPARE_MAX_MS = 90000,	   /* the peer builds a shell, maps it */
	FINISH_MAX_MS = 10000,	   /* the final epoch of a switchover */
	HAND_OVER_AGAIN_MS = 2000, /* no answer to ACTIVATE: asked again */
	HAND_OVER_LOOK_MS = 100,   /* whether the peer is silent for long enough */
	DROPPED_ACK_MAX_MS = 500,  /* the session lives, but no answer comes */
	SUCCESSOR_MAX_MS = 100,	   /* how long a new worker waits for that answer */
	DROP_MAX_MS = 10000,	   /* the worker ends protection */
	DESTROY_AGAIN_MS = 2000,
	UNTAG_AGAIN_MS = 1000,
	UNTAG_LOOK_MS = 20,
	RECORD_MAX_MS = 2000,	   /* untagging: the witness may be away */
};

#define COMMAND(name, field_, case_, type_, init_)                                                 \
	Understudy__WorkerCommand name = UNDERSTUDY__WORKER_COMMAND__INIT;                         \
	type_ name##_body = init_;                                                                 \
	name.command_case = UNDERSTUDY__WORKER_COMMAND__COMMAND_##case_;                           \
	name.field_ = &name##_body

static uint64_t drop_after_ms(const struct guest *g)
{
	return 2ull * guest_policy(g)->timeout_ms;
}

static void set_current(struct guest *g, bool current)
{
	if (g->tag.current == current)
		return;
	g->tag.current = current;
	guest_save(g);
}

static void retry_later(struct guest *g, uint64_t at_least_ms)
{
	uint64_t ms = RETRY_FIRST_MS << (g->attempts < 6 ? g->attempts : 6);

	if (ms > RETRY_MAX_MS)
		ms = RETRY_MAX_MS;
	if (ms < at_least_ms)
		ms = at_least_ms;
	g->attempts++;
	g->retry_at_us = clock_us() + ms * 1000;
}

/* A worker that starts anew lets output pass. With a witness not before that says that the copy is not current (I2). */
static uint64_t successor_from_us(const struct guest *g, uint64_t ms)
{
	return keeper_decides(g) ? UINT64_MAX : clock_us() + ms * 1000;
}

static void let_successor_start(struct guest *g)
{
	if (!g->successor_from_us)
		return;
	g->successor_from_us = 0;
	workers_kick(g->d->workers, g->domid);
}

/* ---- telling the backup that its copy is stale ---- */

bool guest_primary_tell_dropped(struct guest *g, const char *cause)
{
	Understudy__PeerDropped m = UNDERSTUDY__PEER_DROPPED__INIT;

	if (!g->tag.current || !peer_up(g->d->peer))
		return false;
	m.uuid.data = g->tag.uuid;
	m.uuid.len = sizeof(g->tag.uuid);
	m.term = g->tag.term;
	m.cause = (char *)cause;
	if (peer_send(g->d->peer, PEER_DROPPED, &m.base))
		return false;
	g->drop_told = true;
	return true;
}

static void send_drop(struct guest *g, const char *cause)
{
	COMMAND(c, drop, DROP, Understudy__WorkerDrop, UNDERSTUDY__WORKER_DROP__INIT);

	fi_point("D_DROP");
	c_body.cause = (char *)cause;
	guest_command(g, &c, -1);
	guest_deadline(g, DROP_MAX_MS);
}

static void unprepare(struct guest *g, const char *cause)
{
	Understudy__PeerUnprepare m = UNDERSTUDY__PEER_UNPREPARE__INIT;

	m.uuid.data = g->tag.uuid;
	m.uuid.len = sizeof(g->tag.uuid);
	m.term = g->tag.term;
	m.cause = (char *)cause;
	peer_send(g->d->peer, PEER_UNPREPARE, &m.base);
}

/* ---- protecting ---- */

static void config_read(struct guest *g, int status, const char *out, const char *err)
{
	Understudy__PeerPrepare m = UNDERSTUDY__PEER_PREPARE__INIT;
	const struct worker_view *w = guest_worker(g);
	const struct policy *p = guest_policy(g);
	char text[64];

	if (g->state != GUEST_PREPARING)
		return;
	if (status || !w) {
		guest_problem(g, "its configuration cannot be read: %.160s",
			      err[0] ? err : child_status_text(status, text, sizeof(text)));
		guest_event(g, GUEST_REFUSED, g->problem);
		return;
	}
	m.uuid.data = g->tag.uuid;
	m.uuid.len = sizeof(g->tag.uuid);
	m.name = g->tag.name;
	m.domid = g->domid;
	m.term = g->tag.term;
	m.policy = g->tag.policy;
	m.timeout_ms = p->timeout_ms;
	m.takeover = p->takeover;
	m.memory_bytes = w->memory_bytes;
	m.vcpus = w->vcpus;
	m.config = (char *)out;
	if (peer_send(g->d->peer, PEER_PREPARE, &m.base)) {
		guest_problem(g, "the peer cannot be asked to prepare: %s",
			      peer_problem(g->d->peer));
		guest_event(g, GUEST_REFUSED, g->problem);
		return;
	}
	guest_deadline(g, PREPARE_MAX_MS);
}

static void begin_preparing(struct guest *g)
{
	fi_point("D_PREPARE");
	if (g->peer_term > g->tag.term) {
		g->tag.term = g->peer_term; /* an activation that failed has used it up */
		guest_save(g);
	}
	events_add(g->d->events, g->tag.name, "prepare", peer_info(g->d->peer)->host, "term domid",
		   (int64_t)g->tag.term, (int64_t)g->domid);
	guest_deadline(g, CONFIG_MAX_MS + 1000);
	if (guest_shell(g, "config", NULL, NULL, CONFIG_MAX_MS, config_read))
		guest_event(g, GUEST_REFUSED, "understudy-shell cannot be started");
}

static void begin_syncing(struct guest *g)
{
	COMMAND(c, protect, PROTECT, Understudy__WorkerProtect, UNDERSTUDY__WORKER_PROTECT__INIT);
	Understudy__WorkerPolicy policy = UNDERSTUDY__WORKER_POLICY__INIT;
	Understudy__WorkerTls tls = UNDERSTUDY__WORKER_TLS__INIT;
	const struct policy *p = guest_policy(g);

	fi_point("D_SYNC");
	g->problem[0] = '\0';
	policy.epoch_ms = p->epoch_ms;
	policy.epoch_max_ms = p->adaptive ? p->epoch_max_ms : 0;
	policy.pause_pct = p->pause_pct;
	policy.window = p->window;
	policy.streams = p->streams;
	policy.heartbeat_ms = p->heartbeat_ms;
	policy.timeout_ms = p->timeout_ms;
	policy.hold_max_ms = p->hold_max_ms;
	policy.netbuf_bytes = (uint64_t)p->netbuf_mib << 20;
	policy.cache_bytes = (uint64_t)p->cache_mib << 20;
	policy.leased = keeper_decides(g);
	policy.drift_ppm = g->d->config.witness_drift_ppm;
	policy.margin_ms = g->d->config.witness_margin_ms;
	c_body.peer_address = g->d->config.peer_address;
	c_body.peer_port = g->peer_stream_port;
	c_body.uuid.data = g->tag.uuid;
	c_body.uuid.len = sizeof(g->tag.uuid);
	c_body.term = g->tag.term;
	c_body.token = g->token;
	c_body.policy = &policy;
	c_body.tls = guest_tls(g, &tls);
	g->sync_sent = g->sync_total = 0;
	/* From the first whole epoch on the backup may call its copy current, before we hear of it.
	 */
	set_current(g, true);
	events_add(g->d->events, g->tag.name, "sync-begin", "", "term", (int64_t)g->tag.term);
	if (guest_command(g, &c, -1))
		guest_event(g, GUEST_REFUSED, "the worker cannot be told");
}

static void entered_unprotected(struct guest *g, enum guest_state old, enum guest_event event,
				const char *cause)
{
	if (event == GUEST_APPEARED) {
		/* The backup's copy is of an earlier life, or the worker will tell more in a
		 * moment. */
		g->attempts = 0;
		g->retry_at_us = clock_us() + SETTLE_MS * 1000ull;
		g->worker_unknown = workers_find(g->d->workers, g->domid) && !guest_worker(g);
		if (g->tag.current && !workers_find(g->d->workers, g->domid) &&
		    (guest_primary_tell_dropped(g, "the worker was gone when the daemon started") ||
		     !peer_up(g->d->peer) || keeper_decides(g)))
			g->successor_from_us = successor_from_us(g, drop_after_ms(g));
		guest_tell_peer(g);
		return;
	}
	if (event == GUEST_DROPPED && old != GUEST_UNPROTECTED) {
		events_add(g->d->events, g->tag.name, "dropped", cause, "term epoch",
			   (int64_t)g->tag.term, (int64_t)g->tag.epoch);
		guest_problem(g, "protection was dropped: %.160s", cause);
	}
	if (event == GUEST_ACTIVATED)
		set_current(g, false);
	else if (!g->drop_told) /* until the backup has answered, its copy counts as current */
		guest_primary_tell_dropped(g, cause);
	if (old != GUEST_UNPROTECTED) {
		retry_later(g, 0);
		guest_tell_peer(g);
	}
}

static void entered_protected(struct guest *g, enum guest_state old)
{
	fi_point("D_PROTECTED");
	set_current(g, true);
	g->attempts = 0;
	g->problem[0] = '\0';
	if (old != GUEST_SWITCHING)
		guest_tell_peer(g);
}

/* ---- stream lost ---- */

static void begin_deciding(struct guest *g, const char *cause)
{
	bool told;

	fi_point("D_DEGRADED");
	events_add(g->d->events, g->tag.name, "degraded", cause, "term epoch", (int64_t)g->tag.term,
		   (int64_t)g->tag.epoch);
	guest_problem(g, "output is held: %.160s", cause);
	g->drop_told = false;
	told = guest_primary_tell_dropped(g, cause);
	guest_deadline(g, told ? DROPPED_ACK_MAX_MS : drop_after_ms(g));
}

/* ---- switchover ---- */

static void send_activate(struct guest *g)
{
	Understudy__PeerActivate m = UNDERSTUDY__PEER_ACTIVATE__INIT;

	fi_point("D_HAND_OVER");
	m.uuid.data = g->tag.uuid;
	m.uuid.len = sizeof(g->tag.uuid);
	m.term = g->tag.term + 1;
	m.epoch = g->tag.epoch;
	peer_send(g->d->peer, PEER_ACTIVATE, &m.base);
	guest_deadline(g, HAND_OVER_AGAIN_MS);
}

static void begin_switching(struct guest *g)
{
	COMMAND(c, finish, FINISH, Understudy__WorkerFinish, UNDERSTUDY__WORKER_FINISH__INIT);

	fi_point("D_SWITCH");
	events_add(g->d->events, g->tag.name, "switch-begin", "", "term", (int64_t)g->tag.term);
	guest_deadline(g, FINISH_MAX_MS);
	if (guest_command(g, &c, -1))
		guest_event(g, GUEST_CALLED_OFF, "the worker cannot be told");
}

static void resume(struct guest *g)
{
	COMMAND(c, resume, RESUME, Understudy__WorkerResume, UNDERSTUDY__WORKER_RESUME__INIT);

	guest_command(g, &c, -1);
}

static void entered_handing_over(struct guest *g, enum guest_state old)
{
	if (old == GUEST_HANDING_OVER)
		return;
	if (old == GUEST_SWITCHING && peer_up(g->d->peer)) {
		/* Written before the order leaves: a restarted daemon must not let the guest go on.
		 */
		g->tag.handing_over = true;
		if (guest_save(g)) {
			guest_event(g, GUEST_CALLED_OFF, "the order cannot be written down");
			return;
		}
		if (keeper_quiet(g))
			send_activate(g);
		else
			guest_deadline(g, HAND_OVER_LOOK_MS); /* the peer must find the record as it stays */
		return;
	}
	if (!g->tag.handing_over) {
		guest_event(g, GUEST_CALLED_OFF, "the peer was not told to activate");
		return;
	}
	if (peer_up(g->d->peer))
		send_activate(g);
	else
		guest_deadline(g, drop_after_ms(g));
}

/* The witness knows whether the peer has claimed it. If not, our next write there sees to it that it cannot any more. */
static void recall(struct guest *g)
{
	g->recalling = true;
	if (keeper_claimed_by_other(g))
		guest_problem(g, "stands still: the peer has claimed it in a switchover and fell silent; "
				 "`understudy failover --force` lets it go on here");
	guest_deadline(g, HAND_OVER_AGAIN_MS);
}

/* No answer: the peer may or may not run the guest. */
static void hand_over_overdue(struct guest *g)
{
	if (!keeper_quiet(g) && !g->recalling) {
		guest_deadline(g, HAND_OVER_LOOK_MS);
		return;
	}
	if (peer_up(g->d->peer) && (!g->recalling || keeper_claimed_by_other(g))) {
		send_activate(g);
		return;
	}
	if (keeper_decides(g)) {
		recall(g);
		return;
	}
	if (guest_policy(g)->takeover == TAKEOVER_AUTOMATIC_WITHOUT_WITNESS) {
		/* A connection that closed is no silence yet. */
		if (clock_us() - peer_heard_us(g->d->peer) < drop_after_ms(g) * 1000)
			guest_deadline(g, HAND_OVER_LOOK_MS);
		else
			guest_event(g, GUEST_CALLED_OFF,
				    "the peer fell silent during the switchover");
		return;
	}
	guest_problem(g, "stands still: the peer fell silent during the switchover and may run it; "
			 "`understudy failover --force` lets it go on here");
	guest_deadline(g, HAND_OVER_AGAIN_MS);
}

/* ---- another host runs it ---- */

static void retired(struct guest *g, int status, const char *out, const char *err)
{
	if (status) {
		guest_problem(g, "the outranked domain %u cannot be destroyed: %.140s", g->domid,
			      err);
		guest_deadline(g, DESTROY_AGAIN_MS);
		return;
	}
	guest_event(g, GUEST_RETIRED, "destroyed");
}

static void retire(struct guest *g)
{
	if (guest_destroy(g, retired))
		guest_deadline(g, DESTROY_AGAIN_MS);
}

static void begin_retiring(struct guest *g, const char *cause)
{
	fi_point("D_RETIRE");
	log_err(g->tag.name, "domain %u is given up: %s", g->domid, cause);
	events_add(g->d->events, g->tag.name, "retire", cause, "term domid", (int64_t)g->tag.term,
		   (int64_t)g->domid);
	/* The file says primary until the domain is gone: a daemon that starts meanwhile finds it as one, and hears again that it is
	 * outranked. */
	workers_release(g->d->workers, g->domid); /* nothing more of its output leaves */
	retire(g);
}

static void entered_absent(struct guest *g, enum guest_state old, enum guest_event event,
			   const char *cause)
{
	bool ran = fsm_runs_here(old) && old != GUEST_RETIRING;

	if (old == GUEST_RETIRING)
		hook_run(g, HOOK_DEACTIVATE, "the other host runs it");
	if (g->domid)
		workers_release(g->d->workers, g->domid);
	g->domid = 0;
	g->successor_from_us = 0;
	if (old == GUEST_RETIRING) {
		g->tag.backup = true;
		g->tag.current = g->tag.handing_over = false;
		guest_save(g);
	}
	if (ran) {
		unprepare(g, cause);
		g->tag.handing_over = false;
		set_current(g, false);
		events_add(g->d->events, g->tag.name, "absent", cause, "");
	}
	g->problem[0] = '\0';
	guest_tell_peer(g);
}

/* ---- untag ---- */

/* A worker that is dead or does not answer keeps its slot: a successor lets the guest go. */
static void untag_done(struct guest *g, bool answered)
{
	const struct domain_entry *e = domains_by_id(g->d->domains, g->domid);

	if (g->domid && (!e || (!e->has_vifs && answered)))
		workers_release(g->d->workers, g->domid);
	keeper_forget(g);
	guest_untag_done(g);
}

/* It ends protection, hence lets output pass: not before no copy is current. */
static void unprotect(struct guest *g)
{
	COMMAND(c, unprotect, UNPROTECT, Understudy__WorkerUnprotect,
		UNDERSTUDY__WORKER_UNPROTECT__INIT);

	if (g->tag.current && !keeper_alone(g)) {
		guest_problem(g, "untagging waits for the witness: %.120s", keeper_problem(g));
		guest_deadline(g, UNTAG_AGAIN_MS);
		return;
	}
	/* Its record can be removed if it is known; that is worth a moment, no more. */
	if (!keeper_settled(g) && clock_us() - g->since_us < RECORD_MAX_MS * 1000ull) {
		guest_deadline(g, UNTAG_LOOK_MS);
		return;
	}
	g->unprotecting = true;
	if (!g->domid || !guest_worker(g) || guest_command(g, &c, -1)) {
		untag_done(g, false);
		return;
	}
	guest_deadline(g, DROP_MAX_MS);
}

static void begin_untagging(struct guest *g, enum guest_state old)
{
	if (old == GUEST_UNTAGGING)
		return;
	fi_point("D_UNTAG");
	guest_primary_tell_dropped(g, "untagged");
	unprotect(g);
}

/* ---- dispatch ---- */

void guest_primary_entered(struct guest *g, enum guest_state old, enum guest_event event,
			   const char *cause)
{
	struct worker_view *w = guest_worker(g);

	if (g->state != GUEST_HANDING_OVER)
		g->recalling = false;
	if (w)
		w->hang_strict = g->state == GUEST_PROTECTED || g->state == GUEST_DEGRADED;
	switch (g->state) {
	case GUEST_ABSENT:
		if (old != GUEST_ABSENT)
			entered_absent(g, old, event, cause);
		break;
	case GUEST_UNPROTECTED:
		entered_unprotected(g, old, event, cause);
		break;
	case GUEST_PREPARING:
		if (old != GUEST_PREPARING)
			begin_preparing(g);
		break;
	case GUEST_SYNCING:
		if (event == GUEST_PREPARED)
			begin_syncing(g);
		break;
	case GUEST_PROTECTED:
		if (event == GUEST_CALLED_OFF)
			resume(g);
		entered_protected(g, old);
		break;
	case GUEST_DEGRADED:
		if (event == GUEST_CALLED_OFF) {
			g->tag.handing_over = false;
			guest_save(g);
			resume(g);
		}
		if (old != GUEST_DEGRADED)
			begin_deciding(g, cause);
		break;
	case GUEST_SWITCHING:
		begin_switching(g);
		break;
	case GUEST_HANDING_OVER:
		entered_handing_over(g, old);
		break;
	case GUEST_RETIRING:
		if (old != GUEST_RETIRING)
			begin_retiring(g, cause);
		break;
	case GUEST_UNTAGGING:
		begin_untagging(g, old);
		if (old != GUEST_UNTAGGING || g->finalize)
			break;
		/* While the witness is waited for a dead worker ends nothing: its successor would let output pass (I2). */
		if (event == GUEST_DROPPED || event == GUEST_VANISHED || (event == GUEST_WORKER_GONE && g->unprotecting))
			untag_done(g, event == GUEST_DROPPED);
		break;
	default:
		break;
	}
}

static bool may_protect(struct guest *g)
{
	const struct worker_view *w = guest_worker(g);

	if (!w || w->state != UNDERSTUDY__WORKER_STATE__WORKER_SERVING)
		return false;
	if (strcmp(w->kind, "PVH") || w->passthrough_devices) {
		guest_problem(g,
			      w->passthrough_devices
				      ? "it has a passed-through device"
				      : "it is a %s guest; only PVH guests can be protected",
			      w->kind);
		return false;
	}
	if (!peer_up(g->d->peer)) {
		guest_problem(g, "no session with the peer: %.200s", peer_problem(g->d->peer));
		return false;
	}
	if (!keeper_settled(g)) { /* it is asked already; a problem when it takes long */
		if (keeper_problem(g)[0])
			guest_problem(g, "%.220s", keeper_problem(g));
		return false;
	}
	return true;
}

/* A peer that is heard and does not consent may be about to run the copy: it says so, or that it cannot, in a while. */
static bool drop_unanswered(struct guest *g)
{
	uint64_t most_us = guest_policy(g)->hold_max_ms * 1000ull;

	return g->drop_told && peer_up(g->d->peer) && clock_us() - g->since_us < most_us &&
	       guest_primary_tell_dropped(g, g->problem);
}

static void overdue(struct guest *g)
{
	g->deadline_us = 0;
	switch (g->state) {
	case GUEST_PREPARING:
		guest_problem(g, "the peer did not prepare a shell in time");
		unprepare(g, "not in time");
		guest_event(g, GUEST_REFUSED, g->problem);
		break;
	case GUEST_DEGRADED:
		if (keeper_decides(g)) { /* its copy is current until the witness or the backup says otherwise */
			guest_primary_tell_dropped(g, g->problem);
			guest_deadline(g, DROPPED_ACK_MAX_MS);
			break;
		}
		/* Told or not: the backup has had its time. A session that came back meanwhile is
		 * used first. */
		if (!g->drop_told && guest_primary_tell_dropped(g, g->problem))
			guest_deadline(g, DROPPED_ACK_MAX_MS);
		else if (drop_unanswered(g))
			guest_deadline(g, DROPPED_ACK_MAX_MS);
		else
			send_drop(g, g->drop_told ? "the backup did not answer"
						  : "the backup cannot be reached");
		break;
	case GUEST_SWITCHING:
		guest_problem(g, "switchover: no final epoch in time");
		guest_event(g, GUEST_CALLED_OFF, g->problem);
		break;
	case GUEST_HANDING_OVER:
		hand_over_overdue(g);
		break;
	case GUEST_RETIRING:
		retire(g);
		break;
	case GUEST_UNTAGGING:
		if (!g->unprotecting) {
			unprotect(g);
			break;
		}
		workers_kill(g->d->workers, g->domid);
		untag_done(g, false);
		break;
	default:
		break;
	}
}

/* Nobody can take over what ran here: what waited for that goes on. */
void guest_primary_keeper(struct guest *g)
{
	if (g->state == GUEST_HANDING_OVER && g->recalling && keeper_unclaimed(g)) {
		g->recalling = false;
		guest_event(g, GUEST_CALLED_OFF, "the peer fell silent during the switchover, and has not claimed it");
		return;
	}
	if (!g->tag.current || !keeper_decides(g) || !keeper_alone(g))
		return;
	if (g->state == GUEST_DEGRADED) {
		set_current(g, false);
		send_drop(g, "the witness knows that the copy is stale");
	} else if (g->state == GUEST_UNPROTECTED) {
		set_current(g, false);
		let_successor_start(g);
	} else if (g->state == GUEST_UNTAGGING && !g->unprotecting) {
		unprotect(g);
	}
}

void guest_primary_tick(struct guest *g, uint64_t now)
{
	guest_primary_keeper(g);
	if (g->deadline_us && now >= g->deadline_us)
		overdue(g);
	if (g->state == GUEST_UNPROTECTED && now >= g->retry_at_us) {
		if (may_protect(g))
			guest_event(g, GUEST_TRY_PROTECT, "worker and peer are ready");
		else
			g->retry_at_us = now + RETRY_FIRST_MS * 1000ull;
	}
}

/* A worker came, or one that went on without us was found: its state is the truth. */
void guest_primary_hello(struct guest *g, struct worker_view *w)
{
	g->worker_unknown = false;
	if (g->state != GUEST_UNPROTECTED) {
		if (g->state == GUEST_HANDING_OVER &&
		    w->state != UNDERSTUDY__WORKER_STATE__WORKER_FINISHED)
			guest_event(g, GUEST_CALLED_OFF, "the worker let it go on");
		return;
	}
	if (w->term > g->tag.term)
		g->tag.term = w->term;
	switch (w->state) {
	case UNDERSTUDY__WORKER_STATE__WORKER_SYNCING:
		guest_event(g, GUEST_FOUND_SYNCING, "found at work");
		break;
	case UNDERSTUDY__WORKER_STATE__WORKER_PROTECTED:
		guest_event(g, GUEST_SYNCED, "found at work");
		break;
	case UNDERSTUDY__WORKER_STATE__WORKER_HOLDING:
		guest_event(g, GUEST_LOST, "found holding");
		break;
	case UNDERSTUDY__WORKER_STATE__WORKER_FINISHED:
		guest_event(g, GUEST_FINISHED, "found behind a final epoch");
		break;
	default:
		if (!g->drop_told)
			guest_primary_tell_dropped(g, "the worker serves it unprotected");
		break;
	}
}

static void worker_failed(struct guest *g, const Understudy__WorkerFailed *f)
{
	log_warn(g->tag.name, "%s: %s", f->command, f->cause);
	if (!strcmp(f->command, "protect") && g->state == GUEST_SYNCING) {
		guest_problem(g, "the worker cannot protect it: %.180s", f->cause);
		guest_event(g, GUEST_REFUSED, g->problem);
	} else if (!strcmp(f->command, "finish") && g->state == GUEST_SWITCHING) {
		guest_problem(g, "switchover: %.200s", f->cause);
		guest_event(g, GUEST_CALLED_OFF, g->problem);
	}
}

void guest_primary_worker_event(struct guest *g, struct worker_view *w,
				const Understudy__WorkerEvent *e)
{
	switch (e->event_case) {
	case UNDERSTUDY__WORKER_EVENT__EVENT_PROGRESS:
		g->sync_sent = e->progress->pages_sent;
		g->sync_total = e->progress->pages_total;
		g->sync_round = e->progress->round;
		break;
	case UNDERSTUDY__WORKER_EVENT__EVENT_STATS:
		g->tag.epoch = w->epoch;
		break;
	case UNDERSTUDY__WORKER_EVENT__EVENT_PROTECTED_:
		g->tag.epoch = e->protected_->epoch;
		events_add(g->d->events, g->tag.name, "protected", "",
			   "term epoch sync_ms sync_bytes", (int64_t)e->protected_->term,
			   (int64_t)e->protected_->epoch, (int64_t)e->protected_->sync_ms,
			   (int64_t)e->protected_->sync_bytes);
		guest_event(g, GUEST_SYNCED, "first whole epoch committed");
		break;
	case UNDERSTUDY__WORKER_EVENT__EVENT_LOST:
		g->tag.epoch = e->lost->last_committed;
		guest_event(g, GUEST_LOST, e->lost->cause);
		break;
	case UNDERSTUDY__WORKER_EVENT__EVENT_DROPPED:
		guest_event(g, GUEST_DROPPED, e->dropped->cause);
		break;
	case UNDERSTUDY__WORKER_EVENT__EVENT_FINISHED:
		g->tag.epoch = e->finished->epoch;
		events_add(g->d->events, g->tag.name, "finished", "", "term epoch",
			   (int64_t)e->finished->term, (int64_t)e->finished->epoch);
		if (g->state == GUEST_PROTECTED) /* asked for before it was called off, or by the daemon before this one */
			resume(g);
		else
			guest_event(g, GUEST_FINISHED, "final epoch committed");
		break;
	case UNDERSTUDY__WORKER_EVENT__EVENT_FAILED:
		worker_failed(g, e->failed);
		break;
	default:
		break;
	}
}

/*
 * Its successor passes output freely, so the backup must hear first that its copy is stale; but no
 * longer than a guest can be kept without its devices.
 */
void guest_primary_worker_gone(struct guest *g)
{
	if (g->state == GUEST_HANDING_OVER || g->state == GUEST_RETIRING || !g->tag.current)
		return;
	if (guest_primary_tell_dropped(g, "the worker died") || keeper_decides(g))
		g->successor_from_us = successor_from_us(g, SUCCESSOR_MAX_MS);
	events_add(g->d->events, g->tag.name, "dropped", "the worker died", "term epoch",
		   (int64_t)g->tag.term, (int64_t)g->tag.epoch);
	guest_problem(g, "protection was dropped: the worker died");
}

void guest_primary_peer_up(struct guest *g)
{
	g->attempts = 0;
	if (g->state == GUEST_UNPROTECTED) {
		if (g->retry_at_us > clock_us() + RETRY_FIRST_MS * 1000ull &&
		    g->since_us + SETTLE_MS * 1000ull < clock_us())
			g->retry_at_us = clock_us() + RETRY_FIRST_MS * 1000ull;
		if (!g->worker_unknown)
			guest_primary_tell_dropped(g, "unprotected while the peer was away");
	} else if (g->state == GUEST_DEGRADED) {
		if (guest_primary_tell_dropped(g, g->problem))
			guest_deadline(g, DROPPED_ACK_MAX_MS);
	} else if (g->state == GUEST_PREPARING) {
		/* The request or its answer may have been lost with the session; asking again is
		 * harmless. */
		guest_event(g, GUEST_REFUSED, "the session with the peer began anew");
	} else if (g->state == GUEST_HANDING_OVER) {
		/* Its word about who runs the guest comes first on the session; then this is
		 * idempotent. */
		guest_deadline(g, HAND_OVER_AGAIN_MS);
	} else if (g->state == GUEST_ABSENT && !g->tag.backup && !g->tag.current && g->d->looked) {
		/* It may have ended while the peer could not be told; its copy must not come to life. */
		unprepare(g, "it does not run");
	}
}

/* A primary's tag without a domain, on a host that was not restarted since: it ended while no daemon was there to say so. */
void guest_primary_looked(struct guest *g)
{
	if (g->state != GUEST_ABSENT || g->tag.backup || !g->tag.current)
		return;
	events_add(g->d->events, g->tag.name, "absent", "it ended while the daemon was away", "");
	set_current(g, false);
	if (peer_up(g->d->peer))
		unprepare(g, "it ended while the daemon was away");
}

static void peer_prepared(struct guest *g, const Understudy__PeerPrepared *m)
{
	if (g->state != GUEST_PREPARING || m->term != g->tag.term)
		return;
	g->token = m->token;
	g->peer_stream_port = m->stream_port;
	guest_event(g, GUEST_PREPARED, "the shell is ready");
}

static void peer_acknowledged_drop(struct guest *g)
{
	g->drop_told = false;
	keeper_renounced(g);
	let_successor_start(g);
	if (g->state == GUEST_DEGRADED) {
		set_current(g, false);
		send_drop(g, "the backup knows that its copy is stale");
	} else if (g->state == GUEST_UNPROTECTED) {
		set_current(g, false);
	}
}

static void peer_activated(struct guest *g, const Understudy__PeerActivated *m)
{
	char cause[96];

	if (g->state != GUEST_HANDING_OVER || m->term <= g->tag.term)
		return;
	g->tag.term = m->term;
	snprintf(cause, sizeof(cause), "switched over to %.40s in %u us",
		 peer_info(g->d->peer)->host, m->total_us);
	events_add(g->d->events, g->tag.name, "switched", cause, "term epoch total_us",
		   (int64_t)m->term, (int64_t)m->epoch, (int64_t)m->total_us);
	guest_event(g, GUEST_OUTRANKED, cause);
}

void guest_primary_peer_message(struct guest *g, enum peer_type type, const ProtobufCMessage *m)
{
	switch (type) {
	case PEER_PREPARED:
		peer_prepared(g, (const Understudy__PeerPrepared *)m);
		break;
	case PEER_REFUSED:
		if (g->state != GUEST_PREPARING)
			break;
		guest_problem(g, "%.60s refuses: %.180s", peer_info(g->d->peer)->host,
			      ((const Understudy__PeerRefused *)m)->reason);
		guest_event(g, GUEST_REFUSED, g->problem);
		break;
	case PEER_DROPPED_ACK:
		peer_acknowledged_drop(g);
		break;
	case PEER_ACTIVATED:
		peer_activated(g, (const Understudy__PeerActivated *)m);
		break;
	case PEER_FAILED:
		if (g->state != GUEST_HANDING_OVER)
			break;
		guest_problem(g, "switchover: %.200s", ((const Understudy__PeerFailed *)m)->cause);
		guest_event(g, GUEST_CALLED_OFF, g->problem);
		break;
	case PEER_SWITCH:
		if (g->state == GUEST_PROTECTED)
			guest_event(g, GUEST_SWITCH, "the peer's operator asks for it");
		break;
	default:
		break;
	}
}
