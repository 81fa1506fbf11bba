/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The back end of xen/include/public/io/blkif.h in user space, in the guest's worker: every vbd of one domain. Data moves by
 * grant copy into private aligned buffers, from there by O_DIRECT. Requests run at the same time and finish in any order; they are
 * answered strictly in the order of the ring, so what lies between rsp_prod and req_prod is exactly what is not done: a new
 * worker, here or on the backup, attaches to a live ring at rsp_prod and serves it again. docs/disks.md says why that is safe.
 * Everything but the I/O itself happens on the caller's libevent base.
 */
#ifndef PVDRIVERS_BLOCK_BLOCK_H
#define PVDRIVERS_BLOCK_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;
struct event_base;
struct block;

enum {
	BLOCK_DISKS_MAX = 16,
	BLOCK_RING_PAGES_MAX = 16,
	BLOCK_SECTOR_BYTES = 512,
	BLOCK_CHANGE_BYTES_MAX = 1 << 20, /* the data of one change */
};

/* What one answered request did to a disk. Zeroes come from a baseline only. On the wire (docs/protocol.md). */
enum block_change_kind { BLOCK_WRITE, BLOCK_DISCARD, BLOCK_FLUSH, BLOCK_ZERO, BLOCK_CHANGE_KINDS };

struct block_change {
	uint32_t devid;
	enum block_change_kind kind;
	uint64_t offset_bytes, bytes; /* 0, 0 for a flush */
	void *data;		      /* a write's `bytes`, page aligned, free(); else NULL */
};

/*
 * The epoch's write log. Told of every request that changed a disk, when it is answered: in the ring's order within a disk. What
 * is told between two captures is exactly what the captured rings show as answered. A request that failed is not told.
 */
struct block_log_ops {
	/* Before a change of `bytes` is taken from a ring. False: no room; nothing more is taken from that ring until
	 * block_pressure(). */
	bool (*reserve)(void *arg, uint64_t bytes);

	/* The request failed, or its disk was detached. */
	void (*unreserve)(void *arg, uint64_t bytes);

	/* Takes over change->data. `reserved`: its bytes were reserved before; false for what was in flight when the log was set. */
	void (*change)(void *arg, const struct block_change *change, bool reserved);
};

struct block_config {
	struct event_base *base;
	uint32_t domid;
	const char *guest;     /* for messages; outlives the back end */
	const char *mark_path; /* a file for struct answer_mark, on a tmpfs; NULL: none, a kill may then garble a request */
	bool standby;	       /* a shell's: devices stay closed and no ring is attached until block_activate() */
};

/* Watches backend/vbd/<domid> in xenstore and serves what is there. A vbd that misbehaves is disconnected with an error in xenstore,
 * the others go on. */
int block_new(const struct block_config *config, struct block **out);

/* Detaches, after waiting for the I/O in flight; what was not answered is the next back end's. */
void block_free(struct block *bb);

/* ops NULL: no more log; reservations in flight are then never given back. */
void block_set_log(struct block *bb, const struct block_log_ops *ops, void *arg);

/* The log has room again. */
void block_pressure(struct block *bb);

/* Answers what is done and consumes what is published. Waits for no I/O: what is in flight is not done in this epoch. Called before
 * and again right after the guest was paused. -errno: a ring that cannot be served (the vbd was disconnected). */
int block_drain(struct block *bb);

/* While the guest stands still: nothing is taken from the rings, nothing answered. */
void block_freeze(struct block *bb, bool frozen);

/* No I/O in flight any more (behind a final epoch the disks are the other host's). Waits for it without a bound of its own: a disk
 * that hangs hangs its user. -EAGAIN: not frozen. */
int block_quiesce(struct block *bb);

/* The gfns of the ring pages, as netback_ring_gfns(). */
int block_ring_gfns(struct block *bb, uint64_t (*gfn_of_grant)(void *arg, uint32_t ref), void *arg, uint64_t *gfn,
		    size_t max);

/* What activation has to find besides rings and xenstore: which disks there are and how large. Form: docs/disks.md ("block blob"). */
int block_state(struct block *bb, struct buf *out);
int block_state_check(const void *blob, size_t len);

/* Activation: the memory and the nodes of the front ends are in place, every committed write is on the disks. Opens them, compares
 * them with the blob, attaches. -errno: which disk is logged. */
int block_activate(struct block *bb, const void *blob, size_t len);
/* An open disk, for whoever copies it (primary) or applies changes to it (backup). */
struct block_disk {
	uint32_t devid;
	int fd;
	bool readonly, is_device;
	uint64_t bytes;
};

/* The disks that are open, at most BLOCK_DISKS_MAX; how many. The descriptors are valid until a disk is detached or the back end is
 * deactivated. */
unsigned int block_disks(struct block *bb, struct block_disk *disk);

/* A standby's: opens and locks the disks and compares them with the blob, ahead of block_activate(). -errno: which one is logged. */
int block_open_disks(struct block *bb, const void *blob, size_t len);

void block_deactivate(struct block *bb); /* as netback_deactivate() */
void block_connected(struct block *bb);	 /* as netback_connected() */

struct block_stats {
	unsigned int disks, connected, in_flight;
	uint64_t reads, read_bytes, writes, write_bytes, flushes, discards;
	uint64_t errors;	/* answered with an error */
	uint64_t bad_requests;	/* of those, because of what they said */
	uint64_t ring_errors;	/* disconnected for bad conduct */
	uint64_t served_again;	/* in flight when it attached */
	bool io_uring;
};
void block_stats(const struct block *bb, struct block_stats *s);

#endif
