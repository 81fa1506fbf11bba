/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/backup.h"
#include "checkpoint/disk_replica.h"
#include "checkpoint/engine.h"
#include "checkpoint/framelog.h"
#include "checkpoint/job.h"
#include "checkpoint/link.h"
#include "checkpoint/machine.h"
#include "checkpoint/output.h"
#include "checkpoint/part_disk.h"
#include "checkpoint/part_memory.h"
#include "checkpoint/part_net.h"
#include "checkpoint/part_store.h"
#include "checkpoint/receiver.h"
#include "checkpoint/store_ahead.h"
#include "common/clock.h"
#include "common/fault.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	READ_TURNS_MAX = 4,		/* before other events have their turn */
	TAIL_PAGES_MAX = MEMORY_ALWAYS_MAX,
	SETTLE_MS = 2000,		/* after an activation the guest and its clients come first */
};

struct backup {
	struct worker *w;
	bool mapped, shaped, current;
	struct receiver *receiver;
	uint64_t token; /* of its stream */
	/* Further connections that came before the first. */
	struct early {
		uint64_t token;
		int fd;	/* 0: none */
	} early[STREAM_LANES_MAX];
	struct event *read_event, *tick_event, *settle_event;
	struct part_memory memory;
	/* Pages that must not be written before activation, and the latest of each blob. */
	struct epoch *last;
	struct store_ahead *ahead;
	struct framelog *inputs, *outputs;
	uint64_t promised_us;		/* by streams that are over */
	struct disk_replica *replica;	/* NULL: the guest has no disks, or none were said yet */
};

static void tell_state(struct backup *b, const char *cause)
{
	Understudy__WorkerStreamState m = UNDERSTUDY__WORKER_STREAM_STATE__INIT;

	m.connected = b->receiver != NULL;
	m.current = b->current;
	m.epoch = b->w->epoch;
	m.cause = (char *)cause;
	worker_send(b->w, STREAM_STATE, stream_state, &m);
}

/* ---- where pages and blobs go ---- */

static const void *backup_page(void *arg, uint64_t gfn)
{
	struct backup *b = arg;

	if (!b->shaped)
		return NULL;
	if (domain_page_is_tail(&b->memory.machine, gfn))
		return epoch_page(b->last, gfn);
	return domain_page(b->w->domain, gfn);
}

static int apply_page(struct backup *b, uint64_t gfn, const void *page)
{
	void *to;

	if (domain_page_is_tail(&b->memory.machine, gfn)) {
		to = epoch_page(b->last, gfn);
		if (!to) {
			if (b->last->nr_pages == TAIL_PAGES_MAX || epoch_reserve(b->last, 1))
				return -E2BIG;
			epoch_add_page(b->last, gfn, page);
			return 0;
		}
	} else {
		to = domain_page(b->w->domain, gfn);
	}
	if (!to) {
		log_err(b->w->name, "the shell has no page at gfn %#llx", (unsigned long long)gfn);
		return -EFAULT;
	}
	memcpy(to, page, DOMAIN_PAGE_SIZE);
	return 0;
}

static uint64_t gfn_limit(const struct backup *b)
{
	return domain_gfn_limit_of(b->w->info.max_pages);
}

static int apply_layout(struct backup *b)
{
	const struct buf *blob = &b->last->blob[BLOB_LAYOUT];
	uint64_t *gfn;
	size_t nr;
	int rc;

	rc = layout_decode(blob->data, blob->len, gfn_limit(b), &gfn, &nr);
	if (rc)
		return rc;
	rc = domain_shape(b->w->domain, gfn, nr, &b->memory.machine);
	free(gfn);
	b->shaped = !rc;
	return rc;
}

/* The new blobs take the place of the old, whose memory the receiver fills next: an epoch that was
 * acknowledged must not fail for want of memory. */
