/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The length of epochs against a guest whose pause is a constant and a part of what it changes, with noise. */
#include "checkpoint/pace.h"
#include "tests/unit/stream_fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum { MIN_US = 10000, MAX_US = 400000, PCT = 10, CONVERGED_US = 3000000 };

struct load {
	uint32_t fixed_us;    /* each epoch */
	double us_per_ms;     /* and for each millisecond of it, until the working set is dirty */
	uint32_t most_us;
};

static uint32_t pause_of(const struct load *l, uint32_t epoch_us, uint64_t *seed)
{
	double us = l->us_per_ms * epoch_us / 1000;

	us = l->fixed_us + (us < l->most_us ? us : l->most_us);
	return (uint32_t)(us * (double)(90 + fake_random(seed) % 21) / 100);
}

/* Runs for that long; the share of pauses in the second half, in percent. */
static double run(struct pace *p, const struct load *l, uint64_t for_us)
{
	uint64_t at_us = 0, seed = 7, paused_us = 0, since_us = 0;
	uint32_t epoch_us = p->epoch_us;

	while (at_us < for_us) {
		uint32_t pause_us = pause_of(l, epoch_us, &seed);

		at_us += epoch_us + pause_us;
		if (at_us > for_us / 2) {
			paused_us += pause_us;
			since_us += epoch_us + pause_us;
		}
		epoch_us = pace_next(p, pause_us);
		assert_in_range(epoch_us, MIN_US, MAX_US);
	}
	return 100.0 * (double)paused_us / (double)since_us;
}

static void test_fixed(void **state)
{
	struct pace p;

	pace_begin(&p, 25000, 0, PCT);
	for (uint32_t pause_us = 1; pause_us < 1000000; pause_us *= 3)
		assert_int_equal(pace_next(&p, pause_us), 25000);
	pace_begin(&p, 25000, 20000, PCT);
	assert_int_equal(pace_next(&p, 1000000), 25000);
}

static void test_converges(void **state)
{
	const struct load idle = {.fixed_us = 500}, some = {2000, 30, 20000}, busy = {3000, 60, 25000}, hopeless = {20000, 500, 500000};
	struct pace p;
	double share;

	pace_begin(&p, MIN_US, MAX_US, PCT);
	share = run(&p, &idle, CONVERGED_US);
	assert_int_equal(p.epoch_us, MIN_US); /* it costs less than it may */
	assert_true(share < PCT);
	share = run(&p, &some, CONVERGED_US);
	assert_true(share > PCT - 1.5 && share < PCT + 1.5);
	assert_in_range(p.epoch_us, 20000, 40000);
	share = run(&p, &busy, CONVERGED_US);
	assert_true(share > PCT - 1.5 && share < PCT + 1.5);
	assert_in_range(p.epoch_us, 50000, 100000);
	run(&p, &hopeless, CONVERGED_US); /* the bound holds, whatever it costs */
	assert_int_equal(p.epoch_us, MAX_US);
	run(&p, &idle, 2 * CONVERGED_US);
	assert_int_equal(p.epoch_us, MIN_US);
}

/* One long pause, as of a host that was busy with something else, moves it little. */
static void test_outlier(void **state)
{
	const struct load some = {2000, 30, 20000};
	struct pace p;
	uint32_t before;

	pace_begin(&p, MIN_US, MAX_US, PCT);
	run(&p, &some, CONVERGED_US);
	before = p.epoch_us;
	pace_next(&p, 300000);
	assert_in_range(p.epoch_us, before, before + before / 4);
	run(&p, &some, CONVERGED_US);
	assert_in_range(p.epoch_us, before * 8 / 10, before * 12 / 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fixed),
		cmocka_unit_test(test_converges),
		cmocka_unit_test(test_outlier),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
