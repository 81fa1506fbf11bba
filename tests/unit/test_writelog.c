/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The epoch's write log, its bound, and its apply to a real file against a naive one. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "checkpoint/disk_apply.h"
#include "checkpoint/disk_replica.h"
#include "checkpoint/writelog.h"

enum { SECTORS = 64, DISK_BYTES = SECTORS * 512, CHANGES = 40, ROUNDS = 300 };

static unsigned int rooms;

static void room(void *arg)
{
	rooms++;
}

static struct block_change a_write(uint64_t sector, uint64_t sectors, int fill)
{
	struct block_change c = {.devid = 51712, .kind = BLOCK_WRITE, .offset_bytes = sector * 512, .bytes = sectors * 512};

	c.data = malloc(c.bytes);
	memset(c.data, fill, c.bytes);
	return c;
}

static void log_write(struct writelog *l, uint64_t sectors, bool reserved)
{
	struct block_change c = a_write(0, sectors, 1);

	writelog_ops.change(l, &c, reserved);
}

static void a_full_log_refuses_until_commit(void **state)
{
	struct writelog *l;

	rooms = 0;
	assert_int_equal(writelog_new(4096, room, NULL, &l), 0);
	assert_true(writelog_ops.reserve(l, 8192)); /* alone it is let in, however large */
	assert_false(writelog_ops.reserve(l, 512));
	log_write(l, 16, true);
	assert_int_equal(writelog_close(l, 1), 0);
	assert_false(writelog_ops.reserve(l, 0));
	assert_int_equal(rooms, 0);
	writelog_commit(l, 1);
	assert_int_equal(rooms, 1);
	assert_int_equal(writelog_bytes(l), 0);
	assert_true(writelog_ops.reserve(l, 512));
	writelog_ops.unreserve(l, 512);
	assert_int_equal(writelog_bytes(l), 0);
	writelog_free(l);
}

static void epochs_stay_apart(void **state)
{
	struct writelog *l;

	assert_int_equal(writelog_new(1 << 20, NULL, NULL, &l), 0);
	log_write(l, 1, false);
	assert_int_equal(writelog_close(l, 5), 0);
	assert_int_equal(writelog_close(l, 6), 0);
	log_write(l, 2, false);
	assert_int_equal(writelog_close(l, 7), 0);
	assert_int_equal(writelog_epoch(l, 5)->change.bytes, 512);
	assert_null(writelog_epoch(l, 6));
	writelog_commit(l, 6);
	assert_null(writelog_epoch(l, 5));
	assert_int_equal(writelog_epoch(l, 7)->change.bytes, 1024);
	writelog_drop(l);
	assert_int_equal(writelog_bytes(l), 0);
	writelog_free(l);
}

/* Captured, not sent, captured again. */
static void an_epoch_that_was_not_sent_gives_back(void **state)
{
	struct writelog *l;

	assert_int_equal(writelog_new(1 << 20, NULL, NULL, &l), 0);
	log_write(l, 1, false);
	assert_int_equal(writelog_close(l, 5), 0);
	log_write(l, 2, false);
	assert_int_equal(writelog_close(l, 6), 0);
	log_write(l, 3, false);
	writelog_reopen(l, 5); /* not the last one: on its way */
	writelog_reopen(l, 6);
	log_write(l, 4, false);
	assert_int_equal(writelog_close(l, 6), 0);
	assert_int_equal(writelog_epoch(l, 5)->change.bytes, 512);
	assert_null(writelog_epoch(l, 5)->next);
	assert_int_equal(writelog_epoch(l, 6)->change.bytes, 1024);
	assert_int_equal(writelog_epoch(l, 6)->next->change.bytes, 1536);
	assert_int_equal(writelog_epoch(l, 6)->next->next->change.bytes, 2048);
	writelog_reopen(l, 6);
	assert_null(writelog_epoch(l, 6));
	assert_int_equal(writelog_close(l, 6), 0);
	writelog_commit(l, 6);
	assert_int_equal(writelog_bytes(l), 0);
	writelog_free(l);
}

static int a_disk(uint8_t *expected)
{
	char path[] = "/var/tmp/writelog.XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	unlink(path);
	memset(expected, 0xee, DISK_BYTES);
	assert_int_equal(pwrite(fd, expected, DISK_BYTES, 0), DISK_BYTES);
	return fd;
}

static struct block_change a_change(uint8_t *expected, int fill)
{
	uint64_t sector = (uint64_t)(rand() % SECTORS), sectors = 1 + (uint64_t)rand() % (SECTORS - sector);
	struct block_change c = a_write(sector, sectors, fill);

	if (rand() % 4 == 0) {
		free(c.data);
		c.data = NULL;
		c.kind = BLOCK_DISCARD;
	}
	memset(expected + c.offset_bytes, c.data ? fill : 0, c.bytes);
	return c;
}

