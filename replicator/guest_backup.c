/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the daemon does for a guest of which it holds a shell. */
#include "checkpoint/record.h"
#include "common/clock.h"
#include "common/fault.h"
#include "common/log.h"
#include "replicator/child.h"
#include "replicator/events.h"
#include "replicator/guest.h"
#include "replicator/keeper.h"
#include "replicator/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	CREATE_MAX_MS = 60000,
	BUILD_MAX_MS = 80000, /* create, and the worker maps the shell */
	ACTIVATE_ALARM_MS = 10000,
	TAKE_OVER_AGAIN_MS = 2000, /* after an activation that failed */
	PROBE_MAX_MS = 10000,	   /* understudy-shell kind */
	PROBE_AGAIN_MS = 1000,
	DESTROY_AGAIN_MS = 2000,
	RENAME_MAX_MS = 30000,
	INVITED_MAX_MS = 3000, /* to claim the record in a switchover */
};

static void refuse(struct daemon *d, const Understudy__PeerPrepare *p, const char *reason)
{
	Understudy__PeerRefused m = UNDERSTUDY__PEER_REFUSED__INIT;

	log_warn(p->name, "not prepared: %s", reason);
	m.uuid = p->uuid;
	m.term = p->term;
	m.reason = (char *)reason;
	peer_send(d->peer, PEER_REFUSED, &m.base);
}

static int set_current(struct guest *g, bool current)
{
	if (g->tag.current == current)
		return 0;
	g->tag.current = current;
	return guest_save(g);
}

void guest_backup_not_current(struct guest *g)
{
	if (g->state == GUEST_STANDBY)
		guest_event(g, GUEST_STALE, "the primary says that this copy is not current");
	else if (g->state == GUEST_WAITING || g->state == GUEST_ABSENT)
		set_current(g, false);
}

static void forget_prepare(struct guest *g)
{
	if (g->prepare)
		understudy__peer_prepare__free_unpacked(g->prepare, NULL);
	g->prepare = NULL;
}

static void refuse_pending(struct guest *g, const char *reason)
{
	if (g->prepare)
		refuse(g->d, g->prepare, reason);
	forget_prepare(g);
}

/* ---- the stream ---- */

void guest_backup_stream_arrived(struct guest *g, const struct stream_hello *hello, int fd)
{
	Understudy__WorkerCommand c = UNDERSTUDY__WORKER_COMMAND__INIT;
	Understudy__WorkerStream m = UNDERSTUDY__WORKER_STREAM__INIT;
	Understudy__WorkerTls tls = UNDERSTUDY__WORKER_TLS__INIT;
	int rc;

	fi_point("D_STREAM");
	if (!hello->lane)
		heard_close(&g->heard);
	m.uuid.data = g->tag.uuid;
	m.uuid.len = sizeof(g->tag.uuid);
	m.term = g->prepare_term;
	m.token = g->token;
	m.heartbeat_ms = guest_policy(g)->heartbeat_ms;
	m.promise_ms = keeper_decides(g) ? guest_policy(g)->timeout_ms : 0;
	m.drift_ppm = g->d->config.witness_drift_ppm;
	m.tls = guest_tls(g, &tls);
	m.lane = hello->lane;
	m.further = hello->further;
	c.command_case = UNDERSTUDY__WORKER_COMMAND__COMMAND_STREAM;
	c.stream = &m;
	rc = guest_command(g, &c, fd);
	if (rc) {
		log_err(g->tag.name, "the stream cannot be handed to the worker: %s",
			strerror(-rc));
		close(fd);
		return;
	}
	heard_add(&g->heard, hello->lane, fd);
	if (hello->lane)
		return;
	g->awaiting_stream = false;
	log_info(g->tag.name, "stream attached, term %" PRIu64, g->prepare_term);
}

/* ---- the shell ---- */

