/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/fsm.h"

#include <errno.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void test_names(void **state)
{
	unsigned int i;

	for (i = 0; i < GUEST_STATES; i++)
		assert_non_null(guest_state_name[i]);
	for (i = 0; i < GUEST_EVENTS; i++)
		assert_non_null(guest_event_name[i]);
	assert_int_equal(fsm_next(GUEST_STATES, GUEST_APPEARED), -EINVAL);
	assert_int_equal(fsm_next(GUEST_ABSENT, GUEST_EVENTS), -EINVAL);
}

/* The lives that guests lead. */
static void test_paths(void **state)
{
	static const enum guest_event life[] = {
		GUEST_APPEARED,	   GUEST_TRY_PROTECT, GUEST_PREPARED,	 GUEST_SYNCED,
		GUEST_LOST,	   GUEST_DROPPED,     GUEST_TRY_PROTECT, GUEST_REFUSED,
		GUEST_TRY_PROTECT, GUEST_PREPARED,    GUEST_SYNCED,	 GUEST_SWITCH,
		GUEST_FINISHED,	   GUEST_OUTRANKED,   GUEST_RETIRED,	 GUEST_PREPARE,
		GUEST_SHELL_READY, GUEST_CURRENT,     GUEST_STALE,	 GUEST_PREPARE,
		GUEST_CURRENT,	   GUEST_TAKE_OVER,   GUEST_ACTIVATED,	 GUEST_TRY_PROTECT,
		GUEST_PREPARED,	   GUEST_WORKER_GONE, GUEST_UNTAG,
	};
	enum guest_state s = GUEST_ABSENT;
	unsigned int i;

	for (i = 0; i < sizeof(life) / sizeof(life[0]); i++) {
		int next = fsm_next(s, life[i]);

		assert_true(next >= 0);
		s = (enum guest_state)next;
	}
	assert_int_equal(s, GUEST_UNTAGGING);
}

/* Only a whole, current epoch may be activated (I3), and a guest is active in one place only (I2).
 */
static void test_never(void **state)
{
	unsigned int s;

	for (s = 0; s < GUEST_STATES; s++) {
		int next = fsm_next(s, GUEST_TAKE_OVER);

		assert_int_equal(next, s == GUEST_STANDBY ? GUEST_ACTIVATING : -EINVAL);
		if (fsm_runs_here(s)) {
			assert_int_equal(fsm_next(s, GUEST_PREPARE), -EINVAL);
			assert_int_equal(fsm_next(s, GUEST_SHELL_READY), -EINVAL);
			assert_int_equal(fsm_next(s, GUEST_CURRENT), -EINVAL);
			assert_int_equal(fsm_next(s, GUEST_ACTIVATED), -EINVAL);
		}
		if (fsm_has_shell(s)) {
			assert_int_equal(fsm_next(s, GUEST_APPEARED), -EINVAL);
			assert_int_equal(fsm_next(s, GUEST_SYNCED), -EINVAL);
			assert_int_equal(fsm_next(s, GUEST_FINISHED), -EINVAL);
			assert_int_equal(fsm_next(s, GUEST_OUTRANKED), -EINVAL);
		}
		/* Standby is reached from a whole epoch, or by giving an activation up that changed
		 * nothing. */
		for (unsigned int e = 0; e < GUEST_EVENTS; e++)
			if (s != GUEST_STANDBY && fsm_next(s, e) == GUEST_STANDBY)
				assert_true(e == GUEST_CURRENT || e == GUEST_ACTIVATE_FAILED);
	}
	/* A stale copy, a dead worker, a new baseline: no longer current. */
	assert_int_equal(fsm_next(GUEST_STANDBY, GUEST_STALE), GUEST_WAITING);
	assert_int_equal(fsm_next(GUEST_STANDBY, GUEST_WORKER_GONE), GUEST_WAITING);
	assert_int_equal(fsm_next(GUEST_STANDBY, GUEST_PREPARE), GUEST_WAITING);
	/* The final epoch is committed: only the peer's word or the operator's ends the wait. */
	assert_int_equal(fsm_next(GUEST_HANDING_OVER, GUEST_WORKER_GONE), GUEST_HANDING_OVER);
	assert_int_equal(fsm_next(GUEST_HANDING_OVER, GUEST_LOST), GUEST_HANDING_OVER);
	assert_int_equal(fsm_next(GUEST_HANDING_OVER, GUEST_UNTAG), -EINVAL);
	assert_int_equal(fsm_next(GUEST_ACTIVATING, GUEST_UNPREPARE), -EINVAL);
	assert_int_equal(fsm_next(GUEST_UNPROTECTED, GUEST_SWITCH), -EINVAL);
	assert_int_equal(fsm_next(GUEST_DEGRADED, GUEST_SWITCH), -EINVAL);
}

/* From every state the guest can get back to protected or absent: nothing is a trap. */
static void test_no_trap(void **state)
{
	unsigned int s, e, round;

	for (s = 0; s < GUEST_STATES; s++) {
		unsigned int reached = 1u << s;

		for (round = 0; round < GUEST_STATES; round++)
			for (unsigned int from = 0; from < GUEST_STATES; from++)
				for (e = 0; reached & 1u << from && e < GUEST_EVENTS; e++)
					if (fsm_next(from, e) >= 0)
						reached |= 1u << fsm_next(from, e);
		if (s != GUEST_UNTAGGING) /* that one ends the object */
			assert_true(reached & 1u << GUEST_PROTECTED &&
				    reached & 1u << GUEST_STANDBY);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_never),
		cmocka_unit_test(test_no_trap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
