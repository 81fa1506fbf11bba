/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/record.h"
#include "checkpoint/page_codec.h"
#include "common/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* Wire layouts. Members are bytes, so that nothing is aligned or reordered behind our back. */
struct wire_hello {
	uint8_t magic[8], token[8], version[2], lane[2], features[4], uuid[16], term[8], further[2], zero[2], zero2[4];
};
struct wire_answer {
	uint8_t magic[8], version[2], status[2], features[4], term[8], zero[8];
};
struct wire_header {
	uint8_t type[2], flags[2], length[4], epoch[8];
};
struct wire_begin {
	uint8_t term[8], captured_us[8], pause_us[4], flags[4], pages[8], blobs[4], changes[4];
};
struct wire_end {
	uint8_t pages[8], blobs[4], changes[4], checksum[8];
};
struct wire_pages {
	uint8_t count[4], zero[4];
};
struct wire_entry {
	uint8_t gfn[4], encoding[2], length[2];
};
struct wire_blob {
	uint8_t kind[4], zero[4];
};
struct wire_change {
	uint8_t devid[4], kind[2], encoding[2], offset[8], bytes[8];
};
struct wire_input {
	uint8_t epoch[8], devid[4], checksum[4];
};
struct wire_ack {
	uint8_t term[8], promise_us[8];
};
struct wire_goodbye {
	uint8_t cause[4], zero[4];
};
_Static_assert(sizeof(struct wire_hello) == STREAM_HELLO_SIZE, "hello");
_Static_assert(sizeof(struct wire_answer) == STREAM_ANSWER_SIZE, "answer");
_Static_assert(sizeof(struct wire_header) == RECORD_HEADER_SIZE, "header");
_Static_assert(sizeof(struct wire_begin) == RECORD_BEGIN_SIZE, "EPOCH_BEGIN");
_Static_assert(sizeof(struct wire_end) == RECORD_END_SIZE, "EPOCH_END");
_Static_assert(sizeof(struct wire_pages) == RECORD_PAGES_SIZE, "PAGES");
_Static_assert(sizeof(struct wire_entry) == RECORD_ENTRY_SIZE, "page entry");
_Static_assert(sizeof(struct wire_blob) == RECORD_BLOB_SIZE, "BLOB");
_Static_assert(sizeof(struct wire_change) == RECORD_CHANGE_SIZE, "CHANGE");
_Static_assert(sizeof(struct wire_input) == RECORD_INPUT_SIZE, "INPUT");
_Static_assert(sizeof(struct wire_ack) == RECORD_ACK_SIZE, "ACK");
_Static_assert(sizeof(struct wire_goodbye) == RECORD_GOODBYE_SIZE, "GOODBYE");

enum { PAGE_SIZE_BYTES = 4096 };

static const char stream_magic[8] = {'U', 'N', 'D', 'R', 'S', 'T', 'D', 'Y'};

const char *const stream_status_name[STREAM_STATUSES] = {
	[STREAM_ACCEPTED] = "accepted",
	[STREAM_BAD_VERSION] = "protocol version not spoken",
	[STREAM_BAD_GUEST] = "another guest",
	[STREAM_BAD_TERM] = "another term",
};

const char *const record_type_name[RECORD_TYPES] = {
	[RECORD_NONE] = "(none)",
	[RECORD_EPOCH_BEGIN] = "EPOCH_BEGIN",
	[RECORD_PAGES] = "PAGES",
	[RECORD_BLOB] = "BLOB",
	[RECORD_EPOCH_END] = "EPOCH_END",
	[RECORD_HEARTBEAT] = "HEARTBEAT",
	[RECORD_ACK] = "ACK",
	[RECORD_GOODBYE] = "GOODBYE",
	[RECORD_CHANGE] = "CHANGE",
	[RECORD_INPUT] = "INPUT",
};

const char *const goodbye_name[GOODBYES] = {
	[GOODBYE_DONE] = "done",
	[GOODBYE_PROTOCOL] = "protocol violated",
	[GOODBYE_RESOURCES] = "out of resources",
	[GOODBYE_APPLY] = "epoch could not be applied",
};

