/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/tags.h"

#include <errno.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static const struct tag sample = {
	.name = "redis1",
	.policy = "standard",
	.uuid = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0xff},
	.backup = true,
	.current = true,
	.handing_over = false,
	.term = 18446744073709551615u,
	.epoch = 77,
};
static char why[128];

static void assert_same(const struct tag *a, const struct tag *b)
{
	assert_string_equal(a->name, b->name);
	assert_string_equal(a->policy, b->policy);
	assert_memory_equal(a->uuid, b->uuid, 16);
	assert_int_equal(a->backup, b->backup);
	assert_int_equal(a->current, b->current);
	assert_int_equal(a->handing_over, b->handing_over);
	assert_true(a->term == b->term && a->epoch == b->epoch);
}

static void test_round_trip(void **state)
{
	char text[1024];
	struct tag t;
	int len = tag_format(&sample, text, sizeof(text));

	assert_true(len > 0);
	assert_int_equal(tag_parse(&t, text, (size_t)len, why, sizeof(why)), 0);
	assert_same(&t, &sample);
	assert_int_equal(tag_format(&sample, text, 100), -ENOBUFS);
}

/* Every prefix, and every single changed byte, is refused. */
static void test_damage(void **state)
{
	char text[1024], copy[1024];
	struct tag t;
	int len = tag_format(&sample, text, sizeof(text)), i;

	for (i = 0; i < len; i++)
		assert_int_equal(tag_parse(&t, text, (size_t)i, why, sizeof(why)), -EINVAL);
	for (i = 0; i < len; i++) {
		memcpy(copy, text, sizeof(copy));
		copy[i] ^= 1;
		assert_int_equal(tag_parse(&t, copy, (size_t)len, why, sizeof(why)), -EINVAL);
		assert_non_null(strstr(why, "line "));
	}
	memcpy(copy, text, sizeof(copy));
	copy[len] = '\n';
	assert_int_equal(tag_parse(&t, copy, (size_t)len + 1, why, sizeof(why)), -EINVAL);
	copy[3] = '\0';
	assert_int_equal(tag_parse(&t, copy, (size_t)len, why, sizeof(why)), -EINVAL);
	memset(copy, 'x', sizeof(copy));
	assert_int_equal(tag_parse(&t, copy, sizeof(copy), why, sizeof(why)), -EINVAL);
}

static unsigned int nr_found;
static struct tag last_found;

static void found(void *arg, const struct tag *t)
{
	nr_found++;
	last_found = *t;
}

static void write_file(const char *dir, const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void test_files(void **state)
{
	char dir[] = "/tmp/test_tags.XXXXXX", uuid[UUID_TEXT], path[256], command[300];
	struct tag t = sample;

	assert_non_null(mkdtemp(dir));
	assert_int_equal(tag_save(dir, &t), 0);
	t.epoch = 78;
	assert_int_equal(tag_save(dir, &t), 0);
	write_file(dir, "00000000-0000-0000-0000-000000000000.state", "garbage\n");
	write_file(dir, ".hidden.state", "x");
	write_file(dir, "notes", "x");
	assert_int_equal(tags_load(dir, found, NULL), 1);
	assert_int_equal(nr_found, 1);
	assert_same(&last_found, &t);

	/* The bad one is set aside, not read again, not lost. */
	snprintf(path, sizeof(path), "%s/00000000-0000-0000-0000-000000000000.state.bad", dir);
	assert_int_equal(access(path, F_OK), 0);

	/* A good file under another guest's name is no good. */
	uuid_format(t.uuid, uuid);
	snprintf(command, sizeof(command),
		 "mv %s/%s.state %s/11111111-0000-0000-0000-000000000000.state", dir, uuid, dir);
	assert_int_equal(system(command), 0);
	assert_int_equal(tags_load(dir, found, NULL), 0);

	assert_int_equal(tag_save(dir, &t), 0);
	assert_int_equal(tag_remove(dir, t.uuid), 0);
	assert_int_equal(tag_remove(dir, t.uuid), 0);
	assert_int_equal(tags_load(dir, found, NULL), 0);
	assert_int_equal(tags_load("/nonexistent", found, NULL), -ENOENT);
	assert_int_equal(tag_save("/nonexistent", &t), -ENOENT);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	assert_int_equal(system(command), 0);
}

static void test_move(void **state)
{
	char from[] = "/tmp/test_tags.XXXXXX", to[] = "/tmp/test_tags.XXXXXX", command[300];
	struct tag t = sample;

	assert_non_null(mkdtemp(from));
	assert_non_null(mkdtemp(to));
	assert_int_equal(tag_move(from, to, t.uuid), -ENOENT);
	assert_int_equal(tag_save(to, &t), 0); /* what is there is replaced */
	t.epoch = 79;
	assert_int_equal(tag_save(from, &t), 0);
	assert_int_equal(tag_move(from, "/nonexistent", t.uuid), -ENOENT);
	assert_int_equal(tags_load(from, found, NULL), 1);
	assert_int_equal(tag_move(from, to, t.uuid), 0);
	assert_int_equal(tags_load(from, found, NULL), 0);
	assert_int_equal(tags_load(to, found, NULL), 1);
	assert_same(&last_found, &t);
	snprintf(command, sizeof(command), "rm -rf %s %s", from, to);
	assert_int_equal(system(command), 0);
}

static void test_uuid(void **state)
{
	static const char *const bad[] = {
		"",
		"x",
		"01020304-0506-0708-090a-0b0c0d0e0fff0",
		"01020304-0506-0708-090a-0b0c0d0e0ff",
		"0102030400506-0708-090a-0b0c0d0e0fff",
		"0102030g-0506-0708-090a-0b0c0d0e0fff",
	};
	uint8_t uuid[16];
	char text[UUID_TEXT];
	unsigned int i;

	uuid_format(sample.uuid, text);
	assert_string_equal(text, "01020304-0506-0708-090a-0b0c0d0e0fff");
	assert_int_equal(uuid_parse(text, uuid), 0);
	assert_memory_equal(uuid, sample.uuid, 16);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(uuid_parse(bad[i], uuid), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_damage),
		cmocka_unit_test(test_files),	   cmocka_unit_test(test_move),
		cmocka_unit_test(test_uuid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
