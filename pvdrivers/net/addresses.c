/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pvdrivers/net/addresses.h"
#include "common/buf.h"
#include "common/wire.h"
#include "pvdrivers/net/headers.h"

#include <errno.h>

enum { ARP_LEN = 28, ICMPV6_NS = 135, ICMPV6_NA = 136, NA_LEN = 24, NA_ROUTER = 0x80 };
enum { FLAG_ROUTER = 1 };

static struct address *find(struct addresses *a, int version, const uint8_t *bytes, size_t len)
{
	struct address *oldest = &a->entry[0];

	for (int i = 0; i < NETBACK_ADDRESSES_MAX; i++) {
		struct address *e = &a->entry[i];

		if (e->version == version && !memcmp(e->bytes, bytes, len))
			return e;
		if (e->used < oldest->used)
			oldest = e;
	}
	*oldest = (struct address){.version = (uint8_t)version};
	memcpy(oldest->bytes, bytes, len);
	return oldest;
}

static void learn_ipv4(struct addresses *a, const uint8_t *ip)
{
	if (ip[0] == 0 || ip[0] == 127 || ip[0] >= 224)
		return;
	find(a, 4, ip, 4)->used = ++a->ticks;
}

static struct address *learn_ipv6(struct addresses *a, const uint8_t *ip)
{
	static const uint8_t zero[15];
	struct address *e;

	if (ip[0] == 0xff || (!memcmp(ip, zero, 15) && ip[15] <= 1))
		return NULL;
	e = find(a, 6, ip, 16);
	e->used = ++a->ticks;
	return e;
}

/* What senders begin with: so the packet has not been forwarded. */
static bool starts_here(uint8_t ttl)
{
	return ttl == 64 || ttl == 128 || ttl == 255;
}

static void learn_neighbour(struct addresses *a, const uint8_t *ip, size_t len)
{
	const uint8_t *icmp = ip + IPV6_LEN;
	struct address *e;

	if (len < IPV6_LEN + NA_LEN || icmp[0] != ICMPV6_NA)
		return;
	e = learn_ipv6(a, icmp + 8);
	if (e)
		e->router = !!(icmp[4] & NA_ROUTER);
}

void addresses_learn(struct addresses *a, const uint8_t mac[6], const uint8_t *frame, size_t len)
{
	const uint8_t *at;
	struct frame_l3 l3;

	if (frame_l3(frame, len, &l3) || memcmp(frame + MAC_LEN, mac, MAC_LEN))
		return;
	at = frame + l3.offset;
	len -= l3.offset;
	switch (l3.type) {
	case ETHER_TYPE_ARP:
		/* Ethernet and IPv4, and the sender is the guest itself */
		if (len >= ARP_LEN && get_be16(at) == 1 && get_be16(at + 2) == ETHER_TYPE_IPV4 &&
		    at[4] == 6 && at[5] == 4 && !memcmp(at + 8, mac, MAC_LEN))
			learn_ipv4(a, at + 14);
		break;
	case ETHER_TYPE_IPV4:
		if (len >= IPV4_LEN && at[0] >> 4 == 4 && starts_here(at[8]))
			learn_ipv4(a, at + 12);
		break;
	case ETHER_TYPE_IPV6:
		if (len < IPV6_LEN || at[0] >> 4 != 6 || !starts_here(at[7]))
			break;
		learn_ipv6(a, at + 8);
		if (at[6] == IP_PROTO_ICMPV6 && at[7] == 255)
			learn_neighbour(a, at, len);
		break;
	}
}

unsigned int addresses_count(const struct addresses *a)
{
	unsigned int nr = 0;

	for (int i = 0; i < NETBACK_ADDRESSES_MAX; i++)
		nr += a->entry[i].version != 0;
	return nr;
}

/* Position, not recency, orders the entries: a quiet guest's blob stays the same. */
int addresses_encode(const struct addresses *a, struct buf *out)
{
	for (int i = 0; i < NETBACK_ADDRESSES_MAX; i++) {
		const struct address *e = &a->entry[i];
		uint8_t *at;

		if (!e->version)
			continue;
		at = buf_extend(out, ADDRESSES_ENTRY_BYTES);
		if (!at)
			return -ENOMEM;
		wire_put16(at, e->version);
		wire_put16(at + 2, e->router ? FLAG_ROUTER : 0);
		memcpy(at + 4, e->bytes, sizeof(e->bytes));
	}
	return 0;
}

static int decode_entry(struct address *e, const uint8_t *at)
{
	uint16_t version = wire_get16(at), flags = wire_get16(at + 2);

	if ((version != 4 && version != 6) || flags > FLAG_ROUTER || (version == 4 && flags))
		return -EINVAL;
	if (version == 4 && (wire_get32(at + 8) || wire_get64(at + 12)))
		return -EINVAL;
	*e = (struct address){.version = (uint8_t)version, .router = (uint8_t)flags};
	memcpy(e->bytes, at + 4, sizeof(e->bytes));
	return 0;
}

int addresses_decode(struct addresses *a, unsigned int nr, const uint8_t *blob)
{
	struct addresses got = {0};

	if (nr > NETBACK_ADDRESSES_MAX)
		return -EINVAL;
	for (unsigned int i = 0; i < nr; i++) {
		int rc = decode_entry(&got.entry[i], blob + (size_t)i * ADDRESSES_ENTRY_BYTES);

		if (rc)
			return rc;
		got.entry[i].used = ++got.ticks;
	}
	if (a)
		*a = got;
	return 0;
}
