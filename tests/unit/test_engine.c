/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The epoch over its participants: what happens when each of them fails in turn (I1, I5). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "checkpoint/engine.h"

#include <errno.h>
#include <string.h>

enum step { STEP_NONE, STEP_SETUP, STEP_DRAIN, STEP_DRAIN_PAUSED, STEP_CAPTURE, STEP_COMMIT };
enum { PARTS = 3 };

static struct fake {
	struct participant base;
	enum step fails_at;
	int error;
	unsigned int setups, drains, captures, commits, aborts, teardowns;
} fakes[PARTS];

static bool stopped;
static unsigned int stops, goes;

static struct fake *self(struct participant *p)
{
	return participant_self(p, struct fake, base);
}

static int outcome(struct fake *f, enum step step)
{
	return f->fails_at == step ? f->error : 0;
}

static int fake_setup(struct participant *p)
{
	self(p)->setups++;
	return outcome(self(p), STEP_SETUP);
}

static int fake_drain(struct participant *p, bool paused)
{
	assert_int_equal(paused, stopped);
	self(p)->drains++;
	return outcome(self(p), paused ? STEP_DRAIN_PAUSED : STEP_DRAIN);
}

static int fake_capture(struct participant *p, struct epoch *e)
{
	assert_true(stopped);
	self(p)->captures++;
	return outcome(self(p), STEP_CAPTURE);
}

static int fake_commit(struct participant *p, uint64_t number)
{
	self(p)->commits++;
	return outcome(self(p), STEP_COMMIT);
}

static void fake_abort(struct participant *p)
{
	assert_false(stopped);
	self(p)->aborts++;
}

static int fake_activate(struct participant *p, const struct epoch *last)
{
	return 0;
}

static void fake_teardown(struct participant *p)
{
	self(p)->teardowns++;
}

static const struct participant_ops fake_ops = {
	.name = "fake",
	.setup = fake_setup,
	.drain = fake_drain,
	.capture = fake_capture,
	.commit = fake_commit,
	.abort = fake_abort,
	.activate = fake_activate,
	.teardown = fake_teardown,
};

static int fake_stop(void *arg)
{
	stops++;
	stopped = true;
	return 0;
}

static int fake_go(void *arg)
{
	goes++;
	stopped = false;
	return 0;
}

static const struct quiesce_ops fake_quiesce = {.name = "fake", .stop = fake_stop, .go = fake_go};

static struct engine fresh(void)
{
	struct engine en = {.guest = "g", .quiesce = &fake_quiesce};
	unsigned int i;

	memset(fakes, 0, sizeof(fakes));
	stopped = false;
	stops = goes = 0;
	for (i = 0; i < PARTS; i++) {
		fakes[i].base.ops = &fake_ops;
		fakes[i].error = -EIO;
		en.part[en.nr++] = &fakes[i].base;
	}
	return en;
}

static void test_good_epoch(void **state)
{
	struct engine en = fresh();
	struct epoch e = {.number = 1};
	unsigned int i;

	assert_int_equal(engine_setup(&en), 0);
	assert_int_equal(engine_capture(&en, &e), 0);
	assert_int_equal(engine_commit(&en, 1), 0);
	for (i = 0; i < PARTS; i++) {
		assert_int_equal(fakes[i].drains, 2);
		assert_int_equal(fakes[i].captures, 1);
		assert_int_equal(fakes[i].commits, 1);
		assert_int_equal(fakes[i].aborts, 0);
	}
	assert_int_equal(stops, 1);
	assert_int_equal(goes, 1);
}

/* Whoever fails, at whatever step: the guest runs, everyone hears of the abort. */
static void test_each_fails_in_turn(void **state)
{
	static const enum step steps[] = {STEP_DRAIN, STEP_DRAIN_PAUSED, STEP_CAPTURE};
	unsigned int i, j, k;

	for (i = 0; i < PARTS; i++) {
		for (j = 0; j < sizeof(steps) / sizeof(steps[0]); j++) {
			struct engine en = fresh();
			struct epoch e = {.number = 1};

			fakes[i].fails_at = steps[j];
			assert_int_equal(engine_capture(&en, &e), -EIO);
			assert_false(stopped);
			assert_int_equal(stops, goes);
			for (k = 0; k < PARTS; k++) {
				assert_int_equal(fakes[k].aborts, 1);
				assert_int_equal(fakes[k].commits, 0);
			}
		}
	}
}

/* The last participant's commit lets output go: it must not be reached once another has failed. */
static void test_commit_stops_at_the_first_error(void **state)
{
	unsigned int i;

	for (i = 0; i < PARTS; i++) {
		struct engine en = fresh();

		fakes[i].fails_at = STEP_COMMIT;
		assert_int_equal(engine_commit(&en, 1), -EIO);
		if (i < PARTS - 1)
			assert_int_equal(fakes[PARTS - 1].commits, 0);
	}
}

static void test_failed_setup_undoes_the_others(void **state)
{
	unsigned int i, k;

	for (i = 0; i < PARTS; i++) {
		struct engine en = fresh();

		fakes[i].fails_at = STEP_SETUP;
		assert_int_equal(engine_setup(&en), -EIO);
		for (k = 0; k < PARTS; k++) {
			assert_int_equal(fakes[k].setups, k <= i);
			assert_int_equal(fakes[k].teardowns, k < i);
		}
	}
}

static void test_final_epoch_keeps_the_guest_stopped(void **state)
{
	struct engine en = fresh();
	struct epoch e = {.number = 1, .flags = EPOCH_FINAL};

	assert_int_equal(engine_capture(&en, &e), 0);
	assert_true(stopped);

	en = fresh();
	fakes[1].fails_at = STEP_CAPTURE;
	assert_int_equal(engine_capture(&en, &e), -EIO);
	assert_false(stopped);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_epoch),
		cmocka_unit_test(test_each_fails_in_turn),
		cmocka_unit_test(test_commit_stops_at_the_first_error),
		cmocka_unit_test(test_failed_setup_undoes_the_others),
		cmocka_unit_test(test_final_epoch_keeps_the_guest_stopped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
