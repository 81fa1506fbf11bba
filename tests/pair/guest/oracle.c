/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * oracle [DEVICE]: a server whose whole state is in memory and can be checked from outside. What it answered
 * it must still know after a failover. With DEVICE, tokens are written there and flushed before they are answered,
 * and `dump` tells what is read from there; where memory says another thing, that is an error.
 *
 * TCP port 7002, one command a line:
 *   put TOKEN     appends TOKEN (1 to 31 characters) to the state; answers "INDEX TOKEN", INDEX
 *                 counting from 1
 *   get INDEX     answers "INDEX TOKEN"
 *   count         answers the number of tokens
 *   dump          answers every "INDEX TOKEN", then "end COUNT"
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>

#include "lineserver.h"

enum {
	PORT = 7002,
	TOKEN_BYTES = 32,
	TOKENS = 1 << 20, /* 32 MiB of address space; pages are touched as tokens arrive */
	RECORD_BYTES = 4096, /* on the disk; record 0 has the count, record N token N */
	DISK_TOKENS = 8000,
};

struct state {
	pthread_mutex_t lock;
	unsigned int count;
	char tokens[TOKENS][TOKEN_BYTES];
};

static struct state state = {.lock = PTHREAD_MUTEX_INITIALIZER};
static int disk = -1;

static bool disk_write(unsigned int record, const char *text)
{
	static char buffer[RECORD_BYTES] __attribute__((aligned(RECORD_BYTES)));

	memset(buffer, 0, sizeof(buffer));
	strcpy(buffer, text);
	return pwrite(disk, buffer, RECORD_BYTES, (off_t)record * RECORD_BYTES) == RECORD_BYTES;
}

/* The token, then the count over the last one: two writes of which the second is overlapped by the next token's. */
static bool keep(unsigned int index, const char *token)
{
	char number[16];

	if (disk < 0)
		return true;
	snprintf(number, sizeof(number), "%u", index);
	return index < DISK_TOKENS && disk_write(index, token) && disk_write(0, number) && !fdatasync(disk);
}

/* Memory's answer, or what the disk says against it. */
static const char *kept(unsigned int record, const char *expected)
{
	static char buffer[RECORD_BYTES] __attribute__((aligned(RECORD_BYTES)));
	static char error[2 * TOKEN_BYTES + 32];

	if (disk < 0)
		return expected;
	if (pread(disk, buffer, RECORD_BYTES, (off_t)record * RECORD_BYTES) != RECORD_BYTES)
		return "unreadable";
	if (!strcmp(buffer, expected))
		return expected;
	snprintf(error, sizeof(error), "disk-%.*s-memory-%s", TOKEN_BYTES, buffer, expected);
	return error;
}

static void put(const char *token, struct line_client *client)
{
	char answer[LINE_BYTES];
	size_t length = strlen(token);
	unsigned int index = 0;

	if (length > 0 && length < TOKEN_BYTES) {
		pthread_mutex_lock(&state.lock);
		if (state.count < TOKENS && keep(state.count + 1, token)) {
			memcpy(state.tokens[state.count], token, length + 1);
			index = ++state.count;
		}
		pthread_mutex_unlock(&state.lock);
	}
	if (index > 0)
		snprintf(answer, sizeof(answer), "%u %s\n", index, token);
	else
		snprintf(answer, sizeof(answer), "error: token too long, too many, or not written\n");
	line_send(client, answer, strlen(answer));
}

static void get(unsigned int index, struct line_client *client)
{
	char answer[LINE_BYTES] = "error: no such index\n";

	pthread_mutex_lock(&state.lock);
	if (index > 0 && index <= state.count)
		snprintf(answer, sizeof(answer), "%u %s\n", index, state.tokens[index - 1]);
	pthread_mutex_unlock(&state.lock);
	line_send(client, answer, strlen(answer));
}

static unsigned int count(void)
{
	unsigned int now;

	pthread_mutex_lock(&state.lock);
	now = state.count;
	pthread_mutex_unlock(&state.lock);
	return now;
}

static void dump(struct line_client *client)
{
	char answer[1 << 15], number[16];
	unsigned int total;
	size_t used = 0;

	/* With a disk, nothing may be put meanwhile: the records are compared with memory. */
	if (disk >= 0)
		pthread_mutex_lock(&state.lock);
	total = disk >= 0 ? state.count : count();
	snprintf(number, sizeof(number), "%u", total);
	/* Tokens are only appended: what is below `total` stays as it is. */
	for (unsigned int index = 1; index <= total; index++) {
		used += (size_t)snprintf(answer + used, sizeof(answer) - used, "%u %s\n", index,
					 kept(index, state.tokens[index - 1]));
		if (sizeof(answer) - used < 4 * TOKEN_BYTES) {
			line_send(client, answer, used);
			used = 0;
		}
	}
	used += (size_t)snprintf(answer + used, sizeof(answer) - used, "end %s\n",
				 total ? kept(0, number) : number);
	if (disk >= 0)
		pthread_mutex_unlock(&state.lock);
	line_send(client, answer, used);
}

static void answer_line(void *context, const char *line, struct line_client *client)
{
	char answer[64];
	unsigned int index;

	(void)context;
	if (!strncmp(line, "put ", 4)) {
		put(line + 4, client);
	} else if (sscanf(line, "get %u", &index) == 1) {
		get(index, client);
	} else if (!strcmp(line, "dump")) {
		dump(client);
	} else {
		if (!strcmp(line, "count"))
			snprintf(answer, sizeof(answer), "%u\n", count());
		else
			snprintf(answer, sizeof(answer),
				 "error: put TOKEN, get INDEX, count or dump\n");
		line_send(client, answer, strlen(answer));
	}
}

int main(int argc, char **argv)
{
	if (argc > 1) {
		disk = open(argv[1], O_RDWR | O_DIRECT | O_CLOEXEC);
		if (disk < 0) {
			perror(argv[1]);
			return 1;
		}
	}
	return line_serve(PORT, answer_line, NULL);
}
