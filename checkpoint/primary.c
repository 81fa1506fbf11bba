/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/primary.h"
#include "checkpoint/dial.h"
#include "checkpoint/pace.h"
#include "checkpoint/engine.h"
#include "checkpoint/job.h"
#include "checkpoint/link.h"
#include "checkpoint/page_codec.h"
#include "checkpoint/part_disk.h"
#include "checkpoint/part_memory.h"
#include "checkpoint/part_net.h"
#include "checkpoint/part_store.h"
#include "checkpoint/part_verify.h"
#include "checkpoint/record.h"
#include "checkpoint/right.h"
#include "checkpoint/samples.h"
#include "checkpoint/sender.h"
#include "common/clock.h"
#include "common/fault.h"
#include "common/log.h"
#include "vmm/grant_table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	SYNC_CHUNK_PAGES = 512,
	SYNC_DONE_PAGES = 1024,		/* few enough for one pause */
	SYNC_ROUNDS_MAX = 8,
	SYNC_PROGRESS_MS = 200,
	SYNC_TIMEOUT_MS = 10000,	/* the backup shapes its shell and takes chunks as fast as it can */
	EPOCH_BUFFERS_MAX = 16,
	EPOCH_FIRST_PAGES = 8192,	/* room that is there before it is needed */
	AGAIN_RETRY_US = 2000,		/* at first; twice as long each time */
	AGAIN_RETRY_MAX_US = 64000,
	AGAIN_ALARM_MS = 1000,		/* xenstore kept us from a checkpoint for so long */
	DIAL_TIMEOUT_MS = 3000,
	HOLD_MAX_DEFAULT_MS = 5000,
	INPUT_EPOCH_BYTES = 32 << 10,	/* input of one epoch that is sent ahead: requests, not bulk */
	CAPTURED_TIMES = 64,		/* capture times of epochs in flight; a power of two above any window */
};

struct primary {
	struct worker *w;
	const char *guest;
	Understudy__WorkerPolicy policy;
	char peer_address[64];
	uint16_t peer_port;
	uint64_t token;
	bool preparing, dropping;	/* the job thread runs; drop as soon as it is back */
	char drop_cause[160];
	struct lanes lanes; /* until the sender has them */

	struct engine engine;
	struct part_memory memory;
	struct part_store store;
	struct part_disk disk;
	struct part_net net;
	struct part_verify *verify;	/* only when asked for */

	struct sender *sender;
	struct event *sender_event, *epoch_event, *hold_event;
	struct epoch *free_epochs[EPOCH_BUFFERS_MAX];
	unsigned int nr_free, nr_buffers;

	uint64_t next_number, acked, first_number, final_number;
	uint64_t captured_us[CAPTURED_TIMES];
	bool capture_due, finish_wanted;
	uint64_t again_since_us, again_alarm_us;
	unsigned int again_retry_us;

	unsigned int sync_round;	/* 0: everything; then what was dirtied meanwhile */
	size_t sync_from;
	uint64_t sync_sent, sync_total, sync_started_us, sync_bytes, progress_us;

	struct right right;
	uint64_t withheld;		/* committed, and released as soon as there is a right again; 0: nothing */

	struct samples pause, commit;
	struct pace pace;
	uint64_t window_started_us, window_epochs, window_pages, window_raw, window_wire;
	size_t input_bytes;		/* of the open epoch */
	uint64_t epochs_total, raw_total, wire_total, by_encoding[5], heard_us;
};

static bool protecting(const struct primary *p)
{
	return p->w->state == UNDERSTUDY__WORKER_STATE__WORKER_SYNCING ||
	       p->w->state == UNDERSTUDY__WORKER_STATE__WORKER_PROTECTED;
}

static uint64_t in_flight(const struct primary *p)
{
	return p->next_number - 1 - p->acked;
}

/* ---- the end of protection ---- */

