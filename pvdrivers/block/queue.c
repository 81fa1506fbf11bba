/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests from the ring to their answers. They run at the same time unless they touch the same sectors or one is a barrier, so
 * the disk ends up as if they had run in the order of the ring; and they are answered in that order (docs/disks.md).
 */
#include "common/log.h"
#include "pvdrivers/block/vbd.h"
#include "pvdrivers/evtchn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct slot *slot_at(struct vbd *v, RING_IDX at)
{
	return &v->set->slot[at & (RING_SIZE(&v->ring) - 1)];
}

static bool modifies(const struct slot *s)
{
	return s->r.kind == REQUEST_WRITE || s->r.kind == REQUEST_BARRIER || s->r.kind == REQUEST_DISCARD;
}

/* ---- the log ---- */

static uint64_t data_bytes(const struct request *r)
{
	return r->kind == REQUEST_DISCARD ? 0 : r->bytes;
}

static bool is_logged(const struct slot *s)
{
	return modifies(s) || s->r.kind == REQUEST_FLUSH;
}

static bool log_reserve(struct vbd *v, struct slot *s)
{
	const struct block *bb = v->block;

	s->reserved = bb->log && is_logged(s);
	return !s->reserved || bb->log->reserve(bb->log_arg, data_bytes(&s->r));
}

static void log_unreserve(struct vbd *v, struct slot *s)
{
	const struct block *bb = v->block;

	if (s->reserved && bb->log)
		bb->log->unreserve(bb->log_arg, data_bytes(&s->r));
	s->reserved = false;
}

/* Of a request that succeeded. A barrier is a write with flushes around it. */
static void log_change(struct vbd *v, struct slot *s)
{
	const struct block *bb = v->block;
	struct block_change c = {.devid = v->devid, .offset_bytes = s->r.offset_bytes, .bytes = s->r.bytes};

	if (!bb->log || !is_logged(s))
		return;
	c.kind = s->r.kind == REQUEST_DISCARD ? BLOCK_DISCARD : s->r.kind == REQUEST_FLUSH ? BLOCK_FLUSH : BLOCK_WRITE;
	if (c.kind == BLOCK_WRITE) {
		c.data = s->r.data;
		s->r.data = NULL;
	}
	bb->log->change(bb->log_arg, &c, s->reserved);
	s->reserved = false;
	if (s->r.kind == REQUEST_BARRIER)
		bb->log->change(bb->log_arg, &(struct block_change){.devid = v->devid, .kind = BLOCK_FLUSH}, false);
}

/* ---- answers ---- */

/* What a read found, into the guest's pages: one copy per request, up to BLOCK_SEGMENTS_MAX segments. */
static void copy_out(struct vbd *v, struct slot *s)
{
	int16_t *status = v->block->batch.status;
	int rc;

	rc = grant_copy(v->block->grant, GRANT_WRITE, s->r.segment, status, s->r.nr_segments);
	if (rc)
		log_err(v->block->config.guest, "%s: grant copy: %s", v->name, strerror(-rc));
	for (unsigned int i = 0; !rc && i < s->r.nr_segments; i++)
		rc = status[i];
	if (rc)
		s->r.status = BLKIF_RSP_ERROR;
}

static void count(struct block_stats *st, const struct request *r)
{
	st->errors += r->status != BLKIF_RSP_OKAY;
	st->bad_requests += r->kind == REQUEST_REFUSED;
	if (r->kind == REQUEST_READ) {
		st->reads++;
		st->read_bytes += r->bytes;
	} else if (r->kind == REQUEST_WRITE || r->kind == REQUEST_BARRIER) {
		st->writes++;
		st->write_bytes += r->bytes;
	}
	st->flushes += r->kind == REQUEST_FLUSH;
	st->discards += r->kind == REQUEST_DISCARD;
}

static void finish(struct vbd *v, struct slot *s, blkif_response_t *answer)
{
	if (s->r.kind == REQUEST_READ && s->r.status == BLKIF_RSP_OKAY)
		copy_out(v, s);
	*answer = (blkif_response_t){.id = s->r.id, .operation = s->r.operation, .status = s->r.status};
	count(&v->stats, &s->r);
	v->in_flight_bytes -= data_bytes(&s->r);
	if (s->r.status == BLKIF_RSP_OKAY)
		log_change(v, s);
	log_unreserve(v, s);
	request_release(&s->r);
}

