/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Frames that tell switches, neighbours and clients that a guest is here now. */
#ifndef PVDRIVERS_NET_ANNOUNCE_H
#define PVDRIVERS_NET_ANNOUNCE_H

#include "pvdrivers/net/addresses.h"
#include "pvdrivers/net/flows.h"

enum { ANNOUNCE_FRAME_MAX = 110 };

/* The announcement of one address: an ARP announcement (RFC 5227 §2.3) or an unsolicited neighbour
 * advertisement to all nodes (RFC 4861 §7.2.6). Returns the bytes of frame[] used. */
size_t announce_address(const struct address *a, const uint8_t mac[6],
			uint8_t frame[ANNOUNCE_FRAME_MAX]);

/*
 * "Host unreachable" about the flow's segment that begins at `ack`, to its sender, the other end. A connection takes that as a soft
 * error; one that retransmits just this segment takes one doubling of its pause back, and sends at once if that makes
 * the time up (RFC 6069; Linux does it, others ignore the message). ICMP code 1 and ICMPv6 code 0, which are the ones that count.
 */
size_t announce_nudge(const struct flow *f, uint32_t ack, const uint8_t mac[6],
		      uint8_t frame[ANNOUNCE_FRAME_MAX]);

/* RARP (RFC 903), which tells switches where the MAC is when no address is known. */
size_t announce_mac(const uint8_t mac[6], uint8_t frame[ANNOUNCE_FRAME_MAX]);

#endif
