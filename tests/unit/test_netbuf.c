/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Output commit (I1): what leaves, when, in which order, and that nothing is leaked. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "netbuf/netbuf.h"

enum { BIG = 1 << 20, SEEN_MAX = 256, BODY = 100 };

struct world {
	struct netbuf *nb;
	uint32_t seen[SEEN_MAX];
	size_t nr;
	unsigned int full, room;
};

static void emit(void *arg, struct packet *p)
{
	struct world *w = arg;

	assert_true(w->nr < SEEN_MAX);
	memcpy(&w->seen[w->nr++], p->data, sizeof(uint32_t));
	packet_free(p);
}

static void pressure(void *arg, bool full)
{
	struct world *w = arg;

	if (full)
		w->full++;
	else
		w->room++;
}

static const struct netbuf_ops ops = {.emit = emit, .pressure = pressure};

static void open_world(struct world *w, size_t limit)
{
	*w = (struct world){0};
	assert_int_equal(netbuf_new(limit, &ops, w, &w->nb), 0);
}

static void push(struct world *w, uint32_t mark)
{
	struct packet *p = packet_new(BODY);

	assert_non_null(p);
	p->len = BODY;
	memset(p->data, 0, BODY);
	memcpy(p->data, &mark, sizeof(mark));
	netbuf_push(w->nb, p);
}

static void assert_seen(const struct world *w, uint32_t first, uint32_t last)
{
	size_t nr = first <= last ? last - first + 1 : 0;

	assert_int_equal(w->nr, nr);
	for (size_t i = 0; i < nr; i++)
		assert_int_equal(w->seen[i], first + i);
}

static struct netbuf_stats stats_of(const struct world *w)
{
	struct netbuf_stats s;

	netbuf_stats(w->nb, &s);
	return s;
}

static void passes_through_until_held(void **state)
{
	struct world w;

	open_world(&w, BIG);
	push(&w, 1);
	push(&w, 2);
	assert_seen(&w, 1, 2);
	netbuf_hold(w.nb);
	netbuf_hold(w.nb);
	push(&w, 3);
	assert_seen(&w, 1, 2);
	assert_int_equal(stats_of(&w).passed_packets, 2);
	assert_int_equal(stats_of(&w).held_packets, 1);
	netbuf_free(w.nb);
}

static void releases_whole_epochs_in_order(void **state)
{
	struct world w;

	open_world(&w, BIG);
	netbuf_hold(w.nb);
	for (uint32_t epoch = 1; epoch <= 3; epoch++) {
		for (uint32_t i = 1; i <= 10; i++)
			push(&w, (epoch - 1) * 10 + i);
		assert_int_equal(netbuf_close(w.nb, epoch), 0);
	}
	push(&w, 31);
	assert_seen(&w, 1, 0);
	assert_int_equal(stats_of(&w).oldest_epoch, 1);

	assert_int_equal(netbuf_release(w.nb, 1), 0);
	assert_seen(&w, 1, 10);
	assert_int_equal(stats_of(&w).oldest_epoch, 2);
	assert_int_equal(netbuf_release(w.nb, 1), 0);
	assert_seen(&w, 1, 10);
	assert_int_equal(netbuf_release(w.nb, 3), 0);
	assert_seen(&w, 1, 30);
	assert_int_equal(stats_of(&w).oldest_epoch, 0);
	assert_int_equal(stats_of(&w).held_packets, 1);
	assert_int_equal(stats_of(&w).released_packets, 30);
	netbuf_free(w.nb);
}

static void refuses_what_was_never_closed(void **state)
{
	struct world w;

	open_world(&w, BIG);
	netbuf_hold(w.nb);
	push(&w, 1);
	assert_int_equal(netbuf_release(w.nb, 0), -EINVAL);
	assert_int_equal(netbuf_release(w.nb, 1), -EINVAL);
	assert_int_equal(netbuf_close(w.nb, 5), 0);
	assert_int_equal(netbuf_close(w.nb, 5), -EINVAL);
	assert_int_equal(netbuf_close(w.nb, 4), -EINVAL);
	assert_int_equal(netbuf_close(w.nb, 9), 0);
	assert_int_equal(netbuf_release(w.nb, 7), -EINVAL);
	assert_int_equal(netbuf_release(w.nb, 10), -EINVAL);
	assert_seen(&w, 1, 0);
	assert_int_equal(netbuf_release(w.nb, 9), 0);
	assert_seen(&w, 1, 1);
	assert_int_equal(netbuf_release(w.nb, 5), -EINVAL);
	netbuf_free(w.nb);
}

