/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/peer.h"
#include "common/clock.h"
#include "common/log.h"
#include "replicator/config.h"
#include "replicator/host.h"
#include "replicator/listen.h"
#include "replicator/peer.pb-c.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

enum {
	DIAL_EVERY_MS = 200,
	HELLO_MAX_MS = 5000, /* from connect or accept to the peer's hello */
	CONNECTIONS_MAX = 8,
	OUTPUT_MAX_BYTES = 8 << 20, /* a peer that does not read */
	START_GRACE_MS = 3000,	    /* a daemon that has just started has not heard anybody yet */
	MISMATCH_RETRY_MS = 10000,
};

struct connection {
	struct peer *owner;
	struct connection *next;
	struct bufferevent *bev; /* TLS is in here, if it is wanted */
	bool dialed, connected, greeted;
	uint64_t since_us, heard_us;
	uint64_t instance; /* of the peer's daemon */
	uint8_t host_id[16];
	bool dead;
};

struct peer {
	struct event_base *base;
	const struct config *config;
	const struct host *host;
	const struct peer_ops *ops;
	void *arg;
	struct evconnlistener *listener;
	struct event *tick;
	struct connection *list, *session;
	struct peer_info info;
	struct buf out;
	uint64_t dial_at_us, heartbeat_at_us, tick_at_us;
	uint64_t sequence, heard_sequence, heard_us;
	char problem[320];
};

int64_t tcp_silent_ms(int fd)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	if (fd < 0 || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len))
		return -1;
	return info.tcpi_last_data_recv;
}

static int connection_send(struct connection *c, enum peer_type type, const ProtobufCMessage *m)
{
	struct peer *p = c->owner;
	int rc;

	buf_reset(&p->out);
	rc = frame_add(peer_kinds, type, m, &p->out);
	if (rc)
		return rc;
	if (evbuffer_get_length(bufferevent_get_output(c->bev)) > OUTPUT_MAX_BYTES)
		return -ENOBUFS;
	return bufferevent_write(c->bev, p->out.data, p->out.len) ? -EIO : 0;
}

static void set_problem(struct peer *p, const char *problem)
{
	if (strcmp(p->problem, problem) && problem[0])
		log_warn(NULL, "peer: %s", problem);
	snprintf(p->problem, sizeof(p->problem), "%s", problem);
}

/* Freed by the tick, never under a callback of its own. */
static void connection_close(struct connection *c, const char *cause)
{
	struct peer *p = c->owner;

	if (c->dead)
		return;
	c->dead = true;
	bufferevent_disable(c->bev, EV_READ | EV_WRITE);
	if (p->session != c) {
		log_debug(NULL, "peer: connection closed: %s", cause);
		return;
	}
	p->session = NULL;
	p->dial_at_us = 0;
	set_problem(p, cause);
	p->ops->down(p->arg, cause);
}

static void connection_free(struct connection *c)
{
	LL_DELETE(c->owner->list, c);
	bufferevent_free(c->bev);
	free(c);
}

/* What the kernel takes at once is enough: the other side has its time-outs. */
static void push_out(struct connection *c)
{
	struct evbuffer *out = bufferevent_get_output(c->bev);
	struct ssl_st *ssl = bufferevent_openssl_get_ssl(c->bev);
	size_t len = evbuffer_get_length(out);

	if (!ssl)
		evbuffer_write(out, bufferevent_getfd(c->bev));
	else if (len && SSL_is_init_finished(ssl))
		SSL_write(ssl, evbuffer_pullup(out, -1), (int)len);
}

static void say_bye(struct connection *c, const char *reason, bool mismatch)
{
	Understudy__PeerBye bye = UNDERSTUDY__PEER_BYE__INIT;

	bye.reason = (char *)reason;
	bye.mismatch = mismatch;
	connection_send(c, PEER_BYE, &bye.base);
	bufferevent_flush(c->bev, EV_WRITE, BEV_FLUSH);
	push_out(c);
}

static void send_hello(struct connection *c)
{
	const struct peer *p = c->owner;
	const struct host *h = p->host;
	Understudy__PeerHello m = UNDERSTUDY__PEER_HELLO__INIT;

	m.version_min = PEER_VERSION_MIN;
	m.version_max = PEER_VERSION_MAX;
	m.host = (char *)p->config->host;
	m.zone = (char *)p->config->zone;
	m.host_id.data = (uint8_t *)h->id;
	m.host_id.len = sizeof(h->id);
	m.instance = h->instance;
	m.boot_id = (char *)h->boot_id;
	m.hypervisor = (char *)h->hypervisor;
	m.hypervisor_extra = (char *)h->hypervisor_extra;
	m.pv_state_abi = PV_STATE_ABI;
	m.cpu_features = (char **)h->cpu_features;
	m.n_cpu_features = h->nr_cpu_features;
	m.heartbeat_ms = config_heartbeat_ms(p->config);
	m.stream_port = p->config->stream_port;
	connection_send(c, PEER_HELLO, &m.base);
}