static void take_blobs(struct backup *b, struct epoch *e)
{
	unsigned int i;

	for (i = 0; i < EPOCH_BLOBS; i++) {
		struct buf old = b->last->blob[i];

		if (!e->blob[i].len)
			continue;
		b->last->blob[i] = e->blob[i];
		e->blob[i] = old;
	}
}

static int apply_disks(struct backup *b)
{
	const struct buf *blob = &b->last->blob[BLOB_DISKS];
	struct block_disk disk[BLOCK_DISKS_MAX];
	unsigned int nr;
	int rc;

	disk_replica_free(b->replica);
	b->replica = NULL;
	rc = block_open_disks(b->w->block, blob->data, blob->len);
	if (rc)
		return rc;
	nr = block_disks(b->w->block, disk);
	return disk_replica_new(b->w->name, disk, nr, &b->replica);
}

static int apply_changes(struct backup *b, struct epoch *e)
{
	if (b->replica)
		return disk_replica_add(b->replica, e);
	return e->nr_changes ? -EPROTO : 0;
}

static int apply_blobs(struct backup *b, struct epoch *e)
{
	const struct buf *machine = &b->last->blob[BLOB_MACHINE];
	bool new_store = e->blob[BLOB_STORE].len > 0, new_machine = e->blob[BLOB_MACHINE].len > 0,
	     new_layout = e->blob[BLOB_LAYOUT].len > 0, new_disks = e->blob[BLOB_DISKS].len > 0;
	int rc;

	take_blobs(b, e);
	if (new_store) {
		netback_forget_ahead(b->w->netback);
		store_ahead_update(b->ahead, &b->last->blob[BLOB_STORE]);
	}
	if (new_machine) {
		rc = machine_decode(machine->data, machine->len, &b->memory.machine);
		if (rc)
			return rc;
	}
	rc = new_disks ? apply_disks(b) : 0;
	return !rc && new_layout ? apply_layout(b) : rc;
}

struct output_of {
	struct framelog *log;
	uint64_t epoch;
};

static void keep_output(void *arg, const struct output_frame *f)
{
	const struct output_of *to = arg;

	framelog_add(to->log, to->epoch, f->devid, f->data, f->len);
}

/* An epoch that is being put in place: what it contains need not be received again, what it sent may have to be. */
static int apply_frames(struct backup *b, struct epoch *e)
{
	struct output_of to = {b->outputs, e->number};
	struct buf *blob = &e->blob[BLOB_OUTPUT];
	uint64_t released = 0;
	int rc;

	framelog_forget(b->inputs, e->number);
	rc = blob->len ? output_read(blob->data, blob->len, &released, keep_output, &to) : 0;
	framelog_forget(b->outputs, released);
	buf_reset(blob);
	return rc;
}

static int backup_apply(void *arg, struct epoch *e)
{
	struct backup *b = arg;
	size_t i;
	int rc;

	/* Half an epoch in the shell is no copy: current again only when all of it is in. */
	b->current = false;
	rc = apply_frames(b, e);
	if (!rc)
		rc = apply_blobs(b, e);
	if (!rc && !b->shaped)
		rc = -EPROTO;
	for (i = 0; !rc && i < e->nr_pages; i++)
		rc = apply_page(b, e->gfn[i], e->pages + i * DOMAIN_PAGE_SIZE);
	if (!rc)
		rc = apply_changes(b, e);
	if (rc) {
		log_err(b->w->name, "epoch %llu: apply: %s", (unsigned long long)e->number,
			strerror(-rc));
		return rc;
	}
	if (e->flags & EPOCH_SYNC)
		return 0;
	b->current = true;
	b->w->epoch = e->number;
	return 0;
}

static void backup_input(void *arg, const struct record_input *input, const void *data, size_t len)
{
	struct backup *b = arg;

	if (input->epoch > b->w->epoch)
		framelog_add(b->inputs, input->epoch, input->devid, data, len);
}

