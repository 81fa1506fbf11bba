/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the backup keeps of the guest's traffic: in order, until it is pointless, bounded. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/framelog.h"

enum { FRAMES_MAX = 2 * FRAMELOG_BYTES_MAX / 1000 };

static struct {
	unsigned int nr;
	uint8_t first[FRAMES_MAX];
} guest;

static int give(struct netback *nb, uint32_t devid, const void *data, size_t len)
{
	if (devid)
		return -ENODEV;
	guest.first[guest.nr++] = *(const uint8_t *)data;
	return 0;
}

static void add(struct framelog *log, uint64_t epoch, uint32_t devid, uint8_t fill)
{
	uint8_t frame[1000];

	memset(frame, fill, sizeof(frame));
	framelog_add(log, epoch, devid, frame, sizeof(frame));
}

static void the_last_epochs_are_kept_in_order(void **state)
{
	struct framelog *log;

	guest.nr = 0;
	assert_int_equal(framelog_new(&log), 0);
	for (uint8_t n = 1; n <= 12; n++)
		add(log, 5 + n / 4, n == 10, n);
	framelog_forget(log, 4);
	framelog_forget(log, 6);
	assert_int_equal(framelog_give(log, give, NULL), 4);
	assert_memory_equal(guest.first, ((const uint8_t[]){8, 9, 11, 12}), 4);
	assert_int_equal(framelog_give(log, give, NULL), 4); /* the activation failed and is tried again */
	framelog_forget(log, 8);
	assert_int_equal(framelog_give(log, give, NULL), 0);
	add(log, 9, 0, 13);
	assert_int_equal(framelog_give(log, give, NULL), 1);
	framelog_forget(log, UINT64_MAX);
	assert_int_equal(framelog_give(log, give, NULL), 0);
	framelog_free(log);
}

static void it_is_bounded(void **state)
{
	struct framelog *log;
	unsigned int kept;

	guest.nr = 0;
	assert_int_equal(framelog_new(&log), 0);
	for (unsigned int n = 0; n < FRAMES_MAX; n++)
		add(log, 1 + n / 100, 0, (uint8_t)n);
	kept = framelog_give(log, give, NULL);
	assert_in_range(kept, FRAMES_MAX / 4, FRAMELOG_BYTES_MAX / 1000);
	assert_int_equal(guest.first[kept - 1], (uint8_t)(kept - 1));
	framelog_forget(log, 2); /* makes room again */
	add(log, 1000, 0, 77);
	assert_int_equal(framelog_give(log, give, NULL), kept - 200 + 1);
	assert_int_equal(guest.first[guest.nr - 1], 77);
	framelog_free(log);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_last_epochs_are_kept_in_order),
		cmocka_unit_test(it_is_bounded),
	};

	return cmocka_run_group_tests_name("framelog", tests, NULL, NULL);
}
