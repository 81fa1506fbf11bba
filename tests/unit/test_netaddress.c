/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Learned addresses, the net blob, announcements, and where checksums go in a frame. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/buf.h"
#include "pvdrivers/net/addresses.h"
#include "pvdrivers/net/announce.h"
#include "pvdrivers/net/headers.h"

static const uint8_t mac[6] = {0x00, 0x16, 0x3e, 1, 2, 3};
static const uint8_t other[6] = {0x52, 0x54, 0x00, 1, 2, 3};
static const uint8_t ip6[16] = {0xfd, 0x77, [15] = 0x11};

static void put_ether(uint8_t *frame, const uint8_t *source, uint16_t type)
{
	memset(frame, 0, 128);
	memcpy(frame + 6, source, 6);
	put_be16(frame + 12, type);
}

static void ipv4_from(struct addresses *a, uint8_t last, uint8_t ttl, const uint8_t *source)
{
	uint8_t f[128];

	put_ether(f, source, ETHER_TYPE_IPV4);
	f[14] = 0x45;
	f[22] = ttl;
	memcpy(f + 26, (uint8_t[]){10, 77, 0, last}, 4);
	addresses_learn(a, mac, f, 60);
}

static bool knows_ipv4(const struct addresses *a, uint8_t last)
{
	for (int i = 0; i < NETBACK_ADDRESSES_MAX; i++)
		if (a->entry[i].version == 4 && a->entry[i].bytes[3] == last)
			return true;
	return false;
}

static void learns_sources_that_start_here(void **state)
{
	struct addresses a = {0};

	ipv4_from(&a, 11, 64, mac);
	ipv4_from(&a, 11, 64, mac);
	ipv4_from(&a, 12, 63, mac);   /* forwarded for somebody else */
	ipv4_from(&a, 13, 64, other); /* bridged for somebody else */
	assert_int_equal(addresses_count(&a), 1);
	assert_true(knows_ipv4(&a, 11));
}

static void ignores_what_is_no_host(void **state)
{
	static const uint8_t bad[][4] = {
		{0, 0, 0, 0}, {127, 0, 0, 1}, {224, 0, 0, 1}, {255, 255, 255, 255}};
	struct addresses a = {0};
	uint8_t f[128];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		put_ether(f, mac, ETHER_TYPE_IPV4);
		f[14] = 0x45;
		f[22] = 64;
		memcpy(f + 26, bad[i], 4);
		addresses_learn(&a, mac, f, 60);
	}
	put_ether(f, mac, ETHER_TYPE_IPV6);
	f[14] = 0x60;
	f[21] = 255;
	addresses_learn(&a, mac, f, 60); /* :: , duplicate address detection */
	f[22] = 0xff;
	addresses_learn(&a, mac, f, 60);
	assert_int_equal(addresses_count(&a), 0);
	for (size_t len = 0; len < 60; len++)
		addresses_learn(&a, mac, f, len);
}

static void learns_from_arp_and_neighbour_advertisements(void **state)
{
	struct addresses a = {0};
	uint8_t f[128];

	put_ether(f, mac, ETHER_TYPE_ARP);
	memcpy(f + 14, (uint8_t[]){0, 1, 8, 0, 6, 4, 0, 1}, 8);
	memcpy(f + 22, mac, 6);
	memcpy(f + 28, (uint8_t[]){10, 77, 0, 20}, 4);
	addresses_learn(&a, mac, f, 42);
	assert_true(knows_ipv4(&a, 20));

	put_ether(f, mac, ETHER_TYPE_IPV6);
	f[14] = 0x60;
	f[20] = IP_PROTO_ICMPV6;
	f[21] = 255;
	memcpy(f + 22, (uint8_t[]){0xfe, 0x80, [15] = 1}, 16);
	f[54] = 136;
	f[58] = 0x80;
	memcpy(f + 62, ip6, 16);
	addresses_learn(&a, mac, f, 78);
	assert_int_equal(addresses_count(&a), 3);
	assert_int_equal(a.entry[2].router, 1);
	assert_memory_equal(a.entry[2].bytes, ip6, 16);
}

