/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the guest sends: requests are copied from the ring, checked, their data fetched by one
 * batched grant copy, and answered in order before the frames go to the netbuf. What is an error of
 * one packet and what the end of the connection follows Linux' netback, which front ends are
 * written against.
 */
#include "common/log.h"
#include "pvdrivers/evtchn.h"
#include "pvdrivers/net/headers.h"
#include "pvdrivers/net/vif.h"

#include <stdlib.h>
#include <string.h>

enum {
	/* Slots behind the first: up to `served` are, up to `refused` are an error of the packet,
	   more are hostile. */
	TX_SLOTS_SERVED = XEN_NETIF_NR_SLOTS_MIN,
	TX_SLOTS_REFUSED = 20,
};

/* One packet as its requests describe it; a private copy. */
struct tx_request {
	netif_tx_request_t first;
	unsigned int slots, extras; /* requests used, extras among them */
	uint32_t total_bytes;
	int16_t status;
	bool answered; /* no data: a message to us, refused, or served by a predecessor */
	struct netif_extra_info gso; /* type 0: none */
};

struct tx_frame {
	struct packet *packet; /* NULL: answered without data */
	uint16_t slot, slots;  /* answers, in tx_batch.answer[] */
	uint16_t segment, segments;
	uint16_t flags;
	uint8_t gso_type;
	uint16_t gso_size;
};

struct tx_batch {
	unsigned int frames, slots, segments;
	size_t bytes;
	struct tx_frame frame[NET_RING_SLOTS];
	netif_tx_response_t answer[NET_RING_SLOTS];
	struct grant_segment segment[GRANT_SEGMENTS_MAX];
	int16_t status[GRANT_SEGMENTS_MAX];
};

_Static_assert((int)NET_RING_SLOTS <= (int)GRANT_SEGMENTS_MAX, "a full ring is one batch");
_Static_assert((int)VNET_LEN + XEN_NETIF_MAX_TX_SIZE <= (int)PACKET_FRAME_MAX,
	       "a packet holds any frame");

struct tx_batch *tx_batch_new(void)
{
	return calloc(1, sizeof(struct tx_batch));
}

static int tx_hostile(struct vif *v, const char *what, unsigned int value)
{
	log_warn(v->netback->config.guest, "%s: tx ring: %s (%u)", v->name, what, value);
	return -EPROTO;
}

static void tx_answer(struct tx_batch *b, uint16_t id, int16_t status)
{
	b->answer[b->slots++] = (netif_tx_response_t){.id = id, .status = status};
}

static void tx_segment(struct tx_batch *b, const netif_tx_request_t *r)
{
	b->segment[b->segments++] =
		(struct grant_segment){.ref = r->gref, .offset = r->offset, .len = r->size};
}

/* The extra infos behind the first request. Those we do not act upon are answered like the kernel's
 * back end does. */
static int tx_extras(struct vif *v, struct tx_request *r, RING_IDX at, unsigned int available)
{
	struct netif_extra_info extra;
	netif_tx_request_t raw;

	do {
		if (r->slots >= available)
			return tx_hostile(v, "an extra info is missing", r->slots);
		RING_COPY_REQUEST(&v->tx, at + r->slots, &raw);
		memcpy(&extra, &raw, sizeof(extra));
		if (!extra.type || extra.type >= XEN_NETIF_EXTRA_TYPE_MAX)
			return tx_hostile(v, "extra info of unknown type", extra.type);
		if (extra.type == XEN_NETIF_EXTRA_TYPE_GSO)
			r->gso = extra;
		/* Every multicast frame is delivered anyway: yes to all. */
		if (extra.type == XEN_NETIF_EXTRA_TYPE_MCAST_ADD ||
		    extra.type == XEN_NETIF_EXTRA_TYPE_MCAST_DEL)
			r->answered = true;
		r->slots++;
		r->extras++;
	} while (extra.flags & XEN_NETIF_EXTRA_FLAG_MORE);
	return 0;
}

/* The requests behind the first and its extras; afterwards first.size is that fragment's own. */
static int tx_fragments(struct vif *v, struct tx_request *r, RING_IDX at, unsigned int available,
			netif_tx_request_t *fragment)
{
	unsigned int nr = 0;
	uint16_t flags = r->first.flags;

	while (flags & NETTXF_more_data) {
		netif_tx_request_t *f = &fragment[nr];

		if (r->slots >= available)
			return tx_hostile(v, "a packet is not complete", r->slots);
		if (nr >= TX_SLOTS_REFUSED)
			return tx_hostile(v, "too many slots", nr);
		RING_COPY_REQUEST(&v->tx, at + r->slots, f);
		if (f->offset + f->size > RING_PAGE_SIZE)
			return tx_hostile(v, "a fragment crosses its page",
					  (unsigned int)f->offset + f->size);
		if (nr >= TX_SLOTS_SERVED || f->size > r->first.size)
			r->status = NETIF_RSP_ERROR;
		else
			r->first.size = (uint16_t)(r->first.size - f->size);
		flags = f->flags;
		nr++;
		r->slots++;
	}
	return (int)nr;
}