static void sender_end(struct primary *p)
{
	struct sender_report r;

	if (p->sender_event)
		event_free(p->sender_event);
	p->sender_event = NULL;
	netback_set_input(p->w->netback, NULL, NULL);
	if (!p->sender)
		return;

	sender_stop(p->sender);
	for (sender_poll(p->sender, &r); r.event != SENDER_NONE; sender_poll(p->sender, &r)) {
		if (r.event == SENDER_SENT && r.epoch)
			p->free_epochs[p->nr_free++] = r.epoch;
	}
	sender_free(p->sender);
	p->sender = NULL;
}

void primary_free(struct primary *p)
{
	if (!p)
		return;
	sender_end(p);
	right_end(&p->right);
	if (p->disk.log)
		part_disk_ops.teardown(&p->disk.base);	/* the back end outlives us */
	while (p->nr_free)
		epoch_free(p->free_epochs[--p->nr_free]);
	if (p->epoch_event)
		event_free(p->epoch_event);
	if (p->hold_event)
		event_free(p->hold_event);
	lanes_close(&p->lanes);
	part_verify_free(p->verify);
	if (p->w->primary == p)
		p->w->primary = NULL;
	free(p);
}

void primary_drop(struct primary *p, const char *cause)
{
	Understudy__WorkerDropped dropped = UNDERSTUDY__WORKER_DROPPED__INIT;
	struct worker *w = p->w;
	bool paused = pausemark_get(w->mark) != PAUSEMARK_RUNNING;

	if (p->preparing) {
		snprintf(p->drop_cause, sizeof(p->drop_cause), "%s", cause);
		p->dropping = true;
		return;
	}
	log_warn(p->guest, "protection ends: %s", cause);
	sender_end(p);
	if (p->engine.nr)
		engine_teardown(&p->engine);
	if (paused && worker_unpause(w))
		abort();
	worker_set_state(w, UNDERSTUDY__WORKER_STATE__WORKER_SERVING, cause);
	dropped.cause = (char *)cause;	/* may be ours */
	worker_send(w, DROPPED, dropped, &dropped);
	primary_free(p);
}

static unsigned int hold_max_ms(const struct primary *p)
{
	return p->policy.hold_max_ms ? p->policy.hold_max_ms : HOLD_MAX_DEFAULT_MS;
}

static void hold_begin(struct primary *p)
{
	unsigned int ms = hold_max_ms(p);
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};

	event_add(p->hold_event, &tv);
}

/* With a witness the backup may run the guest by now: only the daemon knows. */
static void hold_expired(evutil_socket_t fd, short what, void *arg)
{
	struct primary *p = arg;

	if (p->right.leased) {
		worker_send_alarm(p->w, "output is held: neither the backup nor the witness was heard");
		hold_begin(p);
		return;
	}
	primary_drop(p, "no word from the daemon while output was held");
}

/* ---- the right to run ---- */

/* What the guest does from now on could only be thrown away. Paused as in an epoch: a successor, which the daemon lets start only when the
 * guest may run, lets it go. */
static void stand_still(struct primary *p)
{
	if (p->w->state != UNDERSTUDY__WORKER_STATE__WORKER_HOLDING || !p->right.lost ||
	    pausemark_get(p->w->mark) != PAUSEMARK_RUNNING)
		return;
	if (worker_pause(p->w, PAUSEMARK_PAUSED))
		worker_send_alarm(p->w, "it cannot be paused; its output stays held");
	else
		log_warn(p->guest, "stands still until it may run again");
}

static void right_lost(void *arg)
{
	struct primary *p = arg;

	worker_send_alarm(p->w, "the right to run has ended: output is held");
	stand_still(p);
	worker_send_stats(p->w);
}

static int commit(struct primary *p, uint64_t number)
{
	if (!right_now(&p->right)) {
		p->withheld = number;
		return 0;
	}
	p->withheld = 0;
	return engine_commit(&p->engine, number);
}

