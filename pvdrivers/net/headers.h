/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where things are in an Ethernet frame, as far as offloads need to know. All reads are bounded by
 * the frame. */
#ifndef PVDRIVERS_NET_HEADERS_H
#define PVDRIVERS_NET_HEADERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	ETHER_TYPE_IPV4 = 0x0800,
	ETHER_TYPE_ARP = 0x0806,
	ETHER_TYPE_RARP = 0x8035,
	ETHER_TYPE_IPV6 = 0x86dd
};
enum { ETHER_LEN = 14, MAC_LEN = 6, IPV4_LEN = 20, IPV6_LEN = 40 };
enum { IP_PROTO_ICMP = 1, IP_PROTO_TCP = 6, IP_PROTO_UDP = 17, IP_PROTO_ICMPV6 = 58 };

struct frame_l3 {
	uint16_t type; /* after VLAN tags, host order */
	size_t offset; /* of the network header */
};

struct frame_l4 {
	int version;	 /* 4 or 6 */
	uint8_t proto;	 /* TCP or UDP */
	size_t l3, l4;	 /* offsets of the headers */
	size_t l4_len;	 /* of the TCP or UDP header */
	size_t checksum; /* of the checksum field, relative to l4 */
};

static inline uint16_t get_be16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static inline void put_be16(uint8_t *at, uint16_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

/* -EPROTO: shorter than an Ethernet header (with its tags). */
int frame_l3(const uint8_t *frame, size_t len, struct frame_l3 *out);

/* -EPROTO: not an unfragmented TCP or UDP packet whose header is complete. */
int frame_l4(const uint8_t *frame, size_t len, struct frame_l4 *out);

/* One's complement sum, not folded; `sum` carries on. RFC 1071. */
uint32_t checksum_add(uint32_t sum, const void *data, size_t len);
uint16_t checksum_fold(uint32_t sum); /* host order, not inverted */

/* Sum of the pseudo header (RFC 793, RFC 8200 §8.1). `addresses`: source and destination, next to
 * each other. */
uint32_t checksum_pseudo(int version, const uint8_t *addresses, uint8_t proto, uint32_t l4_bytes);

/* Puts the sum of the pseudo header into the checksum field, as offloading senders do. */
void frame_put_pseudo(uint8_t *frame, size_t len, const struct frame_l4 *f);

/* Completes an offloaded checksum: from `start` to the end, stored `offset` behind start. -EPROTO:
 * beyond the frame. */
int frame_complete_checksum(uint8_t *frame, size_t len, size_t start, size_t offset);

#endif