static void answer_prepared(struct guest *g)
{
	Understudy__PeerPrepared m = UNDERSTUDY__PEER_PREPARED__INIT;

	if (!g->prepare)
		return;
	if (getrandom(&g->token, sizeof(g->token), 0) != sizeof(g->token) || !g->token) {
		refuse_pending(g, "no random number for the stream's token");
		return;
	}
	fi_point("D_PREPARED");
	heard_close(&g->heard);
	g->awaiting_stream = true;
	g->prepare_term = g->prepare->term;
	g->tag.term = g->prepare->term;
	guest_save(g);
	m.uuid = g->prepare->uuid;
	m.term = g->prepare->term;
	m.token = g->token;
	m.stream_port = g->d->config.stream_port;
	peer_send(g->d->peer, PEER_PREPARED, &m.base);
	forget_prepare(g);
}

static void shell_complete(struct guest *g)
{
	if (g->state == GUEST_BUILDING && g->shell_made && g->mapped)
		guest_event(g, GUEST_SHELL_READY, "made and mapped");
}

struct create_run {
	struct daemon *d;
	uint8_t uuid[16];
	uint32_t domid;
};

static void created(void *arg, int status, const char *out, const char *err)
{
	struct create_run run = *(struct create_run *)arg;
	struct guest *g = guest_by_uuid(run.d, run.uuid);
	char text[64];
	const char *reason = err;
	const char *last = strrchr(err, '\n');
	bool taken;

	free(arg);
	if (!g)
		return;
	g->creating = false;
	taken = WIFEXITED(status) && WEXITSTATUS(status) == 3;
	if (taken) { /* somebody else's: not to be touched, so it is not ours to remove */
		snprintf(text, sizeof(text), "domain id %u is taken", g->domid);
		g->domid = 0;
		reason = text;
	}
	if (g->state != GUEST_BUILDING)
		return; /* REMOVING has waited for this */
	if (!status) {
		g->shell_made = true;
		workers_want(g->d->workers, g->domid, UNDERSTUDY__WORKER_ROLE__WORKER_BACKUP);
		shell_complete(g);
		return;
	}
	if (!taken && last)
		reason = last + 1;
	else if (!taken && !err[0])
		reason = child_status_text(status, text, sizeof(text));
	guest_problem(g, "no shell: %.200s", reason);
	refuse_pending(g, g->problem);
	guest_event(g, GUEST_SHELL_FAILED, g->problem);
}

static void begin_building(struct guest *g)
{
	struct create_run *run = malloc(sizeof(*run));
	char domid[16];
	const char *const argv[] = {g->d->config.shell_path, "create", domid, g->tag.name, NULL};

	fi_point("D_BUILD");
	g->shell_made = g->mapped = g->was_current = false;
	g->domid = g->prepare->domid;
	snprintf(domid, sizeof(domid), "%u", g->domid);
	guest_deadline(g, BUILD_MAX_MS);
	if (run) {
		*run = (struct create_run){.d = g->d};
		memcpy(run->uuid, g->tag.uuid, sizeof(run->uuid));
	}
	g->creating = run && child_run(g->d->children, argv, g->prepare->config, CREATE_MAX_MS,
				       created, run);
	if (g->creating)
		return;
	free(run);
	refuse_pending(g, "understudy-shell cannot be started");
	guest_event(g, GUEST_SHELL_FAILED, "understudy-shell cannot be started");
}

static void destroyed(struct guest *g, int status, const char *out, const char *err)
{
	g->destroying = false;
	if (status) {
		guest_problem(g, "the shell cannot be destroyed: %.180s", err);
		guest_deadline(g, DESTROY_AGAIN_MS);
		return;
	}
	guest_event(g, GUEST_SHELL_GONE, "destroyed");
}

/* Also from the tick, until it is done. */
static void remove_shell(struct guest *g)
{
	g->deadline_us = 0;
	if (g->creating || g->destroying) {
		guest_deadline(g, 50);
		return;
	}
	if (!g->domid) {
		guest_event(g, GUEST_SHELL_GONE, "there is none");
		return;
	}
	g->destroying = !guest_destroy(g, destroyed);
	if (!g->destroying)
		guest_deadline(g, DESTROY_AGAIN_MS);
}

