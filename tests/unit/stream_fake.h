/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Both ends of an epoch stream for tests: a guest's memory in an array, and a shell that is another array. */
#ifndef TESTS_UNIT_STREAM_FAKE_H
#define TESTS_UNIT_STREAM_FAKE_H

#include "checkpoint/receiver.h"
#include "checkpoint/sender.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { FAKE_FILL = 0x42 };
enum { FAKE_PAGE = 4096, FAKE_TERM = 7, FAKE_PAGES_MAX = 4096, FAKE_STAGED_MAX = 8192 };
#define FAKE_TOKEN UINT64_C(0x1122334455667788)

static const uint8_t fake_uuid[16] = {0xd4, 0x1d, 0x8c, 0xd9, 0x8f, 0x00, 0xb2, 0x04,
				      0xe9, 0x80, 0x09, 0x98, 0xec, 0xf8, 0x42, 0x7e};

struct shell {
	uint64_t pages;
	uint8_t *memory;		/* [pages][4096] */
	uint8_t *seen;			/* [pages] */
	uint64_t applied;		/* last epoch */
	unsigned int epochs, blobs[EPOCH_BLOBS];
	uint32_t flags;
	int apply_error;
	unsigned int changes, filled;
	unsigned int inputs;		/* frames, whose bytes are all the number of their epoch */
};

static inline void shell_init(struct shell *s, uint64_t pages)
{
	*s = (struct shell){.pages = pages,
			    .memory = calloc(pages, FAKE_PAGE),
			    .seen = calloc(pages, 1)};
}

static inline void shell_free(struct shell *s)
{
	free(s->memory);
	free(s->seen);
}

static inline const void *shell_page(void *arg, uint64_t gfn)
{
	struct shell *s = arg;

	return s->seen[gfn] ? s->memory + gfn * FAKE_PAGE : NULL;
}

static inline int shell_apply(void *arg, struct epoch *e)
{
	struct shell *s = arg;
	size_t i;

	if (s->apply_error)
		return s->apply_error;
	for (i = 0; i < e->nr_pages; i++) {
		memcpy(s->memory + e->gfn[i] * FAKE_PAGE, e->pages + i * FAKE_PAGE, FAKE_PAGE);
		s->seen[e->gfn[i]] = 1;
	}
	for (i = 0; i < EPOCH_BLOBS; i++)
		s->blobs[i] += e->blob[i].len > 0;
	for (i = 0; i < e->nr_changes; i++) {
		const struct block_change *c = &e->change[i];

		s->changes++;
		if (c->kind == BLOCK_WRITE && c->bytes == 4096)
			s->filled += ((const uint8_t *)c->data)[4095] == FAKE_FILL;
	}
	s->applied = e->number;
	s->flags = e->flags;
	s->epochs++;
	return 0;
}

static inline void shell_input(void *arg, const struct record_input *input, const void *data, size_t len)
{
	struct shell *s = arg;

	s->inputs += input->devid == 3 && ((const uint8_t *)data)[len - 1] == (uint8_t)input->epoch;
}

static const struct receiver_ops shell_ops = {.page = shell_page, .apply = shell_apply, .input = shell_input};

static inline struct receiver_config fake_receiver_config(int fd, uint64_t pages)
{
	struct receiver_config c = {
		.lanes = lanes_plain(fd),
		.guest = "fake1",
		.term = FAKE_TERM,
		.token = FAKE_TOKEN,
		.gfn_limit = pages,
		.staged_pages_max = FAKE_STAGED_MAX,
		.staged_changes_bytes_max = 64 << 10,
		.heartbeat_ms = 50,
		.promise_ms = 1000,
		.capture_fd = -1,
	};

	memcpy(c.uuid, fake_uuid, sizeof(c.uuid));
	return c;
}

