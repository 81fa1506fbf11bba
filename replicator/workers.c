/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/workers.h"
#include "common/clock.h"
#include "common/log.h"
#include "replicator/child.h"
#include "replicator/config.h"

#include <errno.h>
#include <event2/event.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utlist.h>

enum {
	PACKET_MAX = 65536,
	CONNECT_RETRY_MS = 10,
	WATCH_MS = 250,	       /* how often silence is looked at */
	HELLO_MAX_MS = 10000,  /* from start or connect to the hello */
	SILENT_MAX_MS = 30000, /* stats come once a second; mapping a large guest takes its time */
	SILENT_STRICT_MAX_MS = 5000, /* the guest waits for it */
	BACKOFF_FIRST_MS = 20,
	BACKOFF_MAX_MS = 5000,
	LIVED_LONG_MS = 10000, /* after so long a life the back-off begins anew */
};

struct worker_slot {
	struct worker_view view; /* first: callbacks get its address */
	struct workers *owner;
	struct worker_slot *next;
	char path[108];
	int fd;
	struct event *readable, *retry;
	pid_t child_pid; /* started by us and not known to have ended; 0: none */
	bool held;	 /* may_start said no */
	bool gone_told;	 /* its end was reported: once is enough */
	bool ours;	 /* wanted (an adopted one may not be, yet) */
	unsigned int backoff_ms;
	uint64_t since_us, heard_us;
};

struct workers {
	struct event_base *base;
	struct children *children;
	const struct config *config;
	const struct workers_ops *ops;
	void *arg;
	struct worker_slot *list;
	struct event *watch;
};

static void slot_try(struct worker_slot *s);

static void retry_in(struct worker_slot *s, unsigned int ms)
{
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};

	event_add(s->retry, &tv);
}

static void slot_disconnect(struct worker_slot *s)
{
	if (s->readable)
		event_free(s->readable);
	if (s->fd >= 0)
		close(s->fd);
	s->readable = NULL;
	s->fd = -1;
	s->view.ready = false;
	s->view.has_stats = false;
}

static void slot_free(struct worker_slot *s)
{
	slot_disconnect(s);
	if (s->retry)
		event_free(s->retry);
	free(s);
}

/* The worker is no more. A successor comes after the back-off, or when may_start allows it. */
static void slot_gone(struct worker_slot *s, const char *cause)
{
	uint64_t lived_us = clock_us() - s->since_us;
	uint32_t domid = s->view.domid;
	struct workers *ws = s->owner;

	if (lived_us > LIVED_LONG_MS * 1000ull)
		s->backoff_ms = 0;
	slot_disconnect(s);
	s->gone_told = true;
	log_warn(NULL, "worker of domain %u: %s", domid, cause);
	ws->ops->gone(ws->arg, &s->view, cause);

	LL_FOREACH (ws->list, s) /* the callback may have released it */
		if (s->view.domid == domid)
			break;
	if (!s)
		return;
	s->backoff_ms = s->backoff_ms ? 2 * s->backoff_ms : BACKOFF_FIRST_MS;
	if (s->backoff_ms > BACKOFF_MAX_MS)
		s->backoff_ms = BACKOFF_MAX_MS;
	retry_in(s, s->backoff_ms);
}

static void copy_hello(struct worker_view *v, const Understudy__WorkerHello *h)
{
	v->hello_role = h->role;
	v->state = h->state;
	if (h->uuid.len == sizeof(v->uuid))
		memcpy(v->uuid, h->uuid.data, sizeof(v->uuid));
	snprintf(v->name, sizeof(v->name), "%s", h->name);
	snprintf(v->kind, sizeof(v->kind), "%s", h->kind);
	v->term = h->term;
	v->epoch = h->epoch;
	v->memory_bytes = h->memory_bytes;
	v->vcpus = h->vcpus;
	v->vifs = h->vifs;
	v->disks = h->disks;
	v->passthrough_devices = h->passthrough_devices;
	v->pid = h->pid;
	v->unpaused_at_start = h->unpaused_at_start;
	v->ready = true;
}

