/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ring of a disk, seen from the front end. Grant copy and event channel are fakes; the I/O below is real, on files. A kill is an
 * attachment that is dropped without an answer and made anew on the same ring.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/event.h>

#include "checkpoint/writelog.h"
#include "pvdrivers/block/vbd.h"
#include "pvdrivers/evtchn.h"

enum { PAGES = 600, DISK_BYTES = 8 << 20, SPINS_MAX = 100000 };

static struct world {
	struct block bb;
	struct vbd *v;
	blkif_sring_t *ring;
	uint8_t page[PAGES][RING_PAGE_SIZE];
	uint8_t shared[4 * RING_PAGE_SIZE] __attribute__((aligned(4096)));
	struct answer_mark mark;
	unsigned int notified, woken, looked;
	char path[64];
} * w;

int grant_copy(struct grant *g, enum grant_direction direction, const struct grant_segment *segments, int16_t *status,
	       unsigned int nr)
{
	assert_true(nr <= GRANT_SEGMENTS_MAX);
	for (unsigned int i = 0; i < nr; i++) {
		const struct grant_segment *s = &segments[i];

		assert_true(s->offset + s->len <= RING_PAGE_SIZE);
		status[i] = s->ref < PAGES ? GNTST_okay : GNTST_bad_gntref;
		if (status[i])
			continue;
		if (direction == GRANT_READ)
			memcpy(s->local, w->page[s->ref] + s->offset, s->len);
		else
			memcpy(w->page[s->ref] + s->offset, s->local, s->len);
	}
	return 0;
}

int evtchn_notify(struct evtchn_port *p)
{
	w->notified++;
	return 0;
}

static void wake(struct vbd *v)
{
	w->woken++;
}

void devices_look_soon(void *arg)
{
	w->looked++;
}

static void attach(bool fresh)
{
	assert_int_equal(device_open(w->path, w->v->readonly, "db1", &w->v->device), 0);
	assert_int_equal(queue_attach(w->v, w->shared, fresh), 0);
	w->v->attached = true;
}

/* What a successor finds: the ring as it is. The old one's I/O ends before its device can be opened again. */
static void detach(void)
{
	queue_detach(w->v);
	while (io_in_flight(w->bb.io))
		io_wait(w->bb.io);
	device_close(&w->v->device);
}

static int begin_with(void **state, bool threads_only)
{
	int fd;

	w = calloc(1, sizeof(*w));
	w->v = &w->bb.vbd[0];
	w->v->block = &w->bb;
	w->v->wake = wake;
	w->v->port = (struct evtchn_port *)w; /* never looked into */
	w->v->present = true;
	w->v->mark = &w->mark;
	w->v->ring_pages = 1;
	strcpy(w->v->name, "xvda");
	w->bb.config.guest = "db1";
	w->bb.config.base = event_base_new();
	assert_int_equal(io_engine_new(w->bb.config.base, "db1", threads_only, &w->bb.io), 0);
	strcpy(w->path, "/var/tmp/blockring.XXXXXX");
	fd = mkstemp(w->path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, DISK_BYTES), 0);
	close(fd);
	w->ring = (blkif_sring_t *)w->shared;
	w->ring->req_prod = w->ring->rsp_prod = UINT32_MAX - 3; /* the indexes wrap in most tests */
	w->ring->req_event = w->ring->rsp_event = UINT32_MAX - 2;
	attach(true);
	return 0;
}

static int begin(void **state)
{
	return begin_with(state, false);
}

static int begin_threads(void **state)
{
	return begin_with(state, true);
}

static int end(void **state)
{
	detach();
	io_engine_free(w->bb.io);
	event_base_free(w->bb.config.base);
	unlink(w->path);
	free(w);
	return 0;
}

static void *slot(RING_IDX at)
{
	return RING_GET_REQUEST(&w->v->ring, at);
}

/* Pages `page`.. hold the data, whole pages. */
static void put(uint8_t operation, uint64_t id, uint64_t sector, uint32_t page, uint8_t pages)
{
	blkif_request_t r = {.operation = operation, .nr_segments = pages, .id = id, .sector_number = sector};

	for (uint8_t i = 0; i < pages && i < BLKIF_MAX_SEGMENTS_PER_REQUEST; i++)
		r.seg[i] = (struct blkif_request_segment){.gref = page + i, .first_sect = 0, .last_sect = 7};
	memcpy(slot(w->ring->req_prod), &r, sizeof(r));
	w->ring->req_prod++;
}

