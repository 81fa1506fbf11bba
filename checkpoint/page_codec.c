/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/page_codec.h"

#include <errno.h>
#include <lz4.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
	CODEC_PAGE = 4096,
	CODEC_DELTA_ENOUGH = 512, /* a delta this small is not worth a second compression */
	CODEC_ACCELERATION = 1,
};

const char *const page_encoding_name[PAGE_ENCODINGS] = {
	[PAGE_ZERO] = "zero", [PAGE_SAME] = "same", [PAGE_DELTA_LZ4] = "delta",
	[PAGE_LZ4] = "lz4",   [PAGE_RAW] = "raw",
};

static const uint8_t zero_page[CODEC_PAGE];

/*
 * The cache of last sent copies: `slots` pages in one slab, found by an open-addressed index with
 * linear probing, at most half full. Eviction is CLOCK (F. Corbato, "A Paging Experiment with the
 * Multics System", 1968).
 */
struct page_codec {
	void *lz4;
	uint8_t *slab;
	size_t slab_bytes;
	uint32_t slots, used, hand;
	uint64_t *gfn;	 /* [slots] */
	uint8_t *state;	 /* [slots] enum slot_state */
	uint32_t *index; /* [mask + 1] slot + 1, 0: empty */
	uint32_t mask;
	uint8_t xor [CODEC_PAGE], other[PAGE_ENCODED_MAX];
};

enum slot_state { SLOT_FREE, SLOT_COLD, SLOT_HOT };

