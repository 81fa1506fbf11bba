/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/page_codec.h"
#include "tests/unit/stream_fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum { CODEC_PAGES = 64 };

/* What the backup would hold: every page goes through encode and decode. */
struct mirror {
	struct page_codec *codec;
	uint8_t here[CODEC_PAGES][FAKE_PAGE], there[CODEC_PAGES][FAKE_PAGE];
};

static enum page_encoding pass(struct mirror *m, uint64_t gfn)
{
	uint8_t encoded[PAGE_ENCODED_MAX];
	enum page_encoding enc;
	size_t len = page_encode(m->codec, gfn, m->here[gfn], encoded, &enc);

	assert_true(len <= PAGE_ENCODED_MAX);
	assert_int_equal(page_decode(enc, encoded, len, m->there[gfn], m->there[gfn]), 0);
	assert_memory_equal(m->here[gfn], m->there[gfn], FAKE_PAGE);
	return enc;
}

static struct mirror *mirror_new(size_t cache_pages)
{
	struct mirror *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	assert_int_equal(page_codec_new(cache_pages * FAKE_PAGE, &m->codec), 0);
	return m;
}

static void mirror_free(struct mirror *m)
{
	page_codec_free(m->codec);
	free(m);
}

static void test_each_encoding(void **state)
{
	struct mirror *m = mirror_new(CODEC_PAGES);
	uint64_t seed = 1;

	assert_int_equal(pass(m, 0), PAGE_ZERO);
	fake_dirty(m->here[0], FAKE_NOISE, &seed);
	assert_int_equal(pass(m, 0), PAGE_RAW);
	assert_int_equal(pass(m, 0), PAGE_SAME);
	fake_dirty(m->here[0], FAKE_TOUCH, &seed);
	assert_int_equal(pass(m, 0), PAGE_DELTA_LZ4);
	fake_dirty(m->here[0], FAKE_TEXT, &seed);
	assert_int_equal(pass(m, 0), PAGE_LZ4);
	fake_dirty(m->here[0], FAKE_ZERO, &seed);
	assert_int_equal(pass(m, 0), PAGE_ZERO);
	/* Behind a zero page there is no base any more. */
	fake_dirty(m->here[0], FAKE_TOUCH, &seed);
	assert_int_equal(pass(m, 0), PAGE_LZ4);
	mirror_free(m);
}

/* A page that is all zero but for one byte, wherever it is, is not a zero page. */
static void test_nearly_zero(void **state)
{
	struct mirror *m = mirror_new(1);
	size_t i;

	for (i = 0; i < FAKE_PAGE; i++) {
		memset(m->here[0], 0, FAKE_PAGE);
		m->here[0][i] = 1;
		assert_int_not_equal(pass(m, 0), PAGE_ZERO);
	}
	mirror_free(m);
}

static void test_forget(void **state)
{
	struct mirror *m = mirror_new(CODEC_PAGES);
	uint64_t seed = 2, gfn;

	for (gfn = 0; gfn < CODEC_PAGES; gfn++) {
		fake_dirty(m->here[gfn], FAKE_NOISE, &seed);
		pass(m, gfn);
		assert_int_equal(pass(m, gfn), PAGE_SAME);
	}
	page_codec_forget(m->codec);
	memset(m->there, 0xaa, sizeof(m->there));
	for (gfn = 0; gfn < CODEC_PAGES; gfn++)
		assert_int_equal(pass(m, gfn), PAGE_RAW);
	mirror_free(m);
}

static void test_no_cache(void **state)
{
	struct mirror *m = mirror_new(0);
	uint64_t seed = 3;

	fake_dirty(m->here[0], FAKE_NOISE, &seed);
	assert_int_equal(pass(m, 0), PAGE_RAW);
	assert_int_equal(pass(m, 0), PAGE_RAW);
	page_codec_forget(m->codec);
	mirror_free(m);
}

/* A page that is used again and again outlives a sweep of pages that are not. */
static void test_eviction_keeps_hot(void **state)
{
	struct mirror *m = mirror_new(8);
	uint64_t seed = 4, gfn;

	for (gfn = 0; gfn < CODEC_PAGES; gfn++)
		fake_dirty(m->here[gfn], FAKE_NOISE, &seed);
	pass(m, 0);
	for (gfn = 1; gfn < CODEC_PAGES; gfn++) {
		assert_int_equal(pass(m, 0), PAGE_SAME);
		assert_int_equal(pass(m, gfn), PAGE_RAW);
	}
	assert_int_equal(pass(m, 1), PAGE_RAW); /* evicted */
	mirror_free(m);
}

/* Whatever the history, what is decoded is what was encoded: small caches, so that the index is
 * exercised. */
static void test_random_history(void **state)
{
	static const size_t sizes[] = {0, 1, 2, 3, 7, 16, 63, 64, 100};
	uint64_t seed = 5;
	size_t i, n;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct mirror *m = mirror_new(sizes[i]);

		for (n = 0; n < 4000; n++) {
			uint64_t gfn = fake_random(&seed) % CODEC_PAGES;

			if (fake_random(&seed) % 3)
				gfn %= 8;
			fake_dirty(m->here[gfn], fake_random(&seed) % FAKE_KINDS, &seed);
			pass(m, gfn);
		}
		mirror_free(m);
	}
}

/* Each encoding's length never exceeds raw, and every cut or lengthened form is refused or at least
 * stays inside the page. */
static void test_decode_refuses(void **state)
{
	uint8_t in[PAGE_ENCODED_MAX] = {0}, base[FAKE_PAGE] = {0}, out[FAKE_PAGE], page[FAKE_PAGE];
	struct page_codec *c;
	enum page_encoding enc;
	uint64_t seed = 6;
	size_t len, i;

	assert_int_equal(page_decode(PAGE_ZERO, in, 1, base, out), -EINVAL);
	assert_int_equal(page_decode(PAGE_SAME, in, 1, base, out), -EINVAL);
	assert_int_equal(page_decode(PAGE_SAME, in, 0, NULL, out), -EINVAL);
	assert_int_equal(page_decode(PAGE_RAW, in, FAKE_PAGE - 1, base, out), -EINVAL);
	assert_int_equal(page_decode(PAGE_LZ4, in, 0, base, out), -EINVAL);
	assert_int_equal(page_decode(PAGE_LZ4, in, FAKE_PAGE, base, out), -EINVAL);
	assert_int_equal(page_decode(PAGE_DELTA_LZ4, in, 10, NULL, out), -EINVAL);
	assert_int_equal(page_decode(PAGE_ENCODINGS, in, 0, base, out), -EINVAL);

	assert_int_equal(page_codec_new(0, &c), 0);
	fake_dirty(page, FAKE_TEXT, &seed);
	len = page_encode(c, 1, page, in, &enc);
	assert_int_equal(enc, PAGE_LZ4);
	for (i = 1; i < len; i++)
		assert_int_equal(page_decode(PAGE_LZ4, in, i, base, out), -EINVAL);
	assert_int_equal(page_decode(PAGE_LZ4, in, len, base, out), 0);
	assert_int_equal(page_decode(PAGE_LZ4, in, len + 1, base, out), -EINVAL);
	page_codec_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_encoding),
		cmocka_unit_test(test_nearly_zero),
		cmocka_unit_test(test_forget),
		cmocka_unit_test(test_no_cache),
		cmocka_unit_test(test_eviction_keeps_hot),
		cmocka_unit_test(test_random_history),
		cmocka_unit_test(test_decode_refuses),
	};

	return cmocka_run_group_tests_name("page_codec", tests, NULL, NULL);
}
