/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The backup's side of a write log: a committed epoch's changes onto one disk. */
#ifndef CHECKPOINT_DISK_APPLY_H
#define CHECKPOINT_DISK_APPLY_H

#include "pvdrivers/block/block.h"

#include <stddef.h>

struct disk_apply_target {
	uint32_t devid;
	int fd;		 /* open for writing; with O_DIRECT the changes' data must be aligned for it */
	bool is_device;	 /* a block device: how to discard */
	uint64_t bytes;	 /* of the disk */
};

struct disk_apply_stats {
	uint64_t written_bytes, discarded_bytes, flushes; /* discarded: zeroed as well */
};

/*
 * Applies those of change[nr] that are the target's. Where they overlap the later one counts and only it is written, so that every
 * sector is touched once, in ascending order. What an epoch's flush promised holds when this returns: one flush, at the end.
 * May be repeated from the start after an error or a crash. -EINVAL: a change outside of the disk, nothing was written; -ENOMEM: neither
 * was anything; other -errno: the disk's own, part of the epoch is on it.
 */
int disk_apply(const struct disk_apply_target *t, const struct block_change *change, size_t nr, struct disk_apply_stats *stats);

#endif
