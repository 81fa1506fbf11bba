/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/receiver.h"
#include "checkpoint/page_codec.h"
#include "checkpoint/record.h"
#include "common/clock.h"
#include "common/fault.h"
#include "common/log.h"

#include <errno.h>
#include <lz4.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	RECEIVER_PAGE = 4096,
	RECEIVER_IN_BYTES = 2 << 20, /* to begin with: grows to the greatest blob */
	RECEIVER_TAIL_BYTES =
		256 << 10, /* less room than this behind the content: it moves to the front */
	RECEIVER_READ_BYTES = 4 << 20, /* per call, so that the caller's timers run */
	RECEIVER_OUT_BYTES =
		64 << 10, /* unsent to a peer that does not read: beyond it the stream is over */
	RECEIVER_EPOCH_PAGES = 4096, /* to begin with */
};

struct receiver {
	struct receiver_config config;
	struct receiver_ops ops;
	void *arg;
	char *guest;

	struct buf in, out;
	size_t in_start, out_start;
	uint64_t in_offset;  /* stream position of in_start: the record being looked at */
	const char *in_name; /* its name */
	uint64_t heard_us, wrote_us, promised_us;
	int over;	    /* the -errno that ended the stream */
	bool greeted, mute; /* mute: nothing can be sent any more */

	enum record_phase phase;
	struct record_begin begin;
	struct epoch *epoch; /* staging; number and flags outlive the epoch */
	uint32_t *staged;    /* [gfn_limit] index + 1 in `epoch`, 0: not in it */
	struct epoch_hash *hash;
	uint32_t blobs;
	uint64_t changes_bytes;
	uint64_t input_epoch; /* the last INPUT's */
	int last_blob;
	uint64_t last;	 /* whole and acknowledged; 0: none yet in this stream */
	bool first_seen; /* EPOCH_FIRST is past: no more sync epochs */
	uint64_t committed;
	struct receiver_stats stats;
};

static size_t in_len(const struct receiver *r)
{
	return r->in.len - r->in_start;
}

/*
 * Writes what the socket takes now. A connection that cannot be written to any more may still hold
 * whole epochs to read, and the newest is the best to activate from: reading goes on, and tells of
 * the end.
 */
static int flush(struct receiver *r)
{
	while (r->out_start < r->out.len) {
		ssize_t n = channel_send(lanes_back(&r->config.lanes), r->out.data + r->out_start, r->out.len - r->out_start);

		if (n == -EAGAIN)
			return r->out.len - r->out_start > RECEIVER_OUT_BYTES ? -ENOBUFS : 0;
		if (n < 0) {
			if (!r->mute)
				log_warn(r->guest, "epoch %llu: send: %s", (unsigned long long)r->last,
					 channel_strerror(lanes_back(&r->config.lanes), (int)n));
			r->mute = true;
			break;
		}
		r->out_start += (size_t)n;
		r->wrote_us = clock_us();
	}
	r->out_start = 0;
	r->out.len = 0;
	return 0;
}

/* Ends the stream: says why, here and to the peer. */
__attribute__((format(printf, 4, 5))) static int end_stream(struct receiver *r, int rc,
							    enum goodbye cause, const char *fmt,
							    ...)
{
	char what[RECORD_GOODBYE_TEXT_MAX + 1], text[sizeof(what)];
	uint64_t epoch = r->phase == RECORD_IDLE ? r->last : r->epoch->number;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	log_err(r->guest, "epoch %llu: record %s at byte %llu: %s", (unsigned long long)epoch,
		r->in_name, (unsigned long long)r->in_offset, what);
	if (r->greeted &&
	    snprintf(text, sizeof(text), "%s at byte %llu: %.120s", r->in_name,
		     (unsigned long long)r->in_offset, what) > 0 &&
	    !record_goodbye_add(&r->out, r->last, cause, text))
		(void)flush(r); /* the stream is over either way */
	return rc;
}

