/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pvdrivers/net/headers.h"

#include <errno.h>

enum { ETHER_TYPE_VLAN = 0x8100, ETHER_TYPE_QINQ = 0x88a8, VLAN_LEN = 4, VLAN_TAGS_MAX = 2 };
enum {
	EXT_HOP_BY_HOP = 0,
	EXT_ROUTING = 43,
	EXT_FRAGMENT = 44,
	EXT_AUTH = 51,
	EXT_DESTINATION = 60
};
enum { EXT_HEADERS_MAX = 8, TCP_LEN = 20, UDP_LEN = 8, TCP_CHECKSUM = 16, UDP_CHECKSUM = 6 };

int frame_l3(const uint8_t *frame, size_t len, struct frame_l3 *out)
{
	size_t at = ETHER_LEN;
	uint16_t type;

	if (len < ETHER_LEN)
		return -EPROTO;
	type = get_be16(frame + 12);
	for (int tags = 0; tags < VLAN_TAGS_MAX; tags++) {
		if (type != ETHER_TYPE_VLAN && type != ETHER_TYPE_QINQ)
			break;
		if (len < at + VLAN_LEN)
			return -EPROTO;
		type = get_be16(frame + at + 2);
		at += VLAN_LEN;
	}
	out->type = type;
	out->offset = at;
	return 0;
}

static int skip_ipv4(const uint8_t *ip, size_t len, uint8_t *proto, size_t *header_len)
{
	if (len < IPV4_LEN || ip[0] >> 4 != 4)
		return -EPROTO;
	*header_len = (ip[0] & 15) * 4u;
	if (*header_len < IPV4_LEN || *header_len > len)
		return -EPROTO;
	if (get_be16(ip + 6) & 0x3fff) /* a fragment */
		return -EPROTO;
	*proto = ip[9];
	return 0;
}

static int skip_ipv6(const uint8_t *ip, size_t len, uint8_t *proto, size_t *header_len)
{
	size_t at = IPV6_LEN;
	uint8_t next;

	if (len < IPV6_LEN || ip[0] >> 4 != 6)
		return -EPROTO;
	next = ip[6];
	for (int i = 0; i < EXT_HEADERS_MAX; i++) {
		const uint8_t *ext = ip + at;

		if (next == IP_PROTO_TCP || next == IP_PROTO_UDP) {
			*proto = next;
			*header_len = at;
			return 0;
		}
		if (len < at + 8)
			return -EPROTO;
		switch (next) {
		case EXT_HOP_BY_HOP:
		case EXT_ROUTING:
		case EXT_DESTINATION:
			at += (ext[1] + 1u) * 8;
			break;
		case EXT_AUTH:
			at += (ext[1] + 2u) * 4;
			break;
		case EXT_FRAGMENT:
			if (get_be16(ext + 2) & 0xfff9) /* more than an atomic fragment */
				return -EPROTO;
			at += 8;
			break;
		default:
			return -EPROTO;
		}
		next = ext[0];
		if (at > len)
			return -EPROTO;
	}
	return -EPROTO;
}

int frame_l4(const uint8_t *frame, size_t len, struct frame_l4 *out)
{
	struct frame_l3 l3;
	size_t header_len;
	int rc;

	rc = frame_l3(frame, len, &l3);
	if (rc)
		return rc;
	out->l3 = l3.offset;
	if (l3.type == ETHER_TYPE_IPV4) {
		out->version = 4;
		rc = skip_ipv4(frame + l3.offset, len - l3.offset, &out->proto, &header_len);
	} else if (l3.type == ETHER_TYPE_IPV6) {
		out->version = 6;
		rc = skip_ipv6(frame + l3.offset, len - l3.offset, &out->proto, &header_len);
	} else {
		return -EPROTO;
	}
	if (rc)
		return rc;
	out->l4 = l3.offset + header_len;

	switch (out->proto) {
	case IP_PROTO_TCP:
		if (len < out->l4 + TCP_LEN)
			return -EPROTO;
		out->l4_len = (frame[out->l4 + 12] >> 4) * 4u;
		out->checksum = TCP_CHECKSUM;
		return out->l4_len < TCP_LEN || len < out->l4 + out->l4_len ? -EPROTO : 0;
	case IP_PROTO_UDP:
		out->l4_len = UDP_LEN;
		out->checksum = UDP_CHECKSUM;
		return len < out->l4 + UDP_LEN ? -EPROTO : 0;
	}
	return -EPROTO;
}

uint32_t checksum_add(uint32_t sum, const void *data, size_t len)
{
	const uint8_t *at = data;
	uint64_t wide = sum;

	for (; len >= 2; at += 2, len -= 2)
		wide += get_be16(at);
	if (len)
		wide += (uint32_t)at[0] << 8;
	while (wide >> 32)
		wide = (wide & UINT32_MAX) + (wide >> 32);
	return (uint32_t)wide;
}

uint16_t checksum_fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

uint32_t checksum_pseudo(int version, const uint8_t *addresses, uint8_t proto, uint32_t l4_bytes)
{
	uint32_t sum = checksum_add(0, addresses, version == 4 ? 8 : 32);

	return sum + (l4_bytes >> 16) + (l4_bytes & 0xffff) + proto;
}

void frame_put_pseudo(uint8_t *frame, size_t len, const struct frame_l4 *f)
{
	size_t addresses = f->l3 + (f->version == 4 ? 12 : 8);
	uint32_t sum =
		checksum_pseudo(f->version, frame + addresses, f->proto, (uint32_t)(len - f->l4));

	put_be16(frame + f->l4 + f->checksum, checksum_fold(sum));
}

int frame_complete_checksum(uint8_t *frame, size_t len, size_t start, size_t offset)
{
	uint16_t sum;

	if (start > len || offset > len - start || len - start - offset < 2)
		return -EPROTO;
	sum = (uint16_t)~checksum_fold(checksum_add(0, frame + start, len - start));
	put_be16(frame + start + offset, sum ? sum : 0xffff);
	return 0;
}
