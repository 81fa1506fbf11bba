/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a page travels: the smallest of zero page, unchanged since last sent, XOR delta against the last sent copy then LZ4,
 * LZ4, raw. The encoder keeps the last sent copies in a cache of bounded size; the decoder's base is the page as the
 * backup holds it, so both sides need the same history: page_codec_forget() after every broken stream.
 */
#ifndef CHECKPOINT_PAGE_CODEC_H
#define CHECKPOINT_PAGE_CODEC_H

#include <stddef.h>
#include <stdint.h>

enum page_encoding { PAGE_ZERO, PAGE_SAME, PAGE_DELTA_LZ4, PAGE_LZ4, PAGE_RAW, PAGE_ENCODINGS };
extern const char *const page_encoding_name[PAGE_ENCODINGS];

enum { PAGE_ENCODED_MAX = 4096 };

struct page_codec;

int page_codec_new(size_t cache_bytes, struct page_codec **out);
void page_codec_free(struct page_codec *c);
void page_codec_forget(struct page_codec *c);

/* Encodes into `out` (room for PAGE_ENCODED_MAX); returns the length (0 for ZERO and SAME) and sets `*enc`. Never fails:
 * raw always works. Remembers the page as last sent. */
size_t page_encode(struct page_codec *c, uint64_t gfn, const void *page, void *out,
		   enum page_encoding *enc);

/* `base`: the page as the backup holds it (may be NULL where enc does not need one); `out` may be `base`.
 * -EINVAL: not a valid encoding of a page. */
int page_decode(enum page_encoding enc, const void *in, size_t len, const void *base, void *out);

#endif
