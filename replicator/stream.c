/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/stream.h"
#include "common/log.h"
#include "replicator/config.h"
#include "replicator/listen.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

enum { PENDING_MAX = 16, HELLO_MAX_MS = 3000 };

struct pending {
	struct stream *owner;
	struct pending *next;
	int fd;
	struct event *readable;
};

struct stream {
	struct event_base *base;
	const struct config *config;
	struct evconnlistener *listener;
	struct pending *list;
	stream_arrived *arrived;
	void *arg;
};

static void pending_free(struct pending *p)
{
	LL_DELETE(p->owner->list, p);
	if (p->readable)
		event_free(p->readable);
	if (p->fd >= 0)
		close(p->fd);
	free(p);
}

/* SO_RCVLOWAT sees to it that this is called with a whole hello, at the end of the connection, or
 * too late. */
static void pending_ready(evutil_socket_t fd, short what, void *arg)
{
	struct pending *p = arg;
	struct stream *s = p->owner;
	uint8_t bytes[STREAM_HELLO_SIZE];
	struct stream_hello hello;
	int one = 1;
	ssize_t n = recv(p->fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);

	if (what & EV_TIMEOUT || n != sizeof(bytes)) {
		log_warn(NULL, "stream port: connection without a whole hello, closed");
	} else if (stream_hello_get(bytes, &hello)) {
		log_warn(NULL, "stream port: connection that begins with no hello, closed");
	} else {
		setsockopt(p->fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof(one));
		s->arrived(s->arg, &hello, p->fd);
		p->fd = -1;
	}
	pending_free(p);
}

static void accepted(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *from, int len,
		     void *arg)
{
	struct timeval limit = {.tv_sec = HELLO_MAX_MS / 1000};
	int whole = STREAM_HELLO_SIZE;
	struct stream *s = arg;
	struct pending *p, *other;
	unsigned int nr = 0;

	LL_COUNT(s->list, other, nr);
	if (!address_is(from, s->config->peer_address) || nr >= PENDING_MAX) {
		log_warn(NULL,
			 "stream port: connection from an address that is not the peer's, or too "
			 "many, closed");
		close(fd);
		return;
	}
	p = calloc(1, sizeof(*p));
	if (!p) {
		close(fd);
		return;
	}
	p->owner = s;
	p->fd = fd;
	LL_PREPEND(s->list, p);
	setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &whole, sizeof(whole));
	p->readable = event_new(s->base, fd, EV_READ, pending_ready, p);
	if (!p->readable || event_add(p->readable, &limit))
		pending_free(p);
}

int stream_new(struct event_base *base, const struct config *config, stream_arrived *arrived,
	       void *arg, struct stream **out)
{
	struct stream *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return -ENOMEM;
	s->base = base;
	s->config = config;
	s->arrived = arrived;
	s->arg = arg;
	rc = listener_new(base, config->listen_address, config->stream_port, accepted, s,
			  &s->listener);
	if (rc) {
		free(s);
		return rc;
	}
	*out = s;
	return 0;
}

void stream_free(struct stream *s)
{
	if (!s)
		return;
	while (s->list)
		pending_free(s->list);
	evconnlistener_free(s->listener);
	free(s);
}