static int violation(struct receiver *r, const char *what)
{
	return end_stream(r, -EPROTO, GOODBYE_PROTOCOL, "%s", what);
}

static const void *base_page(struct receiver *r, uint64_t gfn)
{
	static const uint8_t zeroes[RECEIVER_PAGE];
	const void *page;

	if (r->staged[gfn])
		return r->epoch->pages + (size_t)(r->staged[gfn] - 1) * RECEIVER_PAGE;
	page = r->ops.page(r->arg, gfn);
	return page ? page : zeroes;
}

static int answer(struct receiver *r, enum stream_status status, uint32_t features)
{
	uint8_t *at = buf_extend(&r->out, STREAM_ANSWER_SIZE);

	if (!at)
		return -ENOMEM;
	stream_answer_put(
		at, &(struct stream_answer){STREAM_VERSION, status, features, r->config.term});
	return flush(r);
}

/* Whoever does not know the token gets no answer (I7). */
static int take_hello(struct receiver *r, const uint8_t *at)
{
	struct stream_hello hello;
	enum stream_status status = STREAM_ACCEPTED;
	int rc;

	if (stream_hello_get(at, &hello))
		return violation(r, "not a hello of this protocol");
	if (hello.token != r->config.token)
		return end_stream(r, -EACCES, GOODBYE_PROTOCOL, "wrong token");
	/* What the daemon was told in the clear, and has set up here. */
	if (hello.version == STREAM_VERSION && (hello.lane || hello.further + 1u != r->config.lanes.nr))
		return violation(r, "not as many connections as were announced");
	if (hello.version != STREAM_VERSION)
		status = STREAM_BAD_VERSION;
	else if (memcmp(hello.uuid, r->config.uuid, sizeof(hello.uuid)))
		status = STREAM_BAD_GUEST;
	else if (hello.term != r->config.term)
		status = STREAM_BAD_TERM;

	rc = answer(r, status, hello.features & STREAM_FEATURES);
	if (rc)
		return rc;
	if (status != STREAM_ACCEPTED)
		return end_stream(r, -EPROTO, GOODBYE_PROTOCOL, "%s (version %u, term %llu)",
				  stream_status_name[status], hello.version,
				  (unsigned long long)hello.term);
	r->greeted = true;
	return 0;
}

/* What the order of a baseline demands of the next epoch's flags. */
static const char *wrong_flags(const struct receiver *r, uint32_t flags)
{
	if (r->first_seen)
		return flags & (EPOCH_SYNC | EPOCH_FIRST) ? "a second baseline in one stream"
							  : NULL;
	return flags & (EPOCH_SYNC | EPOCH_FIRST) ? NULL : "an epoch before the baseline";
}

static int take_begin(struct receiver *r, const struct record_header *h, const uint8_t *payload)
{
	struct epoch *e = r->epoch;
	const char *wrong = record_begin_get(payload, &r->begin);

	if (wrong)
		return violation(r, wrong);
	if (!h->epoch || (r->last && h->epoch != r->last + 1))
		return end_stream(r, -EPROTO, GOODBYE_PROTOCOL, "number %llu follows %llu",
				  (unsigned long long)h->epoch, (unsigned long long)r->last);
	if (r->begin.term != r->config.term)
		return end_stream(r, -EPROTO, GOODBYE_PROTOCOL, "term %llu instead of %llu",
				  (unsigned long long)r->begin.term,
				  (unsigned long long)r->config.term);
	wrong = wrong_flags(r, r->begin.flags);
	if (wrong)
		return violation(r, wrong);
	if (r->begin.pages > r->config.staged_pages_max)
		return end_stream(r, -EPROTO, GOODBYE_RESOURCES, "%llu pages, more than %zu",
				  (unsigned long long)r->begin.pages, r->config.staged_pages_max);
	if (fi_point("RECV_BEGIN"))
		return end_stream(r, -EIO, GOODBYE_RESOURCES, "fault point RECV_BEGIN");

	epoch_reset(e);
	if (epoch_reserve(e, r->begin.pages))
		return end_stream(r, -ENOMEM, GOODBYE_RESOURCES, "no memory for %llu pages",
				  (unsigned long long)r->begin.pages);
	e->number = h->epoch;
	e->term = r->begin.term;
	e->flags = r->begin.flags;
	e->captured_us = r->begin.captured_us;
	e->pause_us = r->begin.pause_us;
	epoch_hash_begin(r->hash, e->number, payload);
	e->owns_data = true;
	r->blobs = 0;
	r->changes_bytes = 0;
	r->last_blob = -1;
	r->phase = RECORD_IN_PAGES;
	return 0;
}