static int hello_check(struct peer *p, const Understudy__PeerHello *m, char *why, size_t len)
{
	if (m->version_min > PEER_VERSION_MAX || m->version_max < PEER_VERSION_MIN) {
		snprintf(why, len, "%s speaks protocol versions %u to %u, this host %d to %d",
			 m->host, m->version_min, m->version_max, PEER_VERSION_MIN,
			 PEER_VERSION_MAX);
		return -EINVAL;
	}
	if (m->pv_state_abi != PV_STATE_ABI) {
		snprintf(why, len, "%s has version %u of the PV state records, this host %d",
			 m->host, m->pv_state_abi, PV_STATE_ABI);
		return -EINVAL;
	}
	return host_match(p->host, m, why, len);
}

/* Of two live connections between the same two daemons the one stays that was dialed by the smaller
 * host id. */
static bool preferred(const struct connection *c)
{
	return (memcmp(c->owner->host->id, c->host_id, 16) < 0) == c->dialed;
}

static void session_begin(struct connection *c, const Understudy__PeerHello *m)
{
	struct peer *p = c->owner;
	struct connection *old = p->session;
	bool again = old && old->instance == m->instance;

	c->greeted = true;
	c->instance = m->instance;
	memcpy(c->host_id, m->host_id.data, 16);
	if (again && preferred(old)) {
		connection_close(c, "another connection is the session");
		return;
	}
	snprintf(p->info.host, sizeof(p->info.host), "%s", m->host);
	snprintf(p->info.zone, sizeof(p->info.zone), "%s", m->zone);
	snprintf(p->info.hypervisor, sizeof(p->info.hypervisor), "%s%s", m->hypervisor,
		 m->hypervisor_extra);
	p->info.heartbeat_ms = m->heartbeat_ms;
	p->info.stream_port = m->stream_port;
	if (again) {
		/* The same two daemons, the better connection: no change for anybody. */
		p->session = c;
		connection_close(old, "another connection is the session");
	} else if (old) {
		connection_close(old, "the peer's daemon has started anew");
		p->session = c;
	} else {
		p->session = c;
	}
	p->heard_us = clock_us();
	set_problem(p, "");
	log_info(NULL, "peer: session with %s (zone %s), %s", p->info.host, p->info.zone,
		 c->dialed ? "dialed" : "accepted");
	if (config_timeout_ms(p->config) < 2 * m->heartbeat_ms)
		log_warn(NULL,
			 "peer: %s sends a heartbeat every %u ms, too few for a time-out of %u ms",
			 m->host, m->heartbeat_ms, config_timeout_ms(p->config));
	p->ops->up(p->arg, again);
}

static void take_hello(struct connection *c, const Understudy__PeerHello *m)
{
	struct peer *p = c->owner;
	char why[256];

	if (c->greeted) {
		connection_close(c, "a second hello");
		return;
	}
	if (!hello_check(p, m, why, sizeof(why))) {
		session_begin(c, m);
		return;
	}
	if (!p->session)
		set_problem(p, why);
	p->dial_at_us = clock_us() + MISMATCH_RETRY_MS * 1000ull;
	say_bye(c, why, true);
	connection_close(c, why);
}

static void take_bye(struct connection *c, const Understudy__PeerBye *m)
{
	struct peer *p = c->owner;
	char cause[280];

	snprintf(cause, sizeof(cause), "the peer closed the session: %.200s", m->reason);
	if (m->mismatch) {
		if (!p->session || p->session == c)
			set_problem(p, cause);
		p->dial_at_us = clock_us() + MISMATCH_RETRY_MS * 1000ull;
	}
	connection_close(c, cause);
}

static void take_frame(struct connection *c, const struct frame *f)
{
	struct peer *p = c->owner;

	if (f->type == PEER_HELLO) {
		take_hello(c, (const Understudy__PeerHello *)f->message);
	} else if (f->type == PEER_BYE) {
		take_bye(c, (const Understudy__PeerBye *)f->message);
	} else if (!c->greeted) {
		connection_close(c, "no hello first");
	} else if (f->type == PEER_HEARTBEAT) {
		p->heard_sequence = ((const Understudy__PeerHeartbeat *)f->message)->sequence;
	} else {
		/* Also on a connection that has just lost against a better one: nothing sent is
		 * lost. */
		p->ops->message(p->arg, (enum peer_type)f->type, f->message);
	}
}