static void release_withheld(struct primary *p)
{
	if (p->withheld && commit(p, p->withheld))
		worker_send_alarm(p->w, "a committed epoch's output could not be released");
}

static void right_regained(void *arg)
{
	struct primary *p = arg;

	log_info(p->guest, "may run again");
	if (p->w->state == UNDERSTUDY__WORKER_STATE__WORKER_HOLDING &&
	    pausemark_get(p->w->mark) == PAUSEMARK_PAUSED && worker_unpause(p->w))
		abort();	/* a successor lets it go (I5) */
	release_withheld(p);
	worker_send_stats(p->w);
}

static const struct right_ops right_ops = {
	.lost = right_lost,
	.regained = right_regained,
};

void primary_right(struct primary *p, uint64_t until_us)
{
	if (!p->right.leased)
		return;
	right_lease(&p->right, until_us);
	/* It may have been missing for less than the timer noticed. */
	release_withheld(p);
}

/* The stream is over. What is held stays held until the daemon has spoken (the backup may be about to activate). */
static void primary_lost(struct primary *p, const char *cause)
{
	Understudy__WorkerLost lost = UNDERSTUDY__WORKER_LOST__INIT;
	char why[160];

	snprintf(why, sizeof(why), "%s", cause);
	if (p->w->state == UNDERSTUDY__WORKER_STATE__WORKER_FINISHED) {
		log_info(p->guest, "the stream ended behind the final epoch: %s", why);
		sender_end(p);
		return;
	}
	/* From the first whole epoch on the backup may call its copy current, whether we heard of that or not. */
	if (p->w->state == UNDERSTUDY__WORKER_STATE__WORKER_SYNCING && !p->first_number) {
		primary_drop(p, why);
		return;
	}
	sender_end(p);
	event_del(p->epoch_event);
	p->capture_due = false;
	if (p->final_number) {
		p->final_number = 0;
		worker_send_failed(p->w, "finish", "%s", why);
		if (worker_unpause(p->w))
			abort();
		netback_freeze(p->w->netback, false);
		block_freeze(p->w->block, false);
	}
	lost.cause = why;
	lost.last_committed = p->acked;
	worker_set_state(p->w, UNDERSTUDY__WORKER_STATE__WORKER_HOLDING, why);
	hold_begin(p);
	worker_send(p->w, LOST, lost, &lost);
	stand_still(p);
}

/* ---- the epoch loop ---- */

static void epoch_timer(struct primary *p, unsigned int us)
{
	struct timeval tv = {.tv_sec = us / 1000000, .tv_usec = us % 1000000};

	event_add(p->epoch_event, &tv);
}

static void submit(struct primary *p, struct epoch *e)
{
	int rc;

	p->captured_us[e->number % CAPTURED_TIMES] = e->captured_us;
	p->next_number++;
	rc = sender_submit(p->sender, e);
	if (rc)
		p->free_epochs[p->nr_free++] = e;	/* SENDER_LOST is on its way */
}

_Static_assert(NETBACK_INPUT_BYTES_MIN >= (int)RECORD_INPUT_DATA_MIN && NETBACK_INPUT_BYTES_MAX <= (int)RECORD_INPUT_DATA_MAX,
	       "what the back end tells fits a record");

/* The guest has received a frame. Should this host be lost, the backup lets its copy receive it as well, if that has not. */
static void received(void *arg, uint32_t devid, const void *data, size_t len)
{
	struct primary *p = arg;

	if (p->input_bytes + len > INPUT_EPOCH_BYTES)
		return;
	p->input_bytes += len;
	sender_input(p->sender, p->next_number, devid, data, len);
}

static struct epoch *epoch_take(struct primary *p, uint32_t flags)
{
	struct epoch *e = p->free_epochs[--p->nr_free];

	epoch_reset(e);
	e->number = p->next_number;
	e->term = p->w->term;
	e->flags = flags;
	return e;
}

