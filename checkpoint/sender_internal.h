/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What sender.c (the thread, its socket, the owner's side) and sender_encode.c (epochs as records)
 * share. */
#ifndef CHECKPOINT_SENDER_INTERNAL_H
#define CHECKPOINT_SENDER_INTERNAL_H

#include "checkpoint/record.h"
#include "checkpoint/sender.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct page_codec;

enum {
	SENDER_EPOCHS_MAX =
		64, /* handed in and not yet taken back; also: sent and not acknowledged */
	SENDER_IN_BYTES = 4096,
	SENDER_CAUSE_MAX = 320,
	SENDER_PAGE = 4096,
};

/* What is done next for the epoch in work. */
enum step { STEP_BEGIN, STEP_PAGES, STEP_BLOBS, STEP_CHANGES, STEP_END, STEP_FLUSH };

struct work {
	struct epoch *epoch;
	enum step step;
	size_t page;
	unsigned int blob;
	size_t change;
	struct sender_report report;
};

struct ring {
	struct sender_report report[SENDER_EPOCHS_MAX];
	unsigned int head, nr;
};

struct sender {
	struct sender_config config;
	char *guest;
	atomic_uint timeout_ms;
	int wake_fd, notify_fd;
	pthread_t thread;
	bool running;

	pthread_mutex_t lock; /* guards what follows, up to the blank line */
	struct epoch *queue[SENDER_EPOCHS_MAX];
	unsigned int head, nr, owned;
	struct ring sent, returned;
	uint64_t acked, acked_reported, promise_until_us;
	bool stop, lost, lost_reported;
	int error;
	char cause[SENDER_CAUSE_MAX];
	struct buf inputs; /* INPUT records; their headers' epochs are set when they go */

	/* The thread's own: */
	struct page_codec *codec;
	struct epoch_hash *hash;
	struct work work;
	struct buf out, leaving; /* leaving: inputs that were taken out from under the lock */
	uint64_t input_bytes;	 /* sent, and not reported yet */
	size_t out_start;
	uint8_t in[SENDER_IN_BYTES];
	size_t in_len;
	uint64_t in_offset;
	bool answered;
	uint32_t features; /* that the backup took */
	uint64_t now_us; /* read twice a turn: where the TSC is not to be trusted it is a system
			    call */
	uint64_t heard_us, wrote_us;
	uint64_t begun, ended, acknowledged; /* epoch numbers; ended: wholly in the socket */
	uint64_t end_us[SENDER_EPOCHS_MAX]; /* [number % MAX] when EPOCH_END was about to be sent */
	char why[SENDER_CAUSE_MAX];
};

/* Remembers why the stream ends, the first reason counts; returns `rc`. */
__attribute__((format(printf, 3, 4))) int sender_over(struct sender *s, int rc, const char *fmt,
						      ...);

/* Bytes that are encoded and not yet in the socket. */
static inline size_t sender_pending_bytes(const struct sender *s)
{
	return s->out.len - s->out_start;
}

/* Before an append: moves what is pending to the front rather than growing. */
void sender_compact(struct sender *s);

/* Appends a record and returns where its `length` bytes go, or NULL: no memory, said to
 * sender_over(). */
uint8_t *sender_add_record(struct sender *s, enum record_type type, uint64_t epoch,
			   uint32_t length);

/* Is there something to encode, and room for it? */
bool sender_can_encode(const struct sender *s);

/* Encodes one turn's share of the epoch in work; 0 or -errno, said to sender_over(). */
int sender_encode(struct sender *s);

#endif
