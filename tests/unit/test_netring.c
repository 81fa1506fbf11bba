/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rings of a network interface, seen from the front end: what is answered, in which order, what
 * reaches the wire and the guest, what ends the connection. Below the rings, where the hypervisor
 * and the kernel are, stand fakes.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pvdrivers/evtchn.h"
#include "pvdrivers/net/headers.h"
#include "pvdrivers/net/vif.h"

enum { PAGES = 64, WIRE_MAX = 512, LIMIT_BYTES = 1 << 20, TCP_FRAME = 14 + 20 + 20,
       RX_REFS = 1000 /* the grant of page 0 for writing */ };

static const uint8_t guest_mac[6] = {0x00, 0x16, 0x3e, 1, 2, 3};

/* One guest: its pages (a grant reference is a page's number), its rings, and the wire. */
static struct world {
	struct netback nb;
	struct vif *v;
	netif_tx_sring_t *tx;
	netif_rx_sring_t *rx;
	uint8_t page[PAGES][RING_PAGE_SIZE];
	uint8_t ring[2][RING_PAGE_SIZE] __attribute__((aligned(64)));
	struct packet *wire[WIRE_MAX];
	unsigned int on_wire, notified, copies;
	uint8_t in[WIRE_MAX][128];
	uint32_t in_len[WIRE_MAX];
	unsigned int in_first, in_nr;
	uint8_t big[RX_FRAME_MAX];
} * w;

int grant_copy(struct grant *g, enum grant_direction direction,
	       const struct grant_segment *segments, int16_t *status, unsigned int nr)
{
	w->copies++;
	for (unsigned int i = 0; i < nr; i++) {
		const struct grant_segment *s = &segments[i];
		uint32_t page = direction == GRANT_READ ? s->ref : s->ref - RX_REFS;

		assert_true(s->offset + s->len <= RING_PAGE_SIZE);
		status[i] = page < PAGES ? GNTST_okay : GNTST_bad_gntref;
		if (page >= PAGES)
			continue;
		if (direction == GRANT_READ)
			memcpy(s->local, w->page[page] + s->offset, s->len);
		else
			memcpy(w->page[page] + s->offset, s->local, s->len);
	}
	return 0;
}

int evtchn_notify(struct evtchn_port *p)
{
	w->notified++;
	return 0;
}

void vif_tap_failed(struct vif *v, int error)
{
	assert_int_equal(error, -EAGAIN);
}

ssize_t tap_read(int fd, void *frame, size_t size)
{
	unsigned int i = w->in_first;
	uint32_t len;

	if (!w->in_nr)
		return -EAGAIN;
	w->in_first++;
	w->in_nr--;
	len = w->in_len[i];
	memcpy(frame, len > sizeof(w->in[i]) ? w->big : w->in[i], len);
	return len;
}

int tap_write(int fd, const void *frame, size_t len)
{
	struct packet *p = packet_new((uint32_t)len);

	memcpy(p->data, frame, len);
	p->len = (uint32_t)len;
	w->wire[w->on_wire++] = p;
	return 0;
}

static void emit(void *arg, struct packet *p)
{
	tx_emit(p->out, p);
}

static void pressure(void *arg, bool full)
{
	w->nb.full = full;
}

static const struct netbuf_ops ops = {.emit = emit, .pressure = pressure};

static void attach(RING_IDX start)
{
	memset(w->ring, 0, sizeof(w->ring));
	w->tx->req_prod = w->tx->rsp_prod = w->rx->req_prod = w->rx->rsp_prod = start;
	w->tx->req_event = w->tx->rsp_event = w->rx->req_event = w->rx->rsp_event = start + 1;
	assert_int_equal(ring_attach(&w->v->tx, w->tx), 0);
	assert_int_equal(ring_attach(&w->v->rx, w->rx), 0);
	w->v->tx_doubtful = start;
}

