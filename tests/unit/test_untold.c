/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/untold.h"

#include <errno.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static const struct tag redis = {.name = "redis1", .policy = "standard", .uuid = {1}, .term = 7};
static const struct tag web = {.name = "web", .policy = "standard", .uuid = {2}, .term = 3};

static char top[] = "/tmp/test_untold.XXXXXX", guests[64], dir[64];
static int away; /* what the peer's being away makes of a question */
static unsigned int nr_asked, nr_found;
static uint64_t last_serial;
static struct untold *u;

static int ask(void *arg, const struct tag *t, uint64_t serial)
{
	if (away)
		return away;
	nr_asked++;
	last_serial = serial;
	return 0;
}

static void found(void *arg, const struct tag *t)
{
	nr_found++;
}

static unsigned int files(const char *where)
{
	nr_found = 0;
	assert_true(tags_load(where, found, NULL) >= 0);
	return nr_found;
}

static int begin(void **state)
{
	strcpy(top + sizeof(top) - 7, "XXXXXX");
	assert_non_null(mkdtemp(top));
	snprintf(guests, sizeof(guests), "%s/guests", top);
	snprintf(dir, sizeof(dir), "%s/untold", top);
	assert_int_equal(mkdir(guests, 0700) | mkdir(dir, 0700), 0);
	assert_int_equal(tag_save(guests, &redis) | tag_save(guests, &web), 0);
	away = 0;
	nr_asked = 0;
	assert_int_equal(untold_new(guests, dir, ask, NULL, &u), 0);
	return 0;
}

static int end(void **state)
{
	char command[96];

	untold_free(u);
	snprintf(command, sizeof(command), "rm -rf %s", top);
	return system(command);
}

/* The file moves, the peer is asked, and only the answer to this question ends it. */
static void test_confirmed(void **state)
{
	assert_int_equal(untold_add(u, &redis), 0);
	assert_int_equal(nr_asked, 1);
	assert_int_equal(files(guests), 1);
	assert_int_equal(files(dir), 1);
	assert_int_equal(untold_find(u, redis.uuid)->term, 7);
	assert_false(untold_answered(u, redis.uuid, last_serial - 1));
	assert_false(untold_answered(u, web.uuid, last_serial));
	assert_true(untold_answered(u, redis.uuid, last_serial));
	assert_int_equal(untold_forget(u, redis.uuid), 0);
	assert_int_equal(files(dir), 0);
	assert_int_equal(untold_count(u), 0);
	assert_null(untold_find(u, redis.uuid));
	assert_false(untold_answered(u, redis.uuid, last_serial));
	assert_int_equal(untold_forget(u, redis.uuid), 0);
}

/* Untagged, tagged again, untagged: the answer to the first is none to the second. */
static void test_again(void **state)
{
	uint64_t first;

	assert_int_equal(untold_add(u, &redis), 0);
	first = last_serial;
	assert_int_equal(untold_forget(u, redis.uuid), 0);
	assert_int_equal(tag_save(guests, &redis), 0);
	assert_int_equal(untold_add(u, &redis), 0);
	assert_false(untold_answered(u, redis.uuid, first));
	assert_true(untold_answered(u, redis.uuid, last_serial));
}

static void test_asks(void **state)
{
	uint64_t now = UINT64_MAX / 2, again = now + UNTOLD_AGAIN_MS * 1000ull;

	away = -ENOTCONN;
	assert_int_equal(untold_add(u, &redis), 0);
	assert_int_equal(untold_add(u, &web), 0);
	untold_ask_all(u, now, true);
	assert_int_equal(nr_asked, 0);
	away = 0;
	untold_ask_all(u, now, false); /* nobody was asked yet: nothing to wait for */
	assert_int_equal(nr_asked, 2);
	untold_ask_all(u, again - 1, false);
	assert_int_equal(nr_asked, 2);
	untold_ask_all(u, again, false);
	assert_int_equal(nr_asked, 4);
	untold_ask_all(u, again, true); /* a new session */
	assert_int_equal(nr_asked, 6);
}

static void test_restart(void **state)
{
	const struct tag *t, *next;

	assert_int_equal(untold_add(u, &redis), 0);
	assert_int_equal(untold_add(u, &web), 0);
	untold_free(u);
	u = NULL;
	nr_asked = 0;
	assert_int_equal(untold_new(guests, dir, ask, NULL, &u), 0);
	assert_int_equal(untold_count(u), 2);
	t = untold_next(u, NULL);
	next = untold_next(u, t);
	assert_string_not_equal(t->name, next->name);
	assert_null(untold_next(u, next));
	untold_ask_all(u, 1, false);
	assert_int_equal(nr_asked, 2);
}

/* Nothing to move, nowhere to: the caller must not believe that it is untold. */
static void test_errors(void **state)
{
	static const struct tag other = {.name = "other", .policy = "standard", .uuid = {3}};
	struct untold *none;

	assert_int_equal(untold_add(u, &other), -ENOENT);
	assert_int_equal(untold_count(u), 0);
	assert_int_equal(untold_new(guests, "/nonexistent", ask, NULL, &none), -ENOENT);
	assert_int_equal(rmdir(dir), 0);
	assert_int_equal(untold_add(u, &redis), -ENOENT);
	assert_int_equal(files(guests), 2);
	assert_int_equal(nr_asked, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_confirmed, begin, end),
		cmocka_unit_test_setup_teardown(test_again, begin, end),
		cmocka_unit_test_setup_teardown(test_asks, begin, end),
		cmocka_unit_test_setup_teardown(test_restart, begin, end),
		cmocka_unit_test_setup_teardown(test_errors, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