const uint32_t record_blob_max[EPOCH_BLOBS] = {
	[BLOB_CONTEXT] = 8 << 20, [BLOB_MACHINE] = 4096,  [BLOB_LAYOUT] = RECORD_BLOB_MAX,
	[BLOB_NET] = 64 << 10,	  [BLOB_STORE] = 1 << 20,  [BLOB_DISKS] = 4096,
	[BLOB_OUTPUT] = 64 << 10,
};

enum {
	RECORD_OPEN = RECORD_IN_PAGES | RECORD_IN_BLOBS | RECORD_IN_CHANGES,
	RECORD_ANYWHERE = RECORD_IDLE | RECORD_OPEN,
	RECORD_EITHER = RECORD_FROM_PRIMARY | RECORD_FROM_BACKUP,
};

static const struct record_rule {
	uint32_t min, max; /* payload */
	unsigned int from, when;
} record_rules[RECORD_TYPES] = {
	[RECORD_EPOCH_BEGIN] = {RECORD_BEGIN_SIZE, RECORD_BEGIN_SIZE, RECORD_FROM_PRIMARY,
				RECORD_IDLE},
	[RECORD_PAGES] = {RECORD_PAGES_SIZE + RECORD_ENTRY_SIZE,
			  RECORD_PAGES_SIZE +
				  RECORD_BATCH_PAGES_MAX *(RECORD_ENTRY_SIZE + PAGE_SIZE_BYTES),
			  RECORD_FROM_PRIMARY, RECORD_IN_PAGES},
	[RECORD_BLOB] = {RECORD_BLOB_SIZE + 1, RECORD_BLOB_SIZE + RECORD_BLOB_MAX,
			 RECORD_FROM_PRIMARY, RECORD_IN_PAGES | RECORD_IN_BLOBS},
	[RECORD_EPOCH_END] = {RECORD_END_SIZE, RECORD_END_SIZE, RECORD_FROM_PRIMARY, RECORD_OPEN},
	[RECORD_HEARTBEAT] = {0, 0, RECORD_EITHER, RECORD_ANYWHERE},
	[RECORD_ACK] = {RECORD_ACK_SIZE, RECORD_ACK_SIZE, RECORD_FROM_BACKUP, RECORD_ANYWHERE},
	[RECORD_GOODBYE] = {RECORD_GOODBYE_SIZE, RECORD_GOODBYE_SIZE + RECORD_GOODBYE_TEXT_MAX,
			    RECORD_EITHER, RECORD_ANYWHERE},
	[RECORD_CHANGE] = {RECORD_CHANGE_SIZE, RECORD_CHANGE_SIZE + BLOCK_CHANGE_BYTES_MAX,
			   RECORD_FROM_PRIMARY, RECORD_OPEN},
	[RECORD_INPUT] = {RECORD_INPUT_SIZE + RECORD_INPUT_DATA_MIN, RECORD_INPUT_SIZE + RECORD_INPUT_DATA_MAX,
			  RECORD_FROM_PRIMARY, RECORD_ANYWHERE},
};

void stream_hello_put(uint8_t at[STREAM_HELLO_SIZE], const struct stream_hello *h)
{
	struct wire_hello *w = (struct wire_hello *)at;

	*w = (struct wire_hello){0};
	memcpy(w->magic, stream_magic, sizeof(w->magic));
	wire_put64(w->token, h->token);
	wire_put16(w->version, h->version);
	wire_put32(w->features, h->features);
	memcpy(w->uuid, h->uuid, sizeof(w->uuid));
	wire_put64(w->term, h->term);
	wire_put16(w->lane, h->lane);
	wire_put16(w->further, h->further);
}