static int begin(void **state)
{
	w = calloc(1, sizeof(*w));
	w->v = &w->nb.vif[0];
	w->v->netback = &w->nb;
	w->v->features = (struct vif_features){true, true, true, true, true};
	memcpy(w->v->mac, guest_mac, sizeof(guest_mac));
	w->tx = (netif_tx_sring_t *)w->ring[0];
	w->rx = (netif_rx_sring_t *)w->ring[1];
	w->nb.config.guest = "redis1";
	w->nb.tx_batch = tx_batch_new();
	w->nb.rx_batch = rx_batch_new();
	assert_int_equal(netbuf_new(LIMIT_BYTES, &ops, w, &w->nb.config.netbuf), 0);
	attach(UINT32_MAX - 3); /* the indexes wrap in most tests */
	return 0;
}

static int end(void **state)
{
	rx_drop_waiting(w->v);
	netbuf_free(w->nb.config.netbuf);
	for (unsigned int i = 0; i < w->on_wire; i++)
		packet_free(w->wire[i]);
	free(w->nb.tx_batch);
	free(w->nb.rx_batch);
	free(w);
	return 0;
}

/* --- tx --- */

static void put(uint16_t id, uint32_t gref, uint16_t offset, uint16_t size, uint16_t flags)
{
	netif_tx_request_t r = {
		.gref = gref, .offset = offset, .flags = flags, .id = id, .size = size};

	memcpy(&w->tx->ring[w->tx->req_prod++ % NET_RING_SLOTS].req, &r, sizeof(r));
}

static void put_extra(uint8_t type, uint8_t flags, uint16_t size, uint8_t gso_type)
{
	struct netif_extra_info e = {
		.type = type, .flags = flags, .u.gso = {.size = size, .type = gso_type}};

	memcpy(&w->tx->ring[w->tx->req_prod++ % NET_RING_SLOTS], &e, sizeof(e));
}

static void expect_answer(RING_IDX at, uint16_t id, int16_t status)
{
	const netif_tx_response_t *r = &w->tx->ring[at % NET_RING_SLOTS].rsp;

	assert_int_equal(r->status, status);
	if (status != NETIF_RSP_NULL)
		assert_int_equal(r->id, id);
}

/* TCP over IPv4 in page 1, `bytes` of payload in all pages behind it. */
static void put_tcp(uint8_t *frame)
{
	memset(frame, 0, TCP_FRAME);
	memcpy(frame + 6, guest_mac, 6);
	put_be16(frame + 12, ETHER_TYPE_IPV4);
	frame[14] = 0x45;
	frame[14 + 8] = 64;
	frame[14 + 9] = IP_PROTO_TCP;
	memcpy(frame + 14 + 12, (uint8_t[]){10, 77, 0, 11, 10, 77, 0, 3}, 8);
	frame[34 + 12] = 5 << 4;
}

static struct virtio_net_hdr header_of(unsigned int i)
{
	struct virtio_net_hdr h;

	assert_true(i < w->on_wire);
	memcpy(&h, w->wire[i]->data, sizeof(h));
	return h;
}

static void one_packet_is_answered_and_sent(void **state)
{
	RING_IDX start = w->tx->req_prod;

	memset(w->page[1], 0xab, 100);
	put(7, 1, 0, 100, 0);
	assert_int_equal(tx_run(w->v, 1), 0);
	assert_int_equal(w->tx->rsp_prod, start + 1);
	expect_answer(start, 7, NETIF_RSP_OKAY);
	assert_int_equal(w->on_wire, 1);
	assert_int_equal(w->wire[0]->len, VNET_LEN + 100);
	assert_memory_equal(w->wire[0]->data + VNET_LEN, w->page[1], 100);
	assert_int_equal(header_of(0).flags, 0);
	assert_int_equal(w->notified, 1);
	assert_int_equal(w->tx->req_event, start + 2);
}

