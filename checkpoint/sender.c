/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/sender.h"
#include "checkpoint/page_codec.h"
#include "checkpoint/record.h"
#include "common/clock.h"
#include "common/fault.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

_Static_assert(PAGE_ENCODINGS ==
		       sizeof(((struct sender_report *)0)->pages_by_encoding) / sizeof(uint32_t),
	       "sender_report counts every encoding");

enum {
	SENDER_EPOCHS_MAX =
		64, /* handed in and not yet taken back; also: sent and not acknowledged */
	SENDER_BATCH_PAGES =
		64, /* small enough for the caches and for acks to be read in between */
	SENDER_OUT_BYTES =
		1 << 20, /* encoded and not yet in the socket: beyond it encoding waits */
	SENDER_TURN_BYTES =
		64 << 10, /* encoded in one turn: a small epoch is one write, a large one is
			     on its way while the rest is encoded */
	SENDER_IN_BYTES = 4096,
	SENDER_GOODBYE_MS = 100,
	SENDER_CAUSE_MAX = 320,
	SENDER_PAGE = 4096,
	SENDER_NICE = 0,
};

/* What is done next for the epoch in work. */
enum step { STEP_BEGIN, STEP_PAGES, STEP_BLOBS, STEP_END, STEP_FLUSH };

struct work {
	struct epoch *epoch;
	enum step step;
	size_t page;
	unsigned int blob;
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

	/* The thread's own: */
	struct page_codec *codec;
	struct epoch_hash *hash;
	struct work work;
	struct buf out;
	size_t out_start;
	uint8_t in[SENDER_IN_BYTES];
	size_t in_len;
	uint64_t in_offset;
	bool answered;
	uint64_t now_us; /* read twice a turn: where the TSC is not to be trusted it is a system call */
	uint64_t heard_us, wrote_us;
	uint64_t begun, ended, acknowledged; /* epoch numbers; ended: wholly in the socket */
	uint64_t end_us[SENDER_EPOCHS_MAX]; /* [number % MAX] when EPOCH_END was about to be sent */
	char why[SENDER_CAUSE_MAX];
};