int stream_hello_get(const uint8_t at[STREAM_HELLO_SIZE], struct stream_hello *h)
{
	const struct wire_hello *w = (const struct wire_hello *)at;

	if (memcmp(w->magic, stream_magic, sizeof(w->magic)))
		return -EINVAL;
	*h = (struct stream_hello){
		.version = wire_get16(w->version),
		.features = wire_get32(w->features),
		.term = wire_get64(w->term),
		.token = wire_get64(w->token),
		.lane = wire_get16(w->lane),
		.further = wire_get16(w->further),
	};
	memcpy(h->uuid, w->uuid, sizeof(h->uuid));
	if (h->version != STREAM_VERSION)
		return 0;
	return wire_get16(w->zero) || wire_get32(w->zero2) || h->further >= STREAM_LANES_MAX || h->lane > h->further ? -EINVAL : 0;
}

void stream_answer_put(uint8_t at[STREAM_ANSWER_SIZE], const struct stream_answer *a)
{
	struct wire_answer *w = (struct wire_answer *)at;

	*w = (struct wire_answer){0};
	memcpy(w->magic, stream_magic, sizeof(w->magic));
	wire_put16(w->version, a->version);
	wire_put16(w->status, (uint16_t)a->status);
	wire_put32(w->features, a->features);
	wire_put64(w->term, a->term);
}

int stream_answer_get(const uint8_t at[STREAM_ANSWER_SIZE], struct stream_answer *a)
{
	const struct wire_answer *w = (const struct wire_answer *)at;

	if (memcmp(w->magic, stream_magic, sizeof(w->magic)) ||
	    wire_get16(w->status) >= STREAM_STATUSES)
		return -EINVAL;
	if (wire_get16(w->version) == STREAM_VERSION && wire_get64(w->zero))
		return -EINVAL;
	*a = (struct stream_answer){
		.version = wire_get16(w->version),
		.status = (enum stream_status)wire_get16(w->status),
		.features = wire_get32(w->features),
		.term = wire_get64(w->term),
	};
	return 0;
}

void record_header_put(uint8_t at[RECORD_HEADER_SIZE], const struct record_header *h)
{
	struct wire_header *w = (struct wire_header *)at;

	wire_put16(w->type, h->type);
	wire_put16(w->flags, 0);
	wire_put32(w->length, h->length);
	wire_put64(w->epoch, h->epoch);
}

const char *record_header_get(const uint8_t at[RECORD_HEADER_SIZE], enum record_side from,
			      enum record_phase phase, struct record_header *h)
{
	const struct wire_header *w = (const struct wire_header *)at;
	const struct record_rule *rule;

	*h = (struct record_header){
		.type = wire_get16(w->type),
		.length = wire_get32(w->length),
		.epoch = wire_get64(w->epoch),
	};
	if (h->type == RECORD_NONE || h->type >= RECORD_TYPES)
		return "unknown type";
	rule = &record_rules[h->type];
	if (wire_get16(w->flags))
		return "unknown flags";
	if (h->length < rule->min || h->length > rule->max)
		return "length out of bounds";
	if (!(rule->from & from))
		return "from the wrong side";
	if (!(rule->when & phase))
		return "out of order";
	return NULL;
}

uint8_t *record_add(struct buf *out, enum record_type type, uint64_t epoch, uint32_t length)
{
	uint8_t *at = buf_extend(out, RECORD_HEADER_SIZE + record_padded(length));

	if (!at)
		return NULL;
	record_header_put(at, &(struct record_header){(uint16_t)type, length, epoch});
	return at + RECORD_HEADER_SIZE;
}

void record_begin_put(uint8_t at[RECORD_BEGIN_SIZE], const struct record_begin *b)
{
	struct wire_begin *w = (struct wire_begin *)at;

	wire_put64(w->term, b->term);
	wire_put64(w->captured_us, b->captured_us);
	wire_put32(w->pause_us, b->pause_us);
	wire_put32(w->flags, b->flags);
	wire_put64(w->pages, b->pages);
	wire_put32(w->blobs, b->blobs);
	wire_put32(w->changes, b->changes);
}