/* Decodes one page straight into the staging area. */
static const char *stage_page(struct receiver *r, const struct record_entry *entry,
			      const uint8_t *payload)
{
	struct epoch *e = r->epoch;
	uint8_t *page = e->pages + e->nr_pages * RECEIVER_PAGE;
	bool based = entry->encoding == PAGE_SAME || entry->encoding == PAGE_DELTA_LZ4;

	if (entry->gfn >= r->config.gfn_limit)
		return "gfn beyond the guest";
	if (page_decode(entry->encoding, payload, entry->length,
			based ? base_page(r, entry->gfn) : NULL, page))
		return "page does not decode";
	epoch_hash_page(r->hash, entry->gfn, page);
	e->gfn[e->nr_pages++] = entry->gfn;
	r->staged[entry->gfn] = (uint32_t)e->nr_pages;
	return NULL;
}

static int take_pages(struct receiver *r, const struct record_header *h, const uint8_t *payload)
{
	const uint8_t *end = payload + h->length, *at, *data;
	uint32_t count, i;
	const char *wrong = record_pages_get(payload, h->length, &count);

	if (wrong)
		return violation(r, wrong);
	if (count > r->begin.pages - r->epoch->nr_pages)
		return violation(r, "more pages than announced");

	at = payload + RECORD_PAGES_SIZE;
	data = at + (size_t)count * RECORD_ENTRY_SIZE;
	for (i = 0; i < count; i++, at += RECORD_ENTRY_SIZE) {
		struct record_entry entry;

		wrong = record_entry_get(at, &entry);
		if (!wrong && entry.length > end - data)
			wrong = "payload longer than the record";
		if (!wrong)
			wrong = stage_page(r, &entry, data);
		if (wrong)
			return end_stream(r, -EPROTO, GOODBYE_PROTOCOL, "entry %u (gfn %llx): %s",
					  i, (unsigned long long)entry.gfn, wrong);
		data += entry.length;
	}
	return data == end ? 0 : violation(r, "payload shorter than the record");
}

static int take_blob(struct receiver *r, const struct record_header *h, const uint8_t *payload)
{
	enum epoch_blob kind;
	const char *wrong = record_blob_get(payload, h->length, &kind);
	size_t len = h->length - RECORD_BLOB_SIZE;

	if (wrong)
		return violation(r, wrong);
	if ((int)kind <= r->last_blob)
		return violation(r, "blobs not in ascending order");
	if (buf_add(&r->epoch->blob[kind], payload + RECORD_BLOB_SIZE, len))
		return end_stream(r, -ENOMEM, GOODBYE_RESOURCES, "no memory for %zu bytes", len);
	epoch_hash_blob(r->hash, kind, payload + RECORD_BLOB_SIZE, len);
	r->last_blob = (int)kind;
	r->blobs++;
	r->phase = RECORD_IN_BLOBS;
	return 0;
}

