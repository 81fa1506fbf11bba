/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/link.h"
#include "common/log.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct link {
	struct event_base *base;
	const struct link_ops *ops;
	void *arg;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	int listen_fd, fd;
	struct event *listen_event, *event;
};

static void disconnect(struct link *l)
{
	if (l->event)
		event_free(l->event);
	if (l->fd >= 0)
		close(l->fd);
	l->event = NULL;
	l->fd = -1;
}

static int received_fd(struct msghdr *msg)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(msg);
	int fd;

	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
	    c->cmsg_len != CMSG_LEN(sizeof(fd)))
		return -1;
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

static void dispatch(struct link *l, const uint8_t *packet, size_t len, int fd)
{
	Understudy__WorkerCommand *c = understudy__worker_command__unpack(NULL, len, packet);

	if (!c) {
		log_err(NULL, "the daemon sent %zu bytes that are no command", len);
		if (fd >= 0)
			close(fd);
		return;
	}
	l->ops->command(l->arg, c, fd);
	understudy__worker_command__free_unpacked(c, NULL);
}

static void link_readable(evutil_socket_t fd, short what, void *arg)
{
	struct link *l = arg;
	static uint8_t packet[LINK_PACKET_MAX];
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {.iov_base = packet, .iov_len = sizeof(packet)};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.space,
		.msg_controllen = sizeof(control.space),
	};
	ssize_t r;

	r = recvmsg(l->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (r < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (r <= 0) {
		log_info(NULL, "the daemon has gone");
		disconnect(l);
		return;
	}
	dispatch(l, packet, (size_t)r, received_fd(&msg));
}

static void link_accept(evutil_socket_t listen_fd, short what, void *arg)
{
	struct link *l = arg;
	int fd;

	fd = accept4(l->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	disconnect(l);
	l->fd = fd;
	l->event = event_new(l->base, fd, EV_READ | EV_PERSIST, link_readable, l);
	if (!l->event || event_add(l->event, NULL)) {
		disconnect(l);
		return;
	}
	l->ops->connected(l->arg);
}

static int link_listen(struct link *l)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};

	memcpy(sun.sun_path, l->path, sizeof(sun.sun_path));
	l->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->listen_fd < 0)
		return -errno;
	unlink(l->path);
	if (bind(l->listen_fd, (struct sockaddr *)&sun, sizeof(sun)) || listen(l->listen_fd, 4))
		return -errno;
	l->listen_event = event_new(l->base, l->listen_fd, EV_READ | EV_PERSIST, link_accept, l);
	return l->listen_event && !event_add(l->listen_event, NULL) ? 0 : -ENOMEM;
}

int link_new(struct event_base *base, const char *path, const struct link_ops *ops, void *arg,
	     struct link **out)
{
	struct link *l;
	int rc;

	if (strlen(path) >= sizeof(l->path))
		return -ENAMETOOLONG;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->base = base;
	l->ops = ops;
	l->arg = arg;
	l->fd = l->listen_fd = -1;
	strcpy(l->path, path);

	rc = link_listen(l);
	if (rc)
		link_free(l);
	else
		*out = l;
	return rc;
}

void link_free(struct link *l)
{
	if (!l)
		return;
	disconnect(l);
	if (l->listen_event)
		event_free(l->listen_event);
	if (l->listen_fd >= 0) {
		close(l->listen_fd);
		unlink(l->path);
	}
	free(l);
}

void link_send(struct link *l, const Understudy__WorkerEvent *event)
{
	uint8_t packet[4096];
	size_t len;

	if (!l || l->fd < 0)
		return;
	len = understudy__worker_event__get_packed_size(event);
	if (len > sizeof(packet)) {
		log_err(NULL, "an event of %zu bytes was not sent", len);
		return;
	}
	understudy__worker_event__pack(event, packet);
	if (send(l->fd, packet, len, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)len)
		log_warn(NULL, "the daemon does not listen: %s", strerror(errno));
}
