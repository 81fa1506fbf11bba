/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pvdrivers/block/io.h"
#include "common/log.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

enum { URING_ENTRIES = 256, THREADS = 8, RESUBMIT_MS = 1 };

struct list {
	struct io *first, **last;
};

struct io_engine {
	const char *guest;
	int event_fd;
	struct event *event, *again;

	bool uring_on, submit_complained;
	struct io_uring uring;
	unsigned int uring_in_flight, in_flight;
	struct list backlog; /* more than io_uring takes at once */

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t wake;
	struct list todo, finished;
	bool stop;
	unsigned int threads;
	pthread_t thread[THREADS];
};

static void list_init(struct list *l)
{
	l->first = NULL;
	l->last = &l->first;
}

static void list_add(struct list *l, struct io *io)
{
	io->next = NULL;
	*l->last = io;
	l->last = &io->next;
}

static struct io *list_take(struct list *l)
{
	struct io *io = l->first;

	if (!io)
		return NULL;
	l->first = io->next;
	if (!l->first)
		l->last = &l->first;
	return io;
}

/* ---- threads ---- */

static int discard(const struct io *io)
{
	uint64_t range[2] = {io->offset, io->bytes};
	int r;

	if (io->is_device)
		r = ioctl(io->fd, BLKDISCARD, range);
	else
		r = fallocate(io->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)io->offset, (off_t)io->bytes);
	return r ? -errno : 0;
}

static ssize_t move_some(const struct io *io)
{
	struct iovec v = {io->data + io->moved, io->bytes - io->moved};
	off_t at = (off_t)(io->offset + io->moved);

	if (io->op == IO_READ)
		return preadv(io->fd, &v, 1, at);
	return pwritev2(io->fd, &v, 1, at, io->op == IO_WRITE_DURABLE ? RWF_DSYNC : 0);
}

static int move_all(struct io *io)
{
	while (io->moved < io->bytes) {
		ssize_t n = move_some(io);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO; /* 0: behind the end */
		io->moved += (uint64_t)n;
	}
	return 0;
}

static int run_blocking(struct io *io)
{
	switch (io->op) {
	case IO_FLUSH:
		return fdatasync(io->fd) ? -errno : 0;
	case IO_DISCARD:
		return discard(io);
	default:
		return move_all(io);
	}
}