/* What Xen would refuse when it is too late. */
static int backup_check(void *arg, const struct epoch *e)
{
	const struct backup *b = arg;
	const struct buf *context = &e->blob[BLOB_CONTEXT];
	const char *why = "";
	int rc;

	rc = domain_context_check(context->data, context->len, b->w->info.vcpus, &why);
	if (rc)
		log_err(b->w->name, "epoch %llu: its context cannot be loaded: %s",
			(unsigned long long)e->number, why);
	return rc;
}

static const struct receiver_ops receiver_ops = {
	.page = backup_page,
	.check = backup_check,
	.apply = backup_apply,
	.input = backup_input,
};

/* ---- the stream ---- */

static void stream_stop(struct backup *b)
{
	if (!b->receiver)
		return;
	event_del(b->read_event);
	event_del(b->tick_event);
}

/* What a stream promised binds beyond its end. */
static uint64_t promised_until_us(const struct backup *b)
{
	uint64_t until = b->receiver ? receiver_promised_us(b->receiver) : 0;

	return until > b->promised_us ? until : b->promised_us;
}

/* What is committed stays good for activation: that the stream is over does not make the copy stale by itself; the daemon
 * knows whether the primary went on without us. */
static void stream_close(struct backup *b, const char *cause)
{
	if (!b->receiver)
		return;
	if (b->read_event)
		event_free(b->read_event);
	event_del(b->tick_event);
	b->read_event = NULL;
	b->promised_us = promised_until_us(b);
	receiver_free(b->receiver);
	b->receiver = NULL;
	log_info(b->w->name, "the stream is closed: %s", cause);
}

/* An epoch that could not be applied leaves half of it in the shell. */
static void note_torn(struct backup *b, const char *cause)
{
	if (!b->current && b->w->state == UNDERSTUDY__WORKER_STATE__WORKER_STANDBY)
		worker_set_state(b->w, UNDERSTUDY__WORKER_STATE__WORKER_WAITING, cause);
}

static void note_current(struct backup *b)
{
	if (b->current && b->w->state == UNDERSTUDY__WORKER_STATE__WORKER_WAITING) {
		worker_set_state(b->w, UNDERSTUDY__WORKER_STATE__WORKER_STANDBY,
				 "a whole epoch is committed");
		tell_state(b, "");
	}
}

static void stream_readable(evutil_socket_t fd, short what, void *arg);

/* The connection whose turn it is; none while that is yet to come. */
static int watch(struct backup *b)
{
	int fd = receiver_fd(b->receiver);

	if (b->read_event && event_get_fd(b->read_event) == fd)
		return 0;
	if (b->read_event)
		event_free(b->read_event);
	b->read_event = NULL;
	if (fd < 0)
		return 0;
	b->read_event = event_new(b->w->base, fd, EV_READ | EV_PERSIST, stream_readable, b);
	return b->read_event && !event_add(b->read_event, NULL) ? 0 : -ENOMEM;
}

static void stream_readable(evutil_socket_t fd, short what, void *arg)
{
	struct backup *b = arg;
	int turns, rc = 1;

	for (turns = 0; rc == 1 && turns < READ_TURNS_MAX; turns++)
		rc = receiver_read(b->receiver);
	note_current(b);
	if (rc >= 0 && watch(b))
		rc = -ENOMEM;
	if (rc == 1 && b->read_event)
		event_active(b->read_event, EV_READ, 0);
	if (rc < 0) {
		stream_close(b, strerror(-rc));
		note_torn(b, strerror(-rc));
		tell_state(b, strerror(-rc));
	}
}

static void stream_tick(evutil_socket_t fd, short what, void *arg)
{
	struct backup *b = arg;
	int rc;

	rc = receiver_tick(b->receiver);
	if (rc < 0) {
		stream_close(b, strerror(-rc));
		tell_state(b, strerror(-rc));
	}
}

/* UNDERSTUDY_CAPTURE=DIR keeps every received stream for the checker. */
static int capture_file(struct backup *b, uint64_t term)
{
	const char *dir = getenv("UNDERSTUDY_CAPTURE");
	char path[256];
	int fd;

	if (!dir)
		return -1;
	snprintf(path, sizeof(path), "%s/%s-%llu-%llu.stream", dir, b->w->name,
		 (unsigned long long)term, (unsigned long long)clock_us());
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		log_warn(b->w->name, "%s: %s", path, strerror(errno));
	return fd;
}