static void put_discard(uint64_t id, uint64_t sector, uint64_t sectors, uint8_t flag)
{
	blkif_request_discard_t r = {
		.operation = BLKIF_OP_DISCARD, .flag = flag, .id = id, .sector_number = sector, .nr_sectors = sectors};

	memcpy(slot(w->ring->req_prod), &r, sizeof(r));
	w->ring->req_prod++;
}

/* Runs the back end until everything published is answered. */
static void settle(void)
{
	for (int i = 0; i < SPINS_MAX && w->ring->rsp_prod != w->ring->req_prod; i++) {
		assert_true(queue_run(w->v) >= 0);
		io_wait(w->bb.io);
	}
	assert_int_equal(w->ring->rsp_prod, w->ring->req_prod);
}

static void expect(RING_IDX at, uint64_t id, int16_t status)
{
	const blkif_response_t *r = &w->ring->ring[at & (RING_SIZE(&w->v->ring) - 1)].rsp;

	assert_int_equal(r->id, id);
	assert_int_equal(r->status, status);
}

static uint8_t byte_of_disk(uint64_t sector)
{
	int fd = open(w->path, O_RDONLY);
	uint8_t b;

	assert_int_equal(pread(fd, &b, 1, (off_t)sector * 512), 1);
	close(fd);
	return b;
}

static void what_is_written_is_read(void **state)
{
	RING_IDX at = w->ring->req_prod;

	for (int i = 0; i < 11; i++)
		memset(w->page[i], i + 1, RING_PAGE_SIZE);
	put(BLKIF_OP_WRITE, 71, 64, 0, 11);
	put(BLKIF_OP_READ, 72, 64, 20, 11); /* must wait for the write */
	settle();
	expect(at, 71, BLKIF_RSP_OKAY);
	expect(at + 1, 72, BLKIF_RSP_OKAY);
	assert_memory_equal(w->page[0], w->page[20], 11 * RING_PAGE_SIZE);
	assert_true(w->notified > 0);
	assert_int_equal(w->v->in_flight_bytes, 0);
}

static void a_page_in_part(void **state)
{
	RING_IDX at = w->ring->req_prod;
	blkif_request_t *r;

	memset(w->page[0], 0xcc, RING_PAGE_SIZE);
	put(BLKIF_OP_WRITE, 1, 9, 0, 1);
	r = slot(at);
	r->seg[0].first_sect = 2;
	r->seg[0].last_sect = 2;
	settle();
	expect(at, 1, BLKIF_RSP_OKAY);
	assert_int_equal(byte_of_disk(8), 0);
	assert_int_equal(byte_of_disk(9), 0xcc);
	assert_int_equal(byte_of_disk(10), 0);
}

static void overlapping_writes_end_in_ring_order(void **state)
{
	for (int round = 0; round < 50; round++) {
		for (int i = 0; i < 16; i++) {
			memset(w->page[i], 16 * (round & 7) + i, RING_PAGE_SIZE);
			put(BLKIF_OP_WRITE, (uint64_t)i, 8, (uint32_t)i, 1);
		}
		settle();
		assert_int_equal(byte_of_disk(8), 16 * (round & 7) + 15);
	}
}

/* The second is complete long before the first may run; its answer waits. */
static void answers_come_in_order(void **state)
{
	RING_IDX at = w->ring->req_prod;

	put(BLKIF_OP_WRITE, 1, 0, 0, 11);
	put(BLKIF_OP_READ, 2, 4096, 20, 1);
	assert_int_equal(queue_run(w->v), 0);
	for (int i = 0; i < SPINS_MAX && w->v->set->slot[(at + 1) & 31].stage != SLOT_DONE; i++)
		io_wait(w->bb.io);
	w->v->set->slot[at & 31].stage = SLOT_RUNNING; /* as if it were slow */
	assert_int_equal(queue_run(w->v), 0);
	assert_int_equal(w->ring->rsp_prod, at);
	for (int i = 0; i < SPINS_MAX && io_in_flight(w->bb.io); i++)
		io_wait(w->bb.io);
	w->v->set->slot[at & 31].stage = SLOT_DONE;
	assert_int_equal(queue_run(w->v), 0);
	assert_int_equal(w->ring->rsp_prod, at + 2);
	expect(at, 1, BLKIF_RSP_OKAY);
	expect(at + 1, 2, BLKIF_RSP_OKAY);
}

