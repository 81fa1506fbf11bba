/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The epoch stream's bytes (docs/protocol.md, "Epoch stream"): hello and answer, records, their limits and their order,
 * the checksum of an epoch. Knows nothing of sockets; sender.c and receiver.c do the talking.
 */
#ifndef CHECKPOINT_RECORD_H
#define CHECKPOINT_RECORD_H

#include "checkpoint/epoch.h"
#include "common/buf.h"

#include <stddef.h>
#include <stdint.h>

enum {
	STREAM_VERSION = 1,
	STREAM_FEATURE_DISKS = 1 << 0,	/* CHANGE records and the disks blob */
	STREAM_FEATURE_FRAMES = 1 << 1,	/* INPUT records and the output blob */
	STREAM_FEATURES = STREAM_FEATURE_DISKS | STREAM_FEATURE_FRAMES,
	STREAM_LANES_MAX = 8,
	STREAM_HELLO_SIZE = 56,
	STREAM_ANSWER_SIZE = 32,

	RECORD_HEADER_SIZE = 16,
	RECORD_ALIGN = 8,
	RECORD_BATCH_PAGES_MAX = 256,
	RECORD_GOODBYE_TEXT_MAX = 200,
	RECORD_BLOB_MAX = 16 << 20,	/* the greatest of record_blob_max[] */
};

#define RECORD_GFN_LIMIT (UINT64_C(1) << 32)	/* what a page entry can name */

/* Hello: primary to backup, first on each connection. */
struct stream_hello {
	uint16_t version;
	uint32_t features;		/* offered */
	uint8_t uuid[16];
	uint64_t term, token;
	uint16_t lane, further;		/* which connection of the stream this is; how many there are beside the first */
};

enum stream_status {
	STREAM_ACCEPTED,
	STREAM_BAD_VERSION,
	STREAM_BAD_GUEST,
	STREAM_BAD_TERM,
	STREAM_STATUSES
};
extern const char *const stream_status_name[STREAM_STATUSES];

struct stream_answer {
	uint16_t version;		/* the backup's own */
	enum stream_status status;
	uint32_t features;		/* taken from those offered */
	uint64_t term;			/* the backup's own */
};

void stream_hello_put(uint8_t at[STREAM_HELLO_SIZE], const struct stream_hello *h);
/* -EINVAL: not a hello at all. A version that is not ours is not an error here: only magic and token are the same in all. The
 * daemon that accepts connections may use it on peeked bytes to find the guest. */
int stream_hello_get(const uint8_t at[STREAM_HELLO_SIZE], struct stream_hello *h);
void stream_answer_put(uint8_t at[STREAM_ANSWER_SIZE], const struct stream_answer *a);
int stream_answer_get(const uint8_t at[STREAM_ANSWER_SIZE], struct stream_answer *a);

enum record_type {
	RECORD_NONE,
	RECORD_EPOCH_BEGIN,
	RECORD_PAGES,
	RECORD_BLOB,
	RECORD_EPOCH_END,
	RECORD_HEARTBEAT,
	RECORD_ACK,
	RECORD_GOODBYE,
	RECORD_CHANGE,
	RECORD_INPUT,
	RECORD_TYPES
};
extern const char *const record_type_name[RECORD_TYPES];

/* Where a stream stands, as a mask of what may come next. */
enum record_phase {
	RECORD_IDLE = 1 << 0,		/* no epoch open */
	RECORD_IN_PAGES = 1 << 1,	/* an epoch is open, no blob yet */
	RECORD_IN_BLOBS = 1 << 2,	/* an epoch is open, pages are over */
	RECORD_IN_CHANGES = 1 << 3,	/* an epoch is open, pages and blobs are over */
};
enum record_side { RECORD_FROM_PRIMARY = 1 << 0, RECORD_FROM_BACKUP = 1 << 1 };

struct record_header {
	uint16_t type;
	uint32_t length;		/* payload without padding */
	uint64_t epoch;
};

/* What follows the header on the wire. */
static inline size_t record_padded(uint32_t length)
{
	return ((size_t)length + RECORD_ALIGN - 1) & ~(size_t)(RECORD_ALIGN - 1);
}

void record_header_put(uint8_t at[RECORD_HEADER_SIZE], const struct record_header *h);
/* Checks type, flags, length limits, sender and order. NULL, or what is wrong. */
const char *record_header_get(const uint8_t at[RECORD_HEADER_SIZE], enum record_side from,
			      enum record_phase phase, struct record_header *h);

/* Appends header, `length` payload bytes (all zero) and padding; returns the payload or NULL (no memory). */
uint8_t *record_add(struct buf *out, enum record_type type, uint64_t epoch, uint32_t length);

enum { RECORD_BEGIN_SIZE = 40, RECORD_END_SIZE = 24, RECORD_ACK_SIZE = 16 };