/* A further connection of the stream: of the present one, or of one whose first is yet to come. */
static int add_lane(struct backup *b, const Understudy__WorkerStream *s, int fd)
{
	struct early *early = s->lane < STREAM_LANES_MAX ? &b->early[s->lane] : NULL;
	int rc;

	if (b->receiver && b->token == s->token) {
		rc = receiver_add_lane(b->receiver, s->lane, fd);
		if (!rc)
			return watch(b);
	} else if (early) {
		if (early->fd)
			close(early->fd);
		*early = (struct early){s->token, fd};
		return 0;
	} else {
		rc = -EINVAL;
	}
	close(fd);
	return rc;
}

static void take_early(struct backup *b)
{
	for (unsigned int i = 0; i < STREAM_LANES_MAX; i++) {
		struct early early = b->early[i];

		b->early[i] = (struct early){0};
		if (early.fd && (!b->receiver || early.token != b->token || receiver_add_lane(b->receiver, i, early.fd)))
			close(early.fd);
	}
}

int backup_stream(struct backup *b, const Understudy__WorkerStream *s, int fd)
{
	struct receiver_config c = {
		.guest = b->w->name,
		.term = s->term,
		.token = s->token,
		.gfn_limit = gfn_limit(b),
		.staged_pages_max = b->w->info.max_pages + TAIL_PAGES_MAX,
		.staged_changes_bytes_max = PART_DISK_EPOCH_BYTES_MAX,
		.heartbeat_ms = s->heartbeat_ms,
		.promise_ms = s->promise_ms,
		.drift_ppm = s->drift_ppm,
	};
	unsigned int tick_ms = (s->heartbeat_ms ? s->heartbeat_ms : 100) / 2 + 1;
	struct timeval tick = {.tv_sec = tick_ms / 1000, .tv_usec = (tick_ms % 1000) * 1000};
	int rc;

	if (fd < 0)
		return -EBADF;
	if (s->lane)
		return add_lane(b, s, fd);
	rc = !b->mapped ? -EAGAIN : !s->token ? -EINVAL : lanes_open(&c.lanes, s->further + 1, s->tls, false, b->w->name);
	if (rc) {
		close(fd);
		return rc;
	}
	stream_close(b, "a new stream replaces it");
	/* A new stream begins with a new baseline, which is torn until it is whole. */
	b->current = b->shaped = false;
	disk_replica_free(b->replica);
	b->replica = NULL;
	framelog_forget(b->inputs, UINT64_MAX);
	framelog_forget(b->outputs, UINT64_MAX);
	epoch_reset(b->last);
	memset(&b->memory.machine, 0, sizeof(b->memory.machine));
	b->w->epoch = 0;
	b->w->term = s->term;
	worker_set_state(b->w, UNDERSTUDY__WORKER_STATE__WORKER_WAITING, "a stream begins");

	memcpy(c.uuid, b->w->info.uuid, sizeof(c.uuid));
	c.capture_fd = capture_file(b, s->term);
	lanes_attach(&c.lanes, 0, fd);
	b->token = s->token;
	rc = receiver_new(&c, &receiver_ops, b, &b->receiver);
	if (rc) {
		b->receiver = NULL;
		return rc;
	}
	take_early(b);
	if (watch(b) || event_add(b->tick_event, &tick))
		return -ENOMEM;
	tell_state(b, "");
	return 0;
}

/* ---- activation ---- */