static void forgets_the_least_recently_seen(void **state)
{
	struct addresses a = {0};

	for (uint8_t i = 1; i <= NETBACK_ADDRESSES_MAX; i++)
		ipv4_from(&a, i, 64, mac);
	ipv4_from(&a, 1, 64, mac);
	ipv4_from(&a, 200, 64, mac);
	assert_int_equal(addresses_count(&a), NETBACK_ADDRESSES_MAX);
	assert_true(knows_ipv4(&a, 1));
	assert_false(knows_ipv4(&a, 2));
	assert_true(knows_ipv4(&a, 200));
}

static void blob_survives_the_way_and_refuses_damage(void **state)
{
	struct addresses a = {0}, b = {0};
	struct buf blob = {0};

	ipv4_from(&a, 11, 64, mac);
	ipv4_from(&a, 12, 64, mac);
	assert_int_equal(addresses_encode(&a, &blob), 0);
	assert_int_equal(blob.len, 2 * ADDRESSES_ENTRY_BYTES);
	assert_int_equal(addresses_decode(&b, 2, blob.data), 0);
	assert_true(knows_ipv4(&b, 11) && knows_ipv4(&b, 12));
	assert_int_equal(addresses_decode(&b, NETBACK_ADDRESSES_MAX + 1, blob.data), -EINVAL);
	for (size_t at = 0; at < blob.len; at++) {
		if (at % ADDRESSES_ENTRY_BYTES >= 4 && at % ADDRESSES_ENTRY_BYTES < 8)
			continue; /* an address may be any */
		blob.data[at] ^= 0x80;
		assert_int_equal(addresses_decode(&b, 2, blob.data), -EINVAL);
		blob.data[at] ^= 0x80;
	}
	buf_free(&blob);
}

static void net_blob_is_checked_as_a_whole(void **state)
{
	static const uint8_t empty[] = {2, 0, 0, 0}, version[] = {1, 0, 0, 0},
			     missing[] = {2, 0, 1, 0}, tail[] = {2, 0, 0, 0, 0},
			     vif[] = {2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0},
			     flow[] = {2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0};

	assert_int_equal(netback_state_check(empty, sizeof(empty)), 0);
	assert_int_equal(netback_state_check(vif, sizeof(vif)), 0);
	assert_int_equal(netback_state_check(empty, 0), -EINVAL);
	assert_int_equal(netback_state_check(version, sizeof(version)), -EINVAL);
	assert_int_equal(netback_state_check(missing, sizeof(missing)), -EINVAL);
	assert_int_equal(netback_state_check(tail, sizeof(tail)), -EINVAL);
	assert_int_equal(netback_state_check(flow, sizeof(flow)), -EINVAL);
}

static void announces_ipv4_by_arp(void **state)
{
	const struct address a = {.version = 4, .bytes = {10, 77, 0, 11}};
	static const uint8_t arp[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0,  0x16, 0x3e, 1,  2,
				      3,    8,	  6,	0,    1,    8,	  0,  6,    4,	  0,  1,
				      0,    0x16, 0x3e, 1,    2,    3,	  10, 77,   0,	  11, 0,
				      0,    0,	  0,	0,    0,    10,	  77, 0,    11};
	uint8_t f[ANNOUNCE_FRAME_MAX];

	assert_int_equal(announce_address(&a, mac, f), 60);
	assert_memory_equal(f, arp, sizeof(arp));
}

static void announces_ipv6_with_a_right_checksum(void **state)
{
	struct address a = {.version = 6, .router = 1};
	uint8_t f[ANNOUNCE_FRAME_MAX];
	uint32_t sum;

	memcpy(a.bytes, ip6, 16);
	assert_int_equal(announce_address(&a, mac, f), 86);
	assert_memory_equal(f, ((uint8_t[]){0x33, 0x33, 0, 0, 0, 1}), 6);
	assert_int_equal(f[54], 136);
	assert_int_equal(f[58], 0xa0);
	assert_memory_equal(f + 62, ip6, 16);
	assert_memory_equal(f + 78, ((uint8_t[]){2, 1, 0, 0x16, 0x3e, 1, 2, 3}), 8);
	sum = checksum_add(checksum_pseudo(6, f + 22, IP_PROTO_ICMPV6, 32), f + 54, 32);
	assert_int_equal(checksum_fold(sum), 0xffff);

	/* The sum computed by hand, so that writer and reader cannot err together. */
	memset(a.bytes, 0, 16);
	a.router = 0;
	announce_address(&a, mac, f);
	sum = 0xff02 + 1 + 32 + 58; /* pseudo header */
	sum += 0x8800 + 0x2000 + 0x0201 + 0x0016 + 0x3e01 + 0x0203;
	sum = (sum & 0xffff) + (sum >> 16);
	assert_int_equal(get_be16(f + 56), 0xffff - sum);
}

