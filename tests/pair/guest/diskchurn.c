/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * diskchurn DEVICE MIB: writes and reads DEVICE from MIB on, several requests at a time, and remembers in memory what every
 * sector must hold. Whatever becomes of the hosts, the two may never disagree: a write that the guest saw done and that
 * the disk lost, or one on the disk that the guest's memory knows nothing of, is found by the next read.
 *
 * TCP port 7004, one command a line:
 *   check         answers "writes W reads R errors E TEXT", TEXT being the first error
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "lineserver.h"

enum {
	PORT = 7004,
	THREADS = 8,
	SECTOR_BYTES = 512,
	REGION_SECTORS = 2048, /* each thread's own */
	REQUEST_SECTORS_MAX = 128,
	FLUSH_IN = 16,
	READ_IN = 3,
	PAUSE_US = 100000,
};

struct sector {
	uint64_t number, generation;
	uint64_t fill[SECTOR_BYTES / sizeof(uint64_t) - 2];
};

_Static_assert(sizeof(struct sector) == SECTOR_BYTES, "a sector");

struct churn {
	int fd;
	uint64_t first_sector;
	unsigned int seed;
	uint64_t generation[REGION_SECTORS]; /* 0: never written */
	struct sector *buffer;		     /* [REQUEST_SECTORS_MAX] */
};

static struct {
	pthread_mutex_t lock;
	uint64_t writes, reads, errors;
	char first_error[160];
} total = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void count(uint64_t *what, const char *error)
{
	pthread_mutex_lock(&total.lock);
	if (error && !total.errors)
		snprintf(total.first_error, sizeof(total.first_error), "%s", error);
	++*what;
	pthread_mutex_unlock(&total.lock);
}

static void fill(struct sector *s, uint64_t number, uint64_t generation)
{
	s->number = number;
	s->generation = generation;
	for (size_t i = 0; i < sizeof(s->fill) / sizeof(s->fill[0]); i++)
		s->fill[i] = generation ? (number << 32) ^ (generation * 0x9e3779b97f4a7c15) ^ i : 0;
	if (!generation)
		s->number = 0;
}

static void failed(const char *what, uint64_t sector, int error)
{
	char text[160];

	snprintf(text, sizeof(text), "%s of sector %llu: %s", what, (unsigned long long)sector, strerror(error));
	count(&total.errors, text);
}

static void write_some(struct churn *c, unsigned int at, unsigned int nr)
{
	off_t offset = (off_t)((c->first_sector + at) * SECTOR_BYTES);
	static uint64_t generation;
	uint64_t mine = __atomic_add_fetch(&generation, 1, __ATOMIC_RELAXED);

	for (unsigned int i = 0; i < nr; i++)
		fill(&c->buffer[i], c->first_sector + at + i, mine);
	if (pwrite(c->fd, c->buffer, nr * SECTOR_BYTES, offset) != (ssize_t)(nr * SECTOR_BYTES)) {
		failed("write", c->first_sector + at, errno);
		return;
	}
	for (unsigned int i = 0; i < nr; i++)
		c->generation[at + i] = mine;
	count(&total.writes, NULL);
}

static void read_some(struct churn *c, unsigned int at, unsigned int nr)
{
	off_t offset = (off_t)((c->first_sector + at) * SECTOR_BYTES);
	struct sector expected;
	char text[160];

	if (pread(c->fd, c->buffer, nr * SECTOR_BYTES, offset) != (ssize_t)(nr * SECTOR_BYTES)) {
		failed("read", c->first_sector + at, errno);
		return;
	}
	for (unsigned int i = 0; i < nr; i++) {
		const struct sector *found = &c->buffer[i];

		fill(&expected, c->first_sector + at + i, c->generation[at + i]);
		if (!memcmp(found, &expected, sizeof(expected)))
			continue;
		snprintf(text, sizeof(text), "sector %llu holds %llu of sector %llu, memory says %llu",
			 (unsigned long long)(c->first_sector + at + i), (unsigned long long)found->generation,
			 (unsigned long long)found->number, (unsigned long long)c->generation[at + i]);
		count(&total.errors, text);
		return;
	}
	count(&total.reads, NULL);
}

static void *churn(void *arg)
{
	const struct timespec pause = {.tv_nsec = PAUSE_US * 1000};
	struct churn *c = arg;

	for (;;) {
		unsigned int nr = 1 + (unsigned int)rand_r(&c->seed) % REQUEST_SECTORS_MAX;
		unsigned int at = (unsigned int)rand_r(&c->seed) % (REGION_SECTORS - nr);

		if (rand_r(&c->seed) % READ_IN == 0)
			read_some(c, at, nr);
		else
			write_some(c, at, nr);
		if (rand_r(&c->seed) % FLUSH_IN == 0 && fdatasync(c->fd))
			failed("flush", 0, errno);
		nanosleep(&pause, NULL);
	}
	return NULL;
}

static bool start(const char *device, uint64_t from_mib, unsigned int number)
{
	struct churn *c = calloc(1, sizeof(*c));
	pthread_t thread;
	void *buffer;

	if (!c || posix_memalign(&buffer, 4096, REQUEST_SECTORS_MAX * SECTOR_BYTES))
		return false;
	c->buffer = buffer;
	c->seed = number + 1;
	c->first_sector = (from_mib << 20) / SECTOR_BYTES + (uint64_t)number * REGION_SECTORS;
	c->fd = open(device, O_RDWR | O_DIRECT | O_CLOEXEC);
	/* What an earlier guest left there is not ours. */
	memset(c->buffer, 0, REQUEST_SECTORS_MAX * SECTOR_BYTES);
	for (unsigned int at = 0; at < REGION_SECTORS; at += REQUEST_SECTORS_MAX)
		if (pwrite(c->fd, c->buffer, REQUEST_SECTORS_MAX * SECTOR_BYTES,
			   (off_t)((c->first_sector + at) * SECTOR_BYTES)) != REQUEST_SECTORS_MAX * SECTOR_BYTES) {
			perror(device);
			return false;
		}
	return !pthread_create(&thread, NULL, churn, c);
}

static void answer_line(void *context, const char *line, struct line_client *client)
{
	char answer[LINE_BYTES];

	(void)context;
	pthread_mutex_lock(&total.lock);
	snprintf(answer, sizeof(answer), "writes %llu reads %llu errors %llu %s\n", (unsigned long long)total.writes,
		 (unsigned long long)total.reads, (unsigned long long)total.errors, total.first_error);
	pthread_mutex_unlock(&total.lock);
	if (strcmp(line, "check"))
		snprintf(answer, sizeof(answer), "error: check\n");
	line_send(client, answer, strlen(answer));
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: diskchurn DEVICE MIB\n");
		return 2;
	}
	for (unsigned int i = 0; i < THREADS; i++)
		if (!start(argv[1], strtoull(argv[2], NULL, 10), i))
			return 1;
	return line_serve(PORT, answer_line, NULL);
}
