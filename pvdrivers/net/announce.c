/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pvdrivers/net/announce.h"
#include "pvdrivers/net/headers.h"

#include <string.h>

enum { ETHER_MIN = 60, ARP_REQUEST = 1, RARP_REQUEST = 3 };
enum {
	NA_BYTES = 32,
	ICMPV6_NA = 136,
	NA_ROUTER = 0x80,
	NA_OVERRIDE = 0x20,
	OPTION_TARGET_LLADDR = 2
};

static const uint8_t all_nodes[16] = {0xff, 0x02, [15] = 1};

static uint8_t *put_ether(uint8_t *frame, const uint8_t destination[6], const uint8_t mac[6],
			  uint16_t type)
{
	memset(frame, 0, ANNOUNCE_FRAME_MAX);
	memcpy(frame, destination, MAC_LEN);
	memcpy(frame + MAC_LEN, mac, MAC_LEN);
	put_be16(frame + 12, type);
	return frame + ETHER_LEN;
}

static uint8_t *put_arp(uint8_t *frame, const uint8_t mac[6], uint16_t type, uint16_t operation)
{
	static const uint8_t broadcast[MAC_LEN] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	uint8_t *arp = put_ether(frame, broadcast, mac, type);

	put_be16(arp, 1);
	put_be16(arp + 2, ETHER_TYPE_IPV4);
	arp[4] = MAC_LEN;
	arp[5] = 4;
	put_be16(arp + 6, operation);
	memcpy(arp + 8, mac, MAC_LEN);
	return arp;
}

size_t announce_mac(const uint8_t mac[6], uint8_t frame[ANNOUNCE_FRAME_MAX])
{
	uint8_t *arp = put_arp(frame, mac, ETHER_TYPE_RARP, RARP_REQUEST);

	memcpy(arp + 18, mac, MAC_LEN);
	return ETHER_MIN;
}

static size_t announce_ipv4(const uint8_t ip[4], const uint8_t mac[6], uint8_t *frame)
{
	uint8_t *arp = put_arp(frame, mac, ETHER_TYPE_ARP, ARP_REQUEST);

	memcpy(arp + 14, ip, 4);
	memcpy(arp + 24, ip, 4);
	return ETHER_MIN;
}

static size_t announce_ipv6(const struct address *a, const uint8_t mac[6], uint8_t *frame)
{
	static const uint8_t all_nodes_mac[MAC_LEN] = {0x33, 0x33, 0, 0, 0, 1};
	uint8_t *ip = put_ether(frame, all_nodes_mac, mac, ETHER_TYPE_IPV6), *na = ip + IPV6_LEN;
	uint32_t sum;

	ip[0] = 0x60;
	put_be16(ip + 4, NA_BYTES);
	ip[6] = IP_PROTO_ICMPV6;
	ip[7] = 255;
	memcpy(ip + 8, a->bytes, 16);
	memcpy(ip + 24, all_nodes, 16);

	na[0] = ICMPV6_NA;
	na[4] = (uint8_t)(NA_OVERRIDE | (a->router ? NA_ROUTER : 0));
	memcpy(na + 8, a->bytes, 16);
	na[24] = OPTION_TARGET_LLADDR;
	na[25] = 1;
	memcpy(na + 26, mac, MAC_LEN);
	sum = checksum_add(checksum_pseudo(6, ip + 8, IP_PROTO_ICMPV6, NA_BYTES), na, NA_BYTES);
	put_be16(na + 2, (uint16_t)~checksum_fold(sum));
	return ETHER_LEN + IPV6_LEN + NA_BYTES;
}

size_t announce_address(const struct address *a, const uint8_t mac[6],
			uint8_t frame[ANNOUNCE_FRAME_MAX])
{
	return a->version == 4 ? announce_ipv4(a->bytes, mac, frame) : announce_ipv6(a, mac, frame);
}