static void indirect_requests(void **state)
{
	struct blkif_request_segment *seg = (struct blkif_request_segment *)w->page[PAGES - 1];
	blkif_request_indirect_t r = {.operation = BLKIF_OP_INDIRECT,
				      .indirect_op = BLKIF_OP_WRITE,
				      .nr_segments = BLOCK_SEGMENTS_MAX,
				      .id = 5,
				      .sector_number = 0,
				      .indirect_grefs = {PAGES - 1}};
	RING_IDX at = w->ring->req_prod;

	for (int i = 0; i < BLOCK_SEGMENTS_MAX; i++) {
		memset(w->page[i], i, RING_PAGE_SIZE);
		seg[i] = (struct blkif_request_segment){.gref = (uint32_t)i, .last_sect = 7};
	}
	memcpy(slot(w->ring->req_prod++), &r, sizeof(r));
	settle();
	expect(at, 5, BLKIF_RSP_OKAY);
	for (unsigned int i = 0; i < BLOCK_SEGMENTS_MAX; i++)
		assert_int_equal(byte_of_disk(8 * i), i & 0xff);

	r.nr_segments++;
	memcpy(slot(w->ring->req_prod++), &r, sizeof(r));
	r.nr_segments = 1;
	r.indirect_grefs[0] = PAGES + 7;
	memcpy(slot(w->ring->req_prod++), &r, sizeof(r));
	r.indirect_op = BLKIF_OP_INDIRECT;
	memcpy(slot(w->ring->req_prod++), &r, sizeof(r));
	settle();
	for (RING_IDX i = 1; i <= 3; i++)
		expect(at + i, 5, BLKIF_RSP_ERROR);
}

static void nonsense_is_refused(void **state)
{
	RING_IDX at = w->ring->req_prod;
	blkif_request_t *r;

	put(99, 1, 0, 0, 1);					/* no such operation */
	put(BLKIF_OP_READ, 2, DISK_BYTES / 512, 0, 1);		/* behind the end */
	put(BLKIF_OP_READ, 3, UINT64_MAX, 0, 1);
	put(BLKIF_OP_READ, 4, 0, 0, 12);			/* too many segments */
	put(BLKIF_OP_WRITE, 5, 0, PAGES, 1);			/* a bad grant */
	put(BLKIF_OP_READ, 6, 0, PAGES, 1);
	put(BLKIF_OP_READ, 7, 0, 0, 0);
	put(BLKIF_OP_READ, 8, 0, 0, 1);
	r = slot(at + 7);
	r->seg[0].last_sect = 8;				/* leaves its page */
	put(BLKIF_OP_READ, 9, 0, 0, 1);
	r = slot(at + 8);
	r->seg[0].first_sect = 5;
	r->seg[0].last_sect = 4;
	put_discard(10, 0, 8, BLKIF_DISCARD_SECURE);
	put_discard(11, UINT64_MAX - 3, 8, 0);
	settle();
	for (uint64_t i = 0; i < 11; i++)
		expect(at + (RING_IDX)i, i + 1, i == 0 || i == 9 ? BLKIF_RSP_EOPNOTSUPP : BLKIF_RSP_ERROR);
	assert_int_equal(w->v->stats.errors, 11);
	assert_int_equal(w->v->in_flight_bytes, 0);
}

static void impossible_indexes_end_it(void **state)
{
	w->ring->req_prod = w->ring->rsp_prod + 33;
	assert_int_equal(queue_run(w->v), -EPROTO);
	w->ring->req_prod = w->ring->rsp_prod - 1;
	assert_int_equal(queue_run(w->v), -EPROTO);
	w->ring->req_prod = w->ring->rsp_prod;
	put(BLKIF_OP_READ, 1, 0, 0, 1);
	put(BLKIF_OP_READ, 1, 0, 0, 1);
	assert_int_equal(queue_run(w->v), 0);
	w->ring->req_prod--; /* takes one back that was consumed */
	assert_int_equal(queue_run(w->v), -EPROTO);
}

static void sectors_of_4096(void **state)
{
	RING_IDX at = w->ring->req_prod;

	w->v->device.sector_bytes = 4096;
	put(BLKIF_OP_READ, 1, 4, 0, 1);
	put(BLKIF_OP_READ, 2, 8, 0, 1);
	settle();
	expect(at, 1, BLKIF_RSP_ERROR);
	expect(at + 1, 2, BLKIF_RSP_OKAY);
}