static void begin_removing(struct guest *g)
{
	fi_point("D_REMOVE");
	set_current(g, false);
	g->awaiting_stream = false;
	heard_close(&g->heard);
	if (g->domid)
		workers_release(g->d->workers, g->domid);
	remove_shell(g);
}

static void entered_absent(struct guest *g, enum guest_event event, const char *cause)
{
	set_current(g, false);
	g->awaiting_stream = g->was_current = false;
	heard_close(&g->heard);
	if (event == GUEST_VANISHED) {
		if (g->domid)
			workers_release(g->d->workers, g->domid);
		events_add(g->d->events, g->tag.name, "shell-gone", cause, "");
	}
	g->domid = 0;
	g->declared_dead = false;
	guest_tell_peer(g);
	if (g->prepare)
		guest_event(g, GUEST_PREPARE, "the peer asked meanwhile");
}

/* ---- PREPARE ---- */

static const char *prepare_objection(struct daemon *d, struct guest *g,
				     const Understudy__PeerPrepare *m, char *text, size_t len)
{
	const struct policy *p = config_policy(&d->config, m->policy);
	const struct domain_entry *e;

	if (!domains_ready(d->domains))
		return "xenstore cannot be reached here";
	if (!p) {
		snprintf(text, len, "policy %s is not in this host's configuration", m->policy);
		return text;
	}
	if (p->timeout_ms != m->timeout_ms || (uint32_t)p->takeover != m->takeover) {
		snprintf(text, len, "policy %s differs: here timeout_ms = %u, takeover = %s",
			 m->policy, p->timeout_ms, takeover_name[p->takeover]);
		return text;
	}
	if (g && (fsm_runs_here(g->state) || g->state == GUEST_ACTIVATING)) {
		snprintf(text, len, "it runs here, in term %" PRIu64, g->tag.term);
		return text;
	}
	if (g && g->state == GUEST_UNTAGGING)
		return "it is being untagged here";
	if (g && g->renaming) /* which would rename the shell */
		return "its last domain here is being renamed";
	if (g && m->term < g->tag.term) {
		snprintf(text, len, "term %" PRIu64 " is over, this host knows %" PRIu64, m->term,
			 g->tag.term);
		return text;
	}
	e = domains_by_id(d->domains, m->domid);
	if (e && e->known && memcmp(e->uuid, m->uuid.data, 16)) {
		snprintf(text, len, "domain id %u is taken by %s", m->domid, e->name);
		return text;
	}
	return NULL;
}

static bool keep_prepare(struct guest *g, const Understudy__PeerPrepare *m)
{
	size_t len = understudy__peer_prepare__get_packed_size(m);
	uint8_t *packed = malloc(len ? len : 1);

	forget_prepare(g);
	if (packed) {
		understudy__peer_prepare__pack(m, packed);
		g->prepare = understudy__peer_prepare__unpack(NULL, len, packed);
		free(packed);
	}
	return g->prepare != NULL;
}

void guest_backup_prepare(struct daemon *d, const Understudy__PeerPrepare *m)
{
	struct guest *g = guest_by_uuid(d, m->uuid.data);
	char text[192];
	const char *objection = prepare_objection(d, g, m, text, sizeof(text));

	if (!objection && !g && guest_untag_stands(d, m->uuid.data, m->name, m->term))
		objection = "it was untagged here";
	if (objection) {
		refuse(d, m, objection);
		if (g)
			guest_tell_peer(g); /* it may know of an earlier term only */
		return;
	}
	if (!g) {
		struct tag tag = {.backup = true, .term = m->term};

		snprintf(tag.name, sizeof(tag.name), "%s", m->name);
		snprintf(tag.policy, sizeof(tag.policy), "%s", m->policy);
		memcpy(tag.uuid, m->uuid.data, sizeof(tag.uuid));
		g = guest_new(d, &tag, true);
	}
	if (!g || !keep_prepare(g, m)) {
		refuse(d, m, "no memory, or no room for the state file");
		return;
	}
	g->tag.backup = true;
	g->peer_active = true;
	snprintf(g->tag.policy, sizeof(g->tag.policy), "%s", m->policy);
	g->declared_dead = false;

	switch (g->state) {
	case GUEST_ABSENT:
		guest_event(g, GUEST_PREPARE, "the peer asks for a shell");
		break;
	case GUEST_WAITING:
	case GUEST_STANDBY:
		set_current(g, false);
		/* A shell that has worked can be filled again; any other is made anew. */
		if (g->was_current && g->domid == m->domid && guest_worker(g))
			guest_event(g, GUEST_PREPARE, "the shell can be used again");
		else
			guest_event(g, GUEST_UNPREPARE, "the shell is made anew");
		break;
	default: /* building or removing: answered when that is over */
		break;
	}
}