static uint32_t index_home(const struct page_codec *c, uint64_t gfn)
{
	return (uint32_t)((gfn * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & c->mask;
}

/* Where `gfn` is in the index, or the empty place where it would be. */
static uint32_t index_find(const struct page_codec *c, uint64_t gfn)
{
	uint32_t at = index_home(c, gfn);

	while (c->index[at] && c->gfn[c->index[at] - 1] != gfn)
		at = (at + 1) & c->mask;
	return at;
}

/* Closes the gap, so that no probe sequence meets a false end (Knuth, TAOCP 3, 6.4, algorithm R).
 */
static void index_remove(struct page_codec *c, uint32_t gap)
{
	uint32_t at = gap;

	for (;;) {
		uint32_t home;

		at = (at + 1) & c->mask;
		if (!c->index[at])
			break;
		home = index_home(c, c->gfn[c->index[at] - 1]);
		if (((at - home) & c->mask) >= ((at - gap) & c->mask)) {
			c->index[gap] = c->index[at];
			gap = at;
		}
	}
	c->index[gap] = 0;
}

static uint8_t *slot_page(const struct page_codec *c, uint32_t slot)
{
	return c->slab + (size_t)slot * CODEC_PAGE;
}

static void cache_drop(struct page_codec *c, uint32_t at)
{
	uint32_t slot = c->index[at] - 1;

	index_remove(c, at);
	c->state[slot] = SLOT_FREE;
	c->used--;
}

static uint32_t cache_take_slot(struct page_codec *c)
{
	for (;;) {
		uint32_t slot = c->hand;

		c->hand = slot + 1 == c->slots ? 0 : slot + 1;
		switch ((enum slot_state)c->state[slot]) {
		case SLOT_FREE:
			return slot;
		case SLOT_COLD:
			cache_drop(c, index_find(c, c->gfn[slot]));
			return slot;
		case SLOT_HOT:
			c->state[slot] = SLOT_COLD;
		}
	}
}

static void cache_put(struct page_codec *c, uint64_t gfn, const void *page)
{
	uint32_t slot;

	if (!c->slots)
		return;
	slot = cache_take_slot(c);
	c->gfn[slot] = gfn;
	c->state[slot] = SLOT_COLD;
	c->index[index_find(c, gfn)] = slot + 1;
	c->used++;
	memcpy(slot_page(c, slot), page, CODEC_PAGE);
}

static int cache_new(struct page_codec *c, size_t cache_bytes)
{
	size_t slots = cache_bytes / CODEC_PAGE, size = 2;

	if (!slots)
		return 0;
	if (slots > UINT32_MAX / 4)
		return -EINVAL;
	while (size < slots * 2)
		size *= 2;
	c->mask = (uint32_t)size - 1;
	c->index = calloc(size, sizeof(*c->index));
	c->gfn = calloc(slots, sizeof(*c->gfn));
	c->state = calloc(slots, sizeof(*c->state));
	c->slab = mmap(NULL, slots * CODEC_PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (c->slab == MAP_FAILED)
		c->slab = NULL;
	c->slab_bytes = slots * CODEC_PAGE;
	if (!c->index || !c->gfn || !c->state || !c->slab)
		return -ENOMEM;
	c->slots = (uint32_t)slots;
	return 0;
}

int page_codec_new(size_t cache_bytes, struct page_codec **out)
{
	struct page_codec *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return -ENOMEM;
	c->lz4 = malloc((size_t)LZ4_sizeofState());
	rc = c->lz4 ? cache_new(c, cache_bytes) : -ENOMEM;
	if (rc) {
		page_codec_free(c);
		return rc;
	}
	*out = c;
	return 0;
}

void page_codec_free(struct page_codec *c)
{
	if (!c)
		return;
	if (c->slab)
		munmap(c->slab, c->slab_bytes);
	free(c->index);
	free(c->gfn);
	free(c->state);
	free(c->lz4);
	free(c);
}

void page_codec_forget(struct page_codec *c)
{
	if (!c->slots)
		return;
	memset(c->index, 0, ((size_t)c->mask + 1) * sizeof(*c->index));
	memset(c->state, SLOT_FREE, c->slots);
	c->used = 0;
	c->hand = 0;
}

/* The compressed length, or 0 if it would not be below `limit`. */
static size_t compress_below(struct page_codec *c, const void *in, void *out, size_t limit)
{
	int r = LZ4_compress_fast_extState(c->lz4, in, out, CODEC_PAGE, (int)limit - 1,
					   CODEC_ACCELERATION);

	return r > 0 ? (size_t)r : 0;
}

static void page_xor(uint8_t *restrict out, const uint8_t *restrict a, const uint8_t *restrict b)
{
	size_t i;

	for (i = 0; i < CODEC_PAGE; i++)
		out[i] = a[i] ^ b[i];
}

/* The smallest of delta (if there is a base), LZ4 and raw. */
static size_t page_squeeze(struct page_codec *c, const void *page, const void *base, void *out,
			   enum page_encoding *enc)
{
	size_t len = 0, other;

	if (base) {
		page_xor(c->xor, page, base);
		len = compress_below(c, c->xor, out, PAGE_ENCODED_MAX);
		*enc = PAGE_DELTA_LZ4;
		if (len && len <= CODEC_DELTA_ENOUGH)
			return len;
	}
	other = compress_below(c, page, len ? c->other : out, len ? len : PAGE_ENCODED_MAX);
	if (other) {
		if (len)
			memcpy(out, c->other, other);
		*enc = PAGE_LZ4;
		return other;
	}
	if (len)
		return len;
	memcpy(out, page, CODEC_PAGE);
	*enc = PAGE_RAW;
	return CODEC_PAGE;
}

size_t page_encode(struct page_codec *c, uint64_t gfn, const void *page, void *out,
		   enum page_encoding *enc)
{
	uint32_t at = c->slots ? index_find(c, gfn) : 0;
	uint32_t slot = c->slots && c->index[at] ? c->index[at] - 1 : UINT32_MAX;
	uint8_t *base = slot == UINT32_MAX ? NULL : slot_page(c, slot);
	size_t len;

	/* A zero page costs nothing to send and is no better a base than none. */
	if (!memcmp(page, zero_page, CODEC_PAGE)) {
		if (base)
			cache_drop(c, at);
		*enc = PAGE_ZERO;
		return 0;
	}
	if (base) {
		c->state[slot] = SLOT_HOT;
		if (!memcmp(page, base, CODEC_PAGE)) {
			*enc = PAGE_SAME;
			return 0;
		}
	}
	len = page_squeeze(c, page, base, out, enc);
	if (base)
		memcpy(base, page, CODEC_PAGE);
	else
		cache_put(c, gfn, page);
	return len;
}

static int decompress(const void *in, size_t len, void *out)
{
	if (!len || len >= PAGE_ENCODED_MAX)
		return -EINVAL;
	return LZ4_decompress_safe(in, out, (int)len, CODEC_PAGE) == CODEC_PAGE ? 0 : -EINVAL;
}

int page_decode(enum page_encoding enc, const void *in, size_t len, const void *base, void *out)
{
	uint8_t xor [CODEC_PAGE], *to = out;
	const uint8_t *from = base;
	size_t i;

	switch (enc) {
	case PAGE_ZERO:
		memset(out, 0, CODEC_PAGE);
		return len ? -EINVAL : 0;
	case PAGE_SAME:
		if (len || !base)
			return -EINVAL;
		memmove(out, base, CODEC_PAGE);
		return 0;
	case PAGE_DELTA_LZ4:
		if (!base || decompress(in, len, xor))
			return -EINVAL;
		for (i = 0; i < CODEC_PAGE; i++)
			to[i] = from[i] ^ xor[i];
		return 0;
	case PAGE_LZ4:
		return decompress(in, len, out);
	case PAGE_RAW:
		if (len != CODEC_PAGE)
			return -EINVAL;
		memcpy(out, in, CODEC_PAGE);
		return 0;
	case PAGE_ENCODINGS:
		break;
	}
	return -EINVAL;
}