static void copy_stats(struct worker_view *v, const Understudy__WorkerStats *stats)
{
	v->stats = *stats;
	v->stats.pages_by_encoding = NULL;
	v->stats.n_pages_by_encoding = 0;
	v->stats.base.n_unknown_fields = 0;
	v->stats.base.unknown_fields = NULL;
	v->stats_at_us = clock_us();
	v->has_stats = true;
	v->state = stats->state;
	v->epoch = stats->epoch;
}

static void slot_event(struct worker_slot *s, const Understudy__WorkerEvent *e)
{
	struct workers *ws = s->owner;

	if (e->event_case == UNDERSTUDY__WORKER_EVENT__EVENT_HELLO) {
		if (e->hello->domid != s->view.domid) {
			log_err(NULL, "%s: the worker says that it serves domain %u", s->path,
				e->hello->domid);
			return;
		}
		copy_hello(&s->view, e->hello);
		ws->ops->hello(ws->arg, &s->view);
		return;
	}
	if (!s->view.ready)
		return; /* nothing counts before the hello */
	if (e->event_case == UNDERSTUDY__WORKER_EVENT__EVENT_STATS)
		copy_stats(&s->view, e->stats);
	ws->ops->event(ws->arg, &s->view, e);
}

static void slot_readable(evutil_socket_t fd, short what, void *arg)
{
	struct worker_slot *s = arg;
	static uint8_t packet[PACKET_MAX];
	Understudy__WorkerEvent *e;
	ssize_t n = recv(s->fd, packet, sizeof(packet), MSG_DONTWAIT | MSG_TRUNC);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		slot_gone(s, n == 0 ? "closed its socket" : strerror(errno));
		return;
	}
	s->heard_us = clock_us();
	e = (size_t)n <= sizeof(packet) ? understudy__worker_event__unpack(NULL, (size_t)n, packet)
					: NULL;
	if (!e || e->event_case == UNDERSTUDY__WORKER_EVENT__EVENT__NOT_SET) {
		log_err(NULL, "%s: %zd bytes that are no event", s->path, n);
	} else {
		slot_event(s, e);
	}
	if (e)
		understudy__worker_event__free_unpacked(e, NULL);
}

/* 0, -ENOENT or -ECONNREFUSED: nobody is there; other errors are worth a retry. */
static int slot_connect(struct worker_slot *s)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int rc;

	if (fd < 0)
		return -errno;
	memcpy(address.sun_path, s->path, strlen(s->path) + 1);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		rc = -errno;
		close(fd);
		return rc;
	}
	s->readable = event_new(s->owner->base, fd, EV_READ | EV_PERSIST, slot_readable, s);
	if (!s->readable || event_add(s->readable, NULL)) {
		if (s->readable)
			event_free(s->readable);
		s->readable = NULL;
		close(fd);
		return -ENOMEM;
	}
	s->fd = fd;
	s->gone_told = false;
	s->since_us = s->heard_us = clock_us();
	return 0;
}

static struct worker_slot *slot_of(struct workers *ws, uint32_t domid)
{
	struct worker_slot *s;

	LL_FOREACH (ws->list, s)
		if (s->view.domid == domid)
			return s;
	return NULL;
}

struct exit_note {
	struct workers *ws;
	uint32_t domid;
	pid_t pid;
};

static void worker_exited(void *arg, int status, const char *out, const char *err)
{
	struct exit_note note = *(struct exit_note *)arg;
	struct worker_slot *s = slot_of(note.ws, note.domid);
	char text[64], cause[96];

	free(arg);
	if (!s || s->child_pid != note.pid)
		return;
	s->child_pid = 0;
	if (s->gone_told)
		return; /* its socket closed first; the retry is under way */
	snprintf(cause, sizeof(cause), "ended: %s", child_status_text(status, text, sizeof(text)));
	slot_gone(s, cause);
}

static void slot_start(struct worker_slot *s)
{
	struct workers *ws = s->owner;
	struct exit_note *note = malloc(sizeof(*note));
	char domid[16];
	const char *const argv[] = {
		ws->config->worker_path,
		"--domid",
		domid,
		"--socket",
		s->path,
		"--role",
		s->view.role == UNDERSTUDY__WORKER_ROLE__WORKER_BACKUP ? "backup" : "primary",
		NULL,
	};
	pid_t pid;

	snprintf(domid, sizeof(domid), "%u", s->view.domid);
	if (note)
		*note = (struct exit_note){.ws = ws, .domid = s->view.domid};
	pid = note ? child_start(ws->children, argv, worker_exited, note) : -ENOMEM;
	if (pid < 0) {
		free(note);
		s->backoff_ms = BACKOFF_MAX_MS;
		retry_in(s, s->backoff_ms);
		return;
	}
	note->pid = s->child_pid = pid;
	s->gone_told = false;
	s->since_us = clock_us();
	log_info(NULL, "worker of domain %u started as %s, pid %d", s->view.domid, argv[6], pid);
	retry_in(s, CONNECT_RETRY_MS);
}

