/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/machine.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct domain_machine example(uint32_t frames)
{
	struct domain_machine m = {
		.shared_info_gfn = 0xfeffc,
		.nr_grant_frames = frames,
		.callback_irq = UINT64_C(0x0200000000000031),
		.store_gfn = 0xfeffd,
		.console_gfn = 0xfefff,
		.store_port = 1,
		.console_port = 2,
		.tsc_mode = 1,
		.tsc_khz = 2400000,
		.tsc_incarnation = 3,
		.tsc_elapsed_ns = UINT64_C(0x123456789abc),
	};
	uint32_t i;

	for (i = 0; i < frames; i++)
		m.grant_gfn[i] = 0x10000 + i;
	return m;
}

static void test_machine_round_trip(void **state)
{
	uint32_t frames;

	for (frames = 0; frames <= DOMAIN_GRANT_FRAMES_MAX; frames++) {
		struct domain_machine in = example(frames), out;
		struct buf b = {0}, again = {0};
		size_t len;

		assert_int_equal(machine_encode(&in, &b), 0);
		assert_int_equal(b.len, 64 + 8 * frames);
		assert_int_equal(machine_decode(b.data, b.len, &out), 0);
		assert_int_equal(machine_encode(&out, &again), 0);
		assert_int_equal(again.len, b.len);
		assert_memory_equal(again.data, b.data, b.len);
		for (len = 0; len < b.len; len++)
			assert_int_equal(machine_decode(b.data, len, &out), -EINVAL);
		assert_int_equal(buf_add(&b, "x", 1), 0);
		assert_int_equal(machine_decode(b.data, b.len, &out), -EINVAL);
		buf_free(&b);
		buf_free(&again);
	}
}

/* The bytes of docs/protocol.md, not just our own inverse. */
static void test_machine_bytes(void **state)
{
	struct domain_machine m = example(1);
	struct buf b = {0};

	assert_int_equal(machine_encode(&m, &b), 0);
	assert_memory_equal(b.data, "\xfc\xef\x0f\0\0\0\0\0", 8);
	assert_memory_equal(b.data + 8, "\x31\0\0\0\0\0\0\x02", 8);
	assert_memory_equal(b.data + 32, "\1\0\0\0\2\0\0\0\1\0\0\0", 12);
	assert_memory_equal(b.data + 52, "\1\0\0\0\xbc\x9a\x78\x56\x34\x12\0\0", 12);
	assert_memory_equal(b.data + 64, "\0\0\1\0\0\0\0\0", 8);
	buf_free(&b);
}

static void test_machine_refuses(void **state)
{
	struct domain_machine m = example(0);
	struct buf b = {0};

	m.nr_grant_frames = DOMAIN_GRANT_FRAMES_MAX + 1;
	assert_int_equal(machine_encode(&m, &b), -EINVAL);
	assert_non_null(buf_extend(&b, 64 + 8 * (DOMAIN_GRANT_FRAMES_MAX + 1)));
	b.data[52] = DOMAIN_GRANT_FRAMES_MAX + 1;
	assert_int_equal(machine_decode(b.data, b.len, &m), -EINVAL);
	memset(b.data + 52, 0xff, 4);
	assert_int_equal(machine_decode(b.data, b.len, &m), -EINVAL);
	buf_free(&b);
}

static void check_layout(const uint64_t *gfn, size_t nr, size_t ranges)
{
	struct buf b = {0};
	uint64_t *back;
	size_t n;

	assert_int_equal(layout_encode(gfn, nr, &b), 0);
	assert_int_equal(b.len, 16 * ranges);
	assert_int_equal(layout_decode(b.data, b.len, gfn[nr - 1] + 1, &back, &n), 0);
	assert_int_equal(n, nr);
	assert_memory_equal(back, gfn, nr * sizeof(*gfn));
	free(back);
	assert_int_equal(layout_decode(b.data, b.len, gfn[nr - 1], &back, &n), -EINVAL);
	assert_int_equal(layout_decode(b.data, b.len - 1, UINT64_MAX, &back, &n), -EINVAL);
	buf_free(&b);
}

static void test_layout_round_trip(void **state)
{
	check_layout((uint64_t[]){0}, 1, 1);
	check_layout((uint64_t[]){0, 1, 2}, 3, 1);
	check_layout((uint64_t[]){0, 2, 4}, 3, 3);
	check_layout((uint64_t[]){5, 6, 9, 0xfeffc, 0xfeffd}, 5, 3);
}

static void test_layout_refuses(void **state)
{
	static const struct {
		uint64_t range[4];
		size_t ranges;
	} bad[] = {
		{{0, 0}, 1},				    /* empty */
		{{100, 1}, 1},				    /* beyond the limit */
		{{99, 2}, 1},	      {{1, UINT64_MAX}, 1}, /* wraps */
		{{UINT64_MAX, 1}, 1}, {{0, 4, 3, 1}, 2},    /* overlaps */
		{{0, 4, 4, 1}, 2},			    /* touches: would be one range */
		{{10, 1, 5, 1}, 2},			    /* descends */
		{{0, 0}, 0},				    /* nothing */
	};
	struct buf b = {0};
	uint64_t *gfn;
	size_t i, nr;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(layout_decode(bad[i].range, bad[i].ranges * 16, 100, &gfn, &nr),
				 -EINVAL);
	assert_int_equal(layout_encode((uint64_t[]){1, 1}, 2, &b), -EINVAL);
	assert_int_equal(layout_encode((uint64_t[]){2, 1}, 2, &b), -EINVAL);
	assert_int_equal(b.len, 0);
	buf_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_machine_round_trip), cmocka_unit_test(test_machine_bytes),
		cmocka_unit_test(test_machine_refuses),	   cmocka_unit_test(test_layout_round_trip),
		cmocka_unit_test(test_layout_refuses),
	};

	return cmocka_run_group_tests_name("machine", tests, NULL, NULL);
}