static void connection_read(struct bufferevent *bev, void *arg)
{
	struct connection *c = arg;
	struct peer *p = c->owner;
	struct evbuffer *in = bufferevent_get_input(bev);
	char why[160];

	c->heard_us = clock_us();
	if (p->session == c)
		p->heard_us = c->heard_us;
	while (!c->dead) {
		size_t len = evbuffer_get_length(in);
		struct frame f;
		int used = frame_parse(peer_kinds, PEER_TYPES, evbuffer_pullup(in, -1), len, &f,
				       why, sizeof(why));

		if (used < 0) {
			log_err(NULL, "peer: %s", why);
			connection_close(c, why);
			return;
		}
		if (!used)
			return;
		evbuffer_drain(in, (size_t)used);
		take_frame(c, &f);
		protobuf_c_message_free_unpacked(f.message, NULL);
	}
}

/* Whether TLS has something to say about the end of a connection. */
static bool tls_failed(struct connection *c, char *cause)
{
	struct ssl_st *ssl = bufferevent_openssl_get_ssl(c->bev);
	unsigned long error = ssl ? bufferevent_get_openssl_error(c->bev) : 0;

	/* libevent also stores what SSL_get_error() says, which belongs to no library: a system call failed. */
	while (error && !ERR_GET_LIB(error))
		error = bufferevent_get_openssl_error(c->bev);
	if (error)
		tls_explain(ssl, error, cause);
	return error;
}

static void connection_failed(struct connection *c)
{
	int error = EVUTIL_SOCKET_ERROR();
	char cause[TLS_WHY_BYTES];

	if (!tls_failed(c, cause))
		snprintf(cause, sizeof(cause), "%s port %u cannot be reached: %s", c->owner->config->peer_address,
			 c->owner->config->peer_control_port, evutil_socket_error_to_string(error));
	if (!c->owner->session)
		set_problem(c->owner, cause);
	connection_close(c, cause);
}

