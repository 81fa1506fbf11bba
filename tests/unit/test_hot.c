/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hot pages, against a model of what the hypervisor does with the keep bitmap. */
#include "checkpoint/hot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GFNS = 4096, WORDS = GFNS / 64 };

/* A guest's p2m and dirty log, as relog.c keeps them. */
struct machine {
	struct hot hot;
	uint64_t dirty[WORDS], keep[WORDS], read[WORDS];
	bool writable[GFNS];
	unsigned int faults, copies;
};

static bool bit(const uint64_t *bits, uint64_t gfn)
{
	return bits[gfn / 64] >> gfn % 64 & 1;
}

static void flip(uint64_t *bits, uint64_t gfn, bool on)
{
	uint64_t mask = 1ull << gfn % 64;

	bits[gfn / 64] = on ? bits[gfn / 64] | mask : bits[gfn / 64] & ~mask;
}

static void guest_writes(struct machine *m, uint64_t gfn)
{
	if (m->writable[gfn])
		return;
	m->faults++;
	m->writable[gfn] = true;
	flip(m->dirty, gfn, true);
}

static void epoch(struct machine *m)
{
	uint64_t gfn;

	memcpy(m->read, m->dirty, sizeof(m->read));
	for (gfn = 0; gfn < GFNS; gfn++) {
		assert_int_equal(m->writable[gfn], bit(m->dirty, gfn));	/* what the hypervisor relies on */
		if (!bit(m->read, gfn) || bit(m->keep, gfn))
			continue;
		m->writable[gfn] = false;
		flip(m->dirty, gfn, false);
	}
	hot_epoch(&m->hot, m->keep);
	for (gfn = 0; gfn < GFNS; gfn++)
		if (bit(m->read, gfn)) {
			m->copies++;
			hot_dirty(&m->hot, gfn, m->keep);
		}
	assert_true(m->hot.nr_kept <= HOT_PAGES_MAX);
}

static struct machine *boot(void)
{
	struct machine *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	assert_int_equal(hot_init(&m->hot, GFNS), 0);
	return m;
}

static void halt(struct machine *m)
{
	hot_free(&m->hot);
	free(m);
}

static void test_page_of_every_epoch(void **state)
{
	struct machine *m = boot();
	unsigned int i;

	for (i = 0; i < 1000; i++) {
		guest_writes(m, 7);
		epoch(m);
		assert_true(bit(m->read, 7));
	}
	assert_int_equal(m->copies, 1000);
	assert_in_range(m->faults, 4, 1000 / 20);
	halt(m);
}

static void test_page_of_every_other_epoch(void **state)
{
	struct machine *m = boot();
	unsigned int i;

	for (i = 0; i < 100; i++) {
		if (i % 2)
			guest_writes(m, 7);
		epoch(m);
		assert_int_equal(bit(m->read, 7), i % 2);
	}
	assert_int_equal(m->faults, 50);
	assert_int_equal(m->copies, 50);
	halt(m);
}

/* It is copied in vain for a while, once; and leaves no room taken behind, whenever it stops. */
static void test_page_that_cools(void **state)
{
	unsigned int writes, i;

	for (writes = 1; writes < 200; writes++) {
		struct machine *m = boot();

		for (i = 0; i < writes; i++) {
			guest_writes(m, 4095);
			epoch(m);
		}
		for (i = 0; i < HOT_LONGEST + 4; i++)
			epoch(m);
		assert_int_equal(m->hot.nr_kept, 0);
		assert_false(bit(m->keep, 4095));
		assert_false(m->writable[4095]);
		assert_true(m->copies <= writes + HOT_LONGEST + 1);
		halt(m);
	}
}

static void test_what_cooled_starts_anew(void **state)
{
	struct machine *m = boot();
	unsigned int i, before;

	for (i = 0; i < 300; i++) {
		guest_writes(m, 1);
		epoch(m);
	}
	for (i = 0; i < 2 * HOT_LONGEST; i++)
		epoch(m);
	before = m->copies;
	for (i = 0; i < HOT_AFTER + 1; i++) {
		guest_writes(m, 1);
		epoch(m);
	}
	for (i = 0; i < 2 * HOT_LONGEST; i++)
		epoch(m);
	assert_in_range(m->copies - before, HOT_AFTER + 1, HOT_AFTER + 1 + HOT_FIRST);
	halt(m);
}

static void test_bounded(void **state)
{
	struct machine *m = boot();
	uint64_t gfn;
	unsigned int i;

	for (i = 0; i < 50; i++) {
		for (gfn = 0; gfn < 3 * HOT_PAGES_MAX; gfn++)
			guest_writes(m, gfn);
		epoch(m);
	}
	assert_int_equal(m->copies, 50 * 3 * HOT_PAGES_MAX);
	for (i = 0; i < HOT_LONGEST + 4; i++)
		epoch(m);
	assert_int_equal(m->hot.nr_kept, 0);
	hot_dirty(&m->hot, GFNS, m->keep);	/* a grant frame that appeared later */
	halt(m);
}

/* Every write is in the bitmap of its epoch, whatever is kept. */
static void test_random_writes(void **state)
{
	struct machine *m = boot();
	bool written[GFNS];
	unsigned int i, j;
	uint64_t gfn;

	srandom(1);
	for (i = 0; i < 2000; i++) {
		memset(written, 0, sizeof(written));
		for (j = 0; j < 200; j++) {
			gfn = (uint64_t)random() % (random() % 3 ? 150 : GFNS);
			guest_writes(m, gfn);
			written[gfn] = true;
		}
		epoch(m);
		for (gfn = 0; gfn < GFNS; gfn++)
			if (written[gfn])
				assert_true(bit(m->read, gfn));
	}
	halt(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_page_of_every_epoch),
		cmocka_unit_test(test_page_of_every_other_epoch),
		cmocka_unit_test(test_page_that_cools),
		cmocka_unit_test(test_what_cooled_starts_anew),
		cmocka_unit_test(test_bounded),
		cmocka_unit_test(test_random_writes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
