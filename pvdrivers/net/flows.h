/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The TCP connections that a vif's guest speaks on, learned from what it sends. After an activation
 * their other ends are nudged (announce_nudge()): they retransmit with a pause that doubled while
 * nobody answered, and would wait it out.
 */
#ifndef PVDRIVERS_NET_FLOWS_H
#define PVDRIVERS_NET_FLOWS_H

#include <stddef.h>
#include <stdint.h>

struct buf;

enum { FLOWS_MAX = 64 };

struct flow {
	uint8_t version;     /* 4, 6; 0: unused */
	uint8_t next_hop[6]; /* the MAC that the guest sends to */
	uint16_t local_port, remote_port;
	uint8_t local[16], remote[16]; /* version 4: the first four */
	uint32_t ack, ack_before; /* what the guest acknowledged last, and last before this epoch */
	uint64_t used;		  /* when it was last seen, in ticks */
};

struct flows {
	struct flow entry[FLOWS_MAX];
	uint64_t ticks;
};

/* Learns from one frame that the guest sent. The least recently seen makes room. */
void flows_learn(struct flows *f, const uint8_t mac[6], const uint8_t *frame, size_t len);

/* An epoch is captured: what is acknowledged from now on belongs to the next. */
void flows_close_epoch(struct flows *f);

unsigned int flows_count(const struct flows *f);

/* Their part of the net blob (docs/protocol.md). decode: `nr` entries from exactly nr *
 * FLOWS_ENTRY_BYTES; -EINVAL. `f` may be NULL. */
enum { FLOWS_ENTRY_BYTES = 52 };
int flows_encode(const struct flows *f, struct buf *out);
int flows_decode(struct flows *f, unsigned int nr, const uint8_t *blob);

#endif
