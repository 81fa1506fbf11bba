/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Applies committed epochs' changes to the shell's disks, in order, in a thread of its own: acknowledgements need not wait for a
 * disk. What it holds is committed: it is applied whatever becomes of the stream.
 */
#ifndef CHECKPOINT_DISK_REPLICA_H
#define CHECKPOINT_DISK_REPLICA_H

#include "checkpoint/epoch.h"

struct disk_replica;

/* `disk`[nr]: open for writing; the descriptors stay until disk_replica_free(). */
int disk_replica_new(const char *guest, const struct block_disk *disk, unsigned int nr, struct disk_replica **out);

/* Everything is applied, or has failed, before it returns. */
void disk_replica_free(struct disk_replica *r);

/*
 * Takes the changes' data out of `e`. Waits while more than some 64 MiB are to be applied: the acknowledgements that are missing
 * meanwhile slow the primary down. -EINVAL: a change that fits no disk; or what befell an earlier epoch.
 */
int disk_replica_add(struct disk_replica *r, struct epoch *e);

/* Waits until everything is applied. 0, or the first error: the disks are no copy. */
int disk_replica_finish(struct disk_replica *r);

#endif
