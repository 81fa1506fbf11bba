/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pages that the guest writes in epoch after epoch. To find out each time costs it a fault each time (a nested one here: tens of
 * copies' worth), so they are left writable and copied for some epochs, then looked at once more. A page that is found hot
 * again is left alone for longer. What is wrongly held to be hot costs a copy, never an error.
 */
#ifndef CHECKPOINT_HOT_H
#define CHECKPOINT_HOT_H

#include <stddef.h>
#include <stdint.h>

enum {
	HOT_AFTER = 2,		/* epochs in a row in which it was written */
	HOT_FIRST = 8,		/* epochs until the next look, */
	HOT_LONGEST = 64,	/* doubled up to this */
	HOT_PAGES_MAX = 1024,	/* no more copies in vain than this in one pause */
};

struct hot_page;

struct hot {
	struct hot_page *page;
	size_t nr;
	uint64_t kept[HOT_PAGES_MAX];	/* gfns that are held to be hot */
	size_t nr_kept;
	uint8_t epoch;			/* its low bits */
};

/* For gfns below `nr`; others are never hot. 0 or -ENOMEM. */
int hot_init(struct hot *h, size_t nr);
void hot_free(struct hot *h);

/* A bitmap of dirty pages has been read. Both set and clear bits in `keep`: the pages that stay writable from the next one on. */
void hot_epoch(struct hot *h, uint64_t *keep);

/* `gfn` is in it. */
void hot_dirty(struct hot *h, uint64_t gfn, uint64_t *keep);

#endif