/* The data of a write, in memory of its own: it goes to a disk as it is. */
static const char *stage_change(struct receiver *r, struct block_change *c, enum change_encoding encoding,
				const uint8_t *data, uint32_t length)
{
	void *to = NULL;

	if (c->kind == BLOCK_WRITE && posix_memalign(&to, RECEIVER_PAGE, c->bytes))
		return "no memory";
	c->data = to;
	if (epoch_add_change(r->epoch, c)) {
		free(to);
		return "no memory";
	}
	if (to && encoding == CHANGE_RAW)
		memcpy(to, data, length);
	else if (to && LZ4_decompress_safe((const char *)data, to, (int)length, (int)c->bytes) != (int)c->bytes)
		return "does not decode";
	epoch_hash_change(r->hash, c);
	return NULL;
}

static int take_change(struct receiver *r, const struct record_header *h, const uint8_t *payload)
{
	struct block_change c;
	enum change_encoding encoding;
	const char *wrong = record_change_get(payload, h->length, &c, &encoding);

	if (wrong)
		return violation(r, wrong);
	if (r->epoch->nr_changes == r->begin.changes)
		return violation(r, "more changes than announced");
	r->changes_bytes += c.kind == BLOCK_WRITE ? c.bytes : 0;
	if (r->changes_bytes > r->config.staged_changes_bytes_max)
		return end_stream(r, -EPROTO, GOODBYE_RESOURCES, "more than %llu bytes for disks",
				  (unsigned long long)r->config.staged_changes_bytes_max);
	wrong = stage_change(r, &c, encoding, payload + RECORD_CHANGE_SIZE, h->length - RECORD_CHANGE_SIZE);
	if (wrong)
		return end_stream(r, -EPROTO, GOODBYE_PROTOCOL, "change %zu: %s", r->epoch->nr_changes, wrong);
	r->phase = RECORD_IN_CHANGES;
	return 0;
}

static int acknowledge(struct receiver *r)
{
	uint64_t promise_us = (uint64_t)r->config.promise_ms * 1000;
	uint8_t *at;

	if (fi_point("ACK_BEFORE"))
		return -EIO;
	at = record_add(&r->out, RECORD_ACK, r->epoch->number, RECORD_ACK_SIZE);
	if (!at)
		return -ENOMEM;
	record_ack_put(at, &(struct record_ack){r->config.term, promise_us});
	r->promised_us = clock_us() + promise_us + clock_drift_us(promise_us, r->config.drift_ppm);
	return flush(r);
}

static void unstage(struct receiver *r)
{
	size_t i;

	for (i = 0; i < r->epoch->nr_pages; i++)
		r->staged[r->epoch->gfn[i]] = 0;
	r->phase = RECORD_IDLE;
}

static int apply(struct receiver *r)
{
	int rc;

	rc = fi_point("APPLY_BEFORE");
	if (!rc)
		rc = r->ops.apply(r->arg, r->epoch);
	if (rc) {
		r->committed = 0;
		return end_stream(r, rc, GOODBYE_APPLY, "cannot be applied: %s", strerror(-rc));
	}
	if (!(r->epoch->flags & EPOCH_SYNC)) {
		r->first_seen = true;
		r->committed = r->epoch->number;
	}
	if (fi_point("APPLY_AFTER"))
		return end_stream(r, -EIO, GOODBYE_RESOURCES, "fault point APPLY_AFTER");
	return 0;
}

static int check(struct receiver *r)
{
	if (!r->ops.check || (r->epoch->flags & EPOCH_SYNC))
		return 0;
	return r->ops.check(r->arg, r->epoch);
}

static const char *wrong_end(const struct receiver *r, const struct record_end *end)
{
	if (end->pages != r->epoch->nr_pages || end->pages != r->begin.pages)
		return "page count differs";
	if (end->blobs != r->blobs || end->blobs != r->begin.blobs)
		return "blob count differs";
	if (end->changes != r->epoch->nr_changes || end->changes != r->begin.changes)
		return "change count differs";
	if (end->checksum != epoch_hash_end(r->hash))
		return "checksum differs";
	return NULL;
}

