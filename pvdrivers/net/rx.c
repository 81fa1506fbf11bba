/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the guest receives: frames are read from the TAP only while the ring has room, many of them
 * are copied by one ioctl, and the requests they used are answered in order. A frame that needs
 * more slots than there are waits outside the ring.
 */
#include "common/log.h"
#include "pvdrivers/evtchn.h"
#include "pvdrivers/net/headers.h"
#include "pvdrivers/net/vif.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

struct rx_frame {
	uint8_t *data;	/* the virtio-net header, then the frame */
	uint32_t bytes; /* of the frame alone */
	uint16_t slots; /* requests used, with the extra info */
	uint16_t segment, segments;
	uint8_t gso_type; /* XEN_NETIF_GSO_TYPE_* */
	uint16_t gso_size, flags;
};

struct rx_batch {
	unsigned int frames, segments;
	size_t used;
	struct rx_frame frame[RX_BATCH_FRAMES];
	struct grant_segment segment[GRANT_SEGMENTS_MAX];
	int16_t status[GRANT_SEGMENTS_MAX];
	uint8_t data[RX_BATCH_BYTES + RX_FRAME_MAX];
};

struct rx_batch *rx_batch_new(void)
{
	return calloc(1, sizeof(struct rx_batch));
}

void rx_drop_waiting(struct vif *v)
{
	if (v->waiting)
		v->stats.rx_dropped++;
	free(v->waiting);
	v->waiting = NULL;
	v->waiting_len = v->waiting_slots = 0;
	while (v->replay) {
		struct replay *r = v->replay;

		DL_DELETE(v->replay, r);
		v->stats.rx_dropped++;
		free(r);
	}
}

static int replay_add(struct vif *v, const void *data, size_t len)
{
	struct replay *r = malloc(sizeof(*r) + len);

	if (!r)
		return -ENOMEM;
	r->len = (uint32_t)len;
	memcpy(r->data, data, len);
	DL_APPEND(v->replay, r);
	return 0;
}

void netback_set_input(struct netback *nb, netback_input *fn, void *arg)
{
	nb->input = fn;
	nb->input_arg = arg;
}

int netback_replay(struct netback *nb, uint32_t devid, const void *data, size_t len)
{
	if (len < NETBACK_INPUT_BYTES_MIN || len > NETBACK_INPUT_BYTES_MAX)
		return -EINVAL;
	FOR_EACH_VIF(nb, v)
	{
		if (v->attached && v->devid == devid)
			return replay_add(v, data, len);
	}
	return -ENODEV;
}