static void overlaps_end_as_if_in_order(void **state)
{
	srand(1);
	for (int round = 0; round < ROUNDS; round++) {
		struct block_change c[CHANGES];
		uint8_t expected[DISK_BYTES], found[DISK_BYTES];
		struct disk_apply_stats s;
		int fd = a_disk(expected);
		struct disk_apply_target t = {.devid = 51712, .fd = fd, .bytes = DISK_BYTES};

		for (int i = 0; i < CHANGES; i++)
			c[i] = a_change(expected, i + 1);
		for (int again = 0; again < 2; again++)
			assert_int_equal(disk_apply(&t, c, CHANGES, &s), 0);
		assert_true(s.written_bytes + s.discarded_bytes <= DISK_BYTES);
		assert_int_equal(pread(fd, found, DISK_BYTES, 0), DISK_BYTES);
		assert_memory_equal(found, expected, DISK_BYTES);
		for (int i = 0; i < CHANGES; i++)
			free(c[i].data);
		close(fd);
	}
}

static void what_cannot_be_applied_is_an_error(void **state)
{
	uint8_t expected[DISK_BYTES], found[DISK_BYTES];
	int fd = a_disk(expected), full = open("/dev/full", O_WRONLY);
	struct disk_apply_target t = {.devid = 51712, .fd = fd, .bytes = DISK_BYTES};
	struct block_change c[2] = {a_write(0, 1, 1), a_write(SECTORS - 1, 2, 1)};

	assert_int_equal(disk_apply(&t, c, 2, NULL), -EINVAL);
	assert_int_equal(pread(fd, found, DISK_BYTES, 0), DISK_BYTES);
	assert_memory_equal(found, expected, DISK_BYTES);
	t.fd = full;
	assert_int_equal(disk_apply(&t, c, 1, NULL), -ENOSPC);
	t.devid++; /* another disk's */
	assert_int_equal(disk_apply(&t, c, 2, NULL), 0);
	free(c[0].data);
	free(c[1].data);
	close(fd);
	close(full);
}

/* Epochs one behind the other, and what a disk that cannot be written means. */
static void a_replica_applies_in_order(void **state)
{
	uint8_t expected[DISK_BYTES], found[DISK_BYTES];
	int fd = a_disk(expected), full = open("/dev/full", O_WRONLY);
	struct block_disk disk[2] = {{.devid = 51712, .fd = fd, .bytes = DISK_BYTES},
				     {.devid = 51728, .fd = full, .bytes = DISK_BYTES}};
	struct block_change c;
	struct disk_replica *r;
	struct epoch *e;

	assert_int_equal(epoch_new(1, &e), 0);
	e->owns_data = true;
	assert_int_equal(disk_replica_new("db1", disk, 2, &r), 0);
	srand(2);
	for (int n = 1; n <= 50; n++) {
		for (int i = 0; i < 3; i++) {
			c = a_change(expected, n + i);
			assert_int_equal(epoch_add_change(e, &c), 0);
		}
		assert_int_equal(disk_replica_add(r, e), 0);
		epoch_reset(e);
	}
	c = (struct block_change){.devid = 51712, .kind = BLOCK_ZERO, .offset_bytes = 512, .bytes = 512};
	memset(expected + 512, 0, 512);
	assert_int_equal(epoch_add_change(e, &c), 0);
	assert_int_equal(disk_replica_add(r, e), 0);
	epoch_reset(e);
	assert_int_equal(disk_replica_finish(r), 0);
	assert_int_equal(pread(fd, found, DISK_BYTES, 0), DISK_BYTES);
	assert_memory_equal(found, expected, DISK_BYTES);

	c = (struct block_change){.devid = 51712, .kind = BLOCK_DISCARD, .offset_bytes = DISK_BYTES, .bytes = 512};
	assert_int_equal(epoch_add_change(e, &c), 0);
	assert_int_equal(disk_replica_add(r, e), -EINVAL);
	epoch_reset(e);
	c = a_write(0, 1, 1);
	c.devid = 51728;
	assert_int_equal(epoch_add_change(e, &c), 0);
	(void)disk_replica_add(r, e); /* it may have failed already */
	epoch_reset(e);
	assert_int_equal(disk_replica_finish(r), -ENOSPC);
	assert_int_equal(disk_replica_add(r, e), -ENOSPC);
	disk_replica_free(r);
	epoch_free(e);
	close(fd);
	close(full);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_full_log_refuses_until_commit),
		cmocka_unit_test(epochs_stay_apart),
		cmocka_unit_test(an_epoch_that_was_not_sent_gives_back),
		cmocka_unit_test(a_replica_applies_in_order),
		cmocka_unit_test(overlaps_end_as_if_in_order),
		cmocka_unit_test(what_cannot_be_applied_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