struct record_begin {
	uint64_t term, captured_us;
	uint32_t pause_us, flags;	/* flags: enum epoch_flag */
	uint64_t pages;
	uint32_t blobs, changes;
};
void record_begin_put(uint8_t at[RECORD_BEGIN_SIZE], const struct record_begin *b);
/* NULL, or what is wrong. */
const char *record_begin_get(const uint8_t at[RECORD_BEGIN_SIZE], struct record_begin *b);

struct record_end {
	uint64_t pages;
	uint32_t blobs, changes;
	uint64_t checksum;
};
void record_end_put(uint8_t at[RECORD_END_SIZE], const struct record_end *e);
const char *record_end_get(const uint8_t at[RECORD_END_SIZE], struct record_end *e);

/* PAGES: this, then `count` entries, then their payloads end to end. */
enum { RECORD_PAGES_SIZE = 8, RECORD_ENTRY_SIZE = 8 };

struct record_entry {
	uint64_t gfn;
	uint16_t encoding, length;
};
void record_entry_put(uint8_t at[RECORD_ENTRY_SIZE], const struct record_entry *e);
/* Checks encoding and length against each other. NULL, or what is wrong. */
const char *record_entry_get(const uint8_t at[RECORD_ENTRY_SIZE], struct record_entry *e);

void record_pages_put(uint8_t at[RECORD_PAGES_SIZE], uint32_t count);
const char *record_pages_get(const uint8_t *at, uint32_t length, uint32_t *count);

/* BLOB: this, then the bytes. */
enum { RECORD_BLOB_SIZE = 8 };
extern const uint32_t record_blob_max[EPOCH_BLOBS];

void record_blob_put(uint8_t at[RECORD_BLOB_SIZE], enum epoch_blob kind);
const char *record_blob_get(const uint8_t *at, uint32_t length, enum epoch_blob *kind);

/* CHANGE: this, then a write's data, raw or as one LZ4 block. */
enum { RECORD_CHANGE_SIZE = 24 };
enum change_encoding { CHANGE_RAW, CHANGE_LZ4, CHANGE_ENCODINGS };

void record_change_put(uint8_t at[RECORD_CHANGE_SIZE], const struct block_change *c, enum change_encoding encoding);
/* Checks everything but whether the data decodes; c->data is not set. NULL, or what is wrong. */
const char *record_change_get(const uint8_t *at, uint32_t length, struct block_change *c, enum change_encoding *encoding);

/* INPUT: this, then a virtio-net header and a frame. */
enum { RECORD_INPUT_SIZE = 16, RECORD_INPUT_DATA_MIN = 24, RECORD_INPUT_DATA_MAX = 2048 };

struct record_input {
	uint64_t epoch;			/* the first one that contains it */
	uint32_t devid;			/* of the vif */
};
/* Writes `data` behind it as well. */
void record_input_put(uint8_t *at, const struct record_input *i, const void *data, size_t len);
/* `length`: of the whole payload. NULL, or what is wrong. */
const char *record_input_get(const uint8_t *at, uint32_t length, struct record_input *i);

struct record_ack {
	uint64_t term, promise_us;
};
void record_ack_put(uint8_t at[RECORD_ACK_SIZE], const struct record_ack *a);
void record_ack_get(const uint8_t at[RECORD_ACK_SIZE], struct record_ack *a);

/* Why a side ends the stream. */
enum goodbye {
	GOODBYE_DONE,			/* orderly: nothing is wrong */
	GOODBYE_PROTOCOL,		/* the peer broke this protocol */
	GOODBYE_RESOURCES,		/* no memory, or a limit of ours */
	GOODBYE_APPLY,			/* the backup could not put an epoch in place */
	GOODBYES
};
extern const char *const goodbye_name[GOODBYES];

enum { RECORD_GOODBYE_SIZE = 8 };
int record_goodbye_add(struct buf *out, uint64_t epoch, enum goodbye cause, const char *text);
/* `text` gets a printable copy. NULL, or what is wrong. */
const char *record_goodbye_get(const uint8_t *at, uint32_t length, enum goodbye *cause,
			       char text[RECORD_GOODBYE_TEXT_MAX + 1]);

/* XXH64 over an epoch's decoded content, in stream order. Scalar: where SIMD is emulated XXH3 costs ten times as much. */
struct epoch_hash;

int epoch_hash_new(struct epoch_hash **out);
void epoch_hash_free(struct epoch_hash *h);
void epoch_hash_begin(struct epoch_hash *h, uint64_t number,
		      const uint8_t begin[RECORD_BEGIN_SIZE]);
void epoch_hash_page(struct epoch_hash *h, uint64_t gfn, const void *page);
void epoch_hash_blob(struct epoch_hash *h, enum epoch_blob kind, const void *blob, size_t len);
void epoch_hash_change(struct epoch_hash *h, const struct block_change *c);
uint64_t epoch_hash_end(struct epoch_hash *h);

#endif