const char *record_begin_get(const uint8_t at[RECORD_BEGIN_SIZE], struct record_begin *b)
{
	const struct wire_begin *w = (const struct wire_begin *)at;

	*b = (struct record_begin){
		.term = wire_get64(w->term),
		.captured_us = wire_get64(w->captured_us),
		.pause_us = wire_get32(w->pause_us),
		.flags = wire_get32(w->flags),
		.pages = wire_get64(w->pages),
		.blobs = wire_get32(w->blobs),
		.changes = wire_get32(w->changes),
	};
	if (b->flags & ~(uint32_t)(EPOCH_SYNC | EPOCH_FIRST | EPOCH_FINAL))
		return "unknown epoch flags";
	if ((b->flags & EPOCH_SYNC) && (b->flags & (EPOCH_FIRST | EPOCH_FINAL)))
		return "a sync epoch cannot be first or final";
	if (b->blobs > EPOCH_BLOBS)
		return "more blobs than there are kinds";
	return NULL;
}

void record_end_put(uint8_t at[RECORD_END_SIZE], const struct record_end *e)
{
	struct wire_end *w = (struct wire_end *)at;

	wire_put64(w->pages, e->pages);
	wire_put32(w->blobs, e->blobs);
	wire_put32(w->changes, e->changes);
	wire_put64(w->checksum, e->checksum);
}

const char *record_end_get(const uint8_t at[RECORD_END_SIZE], struct record_end *e)
{
	const struct wire_end *w = (const struct wire_end *)at;

	*e = (struct record_end){
		.pages = wire_get64(w->pages),
		.blobs = wire_get32(w->blobs),
		.changes = wire_get32(w->changes),
		.checksum = wire_get64(w->checksum),
	};
	return NULL;
}

void record_entry_put(uint8_t at[RECORD_ENTRY_SIZE], const struct record_entry *e)
{
	struct wire_entry *w = (struct wire_entry *)at;

	wire_put32(w->gfn, (uint32_t)e->gfn);
	wire_put16(w->encoding, e->encoding);
	wire_put16(w->length, e->length);
}

const char *record_entry_get(const uint8_t at[RECORD_ENTRY_SIZE], struct record_entry *e)
{
	static const struct {
		uint16_t min, max;
	} bounds[PAGE_ENCODINGS] = {
		[PAGE_ZERO] = {0, 0},
		[PAGE_SAME] = {0, 0},
		[PAGE_DELTA_LZ4] = {1, PAGE_SIZE_BYTES - 1},
		[PAGE_LZ4] = {1, PAGE_SIZE_BYTES - 1},
		[PAGE_RAW] = {PAGE_SIZE_BYTES, PAGE_SIZE_BYTES},
	};
	const struct wire_entry *w = (const struct wire_entry *)at;

	*e = (struct record_entry){
		.gfn = wire_get32(w->gfn),
		.encoding = wire_get16(w->encoding),
		.length = wire_get16(w->length),
	};
	if (e->encoding >= PAGE_ENCODINGS)
		return "unknown page encoding";
	if (e->length < bounds[e->encoding].min || e->length > bounds[e->encoding].max)
		return "page length does not fit its encoding";
	return NULL;
}

void record_pages_put(uint8_t at[RECORD_PAGES_SIZE], uint32_t count)
{
	struct wire_pages *w = (struct wire_pages *)at;

	wire_put32(w->count, count);
	wire_put32(w->zero, 0);
}

const char *record_pages_get(const uint8_t *at, uint32_t length, uint32_t *count)
{
	const struct wire_pages *w = (const struct wire_pages *)at;

	*count = wire_get32(w->count);
	if (wire_get32(w->zero))
		return "reserved bytes are not zero";
	if (!*count || *count > RECORD_BATCH_PAGES_MAX)
		return "page count out of bounds";
	if (RECORD_PAGES_SIZE + *count * RECORD_ENTRY_SIZE > length)
		return "more pages than fit";
	return NULL;
}

void record_blob_put(uint8_t at[RECORD_BLOB_SIZE], enum epoch_blob kind)
{
	struct wire_blob *w = (struct wire_blob *)at;

	wire_put32(w->kind, kind);
	wire_put32(w->zero, 0);
}