/* ---- activation ---- */

void guest_take_over(struct guest *g, const char *cause, bool switchover)
{
	g->announce_switch = switchover;
	guest_event(g, GUEST_TAKE_OVER, cause);
}

static void begin_activating(struct guest *g, const char *cause)
{
	Understudy__WorkerCommand c = UNDERSTUDY__WORKER_COMMAND__INIT;
	Understudy__WorkerActivate m = UNDERSTUDY__WORKER_ACTIVATE__INIT;

	fi_point("D_ACTIVATE");
	g->begin_us = clock_us();
	events_add(g->d->events, g->tag.name, "activate-begin", cause,
		   "term epoch begin_mono_us last_heard_mono_us", (int64_t)g->tag.term + 1,
		   (int64_t)g->tag.epoch, (int64_t)g->begin_us, (int64_t)g->last_heard_us);
	g->tag.term++;
	if (guest_save(g)) { /* the term must be on disk before anybody runs in it */
		g->tag.term--;
		guest_event(g, GUEST_ACTIVATE_FAILED, "the new term cannot be written down");
		return;
	}
	fi_point("D_ACTIVATE_SAVED");
	m.term = g->tag.term;
	m.invited = g->announce_switch;
	c.command_case = UNDERSTUDY__WORKER_COMMAND__COMMAND_ACTIVATE;
	c.activate = &m;
	guest_deadline(g, ACTIVATE_ALARM_MS);
	if (guest_command(g, &c, -1))
		guest_event(g, GUEST_ACTIVATE_FAILED, "the worker cannot be told");
}

void guest_tell_failed(struct guest *g, const char *cause)
{
	Understudy__PeerFailed m = UNDERSTUDY__PEER_FAILED__INIT;

	m.uuid.data = g->tag.uuid;
	m.uuid.len = sizeof(g->tag.uuid);
	m.term = g->tag.term;
	m.cause = (char *)cause;
	peer_send(g->d->peer, PEER_FAILED, &m.base);
}

/* The primary goes on when it hears this: not before the record is its own again. */
static void fail_when_returned(struct guest *g)
{
	if (!g->failing || !keeper_returned(g))
		return;
	g->failing = false;
	guest_tell_failed(g, g->failed_cause);
}

static void activation_failed(struct guest *g, const char *cause)
{
	events_add(g->d->events, g->tag.name, "activate-failed", cause, "term",
		   (int64_t)g->tag.term);
	guest_problem(g, "activation failed: %.180s", cause);
	g->retry_at_us = clock_us() + TAKE_OVER_AGAIN_MS * 1000ull;
	if (!g->announce_switch)
		return;
	g->announce_switch = false;
	/* The primary goes on when it hears this, so the copy must not be activated any more; also
	 * not by an order sent twice. */
	guest_event(g, GUEST_STALE, "the switchover failed");
	g->failing = true;
	snprintf(g->failed_cause, sizeof(g->failed_cause), "%s", cause);
	fail_when_returned(g);
}

/* Protected again or not by now: its domain needs a supervisor. */
static void renamed(void *arg, int status, const char *out, const char *err)
{
	struct create_run run = *(struct create_run *)arg;
	struct guest *g = guest_by_uuid(run.d, run.uuid);
	char domid[16];
	const char *const argv[] = {run.d->config.shell_path, "supervise", domid, NULL};

	free(arg);
	if (g)
		g->renaming = false;
	if (!g || !fsm_runs_here(g->state) || g->domid != run.domid)
		return; /* gone again already */
	if (status)
		log_err(g->tag.name, "domain %u keeps its shell's name: %s", run.domid, err);
	snprintf(domid, sizeof(domid), "%u", run.domid);
	child_start(run.d->children, argv, NULL, NULL);
}

