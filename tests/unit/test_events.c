/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/events.h"
#include "common/log.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static uint64_t last_added;

static void added(void *arg, const struct event_record *r)
{
	last_added = r->serial;
}

static void test_ring(void **state)
{
	struct events *e = events_new(added, NULL);
	const struct event_record *r;
	int i;

	log_open("test", LOG_ERR);
	assert_null(events_next(e, 0));
	events_add(e, "redis1", "activated", "why", "term epoch", (int64_t)3, (int64_t)-1);
	r = events_next(e, 0);
	assert_string_equal(r->guest, "redis1");
	assert_int_equal(r->nr_fields, 2);
	assert_string_equal(r->fields[1].key, "epoch");
	assert_true(r->fields[0].value == 3 && r->fields[1].value == -1);
	assert_null(events_next(e, 1));

	for (i = 0; i < EVENTS_KEPT + 10; i++)
		events_add(e, NULL, "x", NULL, "");
	assert_int_equal(last_added, EVENTS_KEPT + 11);
	/* What is no longer kept is skipped, nothing else is. */
	assert_int_equal(events_next(e, 0)->serial, 12);
	assert_int_equal(events_next(e, 100)->serial, 101);
	assert_null(events_next(e, last_added));
	assert_null(events_next(e, UINT64_MAX));
	events_free(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_ring)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