/* Connects; if nobody is there, starts one. */
static void slot_try(struct worker_slot *s)
{
	struct workers *ws = s->owner;
	int rc;

	s->held = false;
	if (s->fd >= 0)
		return;
	rc = slot_connect(s);
	if (!rc)
		return;
	if (s->child_pid) { /* started, does not listen yet; or hangs before it does */
		if (clock_us() - s->since_us > HELLO_MAX_MS * 1000ull) {
			log_err(NULL, "worker of domain %u does not listen, killed", s->view.domid);
			kill(s->child_pid, SIGKILL);
			s->since_us = clock_us();
		}
		retry_in(s, CONNECT_RETRY_MS);
		return;
	}
	if (rc != -ENOENT && rc != -ECONNREFUSED) {
		log_warn(NULL, "%s: %s", s->path, strerror(-rc));
		retry_in(s, CONNECT_RETRY_MS);
		return;
	}
	if (!s->ours)
		return;
	if (!ws->ops->may_start(ws->arg, s->view.domid)) {
		s->held = true;
		return;
	}
	slot_start(s);
}

static void slot_retry(evutil_socket_t fd, short what, void *arg)
{
	slot_try(arg);
}

static struct worker_slot *slot_new(struct workers *ws, uint32_t domid)
{
	struct worker_slot *s = calloc(1, sizeof(*s));
	char name[40];

	if (!s)
		return NULL;
	snprintf(name, sizeof(name), "worker-%u.sock", domid);
	s->owner = ws;
	s->fd = -1;
	s->view.domid = domid;
	s->retry = evtimer_new(ws->base, slot_retry, s);
	if (!s->retry || config_run_path(ws->config, name, s->path, sizeof(s->path))) {
		slot_free(s);
		return NULL;
	}
	LL_PREPEND(ws->list, s);
	return s;
}

static void slot_kill(struct worker_slot *s)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	if (s->child_pid)
		kill(s->child_pid, SIGKILL);
	else if (s->fd >= 0 && !getsockopt(s->fd, SOL_SOCKET, SO_PEERCRED, &who, &len) &&
		 who.pid > 1)
		kill(who.pid, SIGKILL);
}

/* A worker that says nothing for too long hangs; its successor unpauses the guest. */
static void workers_look(evutil_socket_t fd, short what, void *arg)
{
	struct workers *ws = arg;
	uint64_t now = clock_us();
	struct worker_slot *s;

	LL_FOREACH (ws->list, s) {
		unsigned int max_ms = !s->view.ready	    ? HELLO_MAX_MS
				      : s->view.hang_strict ? SILENT_STRICT_MAX_MS
							    : SILENT_MAX_MS;

		if (s->fd < 0 || now - s->heard_us <= max_ms * 1000ull)
			continue;
		log_err(NULL, "worker of domain %u: nothing heard for %u ms, killed", s->view.domid,
			max_ms);
		slot_kill(s);
		s->heard_us = now; /* its socket closes in a moment */
	}
}

int workers_new(struct event_base *base, struct children *children, const struct config *config,
		const struct workers_ops *ops, void *arg, struct workers **out)
{
	struct timeval tv = {.tv_usec = WATCH_MS * 1000};
	struct workers *ws = calloc(1, sizeof(*ws));

	if (!ws)
		return -ENOMEM;
	ws->base = base;
	ws->children = children;
	ws->config = config;
	ws->ops = ops;
	ws->arg = arg;
	ws->watch = event_new(base, -1, EV_PERSIST, workers_look, ws);
	if (!ws->watch || event_add(ws->watch, &tv)) {
		workers_free(ws);
		return -ENOMEM;
	}
	*out = ws;
	return 0;
}