/*
 * An epoch that could not be captured now. Only something that keeps xenstore busy does this: a transaction that the guest leaves
 * open, or a guest that has shut down. Its output cannot wait for that for ever.
 */
static void capture_again(struct primary *p)
{
	uint64_t now = clock_us();

	if (!p->again_since_us) {
		p->again_since_us = p->again_alarm_us = now;
		p->again_retry_us = AGAIN_RETRY_US;
	}
	if (p->first_number && now - p->again_since_us > hold_max_ms(p) * 1000ull) {
		primary_lost(p, "no checkpoint: the guest keeps its xenstore ring busy");
		return;
	}
	if (now - p->again_alarm_us > AGAIN_ALARM_MS * 1000ull) {
		worker_send_alarm(p->w, "no checkpoint for %llu ms: the guest's xenstore ring is busy",
				  (unsigned long long)((now - p->again_since_us) / 1000));
		p->again_alarm_us = now;
	}
	epoch_timer(p, p->again_retry_us);
	if (p->again_retry_us < AGAIN_RETRY_MAX_US)
		p->again_retry_us *= 2;
}

static uint32_t capture_flags(const struct primary *p)
{
	if (!p->first_number)
		return EPOCH_FIRST;
	return p->finish_wanted ? EPOCH_FINAL : 0;
}

static void capture(struct primary *p)
{
	struct epoch *e;
	int rc;

	if (p->final_number)
		return;
	if (!p->nr_free || in_flight(p) >= p->policy.window) {
		p->capture_due = true;		/* back pressure: an acknowledgement or a buffer brings us here again */
		return;
	}
	p->capture_due = false;
	e = epoch_take(p, capture_flags(p));
	rc = engine_capture(&p->engine, e);
	if (rc) {
		p->free_epochs[p->nr_free++] = e;
		if (rc == -EAGAIN)
			capture_again(p);
		else
			primary_lost(p, rc == -ESTALE ? "the guest's memory layout changed"
						      : "an epoch could not be captured");
		return;
	}
	p->again_since_us = 0;
	p->input_bytes = 0;
	if (e->flags & EPOCH_FIRST) {
		p->first_number = e->number;
		netback_set_input(p->w->netback, received, p);
	}
	if (e->flags & EPOCH_FINAL)
		p->final_number = e->number;
	else
		epoch_timer(p, pace_next(&p->pace, e->pause_us));
	samples_add(&p->pause, e->pause_us);
	p->window_epochs++;
	submit(p, e);
}

static void epoch_due(evutil_socket_t fd, short what, void *arg)
{
	capture(arg);
}

/* ---- the baseline ---- */

static void sync_progress(struct primary *p)
{
	Understudy__WorkerProgress progress = UNDERSTUDY__WORKER_PROGRESS__INIT;
	uint64_t now = clock_us();

	if (now - p->progress_us < SYNC_PROGRESS_MS * 1000ull)
		return;
	p->progress_us = now;
	progress.pages_sent = p->sync_sent + p->disk.sync_bytes / DOMAIN_PAGE_SIZE;
	progress.pages_total = p->sync_total;
	progress.round = p->sync_round;
	worker_send(p->w, PROGRESS, progress, &progress);
}

/* Reads the dirty log: 1 when so little is left that the first epoch can take it, 0 when a further round is due. */
static int sync_next_round(struct primary *p)
{
	long nr = part_memory_sync_mark(&p->memory);

	if (nr < 0)
		return (int)nr;
	p->sync_round++;
	p->sync_from = 0;
	if (nr <= SYNC_DONE_PAGES || p->sync_round > SYNC_ROUNDS_MAX)
		return 1;
	p->sync_total += (uint64_t)nr;
	return 0;
}