static void first_slot_carries_the_total_size(void **state)
{
	RING_IDX start = w->tx->req_prod;

	for (int i = 1; i <= 3; i++)
		memset(w->page[i], i, RING_PAGE_SIZE);
	put(1, 1, 96, 4000 + 500 + 7, NETTXF_more_data);
	put(2, 2, 0, 500, NETTXF_more_data);
	put(3, 3, 4089, 7, 0);
	assert_int_equal(tx_run(w->v, 1), 0);
	for (uint16_t i = 0; i < 3; i++)
		expect_answer(start + i, (uint16_t)(i + 1), NETIF_RSP_OKAY);
	assert_int_equal(w->wire[0]->len, VNET_LEN + 4507);
	assert_int_equal(w->wire[0]->data[VNET_LEN + 3999], 1);
	assert_int_equal(w->wire[0]->data[VNET_LEN + 4000], 2);
	assert_int_equal(w->wire[0]->data[VNET_LEN + 4500], 3);
	assert_int_equal(w->copies, 1);
}

static void a_whole_ring_is_one_copy(void **state)
{
	RING_IDX start = w->tx->req_prod;

	for (uint16_t i = 0; i < NET_RING_SLOTS; i++) {
		w->page[i % PAGES][0] = (uint8_t)i;
		put(i, i % PAGES, 0, 60, 0);
	}
	assert_int_equal(tx_run(w->v, 1), 0);
	assert_int_equal(w->copies, 1);
	assert_int_equal(w->notified, 1);
	for (uint16_t i = 0; i < NET_RING_SLOTS; i++)
		expect_answer(start + i, i, NETIF_RSP_OKAY);
	assert_int_equal(w->on_wire, NET_RING_SLOTS);
}