/* The answers must be complete in the mark before the first slot is overwritten. */
static void push(struct vbd *v, const blkif_response_t *answer, uint32_t nr)
{
	int notify;

	if (v->mark)
		mark_begin(v->mark, v->ring.rsp_prod_pvt, answer, nr);
	for (uint32_t i = 0; i < nr; i++)
		memcpy(RING_GET_RESPONSE(&v->ring, v->ring.rsp_prod_pvt++), &answer[i], sizeof(answer[i]));
	RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(&v->ring, notify);
	if (v->mark)
		mark_end(v->mark);
	if (notify && v->port)
		evtchn_notify(v->port);
}

static void answer_done(struct vbd *v)
{
	blkif_response_t answer[MARK_ANSWERS_MAX];
	RING_IDX at = v->ring.rsp_prod_pvt;
	uint32_t nr = 0;

	while (at != v->ring.req_cons && slot_at(v, at)->stage == SLOT_DONE) {
		finish(v, slot_at(v, at++), &answer[nr++]);
		if (nr == MARK_ANSWERS_MAX) {
			push(v, answer, nr);
			nr = 0;
		}
	}
	if (nr)
		push(v, answer, nr);
}

/* ---- running ---- */

static bool overlap(const struct request *a, const struct request *b)
{
	return a->offset_bytes < b->offset_bytes + b->bytes && b->offset_bytes < a->offset_bytes + a->bytes;
}

/* Must `later` wait for `earlier`, which is not done? */
static bool must_wait(const struct slot *earlier, const struct slot *later)
{
	if (earlier->r.kind == REQUEST_BARRIER || later->r.kind == REQUEST_BARRIER)
		return true;
	if (later->r.kind == REQUEST_FLUSH)
		return modifies(earlier);
	return (modifies(earlier) || modifies(later)) && overlap(&earlier->r, &later->r);
}

static bool may_run(struct vbd *v, RING_IDX at)
{
	for (RING_IDX i = v->ring.rsp_prod_pvt; i != at; i++)
		if (slot_at(v, i)->stage != SLOT_DONE && must_wait(slot_at(v, i), slot_at(v, at)))
			return false;
	return true;
}

static void slot_done(struct io *io, int rc);

static void slot_submit(struct vbd *v, struct slot *s)
{
	static const enum io_op op[] = {
		[REQUEST_READ] = IO_READ,
		[REQUEST_WRITE] = IO_WRITE,
		[REQUEST_BARRIER] = IO_WRITE_DURABLE,
		[REQUEST_FLUSH] = IO_FLUSH,
		[REQUEST_DISCARD] = IO_DISCARD,
	};
	bool flush = s->r.kind == REQUEST_BARRIER && !s->flushed;

	s->io = (struct io){
		.op = flush ? IO_FLUSH : op[s->r.kind],
		.fd = v->device.fd,
		.is_device = v->device.is_device,
		.data = s->r.data,
		.offset = s->r.offset_bytes,
		.bytes = s->r.bytes,
		.done = slot_done,
	};
	s->stage = SLOT_RUNNING;
	s->set->running++;
	io_submit(v->block->io, &s->io);
}

static void orphan_done(struct slot_set *set, struct slot *s)
{
	request_release(&s->r);
	if (set->running)
		return;
	device_close(&set->device);
	if (set->former) {
		set->former->orphan = NULL;
		devices_look_soon(set->former->block->devices);
	}
	free(set);
}

static void slot_done(struct io *io, int rc)
{
	struct slot *s = (struct slot *)((char *)io - offsetof(struct slot, io));
	struct vbd *v = s->set->vbd;

	s->set->running--;
	if (!v) {
		orphan_done(s->set, s);
		return;
	}
	if (rc) {
		log_err(v->block->config.guest, "%s: sector %llu: %s", v->name,
			(unsigned long long)(s->r.offset_bytes / BLOCK_SECTOR_BYTES), strerror(-rc));
		s->r.status = rc == -EOPNOTSUPP ? BLKIF_RSP_EOPNOTSUPP : BLKIF_RSP_ERROR;
	} else if (s->r.kind == REQUEST_BARRIER && !s->flushed) {
		s->flushed = true;
		slot_submit(v, s);
		io_kick(v->block->io);
		return;
	}
	s->stage = SLOT_DONE;
	v->wake(v);
}

