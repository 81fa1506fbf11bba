// sources: pvdrivers/block/queue.c pvdrivers/block/request.c pvdrivers/block/mark.c
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hostile front end of a disk. The input is a program: it writes anything anywhere into the ring, moves producers, puts requests
 * that are nearly right, runs the back end, completes I/O in any order and with errors, detaches, attaches anew, and changes the ring
 * while the back end copies. Grant copy, event channel and the I/O engine are the seam.
 */
#include "common/log.h"
#include "pvdrivers/block/vbd.h"
#include "pvdrivers/evtchn.h"
#include "tests/fuzz/program.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum op { OP_BYTES, OP_PUBLISH, OP_SLOT, OP_RUN, OP_COMPLETE, OP_AGAIN, OP_LIMITS, OP_NR };
enum { DISK_BYTES = 1 << 20, IO_MAX = BLOCK_RING_SLOTS_MAX * 4 };

static struct {
	uint8_t ring[RING_PAGE_SIZE] __attribute__((aligned(64)));
	bool bad_copies;
	struct io *io[IO_MAX];
	unsigned int nr_io;
	struct answer_mark mark;
	struct block *bb;
	struct vbd *v;
} world;

int grant_copy(struct grant *g, enum grant_direction direction, const struct grant_segment *segments, int16_t *status,
	       unsigned int nr)
{
	static volatile uint8_t sink;

	assert(nr <= GRANT_SEGMENTS_MAX);
	for (unsigned int i = 0; i < nr; i++) {
		const struct grant_segment *s = &segments[i];

		assert(s->offset + s->len <= RING_PAGE_SIZE);
		status[i] = world.bad_copies && s->ref % 3 == 0 ? GNTST_bad_gntref : GNTST_okay;
		for (unsigned int k = 0; k < s->len; k++)
			if (direction == GRANT_READ)
				((uint8_t *)s->local)[k] = k < 64 ? (uint8_t)take(1) : (uint8_t)(k % 8);
			else
				sink = sink ^ ((uint8_t *)s->local)[k];
	}
	if (take(1) & 1)
		scribble(world.ring);
	return world.bad_copies && nr && segments[0].ref == 7 ? -EFAULT : 0;
}

/* A line for each failed I/O would be most of the run. */
void log_at(enum log_level level, const char *guest, const char *fmt, ...)
{
}

int evtchn_notify(struct evtchn_port *p)
{
	return 0;
}

void device_close(struct device *d)
{
	d->fd = -1;
}

void devices_look_soon(void *arg)
{
	assert(arg == world.bb->devices);
}

/* What reaches the engine is inside of the disk and aligned, whatever the guest said. */
void io_submit(struct io_engine *e, struct io *io)
{
	assert(world.nr_io < IO_MAX);
	assert(io->offset <= DISK_BYTES && io->bytes <= DISK_BYTES - io->offset);
	assert(io->op == IO_READ || io->op == IO_FLUSH || !world.v->readonly);
	assert(io->offset % world.v->device.sector_bytes == 0 && io->bytes % world.v->device.sector_bytes == 0);
	if (io->op == IO_READ)
		memset(io->data, 0x5a, io->bytes);
	world.io[world.nr_io++] = io;
}

void io_kick(struct io_engine *e)
{
}

static void wake(struct vbd *v)
{
}

static void complete(unsigned int which, int rc)
{
	struct io *io;

	if (!world.nr_io)
		return;
	which %= world.nr_io;
	io = world.io[which];
	world.io[which] = world.io[--world.nr_io];
	io->done(io, rc);
}

static void again(bool fresh)
{
	queue_detach(world.v);
	while (world.nr_io)
		complete(0, 0);
	world.v->device.fd = 3;
	if (!queue_attach(world.v, world.ring, fresh))
		return;
	memset(world.ring, 0, sizeof(world.ring));
	assert(!queue_attach(world.v, world.ring, true));
}

static void put_slot(void)
{
	blkif_sring_t *ring = (blkif_sring_t *)world.ring;
	blkif_request_t r = {.operation = (uint8_t)(take(1) % 8), .nr_segments = (uint8_t)take(1), .id = take(1),
			     .sector_number = take(2)};

	for (int i = 0; i < BLKIF_MAX_SEGMENTS_PER_REQUEST && i < r.nr_segments; i++)
		r.seg[i] = (struct blkif_request_segment){take(1), (uint8_t)(take(1) % 9), (uint8_t)(take(1) % 9)};
	memcpy(&ring->ring[ring->req_prod++ % 32].req, &r, sizeof(r));
}

static void step(enum op op)
{
	struct vbd *v = world.v;
	uint32_t f;

	switch (op) {
	case OP_BYTES:
		scribble(world.ring);
		break;
	case OP_PUBLISH:
		v->ring.sring->req_prod = v->ring.rsp_prod_pvt + take(1) % 34;
		break;
	case OP_SLOT:
		put_slot();
		break;
	case OP_RUN:
		if (queue_run(v) < 0)
			again(true);
		assert(v->ring.req_cons - v->ring.rsp_prod_pvt <= RING_SIZE(&v->ring));
		assert(v->in_flight_bytes <= BLOCK_IN_FLIGHT_BYTES_MAX);
		break;
	case OP_COMPLETE:
		f = take(1);
		complete(f >> 1, f & 1 ? -EIO : 0);
		break;
	case OP_AGAIN:
		again(take(1) & 1);
		break;
	case OP_LIMITS:
		f = take(1);
		world.bad_copies = f & 1;
		if (world.nr_io)
			break;
		again(true);
		v->readonly = f & 2;
		v->device.can_discard = f & 4;
		v->device.sector_bytes = f & 8 ? 4096 : 512;
		break;
	case OP_NR:
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	memset(&world, 0, sizeof(world));
	program.at = data;
	program.left = size;
	world.bb = calloc(1, sizeof(*world.bb));
	world.v = &world.bb->vbd[0];
	world.v->block = world.bb;
	world.v->wake = wake;
	world.v->mark = &world.mark;
	world.v->ring_pages = 1;
	world.v->device = (struct device){.fd = 3, .bytes = DISK_BYTES, .sector_bytes = 512, .can_discard = true};
	world.bb->config.guest = "hostile";
	again(true);
	while (program.left)
		step((enum op)(take(1) % OP_NR));
	queue_detach(world.v);
	while (world.nr_io)
		complete(0, 0);
	free(world.bb);
	return 0;
}