static int sync_fill(struct primary *p, struct epoch *e)
{
	int rc;

	if (e->number == 1) {
		rc = part_memory_sync_layout(&p->memory, e);
		if (rc)
			return rc;
	}
	/* The disks first: they take longest, and what is written meanwhile follows in the same epochs. */
	rc = part_disk_sync(&p->disk, e);
	if (rc <= 0)
		return rc;
	if (!p->sync_round)
		return part_memory_sync_all(&p->memory, &p->sync_from, SYNC_CHUNK_PAGES, e);
	return part_memory_sync_marked(&p->memory, &p->sync_from, SYNC_CHUNK_PAGES, e);
}

static void sync_step(struct primary *p)
{
	int rc = 0;

	while (!p->first_number && p->nr_free && in_flight(p) < p->policy.window) {
		struct epoch *e = epoch_take(p, EPOCH_SYNC);

		rc = fi_point("SYNC");
		if (!rc)
			rc = sync_fill(p, e);
		if (rc < 0) {
			p->free_epochs[p->nr_free++] = e;
			break;
		}
		p->sync_sent += e->nr_pages;
		submit(p, e);
		if (rc == 1)
			rc = sync_next_round(p);
		if (rc == 1) {
			capture(p);
			return;
		}
		if (rc < 0)
			break;
	}
	if (rc < 0)
		primary_lost(p, strerror(-rc));
	else
		sync_progress(p);
}

/* ---- what the sender reports ---- */

static void became_protected(struct primary *p)
{
	Understudy__WorkerProtected m = UNDERSTUDY__WORKER_PROTECTED__INIT;

	sender_set_timeout(p->sender, p->policy.timeout_ms);
	m.epoch = p->acked;
	m.term = p->w->term;
	m.sync_ms = (uint32_t)((clock_us() - p->sync_started_us) / 1000);
	m.sync_bytes = p->wire_total;
	worker_set_state(p->w, UNDERSTUDY__WORKER_STATE__WORKER_PROTECTED,
			 "the backup holds a whole epoch");
	worker_send(p->w, PROTECTED_, protected_, &m);
}

static void became_finished(struct primary *p)
{
	Understudy__WorkerFinished m = UNDERSTUDY__WORKER_FINISHED__INIT;

	m.epoch = p->acked;
	m.term = p->w->term;
	pausemark_set(p->w->mark, PAUSEMARK_FINISHED);
	worker_set_state(p->w, UNDERSTUDY__WORKER_STATE__WORKER_FINISHED,
			 "the final epoch is committed");
	worker_send(p->w, FINISHED, finished, &m);
}

static void acked(struct primary *p, const struct sender_report *r)
{
	uint64_t now = clock_us(), n;

	p->heard_us = now;
	if (r->number <= p->acked || r->number >= p->next_number) {
		primary_lost(p, "an acknowledgement for an epoch that was never sent");
		return;
	}
	/* The baseline's were never captured: they have no time. */
	for (n = p->acked + 1; n <= r->number; n++)
		if (p->captured_us[n % CAPTURED_TIMES])
			samples_add(&p->commit,
				    (uint32_t)(now - p->captured_us[n % CAPTURED_TIMES]));
	p->acked = r->number;
	if (!p->first_number || r->number < p->first_number) {
		part_disk_synced(&p->disk, r->number);
		return;
	}

	p->w->epoch = r->number;
	/* The first is behind the last moment at which no copy was current: from it on the right is one that ends (R-join). */
	if (p->policy.leased && !p->right.leased)
		right_limit(&p->right, p->policy.drift_ppm, p->policy.margin_ms);
	right_promise(&p->right, r->promise_us);
	if (commit(p, r->number)) {
		primary_lost(p, "a committed epoch's output could not be released");
		return;
	}
	if (p->w->state == UNDERSTUDY__WORKER_STATE__WORKER_SYNCING)
		became_protected(p);
	if (r->number == p->final_number)
		became_finished(p);
}

