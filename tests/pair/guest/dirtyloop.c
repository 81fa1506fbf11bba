/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * dirtyloop PAGES_PER_S MIB: dirties pages of a buffer at a steady rate and measures what the guest
 * sees of its pauses.
 *
 * One loop reads the clock, touches the pages that are due, and counts its rounds. A gap is the
 * time between two consecutive clock readings above GAP_FLOOR_US; the checkpoints of a protected
 * guest show up there. A rate of 0 dirties nothing and only measures.
 *
 * TCP port 7001, one command a line:
 *   report   one line "name=value ..." since the last reset
 *   reset    starts the measurement anew, answers "ok"
 *   rate N   changes the rate, answers "ok"
 *   size MIB dirties only so much of the buffer from now on, answers "ok"
 *   longest N  the N longest gaps in microseconds, descending, in one line
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "lineserver.h"

enum {
	PORT = 7001,
	PAGE_BYTES = 4096,
	GAP_FLOOR_US = 100, /* below this a gap is the loop's own time or a timer interrupt */
	GAPS = 1 << 16,	    /* remembered for the percentiles: the last so many */
	GAP_CHARS = 11,	    /* a gap in an answer, with the blank before it */
};

struct loop {
	unsigned char *buffer;
	uint64_t pages;
	_Atomic uint64_t used; /* pages of the buffer that are dirtied, one after the other */
	_Atomic uint64_t rate;
	_Atomic int reset_asked;
	pthread_mutex_t lock; /* what follows is written by the loop, read by reports */
	uint64_t start_us, rounds, dirtied, gap_total_us, gap_max_us, gap_count;
	uint32_t gaps_us[GAPS];
};

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void loop_reset(struct loop *loop, uint64_t now)
{
	pthread_mutex_lock(&loop->lock);
	loop->start_us = now;
	loop->rounds = loop->dirtied = 0;
	loop->gap_total_us = loop->gap_max_us = loop->gap_count = 0;
	pthread_mutex_unlock(&loop->lock);
}

static void note_gap(struct loop *loop, uint64_t gap_us)
{
	pthread_mutex_lock(&loop->lock);
	loop->gaps_us[loop->gap_count++ % GAPS] =
		gap_us > UINT32_MAX ? UINT32_MAX : (uint32_t)gap_us;
	loop->gap_total_us += gap_us;
	if (gap_us > loop->gap_max_us)
		loop->gap_max_us = gap_us;
	pthread_mutex_unlock(&loop->lock);
}