static void passing_emits_all_and_numbers_start_anew(void **state)
{
	struct world w;

	open_world(&w, BIG);
	netbuf_hold(w.nb);
	push(&w, 1);
	assert_int_equal(netbuf_close(w.nb, 8), 0);
	push(&w, 2);
	netbuf_pass(w.nb);
	push(&w, 3);
	assert_seen(&w, 1, 3);
	assert_int_equal(stats_of(&w).held_bytes, 0);

	/* An acknowledgement of the former protection means nothing to the next one. */
	netbuf_hold(w.nb);
	push(&w, 4);
	assert_int_equal(netbuf_release(w.nb, 8), -EINVAL);
	assert_int_equal(netbuf_close(w.nb, 1), 0);
	assert_int_equal(netbuf_release(w.nb, 1), 0);
	assert_seen(&w, 1, 4);
	netbuf_free(w.nb);
}

static void discarded_frames_are_never_heard(void **state)
{
	struct world w;

	open_world(&w, BIG);
	netbuf_hold(w.nb);
	push(&w, 1);
	assert_int_equal(netbuf_close(w.nb, 1), 0);
	push(&w, 2);
	netbuf_discard(w.nb);
	assert_int_equal(stats_of(&w).held_packets, 0);
	assert_int_equal(stats_of(&w).held_bytes, 0);
	assert_int_equal(netbuf_release(w.nb, 1), -EINVAL);
	push(&w, 3);
	assert_seen(&w, 1, 0);
	assert_int_equal(stats_of(&w).held_packets, 1);
	netbuf_free(w.nb);
}

static void pressure_is_told_once_per_crossing(void **state)
{
	const size_t each = sizeof(struct packet) + BODY;
	struct world w;

	open_world(&w, 3 * each);
	netbuf_hold(w.nb);
	push(&w, 1);
	push(&w, 2);
	assert_int_equal(w.full, 0);
	assert_int_equal(netbuf_close(w.nb, 1), 0);
	push(&w, 3);
	assert_int_equal(w.full, 1);
	push(&w, 4); /* a batch under way is not dropped */
	assert_int_equal(w.full, 1);
	assert_int_equal(stats_of(&w).held_packets, 4);
	assert_int_equal(stats_of(&w).peak_bytes, 4 * each);
	assert_int_equal(w.room, 0);
	assert_int_equal(netbuf_release(w.nb, 1), 0);
	assert_int_equal(w.room, 1);
	push(&w, 5);
	assert_int_equal(w.full, 2);
	assert_int_equal(stats_of(&w).overflows, 2);
	netbuf_pass(w.nb);
	assert_int_equal(w.room, 2);
	assert_seen(&w, 1, 5);
	netbuf_free(w.nb);
}

static void one_byte_below_the_limit_is_room(void **state)
{
	const size_t each = sizeof(struct packet) + BODY;
	struct world w;

	open_world(&w, each + 1);
	netbuf_hold(w.nb);
	push(&w, 1);
	assert_int_equal(w.full, 0);
	push(&w, 2);
	assert_int_equal(w.full, 1);
	netbuf_discard(w.nb);
	assert_int_equal(w.room, 1);
	netbuf_free(w.nb);
	assert_int_equal(netbuf_new(0, &ops, &w, &w.nb), -EINVAL);
}

static void accounting_returns_to_zero(void **state)
{
	struct world w;
	uint64_t epoch = 0;

	open_world(&w, BIG);
	netbuf_hold(w.nb);
	for (int round = 0; round < 1000; round++) {
		for (int i = 0; i < round % 7; i++)
			push(&w, 0);
		assert_int_equal(netbuf_close(w.nb, ++epoch), 0);
		if (round % 3 == 0)
			assert_int_equal(netbuf_release(w.nb, epoch), 0);
		w.nr = 0;
	}
	assert_int_equal(netbuf_release(w.nb, epoch), 0);
	assert_int_equal(stats_of(&w).held_packets, 0);
	assert_int_equal(stats_of(&w).held_bytes, 0);
	assert_int_not_equal(stats_of(&w).peak_bytes, 0);
	netbuf_free(w.nb);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(passes_through_until_held),
		cmocka_unit_test(releases_whole_epochs_in_order),
		cmocka_unit_test(refuses_what_was_never_closed),
		cmocka_unit_test(passing_emits_all_and_numbers_start_anew),
		cmocka_unit_test(discarded_frames_are_never_heard),
		cmocka_unit_test(pressure_is_told_once_per_crossing),
		cmocka_unit_test(one_byte_below_the_limit_is_room),
		cmocka_unit_test(accounting_returns_to_zero),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
