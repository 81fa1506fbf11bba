/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a guest did to its disks, epoch by epoch: filled by the block back end (block_log_ops), closed at capture, read by the
 * encoder, freed at commit. Memory is bounded: a back end that finds no room stops taking requests (back pressure), the guest
 * waits, and room comes with the next commit.
 */
#ifndef CHECKPOINT_WRITELOG_H
#define CHECKPOINT_WRITELOG_H

#include "pvdrivers/block/block.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct writelog;

struct writelog_entry {
	struct block_change change; /* data is the entry's */
	struct writelog_entry *next;
};

/* What an entry costs besides its data: many small ones must not get round the limit. */
enum { WRITELOG_ENTRY_BYTES = 128 };

/* `room` runs, from writelog_commit() or writelog_drop(), when a reservation was refused and there is room again. */
int writelog_new(uint64_t limit_bytes, void (*room)(void *arg), void *arg, struct writelog **out);
void writelog_free(struct writelog *l);

/* For block_set_log(bb, &writelog_ops, log). */
extern const struct block_log_ops writelog_ops;

/*
 * The guest stands still: what is there belongs to epoch `number`, which is greater than any before. -ENOMEM: a change could not be
 * kept since the last close; the log is not one any more and protection must end.
 */
int writelog_close(struct writelog *l, uint64_t number);

/* The epoch closed last, `number`, was not sent: its changes are the next one's. Another number: no effect. */
void writelog_reopen(struct writelog *l, uint64_t number);

/* The changes of a closed epoch in order; NULL: none. Valid until its commit; may be read by another thread. */
const struct writelog_entry *writelog_epoch(const struct writelog *l, uint64_t number);

/* The backup holds `number` and all before. */
void writelog_commit(struct writelog *l, uint64_t number);

/* Protection ended: forgets everything. */
void writelog_drop(struct writelog *l);

/* Kept and reserved, entries' cost included. */
uint64_t writelog_bytes(const struct writelog *l);

#endif
