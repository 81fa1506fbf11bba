/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's TCP connections: learned, sent along, and their other ends nudged. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/buf.h"
#include "pvdrivers/net/announce.h"
#include "pvdrivers/net/flows.h"
#include "pvdrivers/net/headers.h"

enum { FRAME = 14 + 20 + 20, SYN = 0x02, RST = 0x04, ACK = 0x10 };

static const uint8_t mac[6] = {0x00, 0x16, 0x3e, 1, 2, 3};
static const uint8_t router[6] = {0x52, 0x54, 0x00, 1, 2, 3};

static void put_be32(uint8_t *at, uint32_t value)
{
	put_be16(at, (uint16_t)(value >> 16));
	put_be16(at + 2, (uint16_t)value);
}

/* From 10.77.0.11:6379 to 10.77.0.3:`port`. */
static size_t segment(uint8_t *f, uint16_t port, uint8_t flags, uint32_t ack)
{
	memset(f, 0, 128);
	memcpy(f, router, 6);
	memcpy(f + 6, mac, 6);
	put_be16(f + 12, ETHER_TYPE_IPV4);
	f[14] = 0x45;
	f[23] = IP_PROTO_TCP;
	memcpy(f + 26, (uint8_t[]){10, 77, 0, 11, 10, 77, 0, 3}, 8);
	put_be16(f + 34, 6379);
	put_be16(f + 36, port);
	put_be32(f + 42, ack);
	f[46] = 5 << 4;
	f[47] = flags;
	return FRAME;
}

static void say(struct flows *fl, uint16_t port, uint8_t flags, uint32_t ack)
{
	uint8_t f[128];
	size_t len = segment(f, port, flags, ack);

	flows_learn(fl, mac, f, len);
}

static const struct flow *of_port(const struct flows *fl, uint16_t port)
{
	for (int i = 0; i < FLOWS_MAX; i++)
		if (fl->entry[i].version && fl->entry[i].remote_port == port)
			return &fl->entry[i];
	return NULL;
}

static void remembers_the_last_acknowledgement_and_the_one_before_the_epoch(void **state)
{
	struct flows fl = {0};
	const struct flow *e;

	say(&fl, 1000, ACK, 100);
	flows_close_epoch(&fl);
	say(&fl, 1000, ACK, 200);
	say(&fl, 1000, ACK, 0x80000001);
	assert_int_equal(flows_count(&fl), 1);
	e = of_port(&fl, 1000);
	assert_int_equal(e->ack, 0x80000001);
	assert_int_equal(e->ack_before, 100);
	assert_int_equal(e->local_port, 6379);
	assert_memory_equal(e->next_hop, router, 6);
	flows_close_epoch(&fl);
	assert_int_equal(e->ack_before, 0x80000001);
}

static void forgets_a_connection_that_was_reset(void **state)
{
	struct flows fl = {0};

	say(&fl, 1000, ACK, 100);
	say(&fl, 1001, RST | ACK, 100); /* was never known */
	assert_int_equal(flows_count(&fl), 1);
	say(&fl, 1000, RST, 0);
	assert_int_equal(flows_count(&fl), 0);
	say(&fl, 1000, SYN, 0); /* acknowledges nothing */
	assert_int_equal(flows_count(&fl), 0);
}

static void passes_over_what_is_no_segment_of_the_guest(void **state)
{
	struct flows fl = {0};
	uint8_t f[128];
	size_t len = segment(f, 1000, ACK, 100);

	for (size_t n = 0; n < len; n++)
		flows_learn(&fl, mac, f, n);
	f[0] |= 1; /* to a group */
	flows_learn(&fl, mac, f, len);
	segment(f, 1000, ACK, 100);
	f[11] ^= 1; /* bridged for another */
	flows_learn(&fl, mac, f, len);
	segment(f, 1000, ACK, 100);
	f[23] = IP_PROTO_UDP;
	flows_learn(&fl, mac, f, len);
	assert_int_equal(flows_count(&fl), 0);
}

static void the_least_recently_seen_makes_room(void **state)
{
	struct flows fl = {0};

	for (uint16_t i = 1; i <= FLOWS_MAX; i++)
		say(&fl, i, ACK, i);
	say(&fl, 1, ACK, 7);
	say(&fl, 999, ACK, 9);
	assert_int_equal(flows_count(&fl), FLOWS_MAX);
	assert_non_null(of_port(&fl, 1));
	assert_null(of_port(&fl, 2));
	assert_int_equal(of_port(&fl, 999)->ack_before, 9);
}

