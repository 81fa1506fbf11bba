/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The network addresses a vif's guest speaks for, learned from what it sends: what has to be
 * announced after activation. */
#ifndef PVDRIVERS_NET_ADDRESSES_H
#define PVDRIVERS_NET_ADDRESSES_H

#include "pvdrivers/net/netback.h"

struct buf;

struct address {
	uint8_t version;   /* 4, 6; 0: unused */
	uint8_t router;	   /* version 6: it says so in its neighbour advertisements */
	uint8_t bytes[16]; /* version 4: the first four */
	uint64_t used;	   /* when it was last seen, in ticks */
};

struct addresses {
	struct address entry[NETBACK_ADDRESSES_MAX];
	uint64_t ticks;
};

/*
 * Learns from one frame: ARP sender, target of a neighbour advertisement, source of a neighbour
 * solicitation, source of IP packets that start here. A guest that routes sends other hosts'
 * addresses as well; these packets are recognized by a time to live that is not one a sender begins
 * with, and passed over.
 */
void addresses_learn(struct addresses *a, const uint8_t mac[6], const uint8_t *frame, size_t len);

unsigned int addresses_count(const struct addresses *a);

/* Their part of the net blob (docs/protocol.md). decode: `nr` entries from exactly nr * ADDRESSES_ENTRY_BYTES; -EINVAL. `a` may be NULL. */
enum { ADDRESSES_ENTRY_BYTES = 20 };
int addresses_encode(const struct addresses *a, struct buf *out);
int addresses_decode(struct addresses *a, unsigned int nr, const uint8_t *blob);

#endif