void guest_take_name(struct guest *g)
{
	struct create_run *run = malloc(sizeof(*run));
	char domid[16];
	const char *const argv[] = {g->d->config.shell_path, "rename", domid, g->tag.name, NULL};

	snprintf(domid, sizeof(domid), "%u", g->domid);
	if (run) {
		*run = (struct create_run){.d = g->d, .domid = g->domid};
		memcpy(run->uuid, g->tag.uuid, sizeof(run->uuid));
	}
	g->renaming = run && child_run(g->d->children, argv, NULL, RENAME_MAX_MS, renamed, run);
	if (!g->renaming) {
		free(run);
		log_err(g->tag.name, "domain %u keeps its shell's name and has no supervisor",
			g->domid);
	}
}

static void activated(struct guest *g, const Understudy__WorkerActivated *a)
{
	Understudy__PeerActivated m = UNDERSTUDY__PEER_ACTIVATED__INIT;
	uint64_t now = clock_us();

	g->tag.backup = g->tag.current = false;
	g->tag.epoch = a->epoch;
	guest_save(g);
	fi_point("D_ACTIVATED");
	hook_run(g, HOOK_ACTIVATE, g->announce_switch ? "switchover" : "failover");
	events_add(g->d->events, g->tag.name, "activated",
		   g->announce_switch ? "switchover" : "failover",
		   "term epoch total_us context_us devices_us store_us announce_us "
		   "running_wall_us last_heard_mono_us declared_to_running_us heard_to_running_us "
		   "received_again sent_again",
		   (int64_t)g->tag.term, (int64_t)a->epoch, (int64_t)a->total_us,
		   (int64_t)a->context_us, (int64_t)a->devices_us,
		   (int64_t)a->store_us, (int64_t)a->announce_us, (int64_t)a->running_wall_us,
		   (int64_t)g->last_heard_us,
		   (int64_t)(now - (g->declared_us ? g->declared_us : g->begin_us)),
		   (int64_t)(g->last_heard_us ? now - g->last_heard_us : 0),
		   (int64_t)a->received_again, (int64_t)a->sent_again);
	heard_close(&g->heard);
	g->declared_dead = false;
	g->declared_us = g->last_heard_us = 0;
	g->problem[0] = '\0';
	if (g->announce_switch) {
		m.uuid.data = g->tag.uuid;
		m.uuid.len = sizeof(g->tag.uuid);
		m.term = g->tag.term;
		m.epoch = a->epoch;
		m.total_us = a->total_us;
		peer_send(g->d->peer, PEER_ACTIVATED, &m.base);
		g->announce_switch = false;
	}
	guest_event(g, GUEST_ACTIVATED, "it runs here");
	guest_take_name(g);
}

/* The worker died while it activated: does the guest run? Only a shell that does not is destroyed.
 */
static void probed(struct guest *g, int status, const char *out, const char *err)
{
	Understudy__WorkerActivated a = UNDERSTUDY__WORKER_ACTIVATED__INIT;

	if (status || (!strstr(out, "\"paused\": true") && !strstr(out, "\"paused\": false"))) {
		log_err(g->tag.name, "whether domain %u runs is not known: %.160s", g->domid, err);
		guest_deadline(g, PROBE_AGAIN_MS);
		return;
	}
	if (strstr(out, "\"paused\": false")) {
		log_warn(g->tag.name, "the worker died after the guest had started: it goes on");
		workers_want(g->d->workers, g->domid, UNDERSTUDY__WORKER_ROLE__WORKER_PRIMARY);
		a.epoch = g->tag.epoch;
		activated(g, &a);
		return;
	}
	activation_failed(g, "the worker died while it activated");
	guest_event(g, GUEST_SHELL_FAILED, "the worker died while it activated");
}

