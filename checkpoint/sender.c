/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/page_codec.h"
#include "checkpoint/sender_internal.h"
#include "common/clock.h"
#include "common/fault.h"
#include "common/log.h"

#include <errno.h>
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

enum {
	INPUT_WAITING_BYTES = 64 << 10, /* of frames that the thread has not come to */
	INPUT_BEHIND_BYTES = 256 << 10, /* unsent: a frame would come too late to be of use */
	GOODBYE_WAIT_MS = 100,
	SENDER_NICE = 0,
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

int sender_over(struct sender *s, int rc, const char *fmt, ...)
{
	va_list ap;

	if (!s->why[0]) {
		va_start(ap, fmt);
		vsnprintf(s->why, sizeof(s->why), fmt, ap);
		va_end(ap);
	}
	return rc;
}

static int hear(struct sender *s);

/* Writes what the socket takes now. */
static int flush(struct sender *s)
{
	while (sender_pending_bytes(s)) {
		ssize_t n = lanes_send(&s->config.lanes, s->out.data + s->out_start, sender_pending_bytes(s));

		if (n == -EAGAIN)
			return 0;
		if (n < 0) {
			hear(s); /* a goodbye says more than a broken pipe */
			return sender_over(s, (int)n, "send: %s", lanes_strerror(&s->config.lanes, (int)n));
		}
		s->out_start += (size_t)n;
		s->wrote_us = s->now_us;
	}
	s->out_start = 0;
	s->out.len = 0;
	return 0;
}

/* If the whole epoch is in the socket its buffer goes back. */
static int finish(struct sender *s)
{
	struct work *w = &s->work;
	struct sender_report *r = &w->report;

	if (!w->epoch || w->step != STEP_FLUSH || sender_pending_bytes(s))
		return 0;
	s->ended = w->epoch->number;
	r->event = SENDER_SENT;
	r->epoch = w->epoch;
	r->number = w->epoch->number;
	r->raw_bytes += (w->epoch->nr_pages - r->pages_by_encoding[PAGE_SAME]) * SENDER_PAGE;
	r->wire_bytes += s->input_bytes;
	s->input_bytes = 0;

	pthread_mutex_lock(&s->lock);
	s->sent.report[(s->sent.head + s->sent.nr++) % SENDER_EPOCHS_MAX] = *r;
	pthread_mutex_unlock(&s->lock);
	w->epoch = NULL;
	/* No event: the buffer is fetched together with the acknowledgement, which saves the
	 * guest's thread a turn per epoch. */
	return fi_point("SEND_END_AFTER") ? sender_over(s, -EIO, "fault point SEND_END_AFTER") : 0;
}

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

/* The inputs that wait, as records of where the stream stands. A peer that is far behind gets none. */
static int take_inputs(struct sender *s)
{
	bool wanted = s->features & STREAM_FEATURE_FRAMES && sender_pending_bytes(s) < INPUT_BEHIND_BYTES;
	struct record_header h;
	struct buf inputs;
	size_t at;

	if (!s->answered)
		return 0;
	pthread_mutex_lock(&s->lock);
	inputs = s->inputs;
	s->inputs = s->leaving;
	s->leaving = inputs;
	pthread_mutex_unlock(&s->lock);
	for (at = 0; wanted && at < s->leaving.len; at += RECORD_HEADER_SIZE + record_padded(h.length)) {
		(void)record_header_get(s->leaving.data + at, RECORD_FROM_PRIMARY, RECORD_IDLE, &h);
		h.epoch = s->begun;
		record_header_put(s->leaving.data + at, &h);
	}
	if (wanted && s->leaving.len) {
		sender_compact(s);
		if (buf_add(&s->out, s->leaving.data, s->leaving.len))
			return sender_over(s, -ENOMEM, "no memory for inputs");
		s->input_bytes += s->leaving.len;
	}
	buf_reset(&s->leaving);
	return 0;
}

static int take_ack(struct sender *s, const struct record_header *h, const uint8_t *payload)
{
	struct record_ack ack;

	record_ack_get(payload, &ack);
	if (ack.term != s->config.term || h->epoch <= s->acknowledged || h->epoch > s->ended)
		return sender_over(
			s, -EPROTO, "acknowledged epoch %llu of term %llu; %llu to %llu are open",
			(unsigned long long)h->epoch, (unsigned long long)ack.term,
			(unsigned long long)s->acknowledged + 1, (unsigned long long)s->ended);
	if (fi_point("SEND_ACK_READ"))
		return sender_over(s, -EIO, "fault point SEND_ACK_READ");

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
		return sender_over(s, -EPROTO, "GOODBYE: %s", wrong);
	return sender_over(s, -ECONNRESET, "the backup says: %s%s%s", goodbye_name[cause],
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
		return sender_over(s, -EPROTO, "the peer's answer is not of this protocol");
	if (a.status != STREAM_ACCEPTED)
		return sender_over(
			s, -EACCES, "refused by the backup: %s (it has version %u, term %llu)",
			stream_status_name[a.status], a.version, (unsigned long long)a.term);
	if (a.version != STREAM_VERSION || a.term != s->config.term ||
	    (a.features & ~(uint32_t)STREAM_FEATURES))
		return sender_over(s, -EPROTO, "the backup's answer contradicts itself");
	s->answered = true;
	s->features = a.features;
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
		return sender_over(s, -EPROTO, "record %u at byte %llu from the backup: %s", h.type,
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
		ssize_t n = channel_receive(lanes_back(&s->config.lanes), s->in + s->in_len, sizeof(s->in) - s->in_len);
		int rc;

		if (n == -EAGAIN)
			return 0;
		if (n < 0)
			return sender_over(s, (int)n, "receive: %s", channel_strerror(lanes_back(&s->config.lanes), (int)n));
		if (!n)
			return sender_over(s, -ECONNRESET, "the backup closed the connection");
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
		return sender_over(s, -ETIMEDOUT, "nothing heard from the backup for %u ms",
				   timeout_ms);
	if (!s->answered || sender_pending_bytes(s) ||
	    s->now_us - s->wrote_us < (uint64_t)s->config.heartbeat_ms * 1000)
		return 0;
	return sender_add_record(s, RECORD_HEARTBEAT, s->begun, 0) ? 0 : -ENOMEM;
}

static int until_ms(uint64_t now_us, uint64_t since_us, unsigned int ms)
{
	uint64_t due_us = since_us + (uint64_t)ms * 1000;

	return due_us <= now_us ? 0 : (int)((due_us - now_us + 999) / 1000);
}

static int wait_for_work(struct sender *s)
{
	struct pollfd fds[3] = {[2] = {.fd = s->wake_fd, .events = POLLIN}};
	int silence_ms = until_ms(s->now_us, s->heard_us, atomic_load(&s->timeout_ms));
	int beat_ms = until_ms(s->now_us, s->wrote_us, s->config.heartbeat_ms);
	int wait_ms = silence_ms;

	take_work(s);
	lanes_poll(&s->config.lanes, sender_pending_bytes(s), fds);
	if (!sender_pending_bytes(s) && s->answered && beat_ms < wait_ms)
		wait_ms = beat_ms;
	if (sender_can_encode(s))
		wait_ms = 0;

	if (poll(fds, 3, wait_ms) < 0 && errno != EINTR)
		return sender_over(s, -errno, "poll: %s", strerror(errno));
	s->now_us = clock_us();
	if (fds[2].revents & POLLIN)
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

/* Tells the backup why, for as long as GOODBYE_WAIT_MS if the socket is full. Nothing depends on
 * it. */
static void say_goodbye(struct sender *s, enum goodbye cause, const char *text)
{
	uint64_t start_us = clock_us();
	struct pollfd fds[2];

	sender_compact(s);
	if (record_goodbye_add(&s->out, s->begun, cause, text))
		return;
	while (!flush(s) && sender_pending_bytes(s)) {
		int left_ms = until_ms(clock_us(), start_us, GOODBYE_WAIT_MS);

		lanes_poll(&s->config.lanes, true, fds);
		fds[0].events &= (short)~POLLIN;
		if (!left_ms || poll(fds, 2, left_ms) < 0)
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
	for (unsigned int i = 0; i < s->config.lanes.nr; i++)
		shutdown(s->config.lanes.lane[i].channel.fd, SHUT_RDWR);

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
		rc = take_inputs(s);
		if (!rc)
			rc = sender_encode(s);
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

static int socket_prepare(int fd, unsigned int timeout_ms)
{
	int one = 1;

	/* Not every stream socket is TCP. */
	if ((setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) ||
	     setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms))) &&
	    errno != EOPNOTSUPP && errno != ENOPROTOOPT)
		return -errno;
	return 0;
}

/* The hello of lane 0 is the first of what the thread sends; the others are told of at once. */
static int begin_stream(struct sender *s)
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
	hello.further = (uint16_t)(s->config.lanes.nr - 1);
	stream_hello_put(at, &hello);
	for (unsigned int i = 0; i < s->config.lanes.nr; i++) {
		int rc = socket_prepare(s->config.lanes.lane[i].channel.fd, s->config.timeout_ms);

		if (rc)
			return rc;
	}
	return lanes_announce(&s->config.lanes, &hello);
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
	struct lanes lanes = config->lanes;
	int rc;

	if (!s) {
		lanes_close(&lanes);
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
		rc = begin_stream(s);
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
	lanes_close(&s->config.lanes);
}

void sender_free(struct sender *s)
{
	if (!s)
		return;
	sender_stop(s);
	lanes_close(&s->config.lanes);
	if (s->wake_fd >= 0)
		close(s->wake_fd);
	if (s->notify_fd >= 0)
		close(s->notify_fd);
	pthread_mutex_destroy(&s->lock);
	page_codec_free(s->codec);
	epoch_hash_free(s->hash);
	buf_free(&s->out);
	buf_free(&s->inputs);
	buf_free(&s->leaving);
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

void sender_input(struct sender *s, uint64_t epoch, uint32_t devid, const void *data, size_t len)
{
	bool first = false;
	uint8_t *at;

	pthread_mutex_lock(&s->lock);
	if (!s->lost && s->inputs.len + len < INPUT_WAITING_BYTES) {
		first = !s->inputs.len;
		at = record_add(&s->inputs, RECORD_INPUT, 0, (uint32_t)(RECORD_INPUT_SIZE + len));
		if (at)
			record_input_put(at, &(struct record_input){epoch, devid}, data, len);
	}
	pthread_mutex_unlock(&s->lock);
	if (first)
		event_raise(s->wake_fd);
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
	return s->sent.nr || s->acked != s->acked_reported || (s->lost && !s->lost_reported) ||
	       s->returned.nr;
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