static void sent(struct primary *p, const struct sender_report *r)
{
	unsigned int i;

	p->free_epochs[p->nr_free++] = r->epoch;
	p->epochs_total++;
	p->window_pages += r->epoch->nr_pages - r->pages_by_encoding[PAGE_SAME];
	p->raw_total += r->raw_bytes;
	p->wire_total += r->wire_bytes;
	p->window_raw += r->raw_bytes;
	p->window_wire += r->wire_bytes;
	for (i = 0; i < 5; i++)
		p->by_encoding[i] += r->pages_by_encoding[i];
}

static void sender_readable(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = ((struct primary *)arg)->w;
	struct primary *p = arg;
	struct sender_report r;

	/* Any of these may end the sender, or the primary itself. */
	while (w->primary == p && p->sender) {
		sender_poll(p->sender, &r);
		if (r.event == SENDER_NONE)
			break;
		if (r.event == SENDER_SENT)
			sent(p, &r);
		else if (r.event == SENDER_ACKED)
			acked(p, &r);
		else
			primary_lost(p, r.cause ? r.cause : strerror(r.error));
	}
	if (w->primary != p || !protecting(p))
		return;
	if (!p->first_number && !p->capture_due)
		sync_step(p);
	else if (p->capture_due)
		capture(p);
}

/* ---- the beginning ---- */

static int stop_guest(void *arg)
{
	return worker_pause(arg, PAUSEMARK_PAUSED);
}

static int go_guest(void *arg)
{
	return worker_unpause(arg);
}

static const struct quiesce_ops quiesce_pause = {
	.name = "pause",
	.stop = stop_guest,
	.go = go_guest,
};

static uint64_t gfn_of_grant(void *arg, uint32_t ref)
{
	struct primary *p = arg;

	return grant_table_gfn(p->memory.domain, &p->memory.machine, ref);
}

static int ring_gfns(void *arg, uint64_t *gfn, size_t max)
{
	struct primary *p = arg;
	int disk, net;

	net = netback_ring_gfns(p->w->netback, gfn_of_grant, p, gfn, max);
	if (net < 0)
		return net;
	disk = block_ring_gfns(p->w->block, gfn_of_grant, p, gfn + net, max - (size_t)net);
	return disk < 0 ? disk : net + disk;
}

/* The order matters: the store ring is looked at once more behind its copy; output is released by the last one's commit. */
static int participants(struct primary *p)
{
	struct worker *w = p->w;
	struct engine *en = &p->engine;
	int rc;

	p->memory.more_always = ring_gfns;
	p->memory.more_arg = p;
	p->store = (struct part_store){
		.base.ops = &part_store_ops,
		.xs = w->xs,
		.memory = &p->memory,
		.domid = w->domid,
		.changed_hint = &w->store_changed,
	};
	p->disk = (struct part_disk){
		.base.ops = &part_disk_ops,
		.guest = p->guest,
		.block = w->block,
	};
	p->net = (struct part_net){
		.base.ops = &part_net_ops,
		.netback = w->netback,
		.netbuf = w->netbuf,
	};
	rc = part_verify_new(&p->memory, &p->verify);
	if (rc)
		return rc;
	*en = (struct engine){.guest = p->guest, .quiesce = &quiesce_pause, .quiesce_arg = w};
	en->part[en->nr++] = &p->memory.base;
	en->part[en->nr++] = &p->store.base;
	if (p->verify)
		en->part[en->nr++] = part_verify_participant(p->verify);
	en->part[en->nr++] = &p->disk.base;
	en->part[en->nr++] = &p->net.base;
	return 0;
}