static int take_end(struct receiver *r, const struct record_header *h, const uint8_t *payload)
{
	struct record_end end;
	const char *wrong = record_end_get(payload, &end);
	int rc;

	if (!wrong)
		wrong = wrong_end(r, &end);
	if (wrong)
		return violation(r, wrong);
	if (fi_point("RECV_END"))
		return end_stream(r, -EIO, GOODBYE_RESOURCES, "fault point RECV_END");

	rc = check(r);
	if (rc)
		return end_stream(r, rc, GOODBYE_APPLY, "could not be activated: %s", strerror(-rc));
	rc = acknowledge(r);
	if (!rc)
		rc = fi_point("ACK_AFTER");
	if (rc)
		return end_stream(r, rc, GOODBYE_RESOURCES, "acknowledgement: %s", strerror(-rc));
	r->last = h->epoch;
	r->stats.epochs++;
	r->stats.pages += end.pages;
	r->stats.raw_bytes += end.pages * RECEIVER_PAGE;
	rc = apply(r);
	unstage(r);
	return rc;
}

static int take_input(struct receiver *r, const struct record_header *h, const uint8_t *payload)
{
	struct record_input input;
	const char *wrong = record_input_get(payload, h->length, &input);

	if (!wrong && input.epoch < r->input_epoch)
		wrong = "behind one of a later epoch";
	if (wrong)
		return violation(r, wrong);
	r->input_epoch = input.epoch;
	if (r->ops.input)
		r->ops.input(r->arg, &input, payload + RECORD_INPUT_SIZE, h->length - RECORD_INPUT_SIZE);
	return 0;
}

static int take_heartbeat(struct receiver *r, const struct record_header *h, const uint8_t *payload)
{
	return 0;
}

static int take_goodbye(struct receiver *r, const struct record_header *h, const uint8_t *payload)
{
	char text[RECORD_GOODBYE_TEXT_MAX + 1];
	enum goodbye cause;
	const char *wrong = record_goodbye_get(payload, h->length, &cause, text);

	if (wrong)
		return violation(r, wrong);
	if (in_len(r) > RECORD_HEADER_SIZE + record_padded(h->length))
		return violation(r, "more behind it");
	log_info(r->guest, "epoch %llu: the primary says: %s%s%s", (unsigned long long)r->last,
		 goodbye_name[cause], text[0] ? ": " : "", text);
	r->stats.torn = r->phase != RECORD_IDLE;
	return -ESHUTDOWN;
}

typedef int (*take_fn)(struct receiver *r, const struct record_header *h, const uint8_t *payload);

static const take_fn takers[RECORD_TYPES] = {
	[RECORD_EPOCH_BEGIN] = take_begin,   [RECORD_PAGES] = take_pages,
	[RECORD_BLOB] = take_blob,	     [RECORD_EPOCH_END] = take_end,
	[RECORD_HEARTBEAT] = take_heartbeat, [RECORD_GOODBYE] = take_goodbye,
	[RECORD_CHANGE] = take_change,	     [RECORD_INPUT] = take_input,
};

/* The epoch that a record's header must name. BEGIN brings a new one. */
static bool epoch_fits(const struct receiver *r, const struct record_header *h)
{
	if (h->type == RECORD_EPOCH_BEGIN)
		return true;
	return h->epoch == (r->phase == RECORD_IDLE ? r->last : r->epoch->number);
}

static void in_consume(struct receiver *r, size_t bytes)
{
	r->in_start += bytes;
	r->in_offset += bytes;
	if (r->in_start == r->in.len)
		r->in_start = r->in.len = 0;
}

/* Room for the rest of a record of `bytes` in all. */
static int in_expect(struct receiver *r, size_t bytes)
{
	if (r->in.size - r->in_start >= bytes)
		return 0;
	memmove(r->in.data, r->in.data + r->in_start, in_len(r));
	r->in.len -= r->in_start;
	r->in_start = 0;
	return buf_reserve(&r->in, bytes - r->in.len);
}