const char *record_blob_get(const uint8_t *at, uint32_t length, enum epoch_blob *kind)
{
	const struct wire_blob *w = (const struct wire_blob *)at;

	*kind = (enum epoch_blob)wire_get32(w->kind);
	if (wire_get32(w->zero))
		return "reserved bytes are not zero";
	if ((uint32_t)*kind >= EPOCH_BLOBS)
		return "unknown kind of blob";
	if (length - RECORD_BLOB_SIZE > record_blob_max[*kind])
		return "blob too long for its kind";
	return NULL;
}

void record_change_put(uint8_t at[RECORD_CHANGE_SIZE], const struct block_change *c, enum change_encoding encoding)
{
	struct wire_change *w = (struct wire_change *)at;

	wire_put32(w->devid, c->devid);
	wire_put16(w->kind, (uint16_t)c->kind);
	wire_put16(w->encoding, (uint16_t)encoding);
	wire_put64(w->offset, c->offset_bytes);
	wire_put64(w->bytes, c->bytes);
}

static const char *change_data_wrong(const struct block_change *c, enum change_encoding encoding, uint32_t length)
{
	if (c->kind != BLOCK_WRITE)
		return length || encoding != CHANGE_RAW ? "data that belongs to no write" : NULL;
	if (c->bytes > BLOCK_CHANGE_BYTES_MAX)
		return "a write that is too long";
	if (encoding == CHANGE_RAW ? length != c->bytes : !length || length >= c->bytes)
		return "length does not fit its encoding";
	return NULL;
}

const char *record_change_get(const uint8_t *at, uint32_t length, struct block_change *c, enum change_encoding *encoding)
{
	const struct wire_change *w = (const struct wire_change *)at;
	uint16_t kind = wire_get16(w->kind), code = wire_get16(w->encoding);

	*c = (struct block_change){
		.devid = wire_get32(w->devid),
		.kind = (enum block_change_kind)kind,
		.offset_bytes = wire_get64(w->offset),
		.bytes = wire_get64(w->bytes),
	};
	*encoding = (enum change_encoding)code;
	if (kind >= BLOCK_CHANGE_KINDS)
		return "unknown kind of change";
	if (code >= CHANGE_ENCODINGS)
		return "unknown encoding of a change";
	if (c->offset_bytes % BLOCK_SECTOR_BYTES || c->bytes % BLOCK_SECTOR_BYTES)
		return "not whole sectors";
	if (c->offset_bytes > UINT64_MAX - c->bytes || (kind == BLOCK_FLUSH) != !c->bytes ||
	    (kind == BLOCK_FLUSH && c->offset_bytes))
		return "an impossible range";
	return change_data_wrong(c, *encoding, length - RECORD_CHANGE_SIZE);
}

/* Over all but itself. */
static uint32_t input_checksum(const uint8_t *at, size_t length)
{
	const struct wire_input *w = (const struct wire_input *)at;

	return (uint32_t)XXH64(at + sizeof(*w), length - sizeof(*w), XXH64(w->epoch, sizeof(w->epoch) + sizeof(w->devid), 0));
}

void record_input_put(uint8_t *at, const struct record_input *i, const void *data, size_t len)
{
	struct wire_input *w = (struct wire_input *)at;

	wire_put64(w->epoch, i->epoch);
	wire_put32(w->devid, i->devid);
	memcpy(at + sizeof(*w), data, len);
	wire_put32(w->checksum, input_checksum(at, sizeof(*w) + len));
}

const char *record_input_get(const uint8_t *at, uint32_t length, struct record_input *i)
{
	const struct wire_input *w = (const struct wire_input *)at;

	*i = (struct record_input){.epoch = wire_get64(w->epoch), .devid = wire_get32(w->devid)};
	if (wire_get32(w->checksum) != input_checksum(at, length))
		return "checksum differs";
	return i->epoch ? NULL : "epoch 0";
}