static void became_primary(struct worker *w, Understudy__WorkerActivated *m, uint64_t began_us)
{
	m->epoch = w->epoch;
	m->term = w->term;
	m->running_wall_us = clock_wall_us();
	m->total_us = (uint32_t)(clock_us() - began_us);
	w->role = UNDERSTUDY__WORKER_ROLE__WORKER_PRIMARY;
	worker_set_state(w, UNDERSTUDY__WORKER_STATE__WORKER_SERVING, "activated");
	log_info(w->name,
		 "runs here since epoch %llu, term %llu: activated in %u us (store %u, memory and context %u, devices %u, announce %u)",
		 (unsigned long long)m->epoch, (unsigned long long)m->term, m->total_us,
		 m->store_us, m->context_us, m->devices_us, m->announce_us);
	worker_send(w, ACTIVATED, activated, m);
}

static int timed(struct engine *en, const struct epoch *last, struct participant *p,
		 uint32_t *took_us)
{
	uint64_t began = clock_us();
	int rc;

	en->part[0] = p;
	en->nr = 1;
	rc = engine_activate(en, last);
	*took_us = (uint32_t)(clock_us() - began);
	return rc;
}

/* Store first: what xenstored writes into the shell's ring while nodes change is then overwritten by the committed ring. */
static int bring_to_life(struct backup *b, Understudy__WorkerActivated *m)
{
	struct worker *w = b->w;
	struct engine en = {.guest = w->name};
	struct part_store store = {
		.base.ops = &part_store_ops,
		.xs = w->xs,
		.memory = &b->memory,
		.domid = w->domid,
		.changed_hint = &w->store_changed,
		.ahead = b->ahead,
	};
	struct part_disk disk = {
		.base.ops = &part_disk_ops,
		.guest = w->name,
		.block = w->block,
		.replica = b->replica,
	};
	struct part_net net = {
		.base.ops = &part_net_ops,
		.netback = w->netback,
		.netbuf = w->netbuf,
	};
	uint32_t disks_us = 0;
	int rc;

	rc = fi_point("ACTIVATE_STORE");
	if (!rc)
		rc = timed(&en, b->last, &store.base, &m->store_us);
	if (!rc)
		rc = fi_point("ACTIVATE_MEMORY");
	if (!rc)
		rc = timed(&en, b->last, &b->memory.base, &m->context_us);
	if (!rc)
		rc = fi_point("ACTIVATE_DISKS");
	if (!rc)
		rc = timed(&en, b->last, &disk.base, &disks_us);
	if (!rc)
		rc = fi_point("ACTIVATE_NET");
	if (!rc)
		rc = timed(&en, b->last, &net.base, &m->devices_us);
	m->devices_us += disks_us;
	if (!rc)
		m->received_again = framelog_give(b->inputs, netback_replay, w->netback);
	if (!rc)
		rc = fi_point("ACTIVATE_RUN");
	if (!rc)
		rc = worker_unpause(w);
	if (!rc)
		(void)fi_point("ACTIVATE_RUNS");	/* too late to fail */
	return rc;
}

/* The disks are closed by that; what is committed is on them, or they are no copy any more. */
static void devices_back(struct backup *b)
{
	netback_deactivate(b->w->netback);
	if (b->replica && disk_replica_finish(b->replica))
		b->current = false;
	disk_replica_free(b->replica);
	b->replica = NULL;
	block_deactivate(b->w->block);
}

