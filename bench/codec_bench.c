/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How fast pages are encoded and decoded, and how small they get, per kind of change. One thread,
 * working set beyond the caches. `make build/bench/codec_bench && build/bench/codec_bench [MIB
 * [ROUNDS]]`.
 */
#include "checkpoint/page_codec.h"
#include "checkpoint/record.h"
#include "common/clock.h"
#include "tests/unit/stream_fake.h"

#include <stdio.h>

struct bench {
	struct page_codec *codec;
	size_t pages;
	uint8_t *memory, *backup, *encoded;
	uint16_t *length, *encoding;
	uint64_t seed;
};

struct result {
	uint64_t encode_us, decode_us, bytes, by_encoding[PAGE_ENCODINGS];
};

/* Changes about `touched` bytes in one place, as a guest that updates a few fields does; 0: the
 * kind decides. */
static void change(struct bench *b, enum fake_kind kind, size_t touched)
{
	size_t i, n;

	for (i = 0; i < b->pages; i++) {
		uint8_t *page = b->memory + i * FAKE_PAGE;

		if (!touched) {
			fake_dirty(page, kind, &b->seed);
			continue;
		}
		for (n = 0; n < touched; n++)
			page[(fake_random(&b->seed) % 64) * 64] = (uint8_t)fake_random(&b->seed);
	}
}

static void run(struct bench *b, struct result *r)
{
	uint64_t start_us = clock_us();
	size_t i;

	for (i = 0; i < b->pages; i++) {
		enum page_encoding enc;
		size_t len = page_encode(b->codec, i, b->memory + i * FAKE_PAGE,
					 b->encoded + i * PAGE_ENCODED_MAX, &enc);

		b->length[i] = (uint16_t)len;
		b->encoding[i] = enc;
		r->by_encoding[enc]++;
		r->bytes += len + RECORD_ENTRY_SIZE;
	}
	r->encode_us += clock_us() - start_us;

	start_us = clock_us();
	for (i = 0; i < b->pages; i++) {
		uint8_t *page = b->backup + i * FAKE_PAGE;

		if (page_decode(b->encoding[i], b->encoded + i * PAGE_ENCODED_MAX, b->length[i],
				page, page))
			abort();
	}
	r->decode_us += clock_us() - start_us;
	if (memcmp(b->memory, b->backup, b->pages * FAKE_PAGE))
		abort();
}

static void show(const char *name, const struct bench *b, const struct result *r,
		 unsigned int rounds)
{
	double raw = (double)b->pages * FAKE_PAGE * rounds;
	unsigned int i;

	printf("%-22s %8.0f %8.0f %8.1f%% ", name, raw / (double)r->encode_us,
	       raw / (double)r->decode_us, 100 * (double)r->bytes / raw);
	for (i = 0; i < PAGE_ENCODINGS; i++) {
		if (r->by_encoding[i])
			printf(" %s %.0f%%", page_encoding_name[i],
			       100.0 * (double)r->by_encoding[i] / ((double)b->pages * rounds));
	}
	putchar('\n');
}

static void bench_hash(const struct bench *b, unsigned int rounds)
{
	static const uint8_t begin[RECORD_BEGIN_SIZE];
	uint64_t start_us = clock_us();
	struct epoch_hash *h;
	unsigned int n;
	size_t i;

	if (epoch_hash_new(&h))
		abort();
	for (n = 0; n < rounds; n++) {
		epoch_hash_begin(h, 1, begin);
		for (i = 0; i < b->pages; i++)
			epoch_hash_page(h, i, b->memory + i * FAKE_PAGE);
		if (!epoch_hash_end(h))
			abort();
	}
	printf("%-22s %8.0f\n", "checksum",
	       (double)b->pages * FAKE_PAGE * rounds / (double)(clock_us() - start_us));
	epoch_hash_free(h);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		enum fake_kind kind;
		size_t touched;
	} mixes[] = {
		{"zero pages", FAKE_ZERO, 0},	     {"text, all new", FAKE_TEXT, 0},
		{"unchanged", FAKE_KEEP, 0},	     {"one word changed", FAKE_KEEP, 1},
		{"8 places changed", FAKE_TOUCH, 0}, {"64 places changed", FAKE_KEEP, 64},
		{"noise, all new", FAKE_NOISE, 0},   {"noise, 8 places", FAKE_TOUCH, 0},
	};
	size_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 64;
	unsigned int rounds = argc > 2 ? (unsigned int)strtoul(argv[2], NULL, 10) : 4, n;
	struct bench b = {.pages = (mib << 20) / FAKE_PAGE, .seed = 99};
	size_t i;

	b.memory = calloc(b.pages, FAKE_PAGE);
	b.backup = calloc(b.pages, FAKE_PAGE);
	b.encoded = calloc(b.pages, PAGE_ENCODED_MAX);
	b.length = calloc(b.pages, sizeof(*b.length));
	b.encoding = calloc(b.pages, sizeof(*b.encoding));
	if (!b.pages || !rounds || !b.memory || !b.backup || !b.encoded || !b.length ||
	    !b.encoding || page_codec_new(b.pages * FAKE_PAGE, &b.codec))
		return 1;

	printf("%-22s %8s %8s %9s  (MB/s of %zu MiB, %u rounds)\n", "", "encode", "decode", "size",
	       mib, rounds);
	for (i = 0; i < sizeof(mixes) / sizeof(mixes[0]); i++) {
		struct result r = {0};

		for (n = 0; n < rounds; n++) {
			change(&b, mixes[i].kind, mixes[i].touched);
			run(&b, &r);
		}
		show(mixes[i].name, &b, &r, rounds);
	}
	bench_hash(&b, rounds);
	page_codec_free(b.codec);
	free(b.memory);
	free(b.backup);
	free(b.encoded);
	free(b.length);
	free(b.encoding);
	return 0;
}