static void notify(struct io_engine *e)
{
	uint64_t one = 1;

	/* A counter that is full wakes the reader as well. */
	if (write(e->event_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_err(e->guest, "disk threads: %s", strerror(errno));
}

static void *thread_main(void *arg)
{
	struct io_engine *e = arg;
	struct io *io;

	pthread_mutex_lock(&e->lock);
	for (;;) {
		while (!(io = list_take(&e->todo)) && !e->stop)
			pthread_cond_wait(&e->wake, &e->lock);
		if (!io)
			break;
		pthread_mutex_unlock(&e->lock);
		io->rc = run_blocking(io);
		pthread_mutex_lock(&e->lock);
		list_add(&e->finished, io);
		notify(e);
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

/* Signals are for the loop's thread. At least one thread, or -errno. */
static int threads_start(struct io_engine *e)
{
	sigset_t all, old;
	int r = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (e->threads < THREADS && !r) {
		r = pthread_create(&e->thread[e->threads], NULL, thread_main, e);
		if (!r)
			e->threads++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return e->threads ? 0 : -r;
}

static void to_threads(struct io_engine *e, struct io *io)
{
	pthread_mutex_lock(&e->lock);
	if (e->threads || !threads_start(e)) {
		list_add(&e->todo, io);
		pthread_cond_signal(&e->wake);
	} else {
		io->rc = -EAGAIN;
		list_add(&e->finished, io);
		notify(e);
	}
	pthread_mutex_unlock(&e->lock);
}

/* ---- io_uring ---- */

static bool uring_start(struct io_engine *e)
{
	int rc = io_uring_queue_init(URING_ENTRIES, &e->uring, 0);

	if (!rc) {
		rc = io_uring_register_eventfd(&e->uring, e->event_fd);
		if (rc)
			io_uring_queue_exit(&e->uring);
	}
	if (rc)
		log_warn(e->guest, "no io_uring here (%s): disks are served by %d threads", strerror(-rc), THREADS);
	return !rc;
}

static void uring_prepare(struct io_uring_sqe *sqe, struct io *io)
{
	unsigned int left = (unsigned int)(io->bytes - io->moved);
	uint64_t at = io->offset + io->moved;

	if (io->op == IO_FLUSH)
		io_uring_prep_fsync(sqe, io->fd, IORING_FSYNC_DATASYNC);
	else if (io->op == IO_READ)
		io_uring_prep_read(sqe, io->fd, io->data + io->moved, left, at);
	else
		io_uring_prep_write(sqe, io->fd, io->data + io->moved, left, at);
	if (io->op == IO_WRITE_DURABLE)
		sqe->rw_flags = RWF_DSYNC;
	io_uring_sqe_set_data(sqe, io);
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
	io_kick(arg);
}

void io_kick(struct io_engine *e)
{
	static const struct timeval later = {.tv_usec = RESUBMIT_MS * 1000};
	struct io_uring_sqe *sqe;
	int r;

	if (!e->uring_on)
		return;
	while (e->backlog.first && e->uring_in_flight < URING_ENTRIES && (sqe = io_uring_get_sqe(&e->uring))) {
		uring_prepare(sqe, list_take(&e->backlog));
		e->uring_in_flight++;
	}
	if (!io_uring_sq_ready(&e->uring))
		return;
	r = io_uring_submit(&e->uring);
	if (r >= 0 && !io_uring_sq_ready(&e->uring))
		return;
	/* The kernel is short of something: what was not taken stays in the queue. */
	if (r < 0 && !e->submit_complained)
		log_warn(e->guest, "io_uring does not take a request now: %s", strerror(-r));
	e->submit_complained |= r < 0;
	evtimer_add(e->again, &later);
}

/* True: it is complete. */
static bool uring_moved(struct io *io, int res)
{
	io->rc = 0;
	if (res == -EINTR || res == -EAGAIN)
		return false;
	if (res < 0)
		io->rc = res;
	else if (io->op != IO_FLUSH && !res && io->bytes)
		io->rc = -EIO; /* behind the end */
	else if (io->op != IO_FLUSH)
		io->moved += (uint64_t)res;
	return io->rc || io->op == IO_FLUSH || io->moved >= io->bytes;
}

static void uring_reap(struct io_engine *e, struct list *complete)
{
	struct io_uring_cqe *cqe;

	while (e->uring_on && !io_uring_peek_cqe(&e->uring, &cqe)) {
		struct io *io = io_uring_cqe_get_data(cqe);

		e->uring_in_flight--;
		list_add(uring_moved(io, cqe->res) ? complete : &e->backlog, io);
		io_uring_cqe_seen(&e->uring, cqe);
	}
}

/* ---- both ---- */

void io_submit(struct io_engine *e, struct io *io)
{
	io->moved = 0;
	e->in_flight++;
	if (e->uring_on && io->op != IO_DISCARD)
		list_add(&e->backlog, io);
	else
		to_threads(e, io);
}

void io_reap(struct io_engine *e)
{
	struct list complete;
	struct io *io;

	list_init(&complete);
	uring_reap(e, &complete);
	pthread_mutex_lock(&e->lock);
	while ((io = list_take(&e->finished)))
		list_add(&complete, io);
	pthread_mutex_unlock(&e->lock);
	while ((io = list_take(&complete))) {
		e->in_flight--;
		io->done(io, io->rc);
	}
	io_kick(e);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct io_engine *e = arg;
	uint64_t count;

	if (read(e->event_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		log_err(e->guest, "disk completions: %s", strerror(errno));
	io_reap(e);
}

void io_wait(struct io_engine *e)
{
	struct pollfd p = {.fd = e->event_fd, .events = POLLIN};

	io_kick(e);
	if (e->in_flight)
		(void)poll(&p, 1, e->uring_on && io_uring_sq_ready(&e->uring) ? RESUBMIT_MS : -1); /* a signal is as good */
	on_event(e->event_fd, 0, e);
}

unsigned int io_in_flight(const struct io_engine *e)
{
	return e->in_flight;
}

bool io_has_uring(const struct io_engine *e)
{
	return e->uring_on;
}

int io_engine_new(struct event_base *base, const char *guest, bool threads_only, struct io_engine **out)
{
	struct io_engine *e = calloc(1, sizeof(*e));

	if (!e)
		return -ENOMEM;
	e->guest = guest;
	list_init(&e->backlog);
	list_init(&e->todo);
	list_init(&e->finished);
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->wake, NULL);
	e->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (e->event_fd >= 0) {
		e->event = event_new(base, e->event_fd, EV_READ | EV_PERSIST, on_event, e);
		e->again = evtimer_new(base, on_again, e);
	}
	if (!e->event || !e->again || event_add(e->event, NULL)) {
		io_engine_free(e);
		return -ENOMEM;
	}
	e->uring_on = !threads_only && uring_start(e);
	*out = e;
	return 0;
}

void io_engine_free(struct io_engine *e)
{
	if (!e)
		return;
	pthread_mutex_lock(&e->lock);
	e->stop = true;
	pthread_cond_broadcast(&e->wake);
	pthread_mutex_unlock(&e->lock);
	for (unsigned int i = 0; i < e->threads; i++)
		pthread_join(e->thread[i], NULL);
	if (e->uring_on)
		io_uring_queue_exit(&e->uring);
	if (e->event)
		event_free(e->event);
	if (e->again)
		event_free(e->again);
	if (e->event_fd >= 0)
		close(e->event_fd);
	pthread_cond_destroy(&e->wake);
	pthread_mutex_destroy(&e->lock);
	free(e);
}
