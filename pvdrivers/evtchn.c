/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pvdrivers/evtchn.h"
#include "common/log.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdlib.h>
#include <uthash.h>
#include <xenevtchn.h>

struct evtchn_port {
	uint32_t port; /* ours; the hash key */
	struct evtchn *evtchn;
	void (*fn)(void *arg);
	void *arg;
	UT_hash_handle hh;
};

struct evtchn {
	xenevtchn_handle *handle;
	struct event *event;
	struct evtchn_port *ports;
};

/*
 * A port is masked from its delivery until it is unmasked here, after the work: what the guest
 * sends meanwhile stays pending and is delivered then, so nothing is lost and a busy ring costs one
 * wake-up per turn.
 */
static void dispatch(evutil_socket_t fd, short what, void *arg)
{
	struct evtchn *e = arg;
	unsigned int left = HASH_COUNT(e->ports); /* each is delivered once before it is unmasked */

	/* At least one: a port may have been delivered just before it was unbound. */
	do {
		xenevtchn_port_or_error_t port = xenevtchn_pending(e->handle);
		struct evtchn_port *p;
		uint32_t key;

		if (port < 0) {
			if (errno != EAGAIN && errno != EINTR)
				log_err(NULL, "event channels: %s", strerror(errno));
			return;
		}
		key = (uint32_t)port;
		HASH_FIND(hh, e->ports, &key, sizeof(key), p);
		if (!p)
			continue;
		p->fn(p->arg);
		HASH_FIND(hh, e->ports, &key, sizeof(key), p);
		if (p && xenevtchn_unmask(e->handle, key))
			log_err(NULL, "event channel %u: unmask: %s", key, strerror(errno));
	} while (left-- > 1);
}

int evtchn_open(struct event_base *base, struct evtchn **out)
{
	struct evtchn *e;
	int fd, rc;

	e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	e->handle = xenevtchn_open(NULL, 0);
	if (!e->handle) {
		rc = -errno;
		goto fail;
	}
	fd = xenevtchn_fd(e->handle);
	if (evutil_make_socket_nonblocking(fd)) {
		rc = -errno;
		goto fail;
	}
	e->event = event_new(base, fd, EV_READ | EV_PERSIST, dispatch, e);
	if (!e->event || event_add(e->event, NULL)) {
		rc = -ENOMEM;
		goto fail;
	}
	*out = e;
	return 0;

fail:
	evtchn_close(e);
	return rc;
}

void evtchn_close(struct evtchn *e)
{
	if (!e)
		return;
	if (e->event)
		event_free(e->event);
	if (e->handle)
		xenevtchn_close(e->handle);
	free(e);
}

int evtchn_bind(struct evtchn *e, uint32_t domid, uint32_t remote_port, void (*fn)(void *arg),
		void *arg, struct evtchn_port **out)
{
	xenevtchn_port_or_error_t port;
	struct evtchn_port *p;

	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	port = xenevtchn_bind_interdomain(e->handle, domid, remote_port);
	if (port < 0) {
		int rc = -errno;

		free(p);
		return rc;
	}
	p->port = (uint32_t)port;
	p->evtchn = e;
	p->fn = fn;
	p->arg = arg;
	HASH_ADD(hh, e->ports, port, sizeof(p->port), p);
	*out = p;
	return 0;
}

void evtchn_unbind(struct evtchn_port *p)
{
	struct evtchn *e;

	if (!p)
		return;
	e = p->evtchn;
	HASH_DELETE(hh, e->ports, p);
	if (xenevtchn_unbind(e->handle, p->port))
		log_err(NULL, "event channel %u: unbind: %s", p->port, strerror(errno));
	free(p);
}

int evtchn_notify(struct evtchn_port *p)
{
	return xenevtchn_notify(p->evtchn->handle, p->port) ? -errno : 0;
}
