/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * oracle: a server whose whole state is in memory and can be checked from outside. What it answered
 * it must still know after a failover.
 *
 * TCP port 7002, one command a line:
 *   put TOKEN     appends TOKEN (1 to 31 characters) to the state; answers "INDEX TOKEN", INDEX
 *                 counting from 1
 *   get INDEX     answers "INDEX TOKEN"
 *   count         answers the number of tokens
 *   dump          answers every "INDEX TOKEN", then "end COUNT"
 */
#include <stdint.h>

#include "lineserver.h"

enum {
	PORT = 7002,
	TOKEN_BYTES = 32,
	TOKENS = 1 << 20, /* 32 MiB of address space; pages are touched as tokens arrive */
};

struct state {
	pthread_mutex_t lock;
	unsigned int count;
	char tokens[TOKENS][TOKEN_BYTES];
};

static struct state state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void put(const char *token, struct line_client *client)
{
	char answer[LINE_BYTES];
	size_t length = strlen(token);
	unsigned int index = 0;

	if (length > 0 && length < TOKEN_BYTES) {
		pthread_mutex_lock(&state.lock);
		if (state.count < TOKENS) {
			memcpy(state.tokens[state.count], token, length + 1);
			index = ++state.count;
		}
		pthread_mutex_unlock(&state.lock);
	}
	if (index > 0)
		snprintf(answer, sizeof(answer), "%u %s\n", index, token);
	else
		snprintf(answer, sizeof(answer), "error: token too long, or too many\n");
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
	unsigned int total = count();
	char answer[1 << 15];
	size_t used = 0;

	/* Tokens are only appended: what is below `total` stays as it is. */
	for (unsigned int index = 1; index <= total; index++) {
		used += (size_t)snprintf(answer + used, sizeof(answer) - used, "%u %s\n", index,
					 state.tokens[index - 1]);
		if (sizeof(answer) - used < 2 * TOKEN_BYTES) {
			line_send(client, answer, used);
			used = 0;
		}
	}
	used += (size_t)snprintf(answer + used, sizeof(answer) - used, "end %u\n", total);
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

int main(void)
{
	return line_serve(PORT, answer_line, NULL);
}
