/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The backup's end of an epoch stream: parses, stages a whole epoch decoded in RAM, verifies its checksum,
 * acknowledges it, applies it. A torn epoch is dropped (I3). Non-blocking, on the caller's thread; the fd is read when the caller says so.
 */
#ifndef CHECKPOINT_RECEIVER_H
#define CHECKPOINT_RECEIVER_H

#include "checkpoint/epoch.h"
#include "checkpoint/lanes.h"
#include "checkpoint/record.h"

struct receiver;

struct receiver_ops {
	/* The page as the backup holds it now: what the last epoch that had it brought, wherever that is kept. Base of deltas;
	 * NULL: never seen (zeroes). */
	const void *(*page)(void *arg, uint64_t gfn);
	/* A whole epoch that is about to be acknowledged: 0 if it can be activated as far as can be told; else the stream ends.
	 * May be NULL. */
	int (*check)(void *arg, const struct epoch *e);
	/* A whole, verified epoch: put it in place (memory, blobs). Called after the acknowledgement was queued for sending;
	 * the epoch is the receiver's and is reused afterwards; its blobs may be swapped for others, the data of its changes taken
	 * (and set to NULL).
	 * A gfn may occur twice: the later page counts. An error means the shell is no longer a copy: the stream is closed, nothing
	 * may be activated. */
	int (*apply)(void *arg, struct epoch *e);
	/* A frame that the guest received on the primary; `data` is valid during the call. May come late: also of an epoch that was
	 * applied. May be NULL. */
	void (*input)(void *arg, const struct record_input *input, const void *data, size_t len);
};

struct receiver_config {
	struct lanes lanes;		/* lane 0 connected; owned by the receiver, closed if receiver_new() fails */
	const char *guest;
	uint8_t uuid[16];
	uint64_t term, token;
	uint64_t gfn_limit;		/* a greater gfn is refused */
	size_t staged_pages_max;	/* an epoch with more pages is refused */
	uint64_t staged_changes_bytes_max; /* or with more data of disks */
	unsigned int heartbeat_ms, promise_ms, drift_ppm;
	int capture_fd;			/* -1, or a file that gets every received byte (for the stream checker); owned likewise */
};

int receiver_new(const struct receiver_config *config, const struct receiver_ops *ops, void *arg,
		 struct receiver **out);
void receiver_free(struct receiver *r);

/* A further connection of the stream, of which lane 0 was told by receiver_new(). 0; or -errno: the socket remains the caller's. */
int receiver_add_lane(struct receiver *r, unsigned int lane, int fd);

/* Whose input is awaited. With several lanes it changes with every call of receiver_read(); -1: a lane that is not there yet. */
int receiver_fd(const struct receiver *r);

/* Reads and processes what is there, at most one epoch's worth and some MiB, then returns. 0; 1: more may be there, call again
 * without waiting for the fd; -errno: the stream is over, and every further call says so again. EOF is -ECONNRESET, an orderly
 * goodbye -ESHUTDOWN, a peer without the token -EACCES, a malformed stream -EPROTO; the log says what and where. */
int receiver_read(struct receiver *r);

/* Sends a heartbeat if nothing was sent for heartbeat_ms. Call on a timer. 0 or -errno. */
int receiver_tick(struct receiver *r);

/* Epoch number of the last whole, applied epoch; 0 if none that may be activated. */
uint64_t receiver_committed(const struct receiver *r);

/* clock_us() of the last byte heard; before any, of receiver_new(). */
uint64_t receiver_heard_us(const struct receiver *r);

/* clock_us() until which the acknowledgements sent promise not to activate; 0: nothing was promised. It binds beyond the
 * end of the stream. */
uint64_t receiver_promised_us(const struct receiver *r);

struct receiver_stats {
	uint64_t epochs, pages, wire_bytes, raw_bytes;
	bool torn;				/* the stream ended inside a record or an epoch; that one was dropped */
};
void receiver_stats(const struct receiver *r, struct receiver_stats *s);

#endif