static void *loop_run(void *arg)
{
	struct loop *loop = arg;
	uint64_t next = 0, value = 1, last, due_from, rate, issued = 0;

	last = due_from = now_us();
	loop_reset(loop, last);
	rate = loop->rate;
	for (;;) {
		uint64_t now = now_us();

		if (now - last >= GAP_FLOOR_US)
			note_gap(loop, now - last);
		last = now;
		if (atomic_exchange(&loop->reset_asked, 0) || rate != loop->rate) {
			rate = loop->rate;
			due_from = now;
			issued = 0;
			loop_reset(loop, now);
		}
		/* By the clock: after a pause the loop catches up. */
		for (uint64_t due = (now - due_from) * rate / 1000000; issued < due; issued++) {
			memcpy(loop->buffer + next * PAGE_BYTES, &value, sizeof(value));
			value++;
			next = (next + 1) % loop->used;
			loop->dirtied++;
		}
		loop->rounds++;
	}
	return NULL;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* The remembered gaps, ascending, into sorted[GAPS]; how many. */
static uint64_t sort_gaps(struct loop *loop, uint32_t *sorted)
{
	uint64_t seen;

	pthread_mutex_lock(&loop->lock);
	seen = loop->gap_count < GAPS ? loop->gap_count : GAPS;
	memcpy(sorted, loop->gaps_us, seen * sizeof(*sorted));
	pthread_mutex_unlock(&loop->lock);
	qsort(sorted, seen, sizeof(*sorted), compare);
	return seen;
}

/* The checkpoints among the gaps are the longest ones: the others are the kernel's own. */
static void send_longest(struct loop *loop, uint64_t count, struct line_client *client)
{
	uint32_t *sorted = malloc(GAPS * sizeof(*sorted));
	char *answer = malloc(GAPS * GAP_CHARS + 2);
	uint64_t seen, i;
	size_t used = 0;

	if (sorted && answer) {
		seen = sort_gaps(loop, sorted);
		for (i = 0; i < count && i < seen; i++)
			used += (size_t)snprintf(answer + used, GAP_CHARS + 1, "%u ",
						 sorted[seen - 1 - i]);
		answer[used++] = '\n';
		line_send(client, answer, used);
	} else {
		line_send(client, "error: no memory\n", strlen("error: no memory\n"));
	}
	free(answer);
	free(sorted);
}

static void report(struct loop *loop, char *answer, size_t size)
{
	static uint32_t sorted[GAPS];
	uint64_t seen, elapsed_us = now_us() - loop->start_us;

	seen = sort_gaps(loop, sorted);
	snprintf(answer, size,
		 "elapsed_us=%llu rounds=%llu rounds_per_s=%llu pages_dirtied=%llu rate=%llu "
		 "gaps=%llu "
		 "gap_total_us=%llu gap_p50_us=%u gap_p99_us=%u gap_max_us=%llu\n",
		 (unsigned long long)elapsed_us, (unsigned long long)loop->rounds,
		 (unsigned long long)(elapsed_us ? loop->rounds * 1000000 / elapsed_us : 0),
		 (unsigned long long)loop->dirtied, (unsigned long long)loop->rate,
		 (unsigned long long)loop->gap_count, (unsigned long long)loop->gap_total_us,
		 seen ? sorted[seen / 2] : 0, seen ? sorted[seen * 99 / 100] : 0,
		 (unsigned long long)loop->gap_max_us);
}

static void answer_line(void *context, const char *line, struct line_client *client)
{
	struct loop *loop = context;
	char answer[512];
	unsigned long long number;

	if (!strcmp(line, "report")) {
		report(loop, answer, sizeof(answer));
	} else if (!strcmp(line, "reset")) {
		loop->reset_asked = 1;
		while (loop->reset_asked)
			usleep(1000);
		strcpy(answer, "ok\n");
	} else if (sscanf(line, "rate %llu", &number) == 1) {
		loop->rate = number;
		strcpy(answer, "ok\n");
	} else if (sscanf(line, "size %llu", &number) == 1 && number > 0 &&
		   number <= loop->pages >> 8) {
		loop->used = number << 8;
		strcpy(answer, "ok\n");
	} else if (sscanf(line, "longest %llu", &number) == 1) {
		send_longest(loop, number, client);
		return;
	} else {
		strcpy(answer, "error: report, reset, rate N, size MIB or longest N\n");
	}
	line_send(client, answer, strlen(answer));
}

int main(int argc, char **argv)
{
	static struct loop loop = {.lock = PTHREAD_MUTEX_INITIALIZER};
	pthread_t thread;
	uint64_t mib;

	if (argc != 3 || (mib = strtoull(argv[2], NULL, 10)) == 0) {
		fprintf(stderr, "usage: dirtyloop PAGES_PER_S MIB\n");
		return 2;
	}
	loop.rate = strtoull(argv[1], NULL, 10);
	loop.pages = loop.used = mib << 8;
	loop.buffer = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (loop.buffer == MAP_FAILED) {
		perror("dirtyloop: mmap");
		return 1;
	}
	if (pthread_create(&thread, NULL, loop_run, &loop)) {
		fprintf(stderr, "dirtyloop: no thread\n");
		return 1;
	}
	return line_serve(PORT, answer_line, &loop);
}