static void event_raise(int fd)
{
	uint64_t one = 1;

	/* Fails only when the counter is full, and then it is readable already. */
	if (write(fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_err(NULL, "eventfd: %s", strerror(errno));
}

static void event_clear(int fd)
{
	uint64_t n;

	if (read(fd, &n, sizeof(n)) < 0 && errno != EAGAIN)
		log_err(NULL, "eventfd: %s", strerror(errno));
}

/* Remembers why the stream ends; the first reason counts. */
__attribute__((format(printf, 3, 4))) static int over(struct sender *s, int rc, const char *fmt,
						      ...)
{
	va_list ap;

	if (!s->why[0]) {
		va_start(ap, fmt);
		vsnprintf(s->why, sizeof(s->why), fmt, ap);
		va_end(ap);
	}
	return rc;
}

static size_t out_pending(const struct sender *s)
{
	return s->out.len - s->out_start;
}

/* Before an append: moves what is pending to the front rather than growing. */
static void out_compact(struct sender *s)
{
	if (!s->out_start)
		return;
	memmove(s->out.data, s->out.data + s->out_start, out_pending(s));
	s->out.len -= s->out_start;
	s->out_start = 0;
}

static uint8_t *add_record(struct sender *s, enum record_type type, uint64_t epoch, uint32_t length)
{
	uint8_t *at;

	out_compact(s);
	at = record_add(&s->out, type, epoch, length);
	if (!at)
		over(s, -ENOMEM, "no memory for a record");
	else if (s->work.epoch)
		s->work.report.wire_bytes += RECORD_HEADER_SIZE + record_padded(length);
	return at;
}

static int hear(struct sender *s);

/* Writes what the socket takes now. */
static int flush(struct sender *s)
{
	while (out_pending(s)) {
		ssize_t n = send(s->config.fd, s->out.data + s->out_start, out_pending(s),
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0) {
			int rc = -errno;

			if (rc == -EINTR)
				continue;
			if (rc == -EAGAIN)
				return 0;
			hear(s); /* a goodbye says more than a broken pipe */
			return over(s, rc, "send: %s", strerror(-rc));
		}
		s->out_start += (size_t)n;
		s->wrote_us = s->now_us;
	}
	s->out_start = 0;
	s->out.len = 0;
	return 0;
}

static int step_begin(struct sender *s, struct work *w)
{
	const struct epoch *e = w->epoch;
	struct record_begin begin = {
		.term = e->term,
		.captured_us = e->captured_us,
		.pause_us = e->pause_us,
		.flags = e->flags,
		.pages = e->nr_pages,
	};
	unsigned int i;
	uint8_t *at;

	if (e->term != s->config.term || (s->begun && e->number != s->begun + 1) || !e->number)
		return over(s, -EINVAL, "epoch %llu of term %llu follows epoch %llu of term %llu",
			    (unsigned long long)e->number, (unsigned long long)e->term,
			    (unsigned long long)s->begun, (unsigned long long)s->config.term);
	if (fi_point("SEND_BEGIN"))
		return over(s, -EIO, "fault point SEND_BEGIN");
	for (i = 0; i < EPOCH_BLOBS; i++)
		begin.blobs += e->blob[i].len > 0;
	at = add_record(s, RECORD_EPOCH_BEGIN, e->number, RECORD_BEGIN_SIZE);
	if (!at)
		return -ENOMEM;
	record_begin_put(at, &begin);
	epoch_hash_begin(s->hash, e->number, at);
	if (!s->begun)
		s->acknowledged = s->ended = e->number - 1;
	s->begun = e->number;
	w->step = STEP_PAGES;
	return fi_point("SEND_BEGIN_AFTER") ? over(s, -EIO, "fault point SEND_BEGIN_AFTER") : 0;
}

/* One PAGES record: reserved at its greatest size, cut to what was needed. */
static int encode_batch(struct sender *s, struct work *w, size_t nr)
{
	struct epoch *e = w->epoch;
	size_t most =
		RECORD_HEADER_SIZE + RECORD_PAGES_SIZE + nr * (RECORD_ENTRY_SIZE + SENDER_PAGE);
	uint32_t length;
	uint8_t *record, *entry, *payload;
	size_t i;

	out_compact(s);
	if (buf_reserve(&s->out, most + RECORD_ALIGN))
		return over(s, -ENOMEM, "no memory for a batch");
	record = s->out.data + s->out.len;
	entry = record + RECORD_HEADER_SIZE + RECORD_PAGES_SIZE;
	payload = entry + nr * RECORD_ENTRY_SIZE;

	for (i = w->page; i < w->page + nr; i++, entry += RECORD_ENTRY_SIZE) {
		const uint8_t *page = e->pages + i * SENDER_PAGE;
		enum page_encoding enc;
		size_t len;

		if (e->gfn[i] >= RECORD_GFN_LIMIT)
			return over(s, -ERANGE, "gfn %llx cannot be named in a record",
				    (unsigned long long)e->gfn[i]);
		epoch_hash_page(s->hash, e->gfn[i], page);
		len = page_encode(s->codec, e->gfn[i], page, payload, &enc);
		record_entry_put(entry, &(struct record_entry){e->gfn[i], enc, (uint16_t)len});
		payload += len;
		w->report.pages_by_encoding[enc]++;
	}

	length = (uint32_t)(payload - record - RECORD_HEADER_SIZE);
	memset(payload, 0, record_padded(length) - length);
	record_header_put(record, &(struct record_header){RECORD_PAGES, length, e->number});
	record_pages_put(record + RECORD_HEADER_SIZE, (uint32_t)nr);
	s->out.len += RECORD_HEADER_SIZE + record_padded(length);
	w->report.wire_bytes += RECORD_HEADER_SIZE + record_padded(length);
	return 0;
}

static int step_pages(struct sender *s, struct work *w)
{
	size_t left = w->epoch->nr_pages - w->page;
	size_t nr = left < SENDER_BATCH_PAGES ? left : SENDER_BATCH_PAGES;
	int rc;

	if (!nr) {
		w->step = STEP_BLOBS;
		return 0;
	}
	if (fi_point("SEND_PAGES"))
		return over(s, -EIO, "fault point SEND_PAGES");
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
		w->step = STEP_END;
		return 0;
	}
	b = &w->epoch->blob[w->blob];
	if (b->len > record_blob_max[w->blob])
		return over(s, -EMSGSIZE, "%s blob of %zu bytes is too long",
			    epoch_blob_name[w->blob], b->len);
	at = add_record(s, RECORD_BLOB, w->epoch->number, (uint32_t)(RECORD_BLOB_SIZE + b->len));
	if (!at)
		return -ENOMEM;
	record_blob_put(at, w->blob);
	memcpy(at + RECORD_BLOB_SIZE, b->data, b->len);
	epoch_hash_blob(s->hash, w->blob, b->data, b->len);
	w->report.raw_bytes += b->len;
	w->blob++;
	return 0;
}

static int step_end(struct sender *s, struct work *w)
{
	struct record_end end = {.pages = w->epoch->nr_pages, .checksum = epoch_hash_end(s->hash)};
	unsigned int i;
	uint8_t *at;

	if (fi_point("SEND_END"))
		return over(s, -EIO, "fault point SEND_END");
	for (i = 0; i < EPOCH_BLOBS; i++)
		end.blobs += w->epoch->blob[i].len > 0;
	at = add_record(s, RECORD_EPOCH_END, w->epoch->number, RECORD_END_SIZE);
	if (!at)
		return -ENOMEM;
	record_end_put(at, &end);
	s->end_us[w->epoch->number % SENDER_EPOCHS_MAX] = s->now_us;
	w->step = STEP_FLUSH;
	return 0;
}

/* If the whole epoch is in the socket its buffer goes back. */
static int finish(struct sender *s)
{
	struct work *w = &s->work;
	struct sender_report *r = &w->report;

	if (!w->epoch || w->step != STEP_FLUSH || out_pending(s))
		return 0;
	s->ended = w->epoch->number;
	r->event = SENDER_SENT;
	r->epoch = w->epoch;
	r->number = w->epoch->number;
	r->raw_bytes += w->epoch->nr_pages * SENDER_PAGE;

	pthread_mutex_lock(&s->lock);
	s->sent.report[(s->sent.head + s->sent.nr++) % SENDER_EPOCHS_MAX] = *r;
	pthread_mutex_unlock(&s->lock);
	w->epoch = NULL;
	/* No event: the buffer is fetched together with the acknowledgement, which saves the guest's thread a turn per epoch. */
	return fi_point("SEND_END_AFTER") ? over(s, -EIO, "fault point SEND_END_AFTER") : 0;
}

static int (*const steps[])(struct sender *s, struct work *w) = {
	[STEP_BEGIN] = step_begin,
	[STEP_PAGES] = step_pages,
	[STEP_BLOBS] = step_blobs,
	[STEP_END] = step_end,
};

/* Takes the next epoch into work if there is one and the backup is not too far behind. */
static void take_work(struct sender *s)
{
	if (s->work.epoch || s->begun - s->acknowledged >= SENDER_EPOCHS_MAX)
		return;
	pthread_mutex_lock(&s->lock);
	if (s->nr) {
		s->work = (struct work){.epoch = s->queue[s->head]};
		s->head = (s->head + 1) % SENDER_EPOCHS_MAX;
		s->nr--;
	}
	pthread_mutex_unlock(&s->lock);
}

static bool can_step(const struct sender *s)
{
	return s->answered && s->work.epoch && s->work.step != STEP_FLUSH &&
	       out_pending(s) < SENDER_OUT_BYTES;
}

/* Encodes one turn's share of the epoch in work. */
static int encode(struct sender *s)
{
	size_t enough = out_pending(s) + SENDER_TURN_BYTES;
	uint64_t start_us = s->now_us;
	int rc = 0;

	if (!can_step(s))
		return 0;
	while (!rc && can_step(s) && out_pending(s) < enough)
		rc = steps[s->work.step](s, &s->work);
	s->now_us = clock_us();
	s->work.report.encode_us += (uint32_t)(s->now_us - start_us);
	return rc;
}

static int take_ack(struct sender *s, const struct record_header *h, const uint8_t *payload)
{
	struct record_ack ack;

	record_ack_get(payload, &ack);
	if (ack.term != s->config.term || h->epoch <= s->acknowledged || h->epoch > s->ended)
		return over(s, -EPROTO,
			    "acknowledged epoch %llu of term %llu; %llu to %llu are open",
			    (unsigned long long)h->epoch, (unsigned long long)ack.term,
			    (unsigned long long)s->acknowledged + 1, (unsigned long long)s->ended);
	if (fi_point("SEND_ACK_READ"))
		return over(s, -EIO, "fault point SEND_ACK_READ");

	s->acknowledged = h->epoch;
	pthread_mutex_lock(&s->lock);
	s->acked = h->epoch;
	/* The promise began when the backup had the epoch's end, hence not before we sent that:
	 * counted from there it ends here first, however long the acknowledgement was under way
	 * (I2). */
	s->promise_until_us =
		ack.promise_us ? s->end_us[h->epoch % SENDER_EPOCHS_MAX] + ack.promise_us : 0;
	pthread_mutex_unlock(&s->lock);
	event_raise(s->notify_fd);
	return 0;
}

static int take_goodbye(struct sender *s, const struct record_header *h, const uint8_t *payload)
{
	char text[RECORD_GOODBYE_TEXT_MAX + 1];
	enum goodbye cause;
	const char *wrong = record_goodbye_get(payload, h->length, &cause, text);

	if (wrong)
		return over(s, -EPROTO, "GOODBYE: %s", wrong);
	return over(s, -ECONNRESET, "the backup says: %s%s%s", goodbye_name[cause],
		    text[0] ? ": " : "", text);
}

static int take_record(struct sender *s, const struct record_header *h, const uint8_t *payload)
{
	switch ((enum record_type)h->type) {
	case RECORD_ACK:
		return take_ack(s, h, payload);
	case RECORD_GOODBYE:
		return take_goodbye(s, h, payload);
	default: /* HEARTBEAT: having been heard is all it is for */
		return 0;
	}
}

static int take_answer(struct sender *s, const uint8_t *at)
{
	struct stream_answer a;

	if (stream_answer_get(at, &a))
		return over(s, -EPROTO, "the peer's answer is not of this protocol");
	if (a.status != STREAM_ACCEPTED)
		return over(s, -EACCES, "refused by the backup: %s (it has version %u, term %llu)",
			    stream_status_name[a.status], a.version, (unsigned long long)a.term);
	if (a.version != STREAM_VERSION || a.term != s->config.term ||
	    (a.features & ~(uint32_t)STREAM_FEATURES))
		return over(s, -EPROTO, "the backup's answer contradicts itself");
	s->answered = true;
	return 0;
}

/* Takes what is complete in `in`; returns the bytes used up or -errno. */
static ssize_t take_one(struct sender *s, const uint8_t *at, size_t len)
{
	struct record_header h;
	const char *wrong;
	int rc;

	if (!s->answered) {
		if (len < STREAM_ANSWER_SIZE)
			return 0;
		rc = take_answer(s, at);
		return rc ? rc : STREAM_ANSWER_SIZE;
	}
	if (len < RECORD_HEADER_SIZE)
		return 0;
	wrong = record_header_get(at, RECORD_FROM_BACKUP, RECORD_IDLE, &h);
	if (wrong)
		return over(s, -EPROTO, "record %u at byte %llu from the backup: %s", h.type,
			    (unsigned long long)s->in_offset, wrong);
	if (len < RECORD_HEADER_SIZE + record_padded(h.length))
		return 0;
	rc = take_record(s, &h, at + RECORD_HEADER_SIZE);
	return rc ? rc : (ssize_t)(RECORD_HEADER_SIZE + record_padded(h.length));
}

static int take_all(struct sender *s)
{
	size_t used = 0;

	for (;;) {
		ssize_t n = take_one(s, s->in + used, s->in_len - used);

		if (n < 0)
			return (int)n;
		if (!n)
			break;
		used += (size_t)n;
		s->in_offset += (uint64_t)n;
	}
	memmove(s->in, s->in + used, s->in_len - used);
	s->in_len -= used;
	return 0;
}

/* Reads what there is from the backup. The greatest record it may send fits the buffer. */
static int hear(struct sender *s)
{
	for (;;) {
		ssize_t n = recv(s->config.fd, s->in + s->in_len, sizeof(s->in) - s->in_len,
				 MSG_DONTWAIT);
		int rc;

		if (n < 0) {
			rc = -errno;
			if (rc == -EINTR)
				continue;
			return rc == -EAGAIN ? 0 : over(s, rc, "receive: %s", strerror(-rc));
		}
		if (!n)
			return over(s, -ECONNRESET, "the backup closed the connection");
		s->heard_us = s->now_us;
		s->in_len += (size_t)n;
		rc = take_all(s);
		if (rc)
			return rc;
	}
}

static int keep_alive(struct sender *s)
{
	unsigned int timeout_ms = atomic_load(&s->timeout_ms);

	if (s->now_us - s->heard_us >= (uint64_t)timeout_ms * 1000)
		return over(s, -ETIMEDOUT, "nothing heard from the backup for %u ms", timeout_ms);
	if (!s->answered || out_pending(s) ||
	    s->now_us - s->wrote_us < (uint64_t)s->config.heartbeat_ms * 1000)
		return 0;
	return add_record(s, RECORD_HEARTBEAT, s->begun, 0) ? 0 : -ENOMEM;
}

static int until_ms(uint64_t now_us, uint64_t since_us, unsigned int ms)
{
	uint64_t due_us = since_us + (uint64_t)ms * 1000;

	return due_us <= now_us ? 0 : (int)((due_us - now_us + 999) / 1000);
}

static int wait_for_work(struct sender *s)
{
	struct pollfd fds[] = {
		{.fd = s->config.fd, .events = POLLIN},
		{.fd = s->wake_fd, .events = POLLIN},
	};
	int silence_ms = until_ms(s->now_us, s->heard_us, atomic_load(&s->timeout_ms));
	int beat_ms = until_ms(s->now_us, s->wrote_us, s->config.heartbeat_ms);
	int wait_ms = silence_ms;

	take_work(s);
	if (out_pending(s))
		fds[0].events |= POLLOUT;
	else if (s->answered && beat_ms < wait_ms)
		wait_ms = beat_ms;
	if (can_step(s))
		wait_ms = 0;

	if (poll(fds, 2, wait_ms) < 0 && errno != EINTR)
		return over(s, -errno, "poll: %s", strerror(errno));
	s->now_us = clock_us();
	if (fds[1].revents & POLLIN)
		event_clear(s->wake_fd);
	if (fds[0].revents & (POLLIN | POLLERR | POLLHUP))
		return hear(s);
	return 0;
}

static bool stopping(struct sender *s)
{
	bool stop;

	pthread_mutex_lock(&s->lock);
	stop = s->stop;
	pthread_mutex_unlock(&s->lock);
	return stop;
}

/* Tells the backup why, for as long as SENDER_GOODBYE_MS if the socket is full. Nothing depends on
 * it. */
static void say_goodbye(struct sender *s, enum goodbye cause, const char *text)
{
	uint64_t start_us = clock_us();
	struct pollfd fd = {.fd = s->config.fd, .events = POLLOUT};

	out_compact(s);
	if (record_goodbye_add(&s->out, s->begun, cause, text))
		return;
	while (!flush(s) && out_pending(s)) {
		int left_ms = until_ms(clock_us(), start_us, SENDER_GOODBYE_MS);

		if (!left_ms || poll(&fd, 1, left_ms) < 0)
			return;
	}
}

/* Every epoch the sender still owns goes back, in order. */
static void return_all(struct sender *s)
{
	pthread_mutex_lock(&s->lock);
	if (s->work.epoch) {
		s->returned.report[s->returned.nr++] =
			(struct sender_report){.event = SENDER_SENT,
					       .epoch = s->work.epoch,
					       .number = s->work.epoch->number};
		s->work.epoch = NULL;
	}
	for (; s->nr; s->nr--, s->head = (s->head + 1) % SENDER_EPOCHS_MAX)
		s->returned.report[s->returned.nr++] =
			(struct sender_report){.event = SENDER_SENT,
					       .epoch = s->queue[s->head],
					       .number = s->queue[s->head]->number};
	pthread_mutex_unlock(&s->lock);
}

static void lose(struct sender *s, int rc)
{
	log_warn(s->guest, "epoch %llu: stream lost: %s", (unsigned long long)s->begun, s->why);
	if (rc == -EPROTO)
		say_goodbye(s, GOODBYE_PROTOCOL, s->why);
	else if (rc != -ECONNRESET && rc != -EPIPE && rc != -ETIMEDOUT && s->answered)
		say_goodbye(s, GOODBYE_RESOURCES, s->why);
	shutdown(s->config.fd, SHUT_RDWR);

	pthread_mutex_lock(&s->lock);
	s->lost = true;
	s->error = -rc;
	snprintf(s->cause, sizeof(s->cause), "%s", s->why);
	pthread_mutex_unlock(&s->lock);
}

static void *sender_run(void *arg)
{
	struct sender *s = arg;
	int rc = 0;

	/* The thread that owns the guest comes first. */
	if (setpriority(PRIO_PROCESS, (id_t)gettid(), SENDER_NICE))
		log_debug(s->guest, "the sender keeps its priority: %s", strerror(errno));
	s->now_us = s->heard_us = s->wrote_us = clock_us();
	while (!rc && !stopping(s)) {
		rc = encode(s);
		if (!rc)
			rc = keep_alive(s);
		if (!rc)
			rc = flush(s);
		if (!rc)
			rc = finish(s);
		if (!rc)
			rc = wait_for_work(s);
	}
	if (rc)
		lose(s, rc);
	else if (s->answered)
		say_goodbye(s, GOODBYE_DONE, "");
	return_all(s);
	event_raise(s->notify_fd);
	return NULL;
}

static int socket_prepare(const struct sender_config *c)
{
	int flags = fcntl(c->fd, F_GETFL), one = 1;
	unsigned int timeout_ms = c->timeout_ms;

	if (flags < 0 || fcntl(c->fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	/* Not every stream socket is TCP. */
	if ((setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) ||
	     setsockopt(c->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms))) &&
	    errno != EOPNOTSUPP && errno != ENOPROTOOPT)
		return -errno;
	return 0;
}

static int add_hello(struct sender *s)
{
	struct stream_hello hello = {
		.version = STREAM_VERSION,
		.features = STREAM_FEATURES,
		.term = s->config.term,
		.token = s->config.token,
	};
	uint8_t *at = buf_extend(&s->out, STREAM_HELLO_SIZE);

	if (!at)
		return -ENOMEM;
	memcpy(hello.uuid, s->config.uuid, sizeof(hello.uuid));
	stream_hello_put(at, &hello);
	return 0;
}

static int thread_start(struct sender *s)
{
	sigset_t all, old;
	int r;

	/* Signals belong to the thread that owns the guest. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&s->thread, NULL, sender_run, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	s->running = r == 0;
	return -r;
}

int sender_new(const struct sender_config *config, struct sender **out)
{
	struct sender *s = calloc(1, sizeof(*s));
	int rc;

	if (!s) {
		close(config->fd);
		return -ENOMEM;
	}
	s->config = *config;
	atomic_init(&s->timeout_ms, config->timeout_ms);
	pthread_mutex_init(&s->lock, NULL);
	s->guest = strdup(config->guest);
	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rc = s->wake_fd < 0 || s->notify_fd < 0 ? -errno : 0;
	if (!rc && !s->guest)
		rc = -ENOMEM;
	if (!rc)
		rc = page_codec_new(config->cache_bytes, &s->codec);
	if (!rc)
		rc = epoch_hash_new(&s->hash);
	if (!rc)
		rc = add_hello(s);
	if (!rc)
		rc = socket_prepare(config);
	if (!rc)
		rc = thread_start(s);
	if (rc) {
		sender_free(s);
		return rc;
	}
	*out = s;
	return 0;
}

void sender_set_timeout(struct sender *s, unsigned int timeout_ms)
{
	atomic_store(&s->timeout_ms, timeout_ms);
	event_raise(s->wake_fd);
}

void sender_stop(struct sender *s)
{
	if (!s->running)
		return;
	pthread_mutex_lock(&s->lock);
	s->stop = true;
	pthread_mutex_unlock(&s->lock);
	event_raise(s->wake_fd);
	pthread_join(s->thread, NULL);
	s->running = false;
	close(s->config.fd);
	s->config.fd = -1;
}

void sender_free(struct sender *s)
{
	if (!s)
		return;
	sender_stop(s);
	if (s->config.fd >= 0)
		close(s->config.fd);
	if (s->wake_fd >= 0)
		close(s->wake_fd);
	if (s->notify_fd >= 0)
		close(s->notify_fd);
	pthread_mutex_destroy(&s->lock);
	page_codec_free(s->codec);
	epoch_hash_free(s->hash);
	buf_free(&s->out);
	free(s->guest);
	free(s);
}

int sender_fd(const struct sender *s)
{
	return s->notify_fd;
}

int sender_submit(struct sender *s, struct epoch *e)
{
	int rc = 0;

	pthread_mutex_lock(&s->lock);
	if (s->lost || s->stop)
		rc = -EPIPE;
	else if (s->owned == SENDER_EPOCHS_MAX)
		rc = -EAGAIN;
	else {
		s->queue[(s->head + s->nr++) % SENDER_EPOCHS_MAX] = e;
		s->owned++;
	}
	pthread_mutex_unlock(&s->lock);
	if (!rc)
		event_raise(s->wake_fd);
	return rc;
}

static void ring_take(struct sender *s, struct ring *ring, struct sender_report *r)
{
	*r = ring->report[ring->head];
	ring->head = (ring->head + 1) % SENDER_EPOCHS_MAX;
	ring->nr--;
	s->owned--;
}

static void report_acked(struct sender *s, struct sender_report *r)
{
	uint64_t now_us = clock_us();

	*r = (struct sender_report){
		.event = SENDER_ACKED,
		.number = s->acked,
		.promise_us = s->promise_until_us > now_us ? s->promise_until_us - now_us : 0,
	};
	s->acked_reported = s->acked;
}

static bool report_due(const struct sender *s)
{
	return s->sent.nr || s->acked != s->acked_reported || (s->lost && !s->lost_reported) || s->returned.nr;
}

void sender_poll(struct sender *s, struct sender_report *r)
{
	bool more;

	*r = (struct sender_report){.event = SENDER_NONE};
	event_clear(s->notify_fd);

	pthread_mutex_lock(&s->lock);
	if (s->sent.nr) {
		ring_take(s, &s->sent, r);
	} else if (s->acked != s->acked_reported) {
		report_acked(s, r);
	} else if (s->lost && !s->lost_reported) {
		*r = (struct sender_report){
			.event = SENDER_LOST, .error = s->error, .cause = s->cause};
		s->lost_reported = true;
	} else if (s->returned.nr) {
		ring_take(s, &s->returned, r);
	}
	more = report_due(s);
	pthread_mutex_unlock(&s->lock);

	if (more)
		event_raise(s->notify_fd);
}