static void probe(struct guest *g)
{
	if (guest_shell(g, "kind", NULL, NULL, PROBE_MAX_MS, probed))
		guest_deadline(g, PROBE_AGAIN_MS);
}

/*
 * Slow, or stuck. Its worker is killed only if the primary waits to go on: with the primary dead what the worker holds is the
 * only copy, and slow is better than lost.
 */
static void activation_overdue(struct guest *g)
{
	if (!guest_worker(g)) {
		probe(g);
		return;
	}
	events_add(g->d->events, g->tag.name, "alarm",
		   g->announce_switch ? "activation takes too long; its worker is killed"
				      : "activation takes long",
		   "");
	if (g->announce_switch)
		workers_kill(g->d->workers, g->domid);
	guest_deadline(g, ACTIVATE_ALARM_MS);
}

/* ---- dispatch ---- */

static void entered_waiting(struct guest *g, enum guest_event event, const char *cause)
{
	if (event == GUEST_SHELL_READY || event == GUEST_PREPARE) {
		g->problem[0] = '\0';
		answer_prepared(g);
		return;
	}
	if (g->tag.current)
		events_add(g->d->events, g->tag.name, "stale", cause, "term epoch",
			   (int64_t)g->tag.term, (int64_t)g->tag.epoch);
	set_current(g, false);
	if (event == GUEST_WORKER_GONE)
		g->was_current = false;
	guest_tell_peer(g);
}

static void entered_standby(struct guest *g, enum guest_state old, enum guest_event event,
			    const char *cause)
{
	if (event == GUEST_ACTIVATE_FAILED) {
		activation_failed(g, cause);
		return;
	}
	if (old == GUEST_STANDBY)
		return;
	fi_point("D_STANDBY");
	g->was_current = true;
	g->declared_dead = false;
	g->problem[0] = '\0';
	set_current(g, true);
	events_add(g->d->events, g->tag.name, "standby", "", "term epoch", (int64_t)g->tag.term,
		   (int64_t)g->tag.epoch);
	guest_tell_peer(g);
}

void guest_backup_entered(struct guest *g, enum guest_state old, enum guest_event event,
			  const char *cause)
{
	switch (g->state) {
	case GUEST_ABSENT:
		entered_absent(g, event, cause);
		break;
	case GUEST_BUILDING:
		if (old == GUEST_ABSENT)
			begin_building(g);
		break;
	case GUEST_WAITING:
		entered_waiting(g, event, cause);
		break;
	case GUEST_STANDBY:
		entered_standby(g, old, event, cause);
		break;
	case GUEST_ACTIVATING:
		if (old == GUEST_STANDBY)
			begin_activating(g, cause);
		else if (event == GUEST_WORKER_GONE)
			probe(g);
		break;
	case GUEST_REMOVING:
		if (old != GUEST_REMOVING)
			begin_removing(g);
		break;
	case GUEST_UNTAGGING:
		refuse_pending(g, "it is being untagged here");
		if (old == GUEST_ABSENT || event == GUEST_SHELL_GONE)
			guest_untag_done(g);
		else if (old != GUEST_UNTAGGING)
			begin_removing(g);
		break;
	default:
		break;
	}
}

void guest_backup_hello(struct guest *g, struct worker_view *w)
{
	if (w->hello_role == UNDERSTUDY__WORKER_ROLE__WORKER_PRIMARY) {
		Understudy__WorkerActivated a = UNDERSTUDY__WORKER_ACTIVATED__INIT;

		if (g->state != GUEST_WAITING && g->state != GUEST_STANDBY &&
		    g->state != GUEST_ACTIVATING) {
			log_err(g->tag.name, "the shell's worker acts as a primary's, killed");
			workers_kill(g->d->workers, g->domid);
			return;
		}
		/* It activated while no daemon was there to hear of it. */
		if (w->term > g->tag.term)
			g->tag.term = w->term;
		a.epoch = w->epoch;
		activated(g, &a);
		return;
	}
	if (g->state != GUEST_WAITING || w->state != UNDERSTUDY__WORKER_STATE__WORKER_STANDBY)
		return;
	if (g->tag.current) {
		guest_event(g, GUEST_CURRENT, "found at work");
		return;
	}
	/*
	 * Either the copy was called stale, or the daemon before this one died before it wrote down
	 * that it was whole. The primary may count on it: its stream must end, so that it begins
	 * anew.
	 */
	log_warn(g->tag.name, "the worker's copy is not known to be current: it is made anew");
	workers_kill(g->d->workers, g->domid);
}

