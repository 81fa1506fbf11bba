/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One captured epoch between the capture (which fills it while the guest stands still) and the sender (which encodes it while the
 * guest runs again). Allocated once, reused; the page area is page aligned.
 */
#ifndef CHECKPOINT_EPOCH_H
#define CHECKPOINT_EPOCH_H

#include "common/buf.h"
#include "pvdrivers/block/block.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum epoch_flag {
	EPOCH_SYNC = 1 << 0,	/* part of the baseline: applied as it comes, never activated from */
	EPOCH_FIRST = 1 << 1,	/* completes the baseline: the first that may be activated */
	EPOCH_FINAL = 1 << 2,	/* the guest stays paused behind it: a switchover */
};

enum epoch_blob {
	BLOB_CONTEXT,	/* HVM context, as Xen gave it */
	BLOB_MACHINE,	/* struct domain_machine, checkpoint/machine.h */
	BLOB_LAYOUT,	/* populated gfns as ranges; in the first sync epoch and when it changed */
	BLOB_NET,	/* netback_state() */
	BLOB_STORE,	/* store_snapshot(); only when it changed */
	BLOB_DISKS,	/* block_state(); only when it changed */
	BLOB_OUTPUT,	/* what the guest sent (output.h); of this epoch alone */
	EPOCH_BLOBS
};
extern const char *const epoch_blob_name[EPOCH_BLOBS];

struct epoch {
	uint64_t number;		/* from 1, without gaps within a term */
	uint64_t term;
	uint32_t flags;			/* enum epoch_flag */
	uint64_t captured_us;		/* primary's monotonic clock at quiesce */
	uint32_t pause_us;

	size_t nr_pages, max_pages;
	uint64_t *gfn;			/* [nr_pages] */
	uint8_t *pages;			/* [nr_pages][4096] */
	struct buf blob[EPOCH_BLOBS];	/* len 0: unchanged since the last epoch that had it; BLOB_OUTPUT: nothing */

	/* What was done to the disks, in order. */
	size_t nr_changes, max_changes;
	struct block_change *change;	/* [nr_changes] */
	bool owns_data;			/* of the changes: free(); else the write log's or in `baseline` */
	uint8_t *baseline;		/* [EPOCH_BASELINE_BYTES], page aligned; NULL: never needed */
};

enum { EPOCH_BASELINE_BYTES = 1 << 20 };

int epoch_new(size_t max_pages, struct epoch **out);
void epoch_free(struct epoch *e);
void epoch_reset(struct epoch *e);		/* keeps the memory */

/* Makes room for `nr` more pages: 0 or -ENOMEM. Called outside the pause where it can be. */
int epoch_reserve(struct epoch *e, size_t nr);

/* Copies one page in (the caller reserved room). */
void epoch_add_page(struct epoch *e, uint64_t gfn, const void *page);

/* Appends a change; its data is not copied. 0 or -ENOMEM. */
int epoch_add_change(struct epoch *e, const struct block_change *c);

/* Where a part of a disk is read to for the baseline; NULL: no memory. */
uint8_t *epoch_baseline(struct epoch *e);

/* The page of `gfn`, or NULL. Searches: for epochs of few pages. */
uint8_t *epoch_page(const struct epoch *e, uint64_t gfn);

#endif