static void segmentation_is_left_to_the_kernel(void **state)
{
	RING_IDX start = w->tx->req_prod;
	struct virtio_net_hdr h;

	put_tcp(w->page[1]);
	put(1, 1, 0, 8000,
	    NETTXF_csum_blank | NETTXF_data_validated | NETTXF_extra_info | NETTXF_more_data);
	put_extra(XEN_NETIF_EXTRA_TYPE_GSO, 0, 1448, XEN_NETIF_GSO_TYPE_TCPV4);
	put(2, 2, 0, 4000, 0);
	assert_int_equal(tx_run(w->v, 1), 0);
	expect_answer(start, 1, NETIF_RSP_OKAY);
	expect_answer(start + 1, 0, NETIF_RSP_NULL);
	expect_answer(start + 2, 2, NETIF_RSP_OKAY);
	h = header_of(0);
	assert_int_equal(h.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	assert_int_equal(h.gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
	assert_int_equal(h.gso_size, 1448);
	assert_int_equal(h.hdr_len, TCP_FRAME);
	assert_int_equal(h.csum_start, 34);
	assert_int_equal(h.csum_offset, 16);
}

static void a_blank_checksum_without_a_place_drops_the_frame(void **state)
{
	RING_IDX start = w->tx->req_prod;

	put(1, 1, 0, 60, NETTXF_csum_blank);
	assert_int_equal(tx_run(w->v, 1), 0);
	expect_answer(start, 1, NETIF_RSP_OKAY);
	assert_int_equal(w->on_wire, 0);
	assert_int_equal(w->v->stats.tx_dropped, 1);
}

static void bad_packets_are_refused_alone(void **state)
{
	RING_IDX start = w->tx->req_prod;

	put(1, 1, 0, 13, 0);		     /* shorter than Ethernet */
	put(2, PAGES + 1, 0, 60, 0);	     /* not granted */
	put(3, 1, 0, 100, NETTXF_more_data); /* fragments add up to more than the whole */
	put(4, 2, 0, 101, 0);
	put(5, 1, 0, 100, NETTXF_more_data); /* the second page is not granted */
	put(6, PAGES, 0, 50, 0);
	put(7, 1, 0, 60, 0); /* good */
	assert_int_equal(tx_run(w->v, 1), 0);
	for (uint16_t i = 0; i < 6; i++)
		expect_answer(start + i, (uint16_t)(i + 1), NETIF_RSP_ERROR);
	expect_answer(start + 6, 7, NETIF_RSP_OKAY);
	assert_int_equal(w->on_wire, 1);
	assert_int_equal(w->v->stats.tx_dropped, 4);
}

static void too_many_slots_are_refused_and_far_too_many_hostile(void **state)
{
	RING_IDX start = w->tx->req_prod;

	put(0, 1, 0, 1900, NETTXF_more_data);
	for (uint16_t i = 1; i <= 19; i++)
		put(i, 1, 0, 100, i < 19 ? NETTXF_more_data : 0);
	assert_int_equal(tx_run(w->v, 1), 0);
	for (uint16_t i = 0; i <= 19; i++)
		expect_answer(start + i, i, NETIF_RSP_ERROR);

	put(0, 1, 0, 1900, NETTXF_more_data);
	for (uint16_t i = 1; i <= 18; i++)
		put(i, 1, 0, 100, i < 18 ? NETTXF_more_data : 0);
	assert_int_equal(tx_run(w->v, 1), 0);
	assert_int_equal(w->on_wire, 1);

	for (uint16_t i = 0; i <= 21; i++)
		put(i, 1, 0, 4000, i < 21 ? NETTXF_more_data : 0);
	assert_int_equal(tx_run(w->v, 1), -EPROTO);
}

static void hostile_rings_end_the_connection(void **state)
{
	put(1, 1, 4000, 97, 0); /* crosses its page */
	assert_int_equal(tx_run(w->v, 1), -EPROTO);
	attach(0);
	put(1, 1, 0, 100, NETTXF_more_data); /* the rest is missing */
	assert_int_equal(tx_run(w->v, 1), -EPROTO);
	attach(0);
	put(1, 1, 0, 100, NETTXF_extra_info); /* the extra info is missing */
	assert_int_equal(tx_run(w->v, 1), -EPROTO);
	attach(0);
	put(1, 1, 0, 100, NETTXF_extra_info);
	put_extra(XEN_NETIF_EXTRA_TYPE_MAX, 0, 0, 0);
	assert_int_equal(tx_run(w->v, 1), -EPROTO);
	attach(0);
	put(1, 1, 0, 100, NETTXF_extra_info);
	put_extra(XEN_NETIF_EXTRA_TYPE_GSO, 0, 0, XEN_NETIF_GSO_TYPE_TCPV4);
	assert_int_equal(tx_run(w->v, 1), -EPROTO);
	attach(0);
	w->tx->req_prod = NET_RING_SLOTS + 1;
	assert_int_equal(tx_run(w->v, 1), -EPROTO);
	w->tx->req_prod = 0;
	w->rx->req_prod = NET_RING_SLOTS + 1;
	assert_int_equal(rx_run(w->v, 1), -EPROTO);
	assert_int_equal(ring_attach(&w->v->rx, w->rx), -EPROTO);
	assert_int_equal(w->on_wire, 0);
}

static void what_precedes_a_hostile_request_is_served(void **state)
{
	RING_IDX start = w->tx->req_prod;

	put(1, 1, 0, 100, 0);
	put(2, 1, 4000, 97, 0);
	assert_int_equal(tx_run(w->v, 1), -EPROTO);
	expect_answer(start, 1, NETIF_RSP_OKAY);
	assert_int_equal(w->tx->rsp_prod, start + 1);
	assert_int_equal(w->on_wire, 1);
}

static void a_full_netbuf_leaves_requests_in_the_ring(void **state)
{
	RING_IDX start;
	uint16_t id = 0;

	netbuf_hold(w->nb.config.netbuf);
	do {
		start = w->tx->req_prod;
		for (int i = 0; i < 64; i++)
			put(id++, 1, 0, 4096, 0);
		assert_int_equal(tx_run(w->v, 1), 0);
		assert_true(id < 1024);
	} while (!w->nb.full);
	start = w->tx->req_prod;
	put(id, 1, 0, 100, 0);
	assert_int_equal(tx_run(w->v, 4), 0);
	assert_int_equal(w->tx->rsp_prod, start);
	assert_int_equal(w->on_wire, 0);

	netbuf_pass(w->nb.config.netbuf);
	assert_false(w->nb.full);
	assert_int_equal(tx_run(w->v, 1), 0);
	expect_answer(start, id, NETIF_RSP_OKAY);
	assert_int_equal(w->on_wire, id + 1);
}

static void a_successor_does_not_serve_what_was_answered(void **state)
{
	RING_IDX start = w->tx->req_prod;

	/* The predecessor died between writing two of three answers and publishing them. */
	put(40, 1, 0, 200, NETTXF_more_data);
	put(41, 2, 0, 100, 0);
	put(42, 3, 0, 77, 0);
	w->tx->ring[start % NET_RING_SLOTS].rsp = (netif_tx_response_t){40, NETIF_RSP_OKAY};
	w->tx->ring[(start + 1) % NET_RING_SLOTS].rsp = (netif_tx_response_t){41, NETIF_RSP_OKAY};
	w->v->tx_doubtful = w->tx->req_prod;
	assert_int_equal(tx_run(w->v, 1), 0);
	for (uint16_t i = 0; i < 3; i++)
		expect_answer(start + i, (uint16_t)(40 + i), NETIF_RSP_OKAY);
	assert_int_equal(w->on_wire, 1);
	assert_int_equal(w->wire[0]->len, VNET_LEN + 77);

	/* Published after the attachment: a reference may well equal the id. */
	put(5, 5, 0, 60, 0);
	assert_int_equal(tx_run(w->v, 1), 0);
	assert_int_equal(w->on_wire, 2);
}

/* --- rx --- */

static void offer(unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		RING_IDX at = w->rx->req_prod++;

		w->rx->ring[at % NET_RING_SLOTS].req = (netif_rx_request_t){
			.id = (uint16_t)(at % NET_RING_SLOTS), .gref = RX_REFS + at % PAGES};
	}
}

static void feed(const struct virtio_net_hdr *h, uint32_t bytes)
{
	unsigned int i = w->in_first + w->in_nr++;
	uint8_t *to = VNET_LEN + bytes > sizeof(w->in[i]) ? w->big : w->in[i];

	memcpy(to, h, sizeof(*h));
	for (uint32_t k = 0; k < bytes; k++)
		to[VNET_LEN + k] = (uint8_t)(k / 256 + i);
	w->in_len[i] = VNET_LEN + bytes;
}

static const struct virtio_net_hdr plain;

static const netif_rx_response_t *rx_answer_at(RING_IDX at)
{
	return &w->rx->ring[at % NET_RING_SLOTS].rsp;
}

static void frames_are_delivered_in_order(void **state)
{
	RING_IDX start = w->rx->req_prod;

	offer(10);
	for (int i = 0; i < 3; i++)
		feed(&plain, 60 + (uint32_t)i);
	assert_int_equal(rx_run(w->v, 1), 0);
	assert_int_equal(w->rx->rsp_prod, start + 3);
	for (uint16_t i = 0; i < 3; i++) {
		assert_int_equal(rx_answer_at(start + i)->id, (start + i) % NET_RING_SLOTS);
		assert_int_equal(rx_answer_at(start + i)->status, 60 + i);
		assert_int_equal(rx_answer_at(start + i)->flags, 0);
		assert_int_equal(w->page[(start + i) % PAGES][0], i);
	}
	assert_int_equal(w->copies, 1);
	assert_int_equal(w->notified, 1);
}

static void no_room_leaves_the_tap_alone_and_asks(void **state)
{
	feed(&plain, 60);
	assert_int_equal(rx_run(w->v, 1), -EAGAIN);
	assert_int_equal(w->in_nr, 1);
	assert_int_equal(w->rx->req_event, w->rx->req_prod + 1);
	offer(1);
	assert_int_equal(rx_run(w->v, 2), -EAGAIN);
	assert_int_equal(w->in_nr, 0);
	assert_int_equal(w->v->stats.rx_packets, 1);
}

static void a_large_frame_waits_for_its_slots(void **state)
{
	const struct virtio_net_hdr h = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
					 .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
					 .gso_size = 1448,
					 .csum_start = 34,
					 .csum_offset = 16};
	const struct netif_extra_info *extra;
	RING_IDX start = w->rx->req_prod;

	offer(3);
	feed(&h, 3 * 4096 - 10);
	feed(&plain, 60);
	assert_int_equal(rx_run(w->v, 4), -EAGAIN);
	assert_int_equal(w->in_nr, 1);
	assert_int_equal(w->rx->rsp_prod, start);
	assert_int_equal(w->rx->req_event, start + 4); /* three pages and the extra info */

	offer(2);
	assert_int_equal(rx_run(w->v, 4), -EAGAIN);
	assert_int_equal(w->rx->rsp_prod, start + 5);
	assert_int_equal(rx_answer_at(start)->flags, NETRXF_csum_blank | NETRXF_data_validated |
							     NETRXF_more_data | NETRXF_extra_info);
	assert_int_equal(rx_answer_at(start)->status, 4096);
	extra = (const void *)rx_answer_at(start + 1);
	assert_int_equal(extra->type, XEN_NETIF_EXTRA_TYPE_GSO);
	assert_int_equal(extra->flags, 0);
	assert_int_equal(extra->u.gso.size, 1448);
	assert_int_equal(extra->u.gso.type, XEN_NETIF_GSO_TYPE_TCPV4);
	assert_int_equal(rx_answer_at(start + 2)->flags, NETRXF_more_data);
	assert_int_equal(rx_answer_at(start + 3)->flags, 0);
	assert_int_equal(rx_answer_at(start + 3)->status, 4096 - 10);
	assert_int_equal(rx_answer_at(start + 4)->status, 60);
	assert_int_equal(w->page[(start + 3) % PAGES][0], 32);
}

