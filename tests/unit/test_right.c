/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The right to run: when it is lost and regained, and that it is asked of the clock, not of a timer that may be late. */
#include "checkpoint/right.h"
#include "common/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

enum { MARGIN_MS = 10, DRIFT_PPM = 10000 };

static struct event_base *base;
static int nr_lost, nr_regained;

static void lost(void *arg)
{
	nr_lost++;
}

static void regained(void *arg)
{
	nr_regained++;
}

static const struct right_ops ops = {.lost = lost, .regained = regained};

static void run_ms(unsigned int ms)
{
	struct timeval tv = {.tv_usec = ms * 1000};

	event_base_loopexit(base, &tv);
	event_base_dispatch(base);
}

static int set_up(void **state)
{
	static struct right r;

	base = event_base_new();
	nr_lost = nr_regained = 0;
	assert_int_equal(right_begin(&r, base, &ops, NULL), 0);
	*state = &r;
	return 0;
}

static int tear_down(void **state)
{
	right_end(*state);
	right_end(*state);	/* twice is harmless */
	event_base_free(base);
	return 0;
}

static void test_without_a_witness(void **state)
{
	struct right *r = *state;

	assert_true(right_now(r));
	right_promise(r, 1);
	run_ms(20);
	assert_true(right_now(r));
	assert_true(right_left_us(r) == RIGHT_FOR_EVER);
	assert_int_equal(nr_lost, 0);
}

static void test_limited(void **state)
{
	struct right *r = *state;

	right_limit(r, DRIFT_PPM, MARGIN_MS);
	assert_false(right_now(r));		/* nothing was said yet */
	right_promise(r, 100000);
	assert_true(right_now(r));
	/* Less drift and margin. */
	assert_in_range(right_left_us(r), 80000, 100000 - 1000 - MARGIN_MS * 1000);
	right_promise(r, 50000);		/* one that ends sooner takes nothing back */
	assert_true(right_left_us(r) > 60000);
	run_ms(200);
	assert_false(right_now(r));
	assert_int_equal(nr_lost, 1);
	right_promise(r, 5000);			/* nothing is left of it */
	assert_int_equal(nr_regained, 0);
	right_lease(r, clock_us() + 60000);
	assert_int_equal(nr_regained, 1);
	assert_true(right_now(r));
	right_lease(r, clock_us() - 1);		/* the daemon may take it back */
	assert_false(right_now(r));
	run_ms(120);
	assert_int_equal(nr_lost, 2);
	right_lease(r, RIGHT_FOR_EVER);
	assert_int_equal(nr_regained, 2);
	assert_true(right_left_us(r) == RIGHT_FOR_EVER);
}

/* Extended all the time it is never lost, with one timer. */
static void test_extended(void **state)
{
	struct right *r = *state;
	int i;

	right_limit(r, DRIFT_PPM, MARGIN_MS);
	for (i = 0; i < 20; i++) {
		right_promise(r, 500000);
		run_ms(5);
	}
	assert_int_equal(nr_lost + nr_regained, 0);
	assert_true(right_now(r));
}

/* A process that stood still finds its right gone before any timer has told it. */
static void test_stood_still(void **state)
{
	struct right *r = *state;

	right_limit(r, DRIFT_PPM, MARGIN_MS);
	right_promise(r, 50000);
	usleep(60000);
	assert_false(right_now(r));
	assert_int_equal(nr_lost, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_without_a_witness, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_limited, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_extended, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_stood_still, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