static void stream_state(struct guest *g, const Understudy__WorkerStreamState *s)
{
	g->mapped = true;
	g->tag.epoch = s->epoch;
	if (!s->connected && s->cause[0]) {
		log_warn(g->tag.name, "stream over: %s", s->cause);
		heard_close(&g->heard);
	}
	shell_complete(g);
	if (s->current && s->connected && g->state == GUEST_WAITING && !g->awaiting_stream)
		guest_event(g, GUEST_CURRENT, "a whole epoch is here");
	else if (!s->current && g->state == GUEST_STANDBY)
		guest_event(g, GUEST_STALE, s->cause[0] ? s->cause : "a new baseline begins");
}

void guest_backup_worker_event(struct guest *g, struct worker_view *w,
			       const Understudy__WorkerEvent *e)
{
	switch (e->event_case) {
	case UNDERSTUDY__WORKER_EVENT__EVENT_STATS:
		g->tag.epoch = w->epoch;
		if (!heard_live(&g->heard) && e->stats->heard_us_ago)
			heard_note(&g->heard, clock_us() - e->stats->heard_us_ago);
		break;
	case UNDERSTUDY__WORKER_EVENT__EVENT_STREAM_STATE:
		stream_state(g, e->stream_state);
		break;
	case UNDERSTUDY__WORKER_EVENT__EVENT_ACTIVATED:
		if (g->state == GUEST_ACTIVATING)
			activated(g, e->activated);
		break;
	case UNDERSTUDY__WORKER_EVENT__EVENT_FAILED:
		log_warn(g->tag.name, "%s: %s", e->failed->command, e->failed->cause);
		if (!strcmp(e->failed->command, "activate") && g->state == GUEST_ACTIVATING)
			guest_event(g, GUEST_ACTIVATE_FAILED, e->failed->cause);
		break;
	default:
		break;
	}
}

void guest_backup_domains_changed(struct guest *g, const struct domain_entry *e)
{
	if (g->state == GUEST_ABSENT && e) {
		const struct worker_view *w = workers_find(g->d->workers, e->domid);

		/* An activated guest has its name again, and a worker that knows its term; one that
		 * was untagged here has an earlier one. */
		if (!strcmp(e->name, g->tag.name) && !(w && w->ready && w->term >= g->tag.term)) {
			guest_problem(g,
				      "a domain %u of its name and uuid is here that is no shell",
				      e->domid);
			return;
		}
		/* Ours, from before this daemon started. Current or not is for its worker to say.
		 */
		g->domid = e->domid;
		g->shell_made = g->mapped = true;
		g->was_current = g->tag.current;
		heard_close(&g->heard);
		g->heard.at_us = 0;
		guest_event(g, GUEST_SHELL_READY, "found here");
		if (w && w->ready)
			guest_backup_hello(g, (struct worker_view *)w);
		return;
	}
	if (!e && g->domid &&
	    (g->state == GUEST_WAITING || g->state == GUEST_STANDBY ||
	     g->state == GUEST_ACTIVATING))
		guest_event(g, GUEST_VANISHED, "the shell was destroyed");
}

void guest_backup_tick(struct guest *g, uint64_t now)
{
	if (g->state == GUEST_STANDBY)
		guest_judge(g, now);
	else
		g->invited = false;
	fail_when_returned(g);
	if (!g->deadline_us || now < g->deadline_us)
		return;
	g->deadline_us = 0;
	switch (g->state) {
	case GUEST_BUILDING:
		guest_problem(g, "the shell was not ready in time");
		refuse_pending(g, g->problem);
		guest_event(g, GUEST_SHELL_FAILED, g->problem);
		break;
	case GUEST_ACTIVATING:
		activation_overdue(g);
		break;
	case GUEST_REMOVING:
	case GUEST_UNTAGGING:
		remove_shell(g);
		break;
	default:
		break;
	}
}

