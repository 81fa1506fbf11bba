/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The primary's end of an epoch stream: one thread that encodes and sends submitted epochs and reads acknowledgements.
 * The capture thread hands epochs in and takes them back through a notification fd; it is never blocked.
 */
#ifndef CHECKPOINT_SENDER_H
#define CHECKPOINT_SENDER_H

#include "checkpoint/epoch.h"
#include "checkpoint/lanes.h"

struct sender;

struct sender_config {
	struct lanes lanes;		/* all connected; owned by the sender, closed if sender_new() fails */
	const char *guest;
	uint8_t uuid[16];
	uint64_t term;
	uint64_t token;			/* what the backup's daemon gave for this stream */
	size_t cache_bytes;		/* page codec */
	unsigned int heartbeat_ms;	/* sent when nothing else was */
	unsigned int timeout_ms;	/* nothing heard for so long: the stream is lost */
};

/* Returns at once; the backup's answer to the hello is awaited by the thread, for timeout_ms at most. */
int sender_new(const struct sender_config *config, struct sender **out);

/*
 * Changes timeout_ms from now on. While a baseline is sent the backup may be busy for longer (mapping, shaping) than a
 * protected guest's clients should wait.
 */
void sender_set_timeout(struct sender *s, unsigned int timeout_ms);

/* Stops the thread (within some 100 ms), says goodbye, closes the socket. What was not sent is not; epochs not yet returned are
 * returned by the sender_poll() calls that follow, until SENDER_NONE. */
void sender_stop(struct sender *s);
void sender_free(struct sender *s);

/* Readable whenever sender_poll() has something. */
int sender_fd(const struct sender *s);

/* Queues `e`; the sender owns it until it is returned. Never blocks. -EPIPE: the stream is lost; -EAGAIN: 64 are out already. */
int sender_submit(struct sender *s, struct epoch *e);

/*
 * A frame that the guest has just received, which `epoch` will be the first to contain: on its way at once, ahead of what is not yet
 * encoded. Never blocks; dropped if too much waits, or if the backup does not know of it.
 */
void sender_input(struct sender *s, uint64_t epoch, uint32_t devid, const void *data, size_t len);

enum sender_event {
	SENDER_NONE,
	SENDER_SENT,		/* `epoch` is encoded and in the socket: the buffer is back. Makes the descriptor readable only together
				 * with something else. After LOST or stop: it is back, though not sent (wire_bytes 0) */
	SENDER_ACKED,		/* everything up to `number` is committed on the backup */
	SENDER_LOST,		/* -`error`, `cause`; comes once; buffers still come back after it */
};

struct sender_report {
	enum sender_event event;
	struct epoch *epoch;
	uint64_t number;
	uint64_t raw_bytes;			/* SENT: of this epoch; pages with the same contents as before are not counted */
	uint64_t wire_bytes;			/* SENT */
	uint32_t encode_us;			/* SENT */
	uint32_t pages_by_encoding[5];		/* SENT */
	uint64_t promise_us;			/* ACKED: the backup will not activate for so long from now (0: no promise) */
	int error;
	const char *cause;
};

/* Next report, SENDER_NONE if there is none. Non-blocking. SENT of an epoch comes before its ACKED; all acknowledgements that
 * were heard come before LOST. `cause` lives as long as the sender. */
void sender_poll(struct sender *s, struct sender_report *r);

#endif