static void connection_event(struct bufferevent *bev, short what, void *arg)
{
	struct connection *c = arg;

	if (what & BEV_EVENT_CONNECTED) {
		int on = 1;

		c->connected = true;
		setsockopt(bufferevent_getfd(bev), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		send_hello(c);
	} else if (what & BEV_EVENT_EOF) {
		connection_close(c, "the peer closed the connection");
	} else if (what & BEV_EVENT_ERROR && !c->greeted && (!c->connected || bufferevent_openssl_get_ssl(bev))) {
		/* TLS 1.3: a client that is refused hears of it when it takes itself for connected. */
		connection_failed(c);
	} else {
		connection_close(c, "the connection broke");
	}
}

static struct bufferevent *make_bev(struct peer *p, int fd, bool dialed)
{
	const int options = BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS;
	struct tls_files files = config_tls(p->config);
	char why[TLS_WHY_BYTES];
	struct ssl_st *ssl;

	if (!tls_wanted(&files))
		return bufferevent_socket_new(p->base, fd, options);
	if (tls_new(&files, dialed, &ssl, why)) {
		if (!p->session)
			set_problem(p, why);
		return NULL;
	}
	return bufferevent_openssl_socket_new(p->base, fd, ssl, dialed ? BUFFEREVENT_SSL_CONNECTING : BUFFEREVENT_SSL_ACCEPTING,
					      options);
}

static struct connection *connection_new(struct peer *p, int fd, bool dialed)
{
	struct connection *c, *other;
	unsigned int nr = 0;

	LL_COUNT(p->list, other, nr);
	if (nr >= CONNECTIONS_MAX)
		return NULL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->bev = make_bev(p, fd, dialed);
	if (!c->bev) {
		free(c);
		return NULL;
	}
	c->owner = p;
	c->dialed = dialed;
	c->since_us = c->heard_us = clock_us();
	bufferevent_setcb(c->bev, connection_read, NULL, connection_event, c);
	bufferevent_enable(c->bev, EV_READ | EV_WRITE);
	LL_PREPEND(p->list, c);
	return c;
}

static void accepted(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *from, int len,
		     void *arg)
{
	struct peer *p = arg;
	struct connection *c;

	if (!address_is(from, p->config->peer_address)) {
		log_warn(NULL, "peer: connection from an address that is not the peer's, closed");
		close(fd);
		return;
	}
	c = connection_new(p, fd, false);
	if (!c) {
		close(fd);
		return;
	}
	if (!bufferevent_openssl_get_ssl(c->bev)) /* else behind the handshake */
		connection_event(c->bev, BEV_EVENT_CONNECTED, c);
}

static void peer_dial(struct peer *p, uint64_t now)
{
	struct sockaddr_storage to;
	struct connection *c;
	int len = address_make(p->config->peer_address, p->config->peer_control_port, &to);

	p->dial_at_us = now + DIAL_EVERY_MS * 1000ull;
	LL_FOREACH (p->list, c)
		if (c->dialed && !c->dead)
			return; /* under way */
	if (len < 0)
		return;
	c = connection_new(p, -1, true);
	if (c && bufferevent_socket_connect(c->bev, (struct sockaddr *)&to, len))
		connection_close(c, "cannot be dialed");
}

static void heartbeat(struct peer *p, uint64_t now)
{
	Understudy__PeerHeartbeat m = UNDERSTUDY__PEER_HEARTBEAT__INIT;

	p->heartbeat_at_us = now + config_heartbeat_ms(p->config) * 1000ull;
	m.sequence = ++p->sequence;
	m.heard = p->heard_sequence;
	if (connection_send(p->session, PEER_HEARTBEAT, &m.base))
		connection_close(p->session, "heartbeat cannot be sent");
}

static bool session_silent(struct peer *p, uint64_t now, bool late)
{
	uint64_t limit_us = config_timeout_ms(p->config) * 1000ull;

	if (late) /* it was us who slept: look again at the next tick */
		p->session->heard_us = now;
	if (now - p->session->heard_us < limit_us)
		return false;
	return tcp_silent_ms(bufferevent_getfd(p->session->bev)) * 1000 >= (int64_t)limit_us;
}

static void peer_tick(evutil_socket_t fd, short what, void *arg)
{
	struct peer *p = arg;
	uint64_t now = clock_us();
	bool late = now - p->tick_at_us > config_timeout_ms(p->config) * 500ull;
	struct connection *c, *next;

	p->tick_at_us = now;
	LL_FOREACH (p->list, c)
		if (!c->dead && !c->greeted && now - c->since_us > HELLO_MAX_MS * 1000ull) {
			if (!p->session)
				set_problem(p, c->connected
						       ? "connected, but no hello came"
						       : "no answer to the connection attempt");
			connection_close(c, "no hello in time");
		}
	if (p->session && session_silent(p, now, late))
		connection_close(p->session, "silent");
	if (p->session && now >= p->heartbeat_at_us)
		heartbeat(p, now);
	if (!p->session && p->config->peer_address[0] && now >= p->dial_at_us)
		peer_dial(p, now);
	LL_FOREACH_SAFE(p->list, c, next)
	if (c->dead)
		connection_free(c);
}

int peer_new(struct event_base *base, const struct config *config, const struct host *host,
	     const struct peer_ops *ops, void *arg, struct peer **out)
{
	unsigned int ms = config_heartbeat_ms(config) / 4;
	struct timeval tv = {.tv_usec = (ms < 5 ? 5 : ms > 200 ? 200 : ms) * 1000};
	struct peer *p = calloc(1, sizeof(*p));
	int rc;

	if (!p)
		return -ENOMEM;
	p->base = base;
	p->config = config;
	p->host = host;
	p->ops = ops;
	p->arg = arg;
	p->tick_at_us = clock_us();
	p->heard_us = p->tick_at_us + START_GRACE_MS * 1000ull;
	strcpy(p->problem,
	       config->peer_address[0] ? "not connected yet" : "no [peer] address is configured");
	rc = listener_new(base, config->listen_address, config->control_port, accepted, p,
			  &p->listener);
	if (rc)
		goto out;
	p->tick = event_new(base, -1, EV_PERSIST, peer_tick, p);
	rc = p->tick && !event_add(p->tick, &tv) ? 0 : -ENOMEM;
out:
	if (rc)
		peer_free(p);
	else
		*out = p;
	return rc;
}

void peer_free(struct peer *p)
{
	if (!p)
		return;
	while (p->list)
		connection_free(p->list);
	if (p->listener)
		evconnlistener_free(p->listener);
	if (p->tick)
		event_free(p->tick);
	buf_free(&p->out);
	free(p);
}

bool peer_up(const struct peer *p)
{
	return p->session != NULL;
}

const struct peer_info *peer_info(const struct peer *p)
{
	return &p->info;
}

const char *peer_problem(const struct peer *p)
{
	return p->session ? "" : p->problem;
}

uint64_t peer_read_us(const struct peer *p)
{
	return p->heard_us;
}

uint64_t peer_heard_us(const struct peer *p)
{
	int64_t silent_ms = p->session ? tcp_silent_ms(bufferevent_getfd(p->session->bev)) : -1;
	uint64_t kernel_us = silent_ms < 0 ? 0 : clock_us() - (uint64_t)silent_ms * 1000;

	return kernel_us > p->heard_us ? kernel_us : p->heard_us;
}

int peer_send(struct peer *p, enum peer_type type, const ProtobufCMessage *m)
{
	return p->session ? connection_send(p->session, type, m) : -ENOTCONN;
}