static int sender_begin(struct primary *p)
{
	struct sender_config c = {
		.lanes = p->lanes,
		.guest = p->guest,
		.term = p->w->term,
		.token = p->token,
		.cache_bytes = p->policy.cache_bytes,
		.heartbeat_ms = p->policy.heartbeat_ms,
		.timeout_ms = p->policy.timeout_ms > SYNC_TIMEOUT_MS ? p->policy.timeout_ms
								    : SYNC_TIMEOUT_MS,
	};
	int rc;

	memcpy(c.uuid, p->w->info.uuid, sizeof(c.uuid));
	p->lanes = (struct lanes){0};
	rc = sender_new(&c, &p->sender);
	if (rc)
		return rc;
	p->sender_event = event_new(p->w->base, sender_fd(p->sender), EV_READ | EV_PERSIST,
				    sender_readable, p);
	return p->sender_event && !event_add(p->sender_event, NULL) ? 0 : -ENOMEM;
}

static int buffers(struct primary *p)
{
	int rc;

	p->nr_buffers = p->policy.window + 1;
	while (p->nr_free < p->nr_buffers) {
		rc = epoch_new(EPOCH_FIRST_PAGES, &p->free_epochs[p->nr_free]);
		if (rc)
			return rc;
		p->nr_free++;
	}
	return 0;
}

static int prepare_work(void *arg)
{
	struct primary *p = arg;
	int rc;

	rc = part_memory_prepare(&p->memory);
	if (rc)
		return rc;
	for (unsigned int i = 0; i < p->lanes.nr; i++) {
		int fd = dial(p->peer_address, p->peer_port, DIAL_TIMEOUT_MS);

		if (fd < 0) {
			domain_unmap(p->memory.domain);
			return fd;
		}
		lanes_attach(&p->lanes, i, fd);
	}
	return 0;
}

static void prepare_done(void *arg, int rc)
{
	struct primary *p = arg;
	size_t nr = 0;

	p->preparing = false;
	if (!rc)
		rc = buffers(p);
	if (!rc)
		rc = participants(p);
	if (!rc) {
		rc = engine_setup(&p->engine);
		if (rc)
			p->engine.nr = 0;
	}
	if (!rc)
		rc = sender_begin(p);
	if (rc || p->dropping) {
		primary_drop(p, p->dropping ? p->drop_cause : strerror(-rc));
		return;
	}
	domain_gfns(p->memory.domain, &nr);
	p->sync_total = nr + p->disk.sync_total_bytes / DOMAIN_PAGE_SIZE;
	sync_step(p);
}

static int policy_check(const Understudy__WorkerProtect *m)
{
	const Understudy__WorkerPolicy *q = m->policy;

	return q && q->epoch_ms && (!q->epoch_max_ms || (q->pause_pct > 0 && q->pause_pct < 100)) && q->window && q->window < EPOCH_BUFFERS_MAX && q->heartbeat_ms &&
			       q->streams <= STREAM_LANES_MAX &&
			       q->timeout_ms > q->heartbeat_ms && m->token && m->term
		       ? 0
		       : -EINVAL;
}

int primary_start(struct worker *w, const Understudy__WorkerProtect *m)
{
	struct primary *p;
	int rc;

	if (policy_check(m))
		return -EINVAL;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->w = w;
	p->guest = w->name;
	p->policy = *m->policy;
	p->token = m->token;
	pace_begin(&p->pace, m->policy->epoch_ms * 1000, m->policy->epoch_max_ms * 1000, m->policy->pause_pct);
	p->peer_port = (uint16_t)m->peer_port;
	p->next_number = 1;
	p->sync_started_us = p->window_started_us = p->heard_us = clock_us();
	p->memory = (struct part_memory){
		.base.ops = &part_memory_ops,
		.domain = w->domain,
		.guest = w->name,
	};
	snprintf(p->peer_address, sizeof(p->peer_address), "%s", m->peer_address);
	p->epoch_event = evtimer_new(w->base, epoch_due, p);
	p->hold_event = evtimer_new(w->base, hold_expired, p);
	rc = lanes_open(&p->lanes, m->policy->streams ?: 1, m->tls, true, w->name);
	if (!rc)
		rc = p->epoch_event && p->hold_event ? right_begin(&p->right, w->base, &right_ops, p) : -ENOMEM;
	if (!rc)
		rc = job_start(w->base, prepare_work, prepare_done, p);
	if (rc) {
		primary_free(p);
		return rc;
	}
	if (p->policy.netbuf_bytes)
		netbuf_set_limit(w->netbuf, p->policy.netbuf_bytes);
	p->preparing = true;
	w->primary = p;
	w->term = m->term;
	w->epoch = 0;
	worker_set_state(w, UNDERSTUDY__WORKER_STATE__WORKER_SYNCING, "protection was asked for");
	return 0;
}