/* ---- the peer ---- */

static void peer_dropped(struct guest *g, const Understudy__PeerDropped *m)
{
	Understudy__PeerDroppedAck ack = UNDERSTUDY__PEER_DROPPED_ACK__INIT;

	if (!keeper_clean(g))
		return; /* it may be ours already; the primary asks again */
	if (m->term < g->tag.term && g->state == GUEST_ACTIVATING)
		return; /* too late: it is being run here; the session will tell */
	events_add(g->d->events, g->tag.name, "dropped", m->cause, "term epoch", (int64_t)m->term,
		   (int64_t)g->tag.epoch);
	if (g->state == GUEST_ACTIVATING) {
		log_err(g->tag.name, "DROPPED cannot be obeyed in state %s",
			guest_state_name[g->state]);
		return;
	}
	if (g->state == GUEST_STANDBY)
		guest_event(g, GUEST_STALE, m->cause);
	/* Also while the worker has not said yet how its copy stands. Not acknowledged before it is on disk. */
	if (set_current(g, false))
		return;
	g->awaiting_stream = false;
	ack.uuid = m->uuid;
	ack.term = m->term;
	peer_send(g->d->peer, PEER_DROPPED_ACK, &ack.base);
}

static void peer_activate(struct guest *g, const Understudy__PeerActivate *m)
{
	Understudy__PeerFailed failed = UNDERSTUDY__PEER_FAILED__INIT;
	Understudy__PeerActivated done = UNDERSTUDY__PEER_ACTIVATED__INIT;
	char cause[128];
	bool slept;

	if (g->state == GUEST_ACTIVATING || g->invited || g->failing)
		return;
	if (fsm_runs_here(g->state)) { /* the answer was lost */
		done.uuid = m->uuid;
		done.term = g->tag.term;
		done.epoch = g->tag.epoch;
		peer_send(g->d->peer, PEER_ACTIVATED, &done.base);
		return;
	}
	/* An order that lay unread while this daemon stood still may have been given up by now. */
	slept = clock_us() - g->d->tick_at_us > guest_policy(g)->timeout_ms * 1000ull;
	if (g->state == GUEST_STANDBY && !slept && g->tag.epoch <= m->epoch && m->term >= g->tag.term) {
		g->last_heard_us = 0;
		g->declared_us = 0;
		if (keeper_decides(g)) {
			g->invited = true;
			g->invited_until_us = clock_us() + INVITED_MAX_MS * 1000ull;
			guest_follow_claim(g, clock_us());
			return;
		}
		guest_take_over(g, "switchover", true);
		return;
	}
	snprintf(cause, sizeof(cause), "state %s, epoch %" PRIu64 ", term %" PRIu64 " here%s",
		 guest_state_name[g->state], g->tag.epoch, g->tag.term,
		 slept ? "; the daemon stood still" : "");
	if (g->state == GUEST_STANDBY)
		guest_event(g, GUEST_STALE, "the primary takes the switchover back");
	failed.uuid = m->uuid;
	failed.term = m->term;
	failed.cause = cause;
	peer_send(g->d->peer, PEER_FAILED, &failed.base);
}

void guest_backup_peer_message(struct guest *g, enum peer_type type, const ProtobufCMessage *m)
{
	switch (type) {
	case PEER_UNPREPARE:
		forget_prepare(g);
		if (fsm_has_shell(g->state) && g->state != GUEST_ACTIVATING)
			guest_event(g, GUEST_UNPREPARE,
				    ((const Understudy__PeerUnprepare *)m)->cause);
		break;
	case PEER_DROPPED:
		peer_dropped(g, (const Understudy__PeerDropped *)m);
		break;
	case PEER_ACTIVATE:
		peer_activate(g, (const Understudy__PeerActivate *)m);
		break;
	default:
		break;
	}
}
