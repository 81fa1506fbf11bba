/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An epoch as records: EPOCH_BEGIN, PAGES, BLOB, EPOCH_END (docs/protocol.md), some in each turn of
 * the sender's thread. */
#include "checkpoint/page_codec.h"
#include "checkpoint/sender_internal.h"
#include "common/clock.h"
#include "common/fault.h"

#include <errno.h>
#include <lz4.h>
#include <string.h>

_Static_assert(PAGE_ENCODINGS ==
		       sizeof(((struct sender_report *)0)->pages_by_encoding) / sizeof(uint32_t),
	       "sender_report counts every encoding");

enum {
	BATCH_PAGES = 64,      /* small enough for the caches and for acks to be read in between */
	OUT_BYTES = 1 << 20,   /* encoded and not yet in the socket: beyond it encoding waits */
	TURN_BYTES = 64 << 10, /* encoded in one turn: a small epoch is one write, a large one is on
				* its way while the rest is encoded */
};

void sender_compact(struct sender *s)
{
	if (!s->out_start)
		return;
	memmove(s->out.data, s->out.data + s->out_start, sender_pending_bytes(s));
	s->out.len -= s->out_start;
	s->out_start = 0;
}

uint8_t *sender_add_record(struct sender *s, enum record_type type, uint64_t epoch, uint32_t length)
{
	uint8_t *at;

	sender_compact(s);
	at = record_add(&s->out, type, epoch, length);
	if (!at)
		sender_over(s, -ENOMEM, "no memory for a record");
	else if (s->work.epoch)
		s->work.report.wire_bytes += RECORD_HEADER_SIZE + record_padded(length);
	return at;
}

static int step_begin(struct sender *s, struct work *w)
{
	struct epoch *e = w->epoch;
	struct record_begin begin = {
		.term = e->term,
		.captured_us = e->captured_us,
		.pause_us = e->pause_us,
		.flags = e->flags,
		.pages = e->nr_pages,
		.changes = (uint32_t)e->nr_changes,
	};
	unsigned int i;
	uint8_t *at;

	if (e->term != s->config.term || (s->begun && e->number != s->begun + 1) || !e->number)
		return sender_over(
			s, -EINVAL, "epoch %llu of term %llu follows epoch %llu of term %llu",
			(unsigned long long)e->number, (unsigned long long)e->term,
			(unsigned long long)s->begun, (unsigned long long)s->config.term);
	if (fi_point("SEND_BEGIN"))
		return sender_over(s, -EIO, "fault point SEND_BEGIN");
	if (!(s->features & STREAM_FEATURE_DISKS) && (e->nr_changes || e->blob[BLOB_DISKS].len))
		return sender_over(s, -EPROTONOSUPPORT, "the backup cannot take disks");
	if (e->nr_changes > UINT32_MAX)
		return sender_over(s, -E2BIG, "%zu changes of disks", e->nr_changes);
	if (!(s->features & STREAM_FEATURE_FRAMES))
		buf_reset(&e->blob[BLOB_OUTPUT]);
	for (i = 0; i < EPOCH_BLOBS; i++)
		begin.blobs += e->blob[i].len > 0;
	at = sender_add_record(s, RECORD_EPOCH_BEGIN, e->number, RECORD_BEGIN_SIZE);
	if (!at)
		return -ENOMEM;
	record_begin_put(at, &begin);
	epoch_hash_begin(s->hash, e->number, at);
	if (!s->begun)
		s->acknowledged = s->ended = e->number - 1;
	s->begun = e->number;
	w->step = STEP_PAGES;
	return fi_point("SEND_BEGIN_AFTER") ? sender_over(s, -EIO, "fault point SEND_BEGIN_AFTER")
					    : 0;
}

/* A record whose length is known at its end: room for a payload of at most `most` bytes. NULL: the stream is over. */
static uint8_t *record_open(struct sender *s, size_t most)
{
	sender_compact(s);
	if (buf_reserve(&s->out, RECORD_HEADER_SIZE + most + RECORD_ALIGN)) {
		sender_over(s, -ENOMEM, "no memory for a record");
		return NULL;
	}
	return s->out.data + s->out.len + RECORD_HEADER_SIZE;
}

static void record_close(struct sender *s, struct work *w, enum record_type type, uint32_t length)
{
	uint8_t *record = s->out.data + s->out.len;

	memset(record + RECORD_HEADER_SIZE + length, 0, record_padded(length) - length);
	record_header_put(record, &(struct record_header){(uint16_t)type, length, w->epoch->number});
	s->out.len += RECORD_HEADER_SIZE + record_padded(length);
	w->report.wire_bytes += RECORD_HEADER_SIZE + record_padded(length);
}

/* One PAGES record: reserved at its greatest size, cut to what was needed. */
static int encode_batch(struct sender *s, struct work *w, size_t nr)
{
	uint8_t *record = record_open(s, RECORD_PAGES_SIZE + nr * (RECORD_ENTRY_SIZE + SENDER_PAGE));
	struct epoch *e = w->epoch;
	uint8_t *entry, *payload;
	size_t i;

	if (!record)
		return -ENOMEM;
	entry = record + RECORD_PAGES_SIZE;
	payload = entry + nr * RECORD_ENTRY_SIZE;
	for (i = w->page; i < w->page + nr; i++, entry += RECORD_ENTRY_SIZE) {
		const uint8_t *page = e->pages + i * SENDER_PAGE;
		enum page_encoding enc;
		size_t len;

		if (e->gfn[i] >= RECORD_GFN_LIMIT)
			return sender_over(s, -ERANGE, "gfn %llx cannot be named in a record",
					   (unsigned long long)e->gfn[i]);
		epoch_hash_page(s->hash, e->gfn[i], page);
		len = page_encode(s->codec, e->gfn[i], page, payload, &enc);
		record_entry_put(entry, &(struct record_entry){e->gfn[i], enc, (uint16_t)len});
		payload += len;
		w->report.pages_by_encoding[enc]++;
	}
	record_pages_put(record, (uint32_t)nr);
	record_close(s, w, RECORD_PAGES, (uint32_t)(payload - record));
	return 0;
}