static void read_only_disks(void **state)
{
	RING_IDX at = w->ring->req_prod;

	detach();
	w->v->readonly = true;
	attach(true);
	put(BLKIF_OP_WRITE, 1, 0, 0, 1);
	put(BLKIF_OP_READ, 2, 0, 0, 1);
	put(BLKIF_OP_FLUSH_DISKCACHE, 3, 0, 0, 0);
	put_discard(4, 0, 8, 0);
	settle();
	expect(at, 1, BLKIF_RSP_ERROR);
	expect(at + 1, 2, BLKIF_RSP_OKAY);
	expect(at + 2, 3, BLKIF_RSP_OKAY);
	expect(at + 3, 4, BLKIF_RSP_EOPNOTSUPP);
}

static void discard_and_barrier(void **state)
{
	RING_IDX at = w->ring->req_prod;

	memset(w->page[0], 1, RING_PAGE_SIZE);
	put(BLKIF_OP_WRITE, 1, 0, 0, 1);
	put(BLKIF_OP_WRITE_BARRIER, 2, 8, 0, 1);
	put_discard(3, 0, 8, 0);
	put(BLKIF_OP_FLUSH_DISKCACHE, 4, 0, 0, 0);
	settle();
	for (RING_IDX i = 0; i < 4; i++)
		expect(at + i, i + 1, BLKIF_RSP_OKAY);
	assert_int_equal(byte_of_disk(0), 0);
	assert_int_equal(byte_of_disk(8), 1);
}

/* The file became shorter than the disk was: a short read is an error, not old memory. */
static void errors_of_the_disk_reach_the_guest(void **state)
{
	RING_IDX at = w->ring->req_prod;
	int full;

	assert_int_equal(truncate(w->path, 4096), 0);
	put(BLKIF_OP_READ, 1, 8, 0, 1);
	settle();
	expect(at, 1, BLKIF_RSP_ERROR);
	full = open("/dev/full", O_RDWR);
	assert_true(full >= 0);
	assert_true(dup2(full, w->v->device.fd) >= 0);
	close(full);
	put(BLKIF_OP_WRITE, 2, 0, 0, 1);
	settle();
	expect(at + 1, 2, BLKIF_RSP_ERROR);
}

static void a_successor_serves_what_was_not_answered(void **state)
{
	RING_IDX at = w->ring->req_prod;

	memset(w->page[0], 1, RING_PAGE_SIZE);
	memset(w->page[1], 2, RING_PAGE_SIZE);
	put(BLKIF_OP_WRITE, 1, 0, 0, 1);
	put(BLKIF_OP_WRITE, 2, 0, 1, 1);
	put(BLKIF_OP_READ, 3, 0, 5, 1);
	assert_int_equal(queue_run(w->v), 0);
	while (io_in_flight(w->bb.io)) /* done, some of it, and not answered */
		io_wait(w->bb.io);
	detach();
	assert_int_equal(w->ring->rsp_prod, at);
	attach(false);
	assert_int_equal(w->v->stats.served_again, 3);
	settle();
	for (RING_IDX i = 0; i < 3; i++)
		expect(at + i, i + 1, BLKIF_RSP_OKAY);
	assert_int_equal(byte_of_disk(0), 2);
	assert_int_equal(w->page[5][0], 2);
}

/* Who waits for Closed must not find the device still being written to. */
static void the_end_of_the_last_io_is_told(void **state)
{
	put(BLKIF_OP_WRITE, 1, 0, 0, 1);
	assert_int_equal(queue_run(w->v), 0);
	assert_int_equal(io_in_flight(w->bb.io), 1);
	queue_detach(w->v);
	assert_non_null(w->v->orphan);
	while (io_in_flight(w->bb.io))
		io_wait(w->bb.io);
	assert_null(w->v->orphan);
	assert_int_equal(w->looked, 1);

	/* Nobody waits any more. */
	attach(false);
	assert_int_equal(queue_run(w->v), 0);
	queue_detach(w->v);
	queue_abandon(w->v);
	while (io_in_flight(w->bb.io))
		io_wait(w->bb.io);
	assert_int_equal(w->looked, 1);
}