void record_ack_put(uint8_t at[RECORD_ACK_SIZE], const struct record_ack *a)
{
	struct wire_ack *w = (struct wire_ack *)at;

	wire_put64(w->term, a->term);
	wire_put64(w->promise_us, a->promise_us);
}

void record_ack_get(const uint8_t at[RECORD_ACK_SIZE], struct record_ack *a)
{
	const struct wire_ack *w = (const struct wire_ack *)at;

	*a = (struct record_ack){wire_get64(w->term), wire_get64(w->promise_us)};
}

int record_goodbye_add(struct buf *out, uint64_t epoch, enum goodbye cause, const char *text)
{
	size_t len = strnlen(text, RECORD_GOODBYE_TEXT_MAX);
	uint8_t *at = record_add(out, RECORD_GOODBYE, epoch, (uint32_t)(RECORD_GOODBYE_SIZE + len));
	struct wire_goodbye *w = (struct wire_goodbye *)at;

	if (!at)
		return -ENOMEM;
	wire_put32(w->cause, cause);
	memcpy(at + RECORD_GOODBYE_SIZE, text, len);
	return 0;
}

const char *record_goodbye_get(const uint8_t *at, uint32_t length, enum goodbye *cause,
			       char text[RECORD_GOODBYE_TEXT_MAX + 1])
{
	const struct wire_goodbye *w = (const struct wire_goodbye *)at;
	uint32_t i, len = length - RECORD_GOODBYE_SIZE;

	*cause = (enum goodbye)wire_get32(w->cause);
	for (i = 0; i < len; i++) {
		uint8_t c = at[RECORD_GOODBYE_SIZE + i];

		text[i] = c >= ' ' && c < 0x7f ? (char)c : '?';
	}
	text[len] = '\0';
	if (wire_get32(w->zero))
		return "reserved bytes are not zero";
	if ((uint32_t)*cause >= GOODBYES)
		return "unknown cause";
	return NULL;
}

struct epoch_hash {
	XXH64_state_t *state;
};

int epoch_hash_new(struct epoch_hash **out)
{
	struct epoch_hash *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	h->state = XXH64_createState();
	if (!h->state) {
		free(h);
		return -ENOMEM;
	}
	*out = h;
	return 0;
}

void epoch_hash_free(struct epoch_hash *h)
{
	if (!h)
		return;
	XXH64_freeState(h->state);
	free(h);
}

void epoch_hash_begin(struct epoch_hash *h, uint64_t number, const uint8_t begin[RECORD_BEGIN_SIZE])
{
	uint8_t n[8];

	wire_put64(n, number);
	XXH64_reset(h->state, 0);
	XXH64_update(h->state, n, sizeof(n));
	XXH64_update(h->state, begin, RECORD_BEGIN_SIZE);
}

void epoch_hash_page(struct epoch_hash *h, uint64_t gfn, const void *page)
{
	uint8_t n[8];

	wire_put64(n, gfn);
	XXH64_update(h->state, n, sizeof(n));
	XXH64_update(h->state, page, PAGE_SIZE_BYTES);
}

void epoch_hash_blob(struct epoch_hash *h, enum epoch_blob kind, const void *blob, size_t len)
{
	uint8_t n[16];

	wire_put64(n, kind);
	wire_put64(n + 8, len);
	XXH64_update(h->state, n, sizeof(n));
	XXH64_update(h->state, blob, len);
}

void epoch_hash_change(struct epoch_hash *h, const struct block_change *c)
{
	uint8_t n[32];

	wire_put64(n, c->devid);
	wire_put64(n + 8, c->kind);
	wire_put64(n + 16, c->offset_bytes);
	wire_put64(n + 24, c->bytes);
	XXH64_update(h->state, n, sizeof(n));
	if (c->kind == BLOCK_WRITE)
		XXH64_update(h->state, c->data, c->bytes);
}

uint64_t epoch_hash_end(struct epoch_hash *h)
{
	return XXH64_digest(h->state);
}
