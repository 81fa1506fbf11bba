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
enum {
	ICMP_BYTES = 8,
	ICMP_UNREACHABLE = 3,
	ICMP_HOST = 1,
	ICMPV6_UNREACHABLE = 1, /* code 0: no route */
	TCP_QUOTED = 8,		/* ports and sequence number */
	TCP_BYTES = 20,
	TTL = 64
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

static void put_ipv6(uint8_t *ip, uint8_t proto, uint8_t hops, size_t payload_bytes,
		     const uint8_t *source, const uint8_t *destination)
{
	ip[0] = 0x60;
	put_be16(ip + 4, (uint16_t)payload_bytes);
	ip[6] = proto;
	ip[7] = hops;
	memcpy(ip + 8, source, 16);
	memcpy(ip + 24, destination, 16);
}

/* Behind the header `ip`, otherwise complete. */
static void put_icmpv6_checksum(uint8_t *ip, uint32_t bytes)
{
	uint8_t *icmp = ip + IPV6_LEN;
	uint32_t sum = checksum_pseudo(6, ip + 8, IP_PROTO_ICMPV6, bytes);

	put_be16(icmp + 2, (uint16_t)~checksum_fold(checksum_add(sum, icmp, bytes)));
}

static size_t announce_ipv6(const struct address *a, const uint8_t mac[6], uint8_t *frame)
{
	static const uint8_t all_nodes_mac[MAC_LEN] = {0x33, 0x33, 0, 0, 0, 1};
	uint8_t *ip = put_ether(frame, all_nodes_mac, mac, ETHER_TYPE_IPV6), *na = ip + IPV6_LEN;

	put_ipv6(ip, IP_PROTO_ICMPV6, 255, NA_BYTES, a->bytes, all_nodes);
	na[0] = ICMPV6_NA;
	na[4] = (uint8_t)(NA_OVERRIDE | (a->router ? NA_ROUTER : 0));
	memcpy(na + 8, a->bytes, 16);
	na[24] = OPTION_TARGET_LLADDR;
	na[25] = 1;
	memcpy(na + 26, mac, MAC_LEN);
	put_icmpv6_checksum(ip, NA_BYTES);
	return ETHER_LEN + IPV6_LEN + NA_BYTES;
}

size_t announce_address(const struct address *a, const uint8_t mac[6],
			uint8_t frame[ANNOUNCE_FRAME_MAX])
{
	return a->version == 4 ? announce_ipv4(a->bytes, mac, frame) : announce_ipv6(a, mac, frame);
}

/* An IPv4 header without options, its checksum included. */
static void put_ipv4(uint8_t *ip, uint8_t proto, size_t payload_bytes, const uint8_t *source,
		     const uint8_t *destination)
{
	ip[0] = 0x45;
	put_be16(ip + 2, (uint16_t)(IPV4_LEN + payload_bytes));
	ip[8] = TTL;
	ip[9] = proto;
	memcpy(ip + 12, source, 4);
	memcpy(ip + 16, destination, 4);
	put_be16(ip + 10, (uint16_t)~checksum_fold(checksum_add(0, ip, IPV4_LEN)));
}

static void put_quoted_tcp(uint8_t *tcp, const struct flow *f, uint32_t ack)
{
	put_be16(tcp, f->remote_port);
	put_be16(tcp + 2, f->local_port);
	put_be16(tcp + 4, (uint16_t)(ack >> 16));
	put_be16(tcp + 6, (uint16_t)ack);
}

static size_t nudge_ipv4(const struct flow *f, uint32_t ack, uint8_t *ip)
{
	uint8_t *icmp = ip + IPV4_LEN, *quoted = icmp + ICMP_BYTES;
	size_t len = ICMP_BYTES + IPV4_LEN + TCP_QUOTED;

	put_ipv4(ip, IP_PROTO_ICMP, len, f->local, f->remote);
	icmp[0] = ICMP_UNREACHABLE;
	icmp[1] = ICMP_HOST;
	put_ipv4(quoted, IP_PROTO_TCP, TCP_BYTES, f->remote, f->local);
	put_quoted_tcp(quoted + IPV4_LEN, f, ack);
	put_be16(icmp + 2, (uint16_t)~checksum_fold(checksum_add(0, icmp, len)));
	return ETHER_LEN + IPV4_LEN + len;
}

static size_t nudge_ipv6(const struct flow *f, uint32_t ack, uint8_t *ip)
{
	uint8_t *icmp = ip + IPV6_LEN, *quoted = icmp + ICMP_BYTES;
	size_t len = ICMP_BYTES + IPV6_LEN + TCP_QUOTED;

	put_ipv6(ip, IP_PROTO_ICMPV6, TTL, len, f->local, f->remote);
	icmp[0] = ICMPV6_UNREACHABLE;
	put_ipv6(quoted, IP_PROTO_TCP, TTL, TCP_BYTES, f->remote, f->local);
	put_quoted_tcp(quoted + IPV6_LEN, f, ack);
	put_icmpv6_checksum(ip, (uint32_t)len);
	return ETHER_LEN + IPV6_LEN + len;
}

size_t announce_nudge(const struct flow *f, uint32_t ack, const uint8_t mac[6],
		      uint8_t frame[ANNOUNCE_FRAME_MAX])
{
	uint16_t type = f->version == 4 ? ETHER_TYPE_IPV4 : ETHER_TYPE_IPV6;
	uint8_t *ip = put_ether(frame, f->next_hop, mac, type);

	return f->version == 4 ? nudge_ipv4(f, ack, ip) : nudge_ipv6(f, ack, ip);
}
