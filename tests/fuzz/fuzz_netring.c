// sources: pvdrivers/net/tx.c pvdrivers/net/rx.c pvdrivers/net/flows.c pvdrivers/net/headers.c pvdrivers/net/addresses.c netbuf/netbuf.c common/buf.c common/log.c common/fault.c
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hostile front end. The input is a program: it writes anything anywhere into the two ring pages, moves producers, feeds the TAP,
 * runs the back end, and changes pages while the back end is between two of its steps (in the copy and in the
 * notification). Grant copy, event channel and TAP are the seam; all that is above them is the product.
 */
#include "common/buf.h"
#include "common/log.h"
#include "pvdrivers/evtchn.h"
#include "pvdrivers/net/headers.h"
#include "pvdrivers/net/vif.h"
#include "tests/fuzz/program.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum op { OP_TX_BYTES, OP_RX_BYTES, OP_TX_PUBLISH, OP_RX_PUBLISH, OP_TX_SLOT, OP_TX_RUN, OP_RX_RUN, OP_FEED, OP_HOLD,
	  OP_COMMIT, OP_FEATURES, OP_NR };

enum { LIMIT_BYTES = 512 << 10 };

static struct {
	uint8_t tx[RING_PAGE_SIZE] __attribute__((aligned(64)));
	uint8_t rx[RING_PAGE_SIZE] __attribute__((aligned(64)));
	uint8_t frame[RX_FRAME_MAX];
	uint32_t frame_len, frames;
	bool bad_copies;
	uint64_t epoch;
	struct netback *nb;
	struct vif *v;
} world;

static void interfere(void)
{
	uint32_t what = take(1);

	if (what & 1)
		scribble(world.tx);
	if (what & 2)
		scribble(world.rx);
	world.bad_copies = what & 4;
}

int grant_copy(struct grant *g, enum grant_direction direction, const struct grant_segment *segments,
	       int16_t *status, unsigned int nr)
{
	static volatile uint8_t sink;	/* keeps the reads */

	assert(nr <= GRANT_SEGMENTS_MAX);
	for (unsigned int i = 0; i < nr; i++) {
		const struct grant_segment *s = &segments[i];

		assert(s->offset + s->len <= RING_PAGE_SIZE);
		status[i] = world.bad_copies && s->ref % 3 == 0 ? GNTST_bad_gntref : GNTST_okay;
		if (direction == GRANT_READ)
			for (unsigned int k = 0; k < s->len; k++)
				((uint8_t *)s->local)[k] = k < 128 ? (uint8_t)take(1) : (uint8_t)k;
		else
			for (unsigned int k = 0; k < s->len; k++)
				sink = sink ^ ((uint8_t *)s->local)[k];
	}
	interfere();
	return world.bad_copies && nr && segments[0].ref == 7 ? -EFAULT : 0;
}

int evtchn_notify(struct evtchn_port *p)
{
	interfere();
	return 0;
}

void vif_tap_failed(struct vif *v, int error)
{
	assert(error == -EAGAIN);
}

ssize_t tap_read(int fd, void *frame, size_t size)
{
	if (!world.frames)
		return -EAGAIN;
	world.frames--;
	assert(world.frame_len <= size);
	memcpy(frame, world.frame, world.frame_len);
	return world.frame_len;
}