int backup_activate(struct backup *b, const Understudy__WorkerActivate *a)
{
	static const struct timeval settle = {.tv_sec = SETTLE_MS / 1000, .tv_usec = SETTLE_MS % 1000 * 1000};
	Understudy__WorkerActivated m = UNDERSTUDY__WORKER_ACTIVATED__INIT;
	struct worker *w = b->w;
	uint64_t began = clock_us(), t;
	int rc;

	if (!b->current || !b->shaped)
		return -ENODATA;
	if (a->term <= w->term)
		return -ESTALE;
	if (!a->invited && clock_us() < promised_until_us(b))
		return -EAGAIN;
	/* From here on nothing is acknowledged any more. What the stream needed is freed later: megabytes, which take their time. */
	stream_stop(b);
	worker_set_state(w, UNDERSTUDY__WORKER_STATE__WORKER_ACTIVATING, "the daemon said so");
	rc = bring_to_life(b, &m);
	if (rc) {
		stream_close(b, "activation");
		devices_back(b);
		worker_set_state(w, UNDERSTUDY__WORKER_STATE__WORKER_STANDBY, "activation failed");
		return rc;
	}
	t = clock_us();
	rc = netback_announce(w->netback);
	if (rc)
		worker_send_alarm(w, "could not announce itself on the network: %s", strerror(-rc));
	m.announce_us = (uint32_t)(clock_us() - t);
	m.sent_again = framelog_give(b->outputs, netback_send, w->netback);
	w->term = a->term;
	became_primary(w, &m, began);
	netback_nudge(w->netback);
	w->backup = NULL;
	w->former = b;
	if (evtimer_add(b->settle_event, &settle))
		backup_settle(w);
	return 0;
}

void backup_settle(struct worker *w)
{
	struct backup *b = w->former;

	if (!b)
		return;
	w->former = NULL;
	netback_connected(w->netback);
	block_connected(w->block);
	/* An ordinary domain from now on, which `xl save` takes. A failure is logged. */
	(void)part_memory_forget(w->domain, w->name);
	domain_unmap(w->domain);
	backup_free(b);
}

static void settle_due(evutil_socket_t fd, short what, void *arg)
{
	backup_settle(arg);
}

/* ---- life ---- */

static int map_work(void *arg)
{
	struct backup *b = arg;

	return domain_map(b->w->domain, true);
}

static void map_done(void *arg, int rc)
{
	struct backup *b = arg;

	if (rc) {
		log_err(b->w->name, "the shell's memory cannot be mapped: %s", strerror(-rc));
		worker_quit(b->w, false);
		return;
	}
	b->mapped = true;
	tell_state(b, "ready");
}

static void nodes_there(void *arg)
{
	struct backup *b = arg;

	netback_read_ahead(b->w->netback);
}

int backup_new(struct worker *w, struct backup **out)
{
	struct backup *b = calloc(1, sizeof(*b));
	int rc;

	if (!b)
		return -ENOMEM;
	b->w = w;
	b->memory = (struct part_memory){
		.base.ops = &part_memory_ops,
		.domain = w->domain,
		.guest = w->name,
	};
	b->tick_event = event_new(w->base, -1, EV_PERSIST, stream_tick, b);
	b->settle_event = evtimer_new(w->base, settle_due, w);
	rc = b->tick_event && b->settle_event ? epoch_new(TAIL_PAGES_MAX, &b->last) : -ENOMEM;
	if (!rc)
		rc = framelog_new(&b->inputs);
	if (!rc)
		rc = framelog_new(&b->outputs);
	if (!rc)
		rc = store_ahead_new(w->base, w->domid, w->name, nodes_there, b, &b->ahead);
	if (!rc)
		rc = job_start(w->base, map_work, map_done, b);
	if (rc)
		backup_free(b);
	else
		*out = b;
	return rc;
}

void backup_free(struct backup *b)
{
	if (!b)
		return;
	stream_close(b, "the worker ends");
	take_early(b); /* closed: there is no stream any more */
	if (b->tick_event)
		event_free(b->tick_event);
	if (b->settle_event)
		event_free(b->settle_event);
	if (b->last)
		epoch_free(b->last);
	store_ahead_free(b->ahead);
	framelog_free(b->inputs);
	framelog_free(b->outputs);
	disk_replica_free(b->replica);
	free(b);
}

void backup_stats(const struct backup *b, Understudy__WorkerStats *s)
{
	struct receiver_stats r;

	s->epoch = b->w->epoch;
	if (!b->receiver)
		return;
	receiver_stats(b->receiver, &r);
	s->epochs_total = r.epochs;
	s->raw_bytes_total = r.raw_bytes;
	s->wire_bytes_total = r.wire_bytes;
	s->heard_us_ago = clock_us() - receiver_heard_us(b->receiver);
}