/* Killed between the slots and rsp_prod: slots that are neither request nor answered. */
static void a_torn_answer_is_given_again(void **state)
{
	blkif_response_t answer[2] = {{.id = 0x0506, .operation = BLKIF_OP_WRITE}, {.id = 2, .operation = BLKIF_OP_WRITE, .status = -1}};
	RING_IDX at = w->ring->req_prod;

	put(BLKIF_OP_WRITE, 0x0506, 0, 0, 1);
	put(BLKIF_OP_WRITE, 2, 8, 0, 1);
	put(BLKIF_OP_READ, 3, 0, 5, 1);
	mark_begin(&w->mark, at, answer, 2);
	memcpy(slot(at), &answer[0], 12);
	detach();
	attach(false);
	assert_int_equal(w->ring->rsp_prod, at + 2);
	settle();
	expect(at, 0x0506, BLKIF_RSP_OKAY);
	expect(at + 1, 2, BLKIF_RSP_ERROR);
	expect(at + 2, 3, BLKIF_RSP_OKAY);
	assert_int_equal(w->mark.nr, 0);

	/* Another ring's mark is not believed. */
	mark_begin(&w->mark, w->ring->rsp_prod, answer, 2);
	detach();
	attach(true);
	assert_int_equal(w->ring->rsp_prod, at + 3);
}

static void the_lock_keeps_a_second_back_end_out(void **state)
{
	struct device d;

	assert_int_equal(device_open(w->path, false, "db1", &d), -EBUSY);
	assert_int_equal(device_open(w->path, true, "db1", &d), 0);
	device_close(&d);
}

static void more_than_one_ring_page(void **state)
{
	RING_IDX at;

	detach();
	memset(w->shared, 0, sizeof(w->shared));
	w->v->ring_pages = 4;
	attach(true);
	assert_int_equal(RING_SIZE(&w->v->ring), 128);
	at = w->ring->req_prod;
	for (unsigned int i = 0; i < 128; i++)
		put(BLKIF_OP_READ, i, i * 8, i, 1);
	settle();
	for (unsigned int i = 0; i < 128; i++)
		expect(at + i, i, BLKIF_RSP_OKAY);
}

static void the_log_holds_what_is_answered(void **state)
{
	struct writelog *log;
	const struct writelog_entry *e;
	RING_IDX at = w->ring->req_prod;

	assert_int_equal(writelog_new(12288, NULL, NULL, &log), 0);
	w->bb.log = &writelog_ops;
	w->bb.log_arg = log;
	memset(w->page[0], 7, RING_PAGE_SIZE);
	put(BLKIF_OP_WRITE, 1, 0, 0, 1);
	put(BLKIF_OP_READ, 2, 0, 5, 1);
	put(BLKIF_OP_WRITE, 3, DISK_BYTES, 0, 1); /* refused: not in the log */
	put_discard(4, 8, 8, 0);
	settle();
	assert_int_equal(writelog_close(log, 1), 0);
	e = writelog_epoch(log, 1);
	assert_non_null(e);
	assert_int_equal(e->change.kind, BLOCK_WRITE);
	assert_int_equal(e->change.bytes, 4096);
	assert_memory_equal(e->change.data, w->page[0], 4096);
	assert_int_equal(e->next->change.kind, BLOCK_DISCARD);
	assert_null(e->next->next);

	/* Full: the third write stays in the ring until the commit. */
	at = w->ring->req_prod;
	put(BLKIF_OP_WRITE, 5, 0, 0, 1);
	put(BLKIF_OP_WRITE, 6, 8, 0, 1);
	for (int i = 0; i < 20; i++) {
		assert_true(queue_run(w->v) >= 0);
		io_wait(w->bb.io);
	}
	assert_int_equal(w->ring->rsp_prod, at + 1);
	writelog_commit(log, 1);
	settle();
	w->bb.log = NULL;
	writelog_free(log);
}

#define ON_BOTH(test)                                                                                                  \
	cmocka_unit_test_setup_teardown(test, begin, end), cmocka_unit_test_setup_teardown(test, begin_threads, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_BOTH(what_is_written_is_read),
		ON_BOTH(a_page_in_part),
		ON_BOTH(overlapping_writes_end_in_ring_order),
		ON_BOTH(answers_come_in_order),
		ON_BOTH(indirect_requests),
		ON_BOTH(nonsense_is_refused),
		ON_BOTH(impossible_indexes_end_it),
		ON_BOTH(sectors_of_4096),
		ON_BOTH(read_only_disks),
		ON_BOTH(discard_and_barrier),
		ON_BOTH(errors_of_the_disk_reach_the_guest),
		ON_BOTH(a_successor_serves_what_was_not_answered),
		ON_BOTH(the_end_of_the_last_io_is_told),
		ON_BOTH(a_torn_answer_is_given_again),
		ON_BOTH(the_lock_keeps_a_second_back_end_out),
		ON_BOTH(more_than_one_ring_page),
		ON_BOTH(the_log_holds_what_is_answered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
