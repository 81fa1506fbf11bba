/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Output commit: frames that a guest sent wait in the queue of their epoch until the backup has committed it (I1).
 * The kind of frame does not matter. One netbuf per guest; single threaded.
 */
#ifndef NETBUF_NETBUF_H
#define NETBUF_NETBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PACKET_FRAME_MAX = 65550 };

/* A frame and the virtio-net header that goes with it to the TAP. `out` names the vif it leaves by. */
struct packet {
	struct packet *next;
	void *out;
	uint64_t epoch;
	uint32_t len;			/* bytes of data[] used: virtio_net_hdr_v1-less header + frame */
	uint32_t size;
	uint8_t data[];
};

struct packet *packet_new(uint32_t size);
void packet_free(struct packet *p);

struct netbuf_ops {
	/* Lets one frame out, in order; called by pass-through and release only. Owns `p` from here on. */
	void (*emit)(void *arg, struct packet *p);
	/* The limit was reached (full = true) or there is room again: stop or go on consuming the rings. */
	void (*pressure)(void *arg, bool full);
};

struct netbuf;

int netbuf_new(size_t limit_bytes, const struct netbuf_ops *ops, void *arg, struct netbuf **out);
void netbuf_set_limit(struct netbuf *nb, size_t limit_bytes);
void netbuf_free(struct netbuf *nb);		/* drops what is held */

/* Takes ownership. Passes through at once unless holding. Never drops: callers stop feeding while full. */
void netbuf_push(struct netbuf *nb, struct packet *p);

/* From now on frames are held; they belong to the open epoch. Idempotent. */
void netbuf_hold(struct netbuf *nb);

/* Looks at what is held by the open epoch, in order. */
void netbuf_look(const struct netbuf *nb, void (*fn)(void *arg, const struct packet *p), void *arg);

/* The open epoch becomes `epoch` (greater than every closed one, else -EINVAL); a new one opens. */
int netbuf_close(struct netbuf *nb, uint64_t epoch);

/* The backup has everything up to `epoch`: emits these frames in the order they were sent. Acknowledging an epoch that
 * was never closed is -EINVAL and emits nothing; the last acknowledgement may come twice. */
int netbuf_release(struct netbuf *nb, uint64_t epoch);

/* Protection has been dropped: emits all, passes through from now on. A later protection numbers its epochs anew. */
void netbuf_pass(struct netbuf *nb);

/* This incarnation of the guest must never be heard again: frees everything held, keeps holding. */
void netbuf_discard(struct netbuf *nb);

struct netbuf_stats {
	uint64_t held_packets, held_bytes, peak_bytes, released_packets, passed_packets, overflows;
	uint64_t oldest_epoch;			/* 0: nothing held by a closed epoch */
};
void netbuf_stats(const struct netbuf *nb, struct netbuf_stats *s);

#endif