static bool padding_clean(const uint8_t *payload, uint32_t length)
{
	size_t i;

	for (i = length; i < record_padded(length); i++) {
		if (payload[i])
			return false;
	}
	return true;
}

/* One hello or record. 1: taken, 0: not all there yet, -errno. */
static int take_one(struct receiver *r)
{
	const uint8_t *at = r->in.data + r->in_start;
	struct record_header h;
	const char *wrong;
	size_t bytes;
	int rc;

	r->in_name = r->greeted ? "header" : "hello";
	if (in_len(r) < (r->greeted ? RECORD_HEADER_SIZE : STREAM_HELLO_SIZE))
		return 0;
	if (!r->greeted) {
		rc = take_hello(r, at);
		in_consume(r, STREAM_HELLO_SIZE);
		return rc ? rc : 1;
	}

	wrong = record_header_get(at, RECORD_FROM_PRIMARY, r->phase, &h);
	if (h.type < RECORD_TYPES)
		r->in_name = record_type_name[h.type];
	if (!wrong && !epoch_fits(r, &h))
		wrong = "names another epoch";
	if (wrong)
		return violation(r, wrong);

	bytes = RECORD_HEADER_SIZE + record_padded(h.length);
	if (in_len(r) < bytes) {
		if (in_expect(r, bytes))
			return end_stream(r, -ENOMEM, GOODBYE_RESOURCES, "no memory for a record");
		return 0;
	}
	if (!padding_clean(at + RECORD_HEADER_SIZE, h.length))
		return violation(r, "padding is not zero");
	rc = takers[h.type](r, &h, at + RECORD_HEADER_SIZE);
	if (rc)
		return rc;
	in_consume(r, bytes);
	return 1;
}

/* Takes what is there up to the end of an epoch. 1: an epoch was completed, 0, -errno. */
static int take_epoch(struct receiver *r)
{
	uint64_t last = r->last;
	int rc;

	do
		rc = take_one(r);
	while (rc > 0 && r->last == last);
	return rc;
}

static void capture(struct receiver *r, const uint8_t *data, size_t len)
{
	while (r->config.capture_fd >= 0 && len) {
		ssize_t n = write(r->config.capture_fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			log_warn(r->guest, "stream capture given up: %s", strerror(errno));
			close(r->config.capture_fd);
			r->config.capture_fd = -1;
			return;
		}
		data += n;
		len -= (size_t)n;
	}
}

/* The bytes read, 0 if there are none now, -errno. */
static ssize_t receive(struct receiver *r)
{
	ssize_t n;

	if (in_expect(r, in_len(r) + RECEIVER_TAIL_BYTES))
		return -ENOMEM;
	n = lanes_receive(&r->config.lanes, r->in.data + r->in.len, r->in.size - r->in.len);
	if (n == -EAGAIN)
		return 0;
	if (n < 0) {
		log_warn(r->guest, "epoch %llu: receive: %s", (unsigned long long)r->last, lanes_strerror(&r->config.lanes, (int)n));
		return n;
	}
	if (!n) {
		r->stats.torn = !r->greeted || r->phase != RECORD_IDLE || in_len(r);
		if (r->stats.torn)
			log_warn(r->guest,
				 "epoch %llu: the stream ends at byte %llu inside %s: dropped",
				 (unsigned long long)(r->phase == RECORD_IDLE ? r->last
									      : r->epoch->number),
				 (unsigned long long)(r->in_offset + in_len(r)),
				 r->phase == RECORD_IDLE ? r->in_name : "the epoch");
		return -ECONNRESET;
	}
	capture(r, r->in.data + r->in.len, (size_t)n);
	r->in.len += (size_t)n;
	r->stats.wire_bytes += (uint64_t)n;
	return n;
}