static void a_page_that_is_not_granted_loses_one_frame(void **state)
{
	RING_IDX start = w->rx->req_prod;

	offer(3);
	w->rx->ring[start % NET_RING_SLOTS].req.gref = RX_REFS + PAGES + 5;
	/* What an extra info that a predecessor left there reads as: the toolstack's own grant. */
	w->rx->ring[(start + 1) % NET_RING_SLOTS].req.gref = 1;
	feed(&plain, 60);
	feed(&plain, 60);
	feed(&plain, 60);
	assert_int_equal(rx_run(w->v, 1), -EAGAIN);
	assert_int_equal(rx_answer_at(start)->status, NETIF_RSP_ERROR);
	assert_int_equal(rx_answer_at(start + 1)->status, NETIF_RSP_ERROR);
	assert_int_equal(rx_answer_at(start + 2)->status, 60);
	assert_int_equal(w->v->stats.rx_dropped, 2);
}

static void a_simple_front_end_gets_simple_frames(void **state)
{
	const struct virtio_net_hdr h = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 54, .csum_offset = 6};
	RING_IDX start = w->rx->req_prod;
	uint8_t *frame;

	w->v->features = (struct vif_features){.checksum_v4 = true};
	offer(4);
	feed(&plain, 5000); /* no scatter-gather: cannot be delivered */
	feed(&h, 70);	    /* UDP over IPv6: no checksum offload there */
	frame = w->in[1] + VNET_LEN;
	memset(frame, 0, 70);
	put_be16(frame + 12, ETHER_TYPE_IPV6);
	put_be16(frame + 62, 0x1234); /* as if they were all of the segment */
	assert_int_equal(rx_run(w->v, 1), 0);
	assert_int_equal(w->v->stats.rx_dropped, 1);
	assert_int_equal(rx_answer_at(start)->status, 70);
	assert_int_equal(rx_answer_at(start)->flags, 0);
	assert_int_equal(get_be16(w->page[start % PAGES] + 60), 0xffff - 0x1234);
}

