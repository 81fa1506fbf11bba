/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's disks as a participant (docs/disks.md). On the primary a write is done at once and noted in the write log, which
 * travels with its epoch; on the backup it waits in memory for the epoch to be whole.
 */
#ifndef CHECKPOINT_PART_DISK_H
#define CHECKPOINT_PART_DISK_H

#include "checkpoint/participant.h"
#include "checkpoint/writelog.h"
#include "pvdrivers/block/block.h"

/* In the write log at most; and what a backup has to take in one epoch: that, and what was in flight when the log began. */
enum { PART_DISK_LOG_BYTES = 64 << 20, PART_DISK_EPOCH_BYTES_MAX = 256 << 20 };

struct disk_replica;

struct part_disk {
	struct participant base;
	const char *guest;
	struct block *block;
	struct disk_replica *replica;	/* the backup's; NULL: it has seen no disk */
	struct writelog *log;		/* the primary's; NULL: the guest has no disks */
	struct buf begun, now;		/* the disks blob as protection began; scratch */
	bool state_sent;		/* the backup has it */
	uint64_t closed;		/* the log was closed for this epoch, which is not sent yet; 0: for none */

	/* The baseline. */
	unsigned int nr_disks, sync_disk;
	struct block_disk disk[BLOCK_DISKS_MAX];
	uint64_t sync_from, sync_bytes, sync_total_bytes;
};

extern const struct participant_ops part_disk_ops;

/* Whether every disk of the guest is one that can be replicated: served here, and in use. 0 or -EOPNOTSUPP, logged. */
int part_disk_check(struct block *bb, const char *guest);

/*
 * The baseline: adds the next EPOCH_BASELINE_BYTES at most of the disks to the sync epoch `e`, and what was written since the last
 * epoch behind it. Reads, which takes its time. 0; 1: that was the last of it; -errno.
 */
int part_disk_sync(struct part_disk *pd, struct epoch *e);

/* The backup holds this sync epoch and all before it. */
void part_disk_synced(struct part_disk *pd, uint64_t number);

#endif