static int rx_offloads(const struct vif *v, const struct virtio_net_hdr *h, struct rx_frame *f)
{
	uint8_t *frame = f->data + VNET_LEN;
	struct frame_l3 l3;

	switch (h->gso_type) {
	case VIRTIO_NET_HDR_GSO_NONE:
		break;
	case VIRTIO_NET_HDR_GSO_TCPV4:
		f->gso_type = XEN_NETIF_GSO_TYPE_TCPV4;
		break;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		f->gso_type = XEN_NETIF_GSO_TYPE_TCPV6;
		break;
	default:
		return -EPROTO;
	}
	f->gso_size = h->gso_size;
	if (h->flags & VIRTIO_NET_HDR_F_DATA_VALID)
		f->flags |= NETRXF_data_validated;
	if (!(h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
		return f->gso_type ? -EPROTO : 0;

	/* A TAP has one switch for both versions of IP, a front end has two. */
	if (!v->features.checksum_v6 && !f->gso_type && !frame_l3(frame, f->bytes, &l3) &&
	    l3.type == ETHER_TYPE_IPV6) {
		f->data[offsetof(struct virtio_net_hdr, flags)] = 0;
		return frame_complete_checksum(frame, f->bytes, h->csum_start, h->csum_offset);
	}
	f->flags |= NETRXF_csum_blank | NETRXF_data_validated;
	return 0;
}

/* Describes the frame of `len` bytes at `data`. -EPROTO: one that this front end cannot take. */
static int rx_describe(const struct vif *v, uint8_t *data, size_t len, struct rx_frame *f)
{
	struct virtio_net_hdr h;
	int rc;

	if (len < VNET_LEN + ETHER_LEN)
		return -EPROTO;
	*f = (struct rx_frame){.data = data, .bytes = (uint32_t)(len - VNET_LEN)};
	memcpy(&h, data, sizeof(h));
	rc = rx_offloads(v, &h, f);
	if (rc)
		return rc;
	f->segments = (uint16_t)((f->bytes + RING_PAGE_SIZE - 1) / RING_PAGE_SIZE);
	f->slots = (uint16_t)(f->segments + (f->gso_type != 0));
	if (f->segments > 1 && !v->features.sg)
		return -EPROTO;
	return 0;
}

/*
 * A predecessor that was killed may have left an extra info in a request's place, which then reads as a reference of 1 or 2.
 * The first references are the toolstack's, for the console and xenstore: nothing may be written there, so none that can fail.
 */
static uint32_t rx_grant(const netif_rx_request_t *request)
{
	return request->gref < GNTTAB_NR_RESERVED_ENTRIES ? UINT32_MAX : request->gref;
}

/* Takes the requests of the frame out of the ring; the second one's place is the extra info's. */
static void rx_assign(struct vif *v, struct rx_batch *b, struct rx_frame *f)
{
	uint32_t done = 0;

	f->segment = (uint16_t)b->segments;
	for (unsigned int i = 0; i < f->slots; i++) {
		netif_rx_request_t request;
		uint32_t len = f->bytes - done;

		RING_COPY_REQUEST(&v->rx, v->rx.req_cons++, &request);
		if (f->gso_type && i == 1)
			continue;
		if (len > RING_PAGE_SIZE)
			len = RING_PAGE_SIZE;
		b->segment[b->segments++] =
			(struct grant_segment){.local = f->data + VNET_LEN + done,
					       .ref = rx_grant(&request),
					       .len = (uint16_t)len};
		done += len;
	}
}

static int rx_keep_waiting(struct vif *v, const uint8_t *data, size_t len, unsigned int slots)
{
	v->waiting = malloc(len);
	if (!v->waiting)
		return -ENOMEM;
	memcpy(v->waiting, data, len);
	v->waiting_len = (uint32_t)len;
	v->waiting_slots = slots;
	return 0;
}

static ssize_t rx_next_replay(struct vif *v, uint8_t *to)
{
	struct replay *r = v->replay;
	ssize_t len = r->len;

	memcpy(to, r->data, r->len);
	DL_DELETE(v->replay, r);
	free(r);
	return len;
}

/* The next frame, at `to`: the one that waits, or one to be replayed, or one from the TAP. Bytes or -errno. */
static ssize_t rx_next(struct vif *v, uint8_t *to)
{
	ssize_t len = v->waiting_len;

	if (!v->waiting && v->replay)
		return rx_next_replay(v, to);
	if (!v->waiting)
		return tap_read(v->tap, to, RX_FRAME_MAX);
	memcpy(to, v->waiting, v->waiting_len);
	free(v->waiting);
	v->waiting = NULL;
	v->waiting_len = v->waiting_slots = 0;
	return len;
}

/* Fills the batch while there are frames and room. 1: the batch is full; 0: no frame; -EAGAIN: no
 * room; another -errno: hostile. */
static int rx_collect(struct vif *v, struct rx_batch *b)
{
	int room = ring_unconsumed(&v->rx);

	b->frames = b->segments = 0;
	b->used = 0;
	if (room < 0) {
		log_warn(v->netback->config.guest, "%s: rx ring: impossible number of requests",
			 v->name);
		return -EPROTO;
	}
	while (b->frames < RX_BATCH_FRAMES && b->used < RX_BATCH_BYTES) {
		struct rx_frame *f = &b->frame[b->frames];
		uint8_t *data = b->data + b->used;
		ssize_t len;

		if (room < 1 || (v->waiting && (unsigned int)room < v->waiting_slots))
			return -EAGAIN;
		len = rx_next(v, data);
		if (len < 0) {
			vif_tap_failed(v, (int)len);
			return 0;
		}
		if (rx_describe(v, data, (size_t)len, f)) {
			v->stats.rx_dropped++;
			continue;
		}
		if (f->slots > room) {
			if (rx_keep_waiting(v, data, (size_t)len, f->slots))
				v->stats.rx_dropped++;
			continue;
		}
		rx_assign(v, b, f);
		room -= f->slots;
		b->used += (size_t)len;
		b->frames++;
	}
	return 1;
}

static void rx_answer_extra(struct vif *v, const struct rx_frame *f)
{
	struct netif_extra_info extra = {
		.type = XEN_NETIF_EXTRA_TYPE_GSO,
		.u.gso = {.size = f->gso_size, .type = f->gso_type},
	};

	memcpy(RING_GET_RESPONSE(&v->rx, v->rx.rsp_prod_pvt++), &extra,
	       sizeof(netif_rx_response_t));
}

static void rx_tell(struct vif *v, const struct rx_frame *f)
{
	size_t len = VNET_LEN + f->bytes;

	if (v->netback->input && len >= NETBACK_INPUT_BYTES_MIN && len <= NETBACK_INPUT_BYTES_MAX)
		v->netback->input(v->netback->input_arg, v->devid, f->data, len);
}

static void rx_answer(struct vif *v, const struct rx_batch *b, const struct rx_frame *f)
{
	bool ok = true;

	for (unsigned int i = 0; i < f->segments; i++) {
		RING_IDX at = v->rx.rsp_prod_pvt++;
		netif_rx_request_t request;
		netif_rx_response_t answer = {0};

		RING_COPY_REQUEST(&v->rx, at, &request);
		answer.id = request.id;
		answer.flags = i ? 0 : f->flags | (f->gso_type ? NETRXF_extra_info : 0);
		if (i + 1u < f->segments)
			answer.flags |= NETRXF_more_data;
		answer.status = (int16_t)b->segment[f->segment + i].len;
		if (b->status[f->segment + i]) {
			answer.status = NETIF_RSP_ERROR;
			ok = false;
		}
		*RING_GET_RESPONSE(&v->rx, at) = answer;
		if (!i && f->gso_type)
			rx_answer_extra(v, f);
	}
	if (ok) {
		v->stats.rx_packets++;
		v->stats.rx_bytes += f->bytes;
		rx_tell(v, f);
	} else {
		v->stats.rx_dropped++;
	}
}

static void rx_deliver(struct vif *v, struct rx_batch *b)
{
	int notify, rc;

	rc = grant_copy(v->netback->grant, GRANT_WRITE, b->segment, b->status, b->segments);
	if (rc) {
		log_err(v->netback->config.guest, "%s: rx: grant copy: %s", v->name, strerror(-rc));
		for (unsigned int i = 0; i < b->segments; i++)
			b->status[i] = GNTST_general_error;
	}
	for (unsigned int i = 0; i < b->frames; i++)
		rx_answer(v, b, &b->frame[i]);
	RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(&v->rx, notify);
	if (notify)
		evtchn_notify(v->port);
}

/* No room: asks for an event, and looks once more because the requests may have come before the
 * question. */
static int rx_expect_room(struct vif *v)
{
	int need = v->waiting ? (int)v->waiting_slots : 1, room;

	ring_expect(&v->rx, (RING_IDX)need);
	room = ring_unconsumed(&v->rx);
	if (room < 0)
		return -EPROTO;
	return room >= need ? 1 : -EAGAIN;
}

int rx_run(struct vif *v, unsigned int batches)
{
	struct rx_batch *b = v->netback->rx_batch;
	int rc = 1;

	for (unsigned int n = 0; n < batches && rc == 1; n++) {
		rc = rx_collect(v, b);
		if (b->frames)
			rx_deliver(v, b);
		if (rc == -EAGAIN)
			rc = rx_expect_room(v);
	}
	return rc;
}