static struct told {
	unsigned int nr;
	uint32_t devid;
	size_t len[8];
	uint8_t data[8][NETBACK_INPUT_BYTES_MAX];
} told;

static void tell(void *arg, uint32_t devid, const void *data, size_t len)
{
	assert_ptr_equal(arg, w);
	told.devid = devid;
	told.len[told.nr] = len;
	memcpy(told.data[told.nr++], data, len);
}

/* What the guest received is told: not what it could not take, nor what is long. Told elsewhere, it is received once more, first. */
static void what_was_received_can_be_received_again(void **state)
{
	static const int bytes[] = {60, 62, 63};
	RING_IDX start = w->rx->req_prod;

	memset(&told, 0, sizeof(told));
	w->v->devid = 5;
	w->v->attached = true;
	netback_set_input(&w->nb, tell, w);
	offer(8);
	w->rx->ring[(start + 1) % NET_RING_SLOTS].req.gref = RX_REFS + PAGES + 5;
	feed(&plain, 60);
	feed(&plain, 61); /* lost on its way into the guest */
	feed(&plain, 4000);
	feed(&plain, 62);
	assert_int_equal(rx_run(w->v, 1), 0);
	assert_int_equal(told.nr, 2);
	assert_int_equal(told.devid, 5);
	assert_int_equal(told.len[0], VNET_LEN + 60);
	assert_int_equal(told.len[1], VNET_LEN + 62);
	assert_int_equal(told.data[1][VNET_LEN], 3); /* its first byte: it was the fourth */

	netback_set_input(&w->nb, NULL, NULL);
	assert_int_equal(netback_replay(&w->nb, 6, told.data[0], told.len[0]), -ENODEV);
	assert_int_equal(netback_replay(&w->nb, 5, told.data[0], NETBACK_INPUT_BYTES_MIN - 1), -EINVAL);
	assert_int_equal(netback_replay(&w->nb, 5, told.data[0], NETBACK_INPUT_BYTES_MAX + 1), -EINVAL);
	feed(&plain, 63);
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(netback_replay(&w->nb, 5, told.data[i], told.len[i]), 0);
	assert_int_equal(rx_run(w->v, 1), 0);
	assert_int_equal(told.nr, 2);
	assert_int_equal(w->rx->rsp_prod, start + 7);
	for (RING_IDX i = 0; i < 3; i++)
		assert_int_equal(rx_answer_at(start + 4 + i)->status, bytes[i]);
	assert_int_equal(w->page[(start + 5) % PAGES][0], 3);
}