void workers_free(struct workers *ws)
{
	struct worker_slot *s, *next;

	if (!ws)
		return;
	LL_FOREACH_SAFE(ws->list, s, next)
	slot_free(s);
	if (ws->watch)
		event_free(ws->watch);
	free(ws);
}

void workers_adopt(struct workers *ws)
{
	char pattern[128];
	glob_t found;
	size_t i;

	if (config_run_path(ws->config, "worker-*.sock", pattern, sizeof(pattern)) ||
	    glob(pattern, 0, NULL, &found))
		return;
	for (i = 0; i < found.gl_pathc; i++) {
		const char *name = strrchr(found.gl_pathv[i], '/') + 1;
		struct worker_slot *s;
		unsigned int domid;
		int rc;

		if (sscanf(name, "worker-%u.sock", &domid) != 1 || slot_of(ws, domid))
			continue;
		s = slot_new(ws, domid);
		if (!s)
			continue;
		rc = slot_connect(s);
		if (rc && rc != -ECONNREFUSED && rc != -ENOENT) { /* somebody is there */
			log_warn(NULL, "%s: %s", found.gl_pathv[i], strerror(-rc));
			retry_in(s, CONNECT_RETRY_MS);
		} else if (rc) {
			log_info(NULL, "%s: nobody listens, removed", found.gl_pathv[i]);
			unlink(found.gl_pathv[i]);
			LL_DELETE(ws->list, s);
			slot_free(s);
		}
	}
	globfree(&found);
}

void workers_want(struct workers *ws, uint32_t domid, Understudy__WorkerRole role)
{
	struct worker_slot *s = slot_of(ws, domid);

	if (s && s->ours) {
		s->view.role = role; /* counts at the next start */
		return;
	}
	if (!s)
		s = slot_new(ws, domid);
	if (!s)
		return;
	s->ours = true;
	s->view.role = role;
	slot_try(s);
}

void workers_release(struct workers *ws, uint32_t domid)
{
	Understudy__WorkerCommand c = UNDERSTUDY__WORKER_COMMAND__INIT;
	Understudy__WorkerQuit quit = UNDERSTUDY__WORKER_QUIT__INIT;
	struct worker_slot *s = slot_of(ws, domid);

	if (!s)
		return;
	c.command_case = UNDERSTUDY__WORKER_COMMAND__COMMAND_QUIT;
	c.quit = &quit;
	if (s->fd >= 0)
		workers_send(ws, domid, &c, -1);
	else if (s->child_pid)
		kill(s->child_pid, SIGTERM);
	LL_DELETE(ws->list, s);
	slot_free(s);
}

void workers_kick(struct workers *ws, uint32_t domid)
{
	struct worker_slot *s = slot_of(ws, domid);

	if (s && s->held)
		slot_try(s);
}

void workers_kill(struct workers *ws, uint32_t domid)
{
	struct worker_slot *s = slot_of(ws, domid);

	if (s)
		slot_kill(s);
}

struct worker_view *workers_find(struct workers *ws, uint32_t domid)
{
	struct worker_slot *s = slot_of(ws, domid);

	return s ? &s->view : NULL;
}

void workers_each(struct workers *ws, void (*fn)(void *arg, struct worker_view *w), void *arg)
{
	struct worker_slot *s, *next;

	LL_FOREACH_SAFE(ws->list, s, next)
	fn(arg, &s->view);
}

int workers_send(struct workers *ws, uint32_t domid, const Understudy__WorkerCommand *command,
		 int fd)
{
	struct worker_slot *s = slot_of(ws, domid);
	uint8_t packet[4096];
	size_t len = understudy__worker_command__get_packed_size(command);
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	struct iovec iov = {.iov_base = packet, .iov_len = len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (!s || s->fd < 0)
		return -ENOTCONN;
	if (len > sizeof(packet))
		return -EMSGSIZE;
	understudy__worker_command__pack(command, packet);
	if (fd >= 0) {
		struct cmsghdr *c;

		msg.msg_control = control.space;
		msg.msg_controllen = sizeof(control.space);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(fd));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	if (sendmsg(s->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)len) {
		int rc = -errno;

		log_err(NULL, "worker of domain %u: command not sent: %s", domid, strerror(-rc));
		return rc;
	}
	return 0;
}
