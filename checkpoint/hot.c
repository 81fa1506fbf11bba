/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/hot.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

/*
 * WATCHED pages are protected when a bitmap is read: that they are in the next one tells that they were written. A KEPT page is
 * in every bitmap. Its last appearance, COOLING, still tells nothing: it was writable until that bitmap was read.
 */
enum hot_state { HOT_WATCHED, HOT_KEPT, HOT_COOLING };

struct hot_page {
	uint8_t state;
	uint8_t seen;		/* the epoch whose bitmap had it last */
	uint8_t streak;		/* WATCHED: how often in a row */
	uint8_t left;		/* KEPT: epochs */
	uint8_t longest;	/* how long it is kept the next time; 0: HOT_FIRST */
};

int hot_init(struct hot *h, size_t nr)
{
	*h = (struct hot){.page = calloc(nr, sizeof(*h->page)), .nr = nr};
	return h->page || !nr ? 0 : -ENOMEM;
}

void hot_free(struct hot *h)
{
	free(h->page);
	*h = (struct hot){0};
}

static void set_bit(uint64_t *bits, uint64_t gfn)
{
	bits[gfn / 64] |= 1ull << gfn % 64;
}

static void clear_bit(uint64_t *bits, uint64_t gfn)
{
	bits[gfn / 64] &= ~(1ull << gfn % 64);
}

/* Those whose time is over, and those that were not written between two bitmaps when they became hot: they are protected still. */
void hot_epoch(struct hot *h, uint64_t *keep)
{
	size_t i = 0;

	while (i < h->nr_kept) {
		struct hot_page *p = &h->page[h->kept[i]];

		if (p->state == HOT_KEPT && p->seen == h->epoch) {
			i++;
			continue;
		}
		if (p->state == HOT_KEPT)
			p->state = HOT_WATCHED;
		clear_bit(keep, h->kept[i]);
		h->kept[i] = h->kept[--h->nr_kept];
	}
	h->epoch++;
}

static void keep_page(struct hot *h, uint64_t gfn, uint64_t *keep)
{
	struct hot_page *p = &h->page[gfn];

	p->state = HOT_KEPT;
	p->left = p->longest ? p->longest : HOT_FIRST;
	p->longest = p->left < HOT_LONGEST ? (uint8_t)(2 * p->left) : p->left;
	h->kept[h->nr_kept++] = gfn;
	set_bit(keep, gfn);
}

static bool hot_now(struct hot_page *p, uint8_t epoch)
{
	if (p->seen != (uint8_t)(epoch - 1))
		p->streak = p->longest = 0;
	if (p->streak < HOT_AFTER)
		p->streak++;
	return p->streak == HOT_AFTER;
}

void hot_dirty(struct hot *h, uint64_t gfn, uint64_t *keep)
{
	struct hot_page *p = gfn < h->nr ? &h->page[gfn] : NULL;

	if (!p)
		return;
	switch ((enum hot_state)p->state) {
	case HOT_WATCHED:
		if (hot_now(p, h->epoch) && h->nr_kept < HOT_PAGES_MAX)
			keep_page(h, gfn, keep);
		break;
	case HOT_KEPT:
		if (--p->left)
			break;
		p->state = HOT_COOLING;
		clear_bit(keep, gfn);
		break;
	case HOT_COOLING:
		p->state = HOT_WATCHED;
		p->streak = HOT_AFTER - 1;	/* written in the next epoch: hot again */
		break;
	}
	p->seen = h->epoch;
}