/* ---- switchover ---- */

int primary_finish(struct primary *p)
{
	if (p->w->state != UNDERSTUDY__WORKER_STATE__WORKER_PROTECTED || p->final_number)
		return -EINVAL;
	p->finish_wanted = true;
	event_del(p->epoch_event);
	capture(p);
	return 0;
}

/* Also before the final epoch is committed: what is then on its way is an epoch like any other. */
int primary_resume(struct primary *p)
{
	bool finished = p->w->state == UNDERSTUDY__WORKER_STATE__WORKER_FINISHED;

	if (!finished && (p->w->state != UNDERSTUDY__WORKER_STATE__WORKER_PROTECTED || !p->finish_wanted))
		return -EINVAL;
	p->finish_wanted = false;
	if (p->final_number) {
		p->final_number = 0;
		pausemark_set(p->w->mark, PAUSEMARK_PAUSED);
		if (worker_unpause(p->w))
			abort();	/* a successor lets it go (I5) */
		netback_freeze(p->w->netback, false);
		block_freeze(p->w->block, false);
	}
	if (finished)
		worker_set_state(p->w, UNDERSTUDY__WORKER_STATE__WORKER_PROTECTED,
				 "the switchover was called off");
	if (p->sender)
		epoch_timer(p, p->pace.epoch_us);
	else
		primary_lost(p, "the stream ended during the switchover");
	return 0;
}

/* ---- figures ---- */

void primary_stats(struct primary *p, Understudy__WorkerStats *s)
{
	uint64_t now = clock_us();
	double seconds = (double)(now - p->window_started_us) / 1e6;
	uint64_t committed = p->captured_us[p->acked % CAPTURED_TIMES];

	s->epoch = p->acked;
	s->epoch_age_us = p->first_number && p->acked >= p->first_number ? (uint32_t)(now - committed) : 0;
	s->pause_us_p50 = samples_percentile(&p->pause, 50);
	s->pause_us_p99 = samples_percentile(&p->pause, 99);
	s->pause_us_max = samples_percentile(&p->pause, 100);
	s->commit_us_p50 = samples_percentile(&p->commit, 50);
	s->commit_us_p99 = samples_percentile(&p->commit, 99);
	if (seconds > 0) {
		s->epochs_per_s = (double)p->window_epochs / seconds;
		s->dirty_pages_per_s = (double)p->window_pages / seconds;
		s->raw_bytes_per_s = (double)p->window_raw / seconds;
		s->wire_bytes_per_s = (double)p->window_wire / seconds;
	}
	s->epochs_total = p->epochs_total;
	s->raw_bytes_total = p->raw_total;
	s->wire_bytes_total = p->wire_total;
	s->in_flight = (uint32_t)in_flight(p);
	s->epoch_us = p->pace.epoch_us;
	s->window = p->policy.window;
	s->back_pressure = p->capture_due;
	s->leased = p->right.leased;
	s->right_us_left = right_left_us(&p->right);
	s->heard_us_ago = now - p->heard_us;
	s->pages_by_encoding = p->by_encoding;
	s->n_pages_by_encoding = sizeof(p->by_encoding) / sizeof(p->by_encoding[0]);

	samples_reset(&p->pause);
	samples_reset(&p->commit);
	p->window_started_us = now;
	p->window_epochs = p->window_pages = p->window_raw = p->window_wire = 0;
}