/* Without room they wait, and with the ring they go. */
static void what_is_to_be_received_again_waits_for_room(void **state)
{
	uint8_t frame[VNET_LEN + 60] = {0};

	w->v->attached = true;
	for (int i = 0; i < 3; i++)
		assert_int_equal(netback_replay(&w->nb, 0, frame, sizeof(frame)), 0);
	offer(1);
	assert_int_equal(rx_run(w->v, 2), -EAGAIN);
	assert_int_equal(w->v->stats.rx_packets, 1);
	offer(1);
	assert_int_equal(rx_run(w->v, 2), -EAGAIN);
	assert_int_equal(w->v->stats.rx_packets, 2);
	rx_drop_waiting(w->v);
	offer(2);
	assert_int_equal(rx_run(w->v, 2), 0);
	assert_int_equal(w->v->stats.rx_packets, 2);
	assert_int_equal(w->v->stats.rx_dropped, 1);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, begin, end)
	const struct CMUnitTest tests[] = {
		T(one_packet_is_answered_and_sent),
		T(first_slot_carries_the_total_size),
		T(a_whole_ring_is_one_copy),
		T(segmentation_is_left_to_the_kernel),
		T(a_blank_checksum_without_a_place_drops_the_frame),
		T(bad_packets_are_refused_alone),
		T(too_many_slots_are_refused_and_far_too_many_hostile),
		T(hostile_rings_end_the_connection),
		T(what_precedes_a_hostile_request_is_served),
		T(a_full_netbuf_leaves_requests_in_the_ring),
		T(a_successor_does_not_serve_what_was_answered),
		T(frames_are_delivered_in_order),
		T(no_room_leaves_the_tap_alone_and_asks),
		T(a_large_frame_waits_for_its_slots),
		T(a_page_that_is_not_granted_loses_one_frame),
		T(a_simple_front_end_gets_simple_frames),
		T(what_was_received_can_be_received_again),
		T(what_is_to_be_received_again_waits_for_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