static int tx_check(struct vif *v, struct tx_request *r)
{
	if (r->status == NETIF_RSP_OKAY && r->total_bytes < ETHER_LEN)
		r->status = NETIF_RSP_ERROR;
	if (r->status != NETIF_RSP_OKAY)
		return 0;
	if (r->first.offset + r->first.size > RING_PAGE_SIZE)
		return tx_hostile(v, "the first fragment crosses its page",
				  (unsigned int)r->first.offset + r->first.size);
	if (!r->gso.type)
		return 0;
	if (!r->gso.u.gso.size)
		return tx_hostile(v, "a segment size of nothing", 0);
	if (r->gso.u.gso.type != XEN_NETIF_GSO_TYPE_TCPV4 &&
	    r->gso.u.gso.type != XEN_NETIF_GSO_TYPE_TCPV6)
		return tx_hostile(v, "unknown segmentation", r->gso.u.gso.type);
	return 0;
}

/* A predecessor's answer lies where the grant reference was: id and status OKAY. */
static bool answered_before(const struct vif *v, RING_IDX at, const netif_tx_request_t *first)
{
	return (int32_t)(v->tx_doubtful - at) > 0 && first->gref == first->id;
}

/* Answers every request of the packet in the order of the ring; fragments and extras have their own
 * slots. */
static void tx_answer_packet(struct tx_batch *b, const struct tx_request *r,
			     const netif_tx_request_t *fragment, unsigned int fragments)
{
	tx_answer(b, r->first.id, r->status);
	for (unsigned int i = 0; i < r->extras; i++)
		tx_answer(b, 0, NETIF_RSP_NULL);
	for (unsigned int i = 0; i < fragments; i++)
		tx_answer(b, fragment[i].id, r->status);
}

static int tx_fetch(struct tx_batch *b, const struct tx_request *r,
		    const netif_tx_request_t *fragment, unsigned int fragments, struct tx_frame *f)
{
	struct packet *p;
	uint8_t *to;

	p = packet_new(VNET_LEN + r->total_bytes);
	if (!p)
		return -ENOMEM;
	p->len = VNET_LEN + r->total_bytes;
	f->packet = p;
	f->segment = (uint16_t)b->segments;
	if (r->first.size)
		tx_segment(b, &r->first);
	for (unsigned int i = 0; i < fragments; i++)
		if (fragment[i].size)
			tx_segment(b, &fragment[i]);
	f->segments = (uint16_t)(b->segments - f->segment);

	to = p->data + VNET_LEN;
	for (unsigned int i = 0; i < f->segments; i++) {
		struct grant_segment *s = &b->segment[f->segment + i];

		s->local = to;
		to += s->len;
	}
	b->bytes += r->total_bytes;
	return 0;
}

/* Takes one packet from the ring into the batch. Requests used, or -errno: the connection ends. */
static int tx_take(struct vif *v, struct tx_batch *b, RING_IDX at, unsigned int available)
{
	netif_tx_request_t fragment[TX_SLOTS_REFUSED];
	struct tx_request r = {.slots = 1, .status = NETIF_RSP_OKAY};
	struct tx_frame *f = &b->frame[b->frames];
	int fragments = 0, rc;

	RING_COPY_REQUEST(&v->tx, at, &r.first);
	r.total_bytes = r.first.size;
	if (r.first.flags & NETTXF_extra_info) {
		rc = tx_extras(v, &r, at, available);
		if (rc)
			return rc;
	}
	if (!r.answered) {
		fragments = tx_fragments(v, &r, at, available, fragment);
		if (fragments < 0)
			return fragments;
		rc = tx_check(v, &r);
		if (rc)
			return rc;
		if (answered_before(v, at, &r.first))
			r.answered = true;
	}

	*f = (struct tx_frame){
		.slot = (uint16_t)b->slots, .slots = (uint16_t)r.slots, .flags = r.first.flags};
	if (r.gso.type) {
		f->gso_type = r.gso.u.gso.type;
		f->gso_size = r.gso.u.gso.size;
	}
	if (!r.answered && r.status == NETIF_RSP_OKAY &&
	    tx_fetch(b, &r, fragment, (unsigned int)fragments, f))
		r.status = NETIF_RSP_DROPPED;
	if (r.status != NETIF_RSP_OKAY)
		v->stats.tx_dropped++;
	tx_answer_packet(b, &r, fragment, (unsigned int)fragments);
	b->frames++;
	return (int)r.slots;
}

/* Fills the batch. 0, or -errno: what is in it is still to be served. */
static int tx_collect(struct vif *v, struct tx_batch *b)
{
	int available = ring_unconsumed(&v->tx), used;

	b->frames = b->slots = b->segments = 0;
	b->bytes = 0;
	if (available < 0)
		return tx_hostile(v, "impossible number of requests",
				  v->tx.sring->req_prod - v->tx.req_cons);
	while (available > 0 && b->bytes < TX_BATCH_BYTES) {
		used = tx_take(v, b, v->tx.req_cons, (unsigned int)available);
		if (used < 0)
			return used;
		v->tx.req_cons += (RING_IDX)used;
		available -= used;
	}
	return 0;
}