/* What the kernel would refuse must not get there. */
int tap_write(int fd, const void *data, size_t len)
{
	struct virtio_net_hdr h;

	assert(len >= VNET_LEN + ETHER_LEN);
	memcpy(&h, data, sizeof(h));
	len -= VNET_LEN;
	assert(h.hdr_len <= len);
	if (h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
		assert((size_t)h.csum_start + h.csum_offset + 2 <= len);
	if (h.gso_type)
		assert(h.gso_size && h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM);
	return 0;
}

static void emit(void *arg, struct packet *p)
{
	tx_emit(p->out, p);
}

static void pressure(void *arg, bool full)
{
	world.nb->full = full;
}

/* What the vif's life cycle does after a failure, once the front end has started over. */
static void attach(void)
{
	struct vif *v = world.v;

	if (ring_attach(&v->tx, (netif_tx_sring_t *)world.tx)) {
		memset(world.tx, 0, RING_PAGE_SIZE);
		assert(!ring_attach(&v->tx, (netif_tx_sring_t *)world.tx));
	}
	if (ring_attach(&v->rx, (netif_rx_sring_t *)world.rx)) {
		memset(world.rx, 0, RING_PAGE_SIZE);
		assert(!ring_attach(&v->rx, (netif_rx_sring_t *)world.rx));
	}
	v->tx_doubtful = v->tx.sring->req_prod;
	rx_drop_waiting(v);
}

static void check(int rc)
{
	const struct vif *v = world.v;

	assert(v->tx.req_cons == v->tx.rsp_prod_pvt || rc < 0);
	assert(v->rx.req_cons == v->rx.rsp_prod_pvt || rc < 0);
	if (rc < 0 && rc != -EAGAIN)
		attach();
}

static void feed(void)
{
	struct virtio_net_hdr h = {
		.flags = (uint8_t)take(1), .gso_type = (uint8_t)take(1), .hdr_len = (uint16_t)take(1),
		.gso_size = (uint16_t)take(2), .csum_start = (uint16_t)take(1), .csum_offset = (uint16_t)take(1)};

	world.frame_len = take(2) + take(1);
	if (world.frame_len > RX_FRAME_MAX)
		world.frame_len = RX_FRAME_MAX;
	world.frames = take(1) % 40;
	memcpy(world.frame, &h, sizeof(h));
	for (uint32_t i = 0; i < 40; i++)
		world.frame[VNET_LEN + i] = (uint8_t)take(1);
}

/* A request that is nearly right, so that the deep end is reached. */
static void put_slot(void)
{
	netif_tx_sring_t *ring = (netif_tx_sring_t *)world.tx;
	netif_tx_request_t r = {.gref = take(1), .offset = (uint16_t)take(1), .flags = (uint16_t)(take(1) & 15),
				.id = (uint16_t)take(1), .size = (uint16_t)take(2)};
	uint32_t slot = ring->req_prod++ % NET_RING_SLOTS;

	memcpy(&ring->ring[slot].req, &r, sizeof(r));
}

static void step(enum op op)
{
	struct vif *v = world.v;
	uint32_t f;

	switch (op) {
	case OP_TX_BYTES:
		scribble(world.tx);
		break;
	case OP_RX_BYTES:
		scribble(world.rx);
		break;
	case OP_TX_PUBLISH:
		v->tx.sring->req_prod = v->tx.rsp_prod_pvt + take(2) % (NET_RING_SLOTS + 2);
		break;
	case OP_RX_PUBLISH:
		v->rx.sring->req_prod = v->rx.rsp_prod_pvt + take(2) % (NET_RING_SLOTS + 2);
		break;
	case OP_TX_SLOT:
		put_slot();
		break;
	case OP_TX_RUN:
		check(tx_run(v, TX_TURN_BATCHES));
		break;
	case OP_RX_RUN:
		check(rx_run(v, RX_TURN_BATCHES));
		break;
	case OP_FEED:
		feed();
		break;
	case OP_HOLD:
		netbuf_hold(world.nb->config.netbuf);
		break;
	case OP_COMMIT:
		assert(!netbuf_close(world.nb->config.netbuf, ++world.epoch));
		assert(!netbuf_release(world.nb->config.netbuf, world.epoch));
		break;
	case OP_FEATURES:
		f = take(1);
		v->features = (struct vif_features){f & 1, f & 2, f & 4, f & 8, f & 16};
		break;
	case OP_NR:
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct netbuf_ops ops = {.emit = emit, .pressure = pressure};
	struct netbuf_stats s;

	log_open("fuzz", LOG_ERR);
	memset(&world, 0, sizeof(world));
	program.at = data;
	program.left = size;
	world.nb = calloc(1, sizeof(*world.nb));
	world.v = &world.nb->vif[0];
	world.v->netback = world.nb;
	world.v->features = (struct vif_features){true, true, true, true, true};
	world.nb->config.guest = "hostile";
	world.nb->tx_batch = tx_batch_new();
	world.nb->rx_batch = rx_batch_new();
	if (netbuf_new(LIMIT_BYTES, &ops, NULL, &world.nb->config.netbuf))
		abort();
	attach();
	while (program.left)
		step(take(1) % OP_NR);

	netbuf_pass(world.nb->config.netbuf);
	netbuf_stats(world.nb->config.netbuf, &s);
	assert(!s.held_bytes && !s.held_packets && s.peak_bytes < LIMIT_BYTES + 4 * TX_BATCH_BYTES);
	rx_drop_waiting(world.v);
	netbuf_free(world.nb->config.netbuf);
	free(world.nb->tx_batch);
	free(world.nb->rx_batch);
	free(world.nb);
	return 0;
}