static inline struct sender_config fake_sender_config(int fd)
{
	struct sender_config c = {
		.lanes = lanes_plain(fd),
		.guest = "fake1",
		.term = FAKE_TERM,
		.token = FAKE_TOKEN,
		.cache_bytes = 64 * FAKE_PAGE,
		.heartbeat_ms = 50,
		.timeout_ms = 20000,
	};

	memcpy(c.uuid, fake_uuid, sizeof(c.uuid));
	return c;
}

/* xorshift64*: the same pages in every run. */
static inline uint64_t fake_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

enum fake_kind { FAKE_ZERO, FAKE_TEXT, FAKE_NOISE, FAKE_TOUCH, FAKE_KEEP, FAKE_KINDS };

/* Changes a page the way guests do. */
static inline void fake_dirty(uint8_t *page, enum fake_kind kind, uint64_t *seed)
{
	size_t i;

	switch (kind) {
	case FAKE_ZERO:
		memset(page, 0, FAKE_PAGE);
		break;
	case FAKE_TEXT:
		for (i = 0; i < FAKE_PAGE; i++)
			page[i] = (uint8_t)("the epoch of the guest "[(i + i / 64) % 23] +
					    (fake_random(seed) % 37 == 0));
		break;
	case FAKE_NOISE:
		for (i = 0; i < FAKE_PAGE; i += 8) {
			uint64_t r = fake_random(seed);

			memcpy(page + i, &r, 8);
		}
		break;
	case FAKE_TOUCH:
		for (i = 0; i < 8; i++)
			page[fake_random(seed) % FAKE_PAGE] = (uint8_t)fake_random(seed);
		break;
	case FAKE_KEEP:
	case FAKE_KINDS:
		break;
	}
}

/* Dirties `nr` random pages of `memory` and captures them and some blobs as epoch `number`. */
/* One of each kind; one write packs well, the other not at all. */
static inline void fake_changes(struct epoch *e)
{
	static uint8_t packs[4096], raw[512];
	const struct block_change c[] = {
		{.devid = 51712, .kind = BLOCK_WRITE, .offset_bytes = 4096, .bytes = sizeof(packs), .data = packs},
		{.devid = 51712, .kind = BLOCK_WRITE, .offset_bytes = 512, .bytes = sizeof(raw), .data = raw},
		{.devid = 51728, .kind = BLOCK_DISCARD, .offset_bytes = 1 << 20, .bytes = 1 << 30},
		{.devid = 51712, .kind = BLOCK_ZERO, .offset_bytes = 0, .bytes = 512},
		{.devid = 51712, .kind = BLOCK_FLUSH},
	};
	uint64_t seed = 11;
	size_t i;

	for (i = 0; i < sizeof(raw); i++)
		raw[i] = (uint8_t)fake_random(&seed);
	memset(packs, FAKE_FILL, sizeof(packs));
	for (i = 0; i < sizeof(c) / sizeof(c[0]); i++)
		if (epoch_add_change(e, &c[i]))
			abort();
}

static inline void fake_capture(struct epoch *e, uint8_t *memory, uint64_t pages, size_t nr,
				uint64_t number, uint32_t flags, uint64_t *seed)
{
	size_t i;

	epoch_reset(e);
	e->number = number;
	e->term = FAKE_TERM;
	e->flags = flags;
	e->captured_us = 1000 * number;
	e->pause_us = 1500;
	if (epoch_reserve(e, nr))
		abort();
	for (i = 0; i < nr; i++) {
		uint64_t gfn = fake_random(seed) % pages;

		fake_dirty(memory + gfn * FAKE_PAGE, fake_random(seed) % FAKE_KINDS, seed);
		epoch_add_page(e, gfn, memory + gfn * FAKE_PAGE);
	}
	if (buf_add(&e->blob[BLOB_CONTEXT], &number, sizeof(number)) ||
	    buf_add(&e->blob[BLOB_CONTEXT], "context", 5))
		abort();
	fake_changes(e);
	if (number % 3 == 1 && buf_add(&e->blob[BLOB_STORE], "store of the guest", 18))
		abort();
}

#endif