static void tx_refuse(struct vif *v, struct tx_batch *b, struct tx_frame *f)
{
	for (unsigned int i = 0; i < f->slots; i++)
		if (b->answer[f->slot + i].status != NETIF_RSP_NULL)
			b->answer[f->slot + i].status = NETIF_RSP_ERROR;
	packet_free(f->packet);
	f->packet = NULL;
	v->stats.tx_dropped++;
}

static void tx_copy(struct vif *v, struct tx_batch *b)
{
	int rc;

	rc = grant_copy(v->netback->grant, GRANT_READ, b->segment, b->status, b->segments);
	if (rc)
		log_err(v->netback->config.guest, "%s: tx: grant copy: %s", v->name, strerror(-rc));
	for (unsigned int i = 0; i < b->frames; i++) {
		struct tx_frame *f = &b->frame[i];
		bool ok = !rc;

		for (unsigned int s = 0; s < f->segments && ok; s++)
			ok = b->status[f->segment + s] == 0;
		if (f->packet && !ok)
			tx_refuse(v, b, f);
	}
}

/* The answers go out with one step of rsp_prod: whoever attaches later sees a packet answered as a
 * whole or not at all. */
static void tx_respond(struct vif *v, const struct tx_batch *b)
{
	int notify;

	for (unsigned int i = 0; i < b->slots; i++) {
		netif_tx_response_t *to = RING_GET_RESPONSE(&v->tx, v->tx.rsp_prod_pvt++);

		/* An extra info has no id to give back, and its bytes may be looked at again. */
		if (b->answer[i].status != NETIF_RSP_NULL)
			to->id = b->answer[i].id;
		to->status = b->answer[i].status;
	}
	RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(&v->tx, notify);
	if (notify)
		evtchn_notify(v->port);
}

/* Turns the request's flags into the header of the TAP. -EPROTO: a frame whose offloads make no
 * sense, to be dropped. */
static int tx_header(const struct tx_frame *f)
{
	struct virtio_net_hdr h = {0};
	uint8_t *frame = f->packet->data + VNET_LEN;
	size_t len = f->packet->len - VNET_LEN;
	struct frame_l4 l4;
	int rc;

	if (f->gso_type || f->flags & NETTXF_csum_blank) {
		rc = frame_l4(frame, len, &l4);
		if (rc)
			return rc;
		h.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		h.csum_start = (uint16_t)l4.l4;
		h.csum_offset = (uint16_t)l4.checksum;
	}
	if (f->gso_type) {
		int version = f->gso_type == XEN_NETIF_GSO_TYPE_TCPV4 ? 4 : 6;

		if (l4.proto != IP_PROTO_TCP || l4.version != version)
			return -EPROTO;
		if (!(f->flags & NETTXF_csum_blank))
			frame_put_pseudo(frame, len, &l4);
		h.gso_type = version == 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
		h.gso_size = f->gso_size;
		h.hdr_len = (uint16_t)(l4.l4 + l4.l4_len);
	}
	memcpy(f->packet->data, &h, sizeof(h));
	return 0;
}

static void tx_push(struct vif *v, struct tx_frame *f)
{
	struct packet *p = f->packet;
	size_t len = p->len - VNET_LEN;

	if (tx_header(f)) {
		v->stats.tx_dropped++;
		packet_free(p);
		return;
	}
	addresses_learn(&v->addresses, v->mac, p->data + VNET_LEN, len);
	flows_learn(&v->flows, v->mac, p->data + VNET_LEN, len);
	v->stats.tx_packets++;
	v->stats.tx_bytes += len;
	p->out = v;
	netbuf_push(v->netback->config.netbuf, p);
}

int tx_run(struct vif *v, unsigned int batches)
{
	struct tx_batch *b = v->netback->tx_batch;
	int more, rc;

	for (unsigned int n = 0; n < batches; n++) {
		/* Full: the requests stay where they are, and so does req_event; room makes the
		 * next turn. */
		if (v->netback->full)
			return 0;
		rc = tx_collect(v, b);
		if (b->slots) {
			tx_copy(v, b);
			tx_respond(v, b);
			for (unsigned int i = 0; i < b->frames; i++)
				if (b->frame[i].packet)
					tx_push(v, &b->frame[i]);
		}
		if (rc)
			return rc;
		RING_FINAL_CHECK_FOR_REQUESTS(&v->tx, more);
		if (!more)
			return 0;
	}
	return 1;
}

void tx_emit(struct vif *v, struct packet *p)
{
	if (v->tap < 0 || tap_write(v->tap, p->data, p->len))
		v->stats.tx_dropped++;
	packet_free(p);
}