static void start(struct vbd *v)
{
	for (RING_IDX at = v->ring.rsp_prod_pvt; at != v->ring.req_cons; at++)
		if (slot_at(v, at)->stage == SLOT_WAITING && may_run(v, at))
			slot_submit(v, slot_at(v, at));
	io_kick(v->block->io);
}

/* ---- taking ---- */

static void take_raw(struct vbd *v, struct take_batch *b, unsigned int available)
{
	struct grant_segment segment[BLOCK_BATCH];
	unsigned int of[BLOCK_BATCH], indirect = 0;
	int16_t status[BLOCK_BATCH];
	int rc;

	b->nr = available < BLOCK_BATCH ? available : BLOCK_BATCH;
	for (unsigned int i = 0; i < b->nr; i++) {
		struct grant_segment *s = &segment[indirect];

		RING_COPY_REQUEST(&v->ring, v->ring.req_cons + i, &b->raw[i]);
		b->has_indirect[i] = false;
		*s = (struct grant_segment){.local = b->indirect[i]};
		if (request_indirect(&b->raw[i], &s->ref, &s->len))
			of[indirect++] = i;
	}
	rc = indirect ? grant_copy(v->block->grant, GRANT_READ, segment, status, indirect) : 0;
	for (unsigned int i = 0; i < indirect; i++)
		b->has_indirect[of[i]] = !rc && !status[i];
}

static void complain(struct vbd *v, const struct request *r)
{
	if (!v->complained)
		log_warn(v->block->config.guest, "%s: request refused: %s (operation %u); others are only counted", v->name,
			 r->why, r->operation);
	v->complained = true;
}

/* The request into its slot. False: not now, it stays in the ring. */
static bool take_one(struct vbd *v, struct take_batch *b, unsigned int i)
{
	const struct request_limits limits = {v->device.bytes, v->device.sector_bytes, v->readonly, v->device.can_discard};
	struct slot *s = slot_at(v, v->ring.req_cons);

	if (v->in_flight_bytes + BLOCK_REQUEST_BYTES_MAX > BLOCK_IN_FLIGHT_BYTES_MAX)
		return false;
	*s = (struct slot){.set = v->set};
	if (request_parse(&limits, &b->raw[i], b->has_indirect[i] ? b->indirect[i] : NULL, &s->r)) {
		request_release(&s->r); /* no memory: answers give some back */
		return false;
	}
	if (!log_reserve(v, s)) {
		s->reserved = false;
		request_release(&s->r);
		return false;
	}
	v->in_flight_bytes += data_bytes(&s->r);
	v->ring.req_cons++;
	if (s->r.kind == REQUEST_REFUSED) {
		complain(v, &s->r);
		s->stage = SLOT_DONE;
	}
	return true;
}

static void copy_in_batch(struct vbd *v, struct take_batch *b, unsigned int nr)
{
	int rc = nr ? grant_copy(v->block->grant, GRANT_READ, b->segment, b->status, nr) : 0;

	for (unsigned int i = 0; i < nr; i++)
		if (rc || b->status[i]) {
			b->owner[i]->r.status = BLKIF_RSP_ERROR;
			b->owner[i]->stage = SLOT_DONE;
		}
}

/* The data of all writes from `from` on, in as few copies as can be. */
static void copy_in(struct vbd *v, struct take_batch *b, RING_IDX from)
{
	unsigned int nr = 0;

	for (; from != v->ring.req_cons; from++) {
		struct slot *s = slot_at(v, from);

		if (s->r.kind != REQUEST_WRITE && s->r.kind != REQUEST_BARRIER)
			continue;
		if (nr + s->r.nr_segments > GRANT_SEGMENTS_MAX) {
			copy_in_batch(v, b, nr);
			nr = 0;
		}
		for (unsigned int i = 0; i < s->r.nr_segments; i++, nr++) {
			b->segment[nr] = s->r.segment[i];
			b->owner[nr] = s;
		}
	}
	copy_in_batch(v, b, nr);
}

