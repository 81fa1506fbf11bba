/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Frames that tell switches and neighbours where a guest is now. */
#ifndef PVDRIVERS_NET_ANNOUNCE_H
#define PVDRIVERS_NET_ANNOUNCE_H

#include "pvdrivers/net/addresses.h"

enum { ANNOUNCE_FRAME_MAX = 86 };

/* The announcement of one address: an ARP announcement (RFC 5227 §2.3) or an unsolicited neighbour
 * advertisement to all nodes (RFC 4861 §7.2.6). Returns the bytes of frame[] used. */
size_t announce_address(const struct address *a, const uint8_t mac[6],
			uint8_t frame[ANNOUNCE_FRAME_MAX]);

/* RARP (RFC 903), which tells switches where the MAC is when no address is known. */
size_t announce_mac(const uint8_t mac[6], uint8_t frame[ANNOUNCE_FRAME_MAX]);

#endif