int receiver_read(struct receiver *r)
{
	size_t bytes = 0;
	int rc;

	if (r->over)
		return r->over;
	rc = flush(r);
	while (!rc) {
		ssize_t n;

		rc = take_epoch(r);
		if (rc)
			break;
		if (bytes >= RECEIVER_READ_BYTES) {
			rc = 1;
			break;
		}
		n = receive(r);
		if (n <= 0) {
			rc = (int)n;
			break;
		}
		bytes += (size_t)n;
	}
	if (bytes)
		r->heard_us = clock_us();
	if (rc < 0)
		r->over = rc;
	return rc;
}

int receiver_tick(struct receiver *r)
{
	int rc = r->over;

	if (!rc && r->greeted && r->out_start == r->out.len &&
	    clock_us() - r->wrote_us >= (uint64_t)r->config.heartbeat_ms * 1000 &&
	    !record_add(&r->out, RECORD_HEARTBEAT, r->last, 0))
		rc = -ENOMEM;
	if (!rc)
		rc = flush(r);
	if (rc)
		r->over = rc;
	return rc;
}

static int expect_lane(struct receiver *r, unsigned int lane)
{
	struct stream_hello hello = {.version = STREAM_VERSION, .term = r->config.term, .token = r->config.token};

	memcpy(hello.uuid, r->config.uuid, sizeof(hello.uuid));
	return lanes_expect(&r->config.lanes, lane, &hello);
}

int receiver_add_lane(struct receiver *r, unsigned int lane, int fd)
{
	int rc = lanes_attach(&r->config.lanes, lane, fd);

	if (rc)
		return rc;
	rc = expect_lane(r, lane);
	/* The socket is the stream's by now. */
	if (rc && !r->over)
		r->over = rc;
	return 0;
}

int receiver_new(const struct receiver_config *config, const struct receiver_ops *ops, void *arg,
		 struct receiver **out)
{
	struct receiver *r = calloc(1, sizeof(*r));
	size_t pages = config->staged_pages_max;
	struct lanes lanes = config->lanes;
	int rc;

	if (!r) {
		lanes_close(&lanes);
		if (config->capture_fd >= 0)
			close(config->capture_fd);
		return -ENOMEM;
	}
	r->config = *config;
	r->ops = *ops;
	r->arg = arg;
	r->phase = RECORD_IDLE;
	r->in_name = "hello";
	r->heard_us = r->wrote_us = clock_us();
	r->guest = strdup(config->guest);
	r->staged = calloc(config->gfn_limit ? config->gfn_limit : 1, sizeof(*r->staged));
	rc = pages >= UINT32_MAX || config->gfn_limit > RECORD_GFN_LIMIT ? -EINVAL : 0;
	if (!rc)
		rc = expect_lane(r, 0);
	if (!rc && (!r->guest || !r->staged))
		rc = -ENOMEM;
	if (!rc)
		rc = epoch_new(pages < RECEIVER_EPOCH_PAGES ? pages : RECEIVER_EPOCH_PAGES,
			       &r->epoch);
	if (!rc)
		rc = epoch_hash_new(&r->hash);
	if (!rc)
		rc = buf_reserve(&r->in, RECEIVER_IN_BYTES);
	if (rc) {
		receiver_free(r);
		return rc;
	}
	*out = r;
	return 0;
}

void receiver_free(struct receiver *r)
{
	if (!r)
		return;
	lanes_close(&r->config.lanes);
	if (r->config.capture_fd >= 0)
		close(r->config.capture_fd);
	epoch_free(r->epoch);
	epoch_hash_free(r->hash);
	buf_free(&r->in);
	buf_free(&r->out);
	free(r->staged);
	free(r->guest);
	free(r);
}

int receiver_fd(const struct receiver *r)
{
	return lanes_fd(&r->config.lanes);
}

uint64_t receiver_committed(const struct receiver *r)
{
	return r->committed;
}

uint64_t receiver_heard_us(const struct receiver *r)
{
	return r->heard_us;
}

uint64_t receiver_promised_us(const struct receiver *r)
{
	return r->promised_us;
}

void receiver_stats(const struct receiver *r, struct receiver_stats *s)
{
	*s = r->stats;
}