static void survives_the_way_and_refuses_damage(void **state)
{
	struct flows fl = {0}, got = {0};
	struct buf blob = {0};

	say(&fl, 1000, ACK, 100);
	flows_close_epoch(&fl);
	say(&fl, 1000, ACK, 200);
	say(&fl, 1001, ACK, 300);
	assert_int_equal(flows_encode(&fl, &blob), 0);
	assert_int_equal(blob.len, 2 * FLOWS_ENTRY_BYTES);
	assert_int_equal(flows_decode(&got, 2, blob.data), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(got.entry[i].ack, fl.entry[i].ack);
		assert_int_equal(got.entry[i].ack_before, fl.entry[i].ack_before);
		assert_int_equal(got.entry[i].remote_port, 1000 + i);
		assert_memory_equal(got.entry[i].local, fl.entry[i].local, 32);
		assert_memory_equal(got.entry[i].next_hop, router, 6);
	}
	assert_int_equal(flows_decode(&got, FLOWS_MAX + 1, blob.data), -EINVAL);
	for (size_t at = 0; at < 2; at++) {
		blob.data[at] ^= 0x40; /* the version */
		assert_int_equal(flows_decode(&got, 2, blob.data), -EINVAL);
		blob.data[at] ^= 0x40;
	}
	blob.data[2] ^= 1; /* a group's MAC */
	assert_int_equal(flows_decode(&got, 2, blob.data), -EINVAL);
	blob.data[2] ^= 1;
	for (size_t at = 24; at < FLOWS_ENTRY_BYTES; at++) {
		if (at >= 36 && at < 40)
			continue;
		blob.data[at] ^= 1; /* behind an IPv4 address */
		assert_int_equal(flows_decode(&got, 2, blob.data), -EINVAL);
		blob.data[at] ^= 1;
	}
	assert_int_equal(flows_decode(NULL, 2, blob.data), 0);
	buf_free(&blob);
}

/* Against bytes that were put together by hand (sums: by another program), so that writer and
 * reader cannot err together. */
static void nudges_over_ipv4(void **state)
{
	static const uint8_t expected[] = {
		0x52, 0x54, 0,	1,  2, 3,  0,	 0x16, 0x3e, 1,	   2,	 3,    8,    0,
		0x45, 0,    0,	56, 0, 0,  0,	 0,    64,   1,	   0x66, 0x1e, 10,   77,
		0,    11,   10, 77, 0, 3,  3,	 1,    0xdc, 0x25, 0,	 0,    0,    0,
		0x45, 0,    0,	40, 0, 0,  0,	 0,    64,   6,	   0x66, 0x29, 10,   77,
		0,    3,    10, 77, 0, 11, 0x03, 0xe8, 0x18, 0xeb, 0x01, 0x02, 0x03, 0x04};
	uint8_t f[ANNOUNCE_FRAME_MAX];
	struct flows fl = {0};

	say(&fl, 1000, ACK, 0x01020304);
	assert_int_equal(announce_nudge(&fl.entry[0], fl.entry[0].ack, mac, f), sizeof(expected));
	assert_memory_equal(f, expected, sizeof(expected));
}

static void nudges_over_ipv6(void **state)
{
	struct flow e = {.version = 6,
			 .remote_port = 1000,
			 .local_port = 6379,
			 .ack = 0x01020304,
			 .local = {0xfd, 0x77, [15] = 0x11},
			 .remote = {0xfd, 0x77, [15] = 3}};
	uint8_t f[ANNOUNCE_FRAME_MAX];
	uint32_t sum;

	memcpy(e.next_hop, router, 6);
	assert_int_equal(announce_nudge(&e, e.ack, mac, f), ANNOUNCE_FRAME_MAX);
	assert_memory_equal(f, router, 6);
	assert_int_equal(get_be16(f + 18), 56);
	assert_int_equal(f[20], IP_PROTO_ICMPV6);
	assert_memory_equal(f + 22, e.local, 32);
	assert_int_equal(f[54], 1);
	assert_int_equal(f[55], 0);
	assert_int_equal(f[62 + 6], IP_PROTO_TCP);
	assert_memory_equal(f + 62 + 8, e.remote, 16);
	assert_memory_equal(f + 62 + 24, e.local, 16);
	assert_memory_equal(f + 102, ((uint8_t[]){0x03, 0xe8, 0x18, 0xeb, 1, 2, 3, 4}), 8);
	sum = checksum_add(checksum_pseudo(6, f + 22, IP_PROTO_ICMPV6, 56), f + 54, 56);
	assert_int_equal(checksum_fold(sum), 0xffff);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(remembers_the_last_acknowledgement_and_the_one_before_the_epoch),
		cmocka_unit_test(forgets_a_connection_that_was_reset),
		cmocka_unit_test(passes_over_what_is_no_segment_of_the_guest),
		cmocka_unit_test(the_least_recently_seen_makes_room),
		cmocka_unit_test(survives_the_way_and_refuses_damage),
		cmocka_unit_test(nudges_over_ipv4),
		cmocka_unit_test(nudges_over_ipv6),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