static void announces_the_mac_by_rarp(void **state)
{
	uint8_t f[ANNOUNCE_FRAME_MAX];

	assert_int_equal(announce_mac(mac, f), 60);
	assert_int_equal(get_be16(f + 12), ETHER_TYPE_RARP);
	assert_int_equal(get_be16(f + 20), 3);
	assert_memory_equal(f + 22, mac, 6);
	assert_memory_equal(f + 32, mac, 6);
}

static void finds_transport_headers_behind_tags_and_extensions(void **state)
{
	struct frame_l4 l4;
	uint8_t f[128];

	put_ether(f, mac, 0x8100);
	put_be16(f + 16, ETHER_TYPE_IPV4);
	f[18] = 0x46;
	f[27] = IP_PROTO_UDP;
	assert_int_equal(frame_l4(f, 50, &l4), 0);
	assert_int_equal(l4.l4, 42);
	assert_int_equal(l4.checksum, 6);
	assert_int_equal(frame_l4(f, 49, &l4), -EPROTO);
	f[24] = 0x20; /* more fragments */
	assert_int_equal(frame_l4(f, 50, &l4), -EPROTO);

	put_ether(f, mac, ETHER_TYPE_IPV6);
	f[14] = 0x60;
	f[20] = 0; /* hop by hop, 16 bytes, then TCP */
	f[54] = IP_PROTO_TCP;
	f[55] = 1;
	f[70 + 12] = 6 << 4;
	assert_int_equal(frame_l4(f, 94, &l4), 0);
	assert_int_equal(l4.l4, 70);
	assert_int_equal(l4.l4_len, 24);
	assert_int_equal(frame_l4(f, 93, &l4), -EPROTO);
	f[55] = 200;
	assert_int_equal(frame_l4(f, 94, &l4), -EPROTO);
	f[20] = 59; /* no next header */
	assert_int_equal(frame_l4(f, 94, &l4), -EPROTO);
}

static void completes_checksums(void **state)
{
	uint8_t f[60] = {0};

	put_be16(f + 34, 0xffff);
	put_be16(f + 36, 0x0001);
	assert_int_equal(frame_complete_checksum(f, 39, 34, 2), 0);
	assert_int_equal(get_be16(f + 36), 0xfffe);
	assert_int_equal(frame_complete_checksum(f, 60, 59, 0), -EPROTO);
	assert_int_equal(frame_complete_checksum(f, 60, 61, 0), -EPROTO);
	assert_int_equal(frame_complete_checksum(f, 60, 34, 25), -EPROTO);
	memset(f, 0, sizeof(f));
	put_be16(f + 34, 0xffff);
	assert_int_equal(frame_complete_checksum(f, 60, 34, 6), 0);
	assert_int_equal(get_be16(f + 40), 0xffff); /* UDP: a sum of zero would mean none */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(learns_sources_that_start_here),
		cmocka_unit_test(ignores_what_is_no_host),
		cmocka_unit_test(learns_from_arp_and_neighbour_advertisements),
		cmocka_unit_test(forgets_the_least_recently_seen),
		cmocka_unit_test(blob_survives_the_way_and_refuses_damage),
		cmocka_unit_test(net_blob_is_checked_as_a_whole),
		cmocka_unit_test(announces_ipv4_by_arp),
		cmocka_unit_test(announces_ipv6_with_a_right_checksum),
		cmocka_unit_test(announces_the_mac_by_rarp),
		cmocka_unit_test(finds_transport_headers_behind_tags_and_extensions),
		cmocka_unit_test(completes_checksums),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