/* Requests taken, or -EPROTO. */
static int take(struct vbd *v)
{
	struct take_batch *b = &v->block->batch;
	RING_IDX from = v->ring.req_cons;
	int available = ring_unconsumed(&v->ring);

	if (available < 0) {
		log_warn(v->block->config.guest, "%s: impossible number of requests", v->name);
		return -EPROTO;
	}
	take_raw(v, b, (unsigned int)available);
	for (unsigned int i = 0; i < b->nr; i++)
		if (!take_one(v, b, i))
			break;
	copy_in(v, b, from);
	return (int)(v->ring.req_cons - from);
}

/* Where nothing could be taken although something is there, an answer or block_pressure() makes the next turn. */
static int look_for_more(struct vbd *v)
{
	int more;

	RING_FINAL_CHECK_FOR_REQUESTS(&v->ring, more);
	return more;
}

int queue_run(struct vbd *v)
{
	for (int n = 0; n < BLOCK_TURN_BATCHES; n++) {
		int taken;

		answer_done(v);
		taken = take(v);
		if (taken < 0)
			return taken;
		start(v);
		if (!taken) {
			/* Room may have come with answers that this turn gave: then there was something to take. */
			if (ring_unconsumed(&v->ring) > 0 || !look_for_more(v))
				return 0;
		}
	}
	return 1;
}

/* ---- life ---- */

/* Answers that a killed predecessor was about to give. */
static void recover(struct vbd *v, bool fresh)
{
	uint32_t pending = v->ring.sring->req_prod - v->ring.rsp_prod_pvt, nr;
	blkif_response_t answer[MARK_ANSWERS_MAX];

	nr = fresh ? 0 : mark_unfinished(v->mark, v->ring_ref[0], v->port_nr, v->ring.rsp_prod_pvt);
	if (nr > pending)
		nr = 0;
	memcpy(answer, v->mark->answer, sizeof(answer));
	if (nr) {
		log_info(v->block->config.guest, "%s: the worker before this one died while it answered %u requests", v->name,
			 nr);
		push(v, answer, nr);
		v->ring.req_cons = v->ring.rsp_prod_pvt;
	}
	mark_end(v->mark);
	v->mark->ring_ref = v->ring_ref[0];
	v->mark->port = v->port_nr;
}

int queue_attach(struct vbd *v, void *page, bool fresh)
{
	int rc;

	rc = ring_attach_bytes(&v->ring, (blkif_sring_t *)page, v->ring_pages * RING_PAGE_SIZE);
	if (rc)
		return rc;
	v->set = calloc(1, sizeof(*v->set) + RING_SIZE(&v->ring) * sizeof(struct slot));
	if (!v->set)
		return -ENOMEM;
	v->set->vbd = v;
	v->set->device.fd = -1;
	v->in_flight_bytes = 0;
	v->complained = false;
	if (v->mark)
		recover(v, fresh);
	if (!fresh)
		v->stats.served_again += v->ring.sring->req_prod - v->ring.rsp_prod_pvt;
	return 0;
}

void queue_forget_reservations(struct vbd *v)
{
	if (!v->set)
		return;
	for (RING_IDX at = v->ring.rsp_prod_pvt; at != v->ring.req_cons; at++)
		slot_at(v, at)->reserved = false;
}

void queue_detach(struct vbd *v)
{
	struct slot_set *set = v->set;

	if (!set)
		return;
	for (RING_IDX at = v->ring.rsp_prod_pvt; at != v->ring.req_cons; at++) {
		struct slot *s = slot_at(v, at);

		log_unreserve(v, s);
		if (s->stage != SLOT_RUNNING)
			request_release(&s->r);
	}
	v->set = NULL;
	v->in_flight_bytes = 0;
	set->vbd = NULL;
	if (!set->running) {
		free(set);
		return;
	}
	set->device = v->device;
	v->device.fd = -1;
	queue_abandon(v);
	set->former = v;
	v->orphan = set;
}

void queue_abandon(struct vbd *v)
{
	if (v->orphan)
		v->orphan->former = NULL;
	v->orphan = NULL;
}