static int step_pages(struct sender *s, struct work *w)
{
	size_t left = w->epoch->nr_pages - w->page;
	size_t nr = left < BATCH_PAGES ? left : BATCH_PAGES;
	int rc;

	if (!nr) {
		w->step = STEP_BLOBS;
		return 0;
	}
	if (fi_point("SEND_PAGES"))
		return sender_over(s, -EIO, "fault point SEND_PAGES");
	rc = encode_batch(s, w, nr);
	if (rc)
		return rc;
	w->page += nr;
	return 0;
}

static int step_blobs(struct sender *s, struct work *w)
{
	const struct buf *b;
	uint8_t *at;

	while (w->blob < EPOCH_BLOBS && !w->epoch->blob[w->blob].len)
		w->blob++;
	if (w->blob == EPOCH_BLOBS) {
		w->step = STEP_CHANGES;
		return 0;
	}
	b = &w->epoch->blob[w->blob];
	if (b->len > record_blob_max[w->blob])
		return sender_over(s, -EMSGSIZE, "%s blob of %zu bytes is too long",
				   epoch_blob_name[w->blob], b->len);
	at = sender_add_record(s, RECORD_BLOB, w->epoch->number,
			       (uint32_t)(RECORD_BLOB_SIZE + b->len));
	if (!at)
		return -ENOMEM;
	record_blob_put(at, w->blob);
	memcpy(at + RECORD_BLOB_SIZE, b->data, b->len);
	epoch_hash_blob(s->hash, w->blob, b->data, b->len);
	w->report.raw_bytes += b->len;
	w->blob++;
	return 0;
}

/* Packed if that makes it smaller. A change's data is at most BLOCK_CHANGE_BYTES_MAX. */
static int encode_change(struct sender *s, struct work *w, const struct block_change *c)
{
	int bytes = c->kind == BLOCK_WRITE ? (int)c->bytes : 0, packed = 0;
	uint8_t *record = record_open(s, RECORD_CHANGE_SIZE + (size_t)bytes);
	uint8_t *data;

	if (!record)
		return -ENOMEM;
	data = record + RECORD_CHANGE_SIZE;
	if (bytes)
		packed = LZ4_compress_default(c->data, (char *)data, bytes, bytes - 1);
	if (bytes && packed <= 0)
		memcpy(data, c->data, (size_t)bytes);
	record_change_put(record, c, packed > 0 ? CHANGE_LZ4 : CHANGE_RAW);
	record_close(s, w, RECORD_CHANGE, (uint32_t)(RECORD_CHANGE_SIZE + (packed > 0 ? packed : bytes)));
	w->report.raw_bytes += (uint64_t)bytes;
	epoch_hash_change(s->hash, c);
	return 0;
}

static int step_changes(struct sender *s, struct work *w)
{
	if (w->change == w->epoch->nr_changes) {
		w->step = STEP_END;
		return 0;
	}
	if (fi_point("SEND_CHANGES"))
		return sender_over(s, -EIO, "fault point SEND_CHANGES");
	return encode_change(s, w, &w->epoch->change[w->change++]);
}

static int step_end(struct sender *s, struct work *w)
{
	struct record_end end = {.pages = w->epoch->nr_pages,
				 .changes = (uint32_t)w->epoch->nr_changes,
				 .checksum = epoch_hash_end(s->hash)};
	unsigned int i;
	uint8_t *at;

	if (fi_point("SEND_END"))
		return sender_over(s, -EIO, "fault point SEND_END");
	for (i = 0; i < EPOCH_BLOBS; i++)
		end.blobs += w->epoch->blob[i].len > 0;
	at = sender_add_record(s, RECORD_EPOCH_END, w->epoch->number, RECORD_END_SIZE);
	if (!at)
		return -ENOMEM;
	record_end_put(at, &end);
	s->end_us[w->epoch->number % SENDER_EPOCHS_MAX] = s->now_us;
	w->step = STEP_FLUSH;
	return 0;
}

static int (*const steps[])(struct sender *s, struct work *w) = {
	[STEP_BEGIN] = step_begin,
	[STEP_PAGES] = step_pages,
	[STEP_BLOBS] = step_blobs,
	[STEP_CHANGES] = step_changes,
	[STEP_END] = step_end,
};

bool sender_can_encode(const struct sender *s)
{
	return s->answered && s->work.epoch && s->work.step != STEP_FLUSH &&
	       sender_pending_bytes(s) < OUT_BYTES;
}

int sender_encode(struct sender *s)
{
	size_t enough = sender_pending_bytes(s) + TURN_BYTES;
	uint64_t start_us = s->now_us;
	int rc = 0;

	if (!sender_can_encode(s))
		return 0;
	while (!rc && sender_can_encode(s) && sender_pending_bytes(s) < enough)
		rc = steps[s->work.step](s, &s->work);
	s->now_us = clock_us();
	s->work.report.encode_us += (uint32_t)(s->now_us - start_us);
	return rc;
}
