/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * understudy-worker for a daemon under test: no domain, no epochs, but the real conversation with
 * the daemon and a real TCP stream with its real hello, on which both ends send a byte per
 * heartbeat.
 */
#include "checkpoint/link.h"
#include "checkpoint/record.h"
#include "common/clock.h"
#include "common/log.h"
#include "replicator/tags.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TICK_MS = 20, CURRENT_AFTER_MS = 100 };

static struct fake {
	struct event_base *base;
	struct link *link;
	uint32_t domid;
	char name[64];
	uint8_t uuid[16];
	Understudy__WorkerRole role;
	Understudy__WorkerState state;
	uint64_t term, epoch, heard_us, stats_us, began_us;
	uint32_t timeout_ms;
	int stream;
} f = {.stream = -1};

#define SEND(CASE, field, message)                                                                 \
	do {                                                                                       \
		Understudy__WorkerEvent e_ = UNDERSTUDY__WORKER_EVENT__INIT;                       \
                                                                                                   \
		e_.event_case = UNDERSTUDY__WORKER_EVENT__EVENT_##CASE;                            \
		e_.field = (message);                                                              \
		link_send(f.link, &e_);                                                            \
	} while (0)

static void send_stats(void)
{
	Understudy__WorkerStats m = UNDERSTUDY__WORKER_STATS__INIT;

	m.state = f.state;
	m.epoch = f.epoch;
	m.heard_us_ago = f.heard_us ? clock_us() - f.heard_us : 0;
	f.stats_us = clock_us();
	SEND(STATS, stats, &m);
}

static void connected(void *arg)
{
	Understudy__WorkerHello m = UNDERSTUDY__WORKER_HELLO__INIT;
	Understudy__WorkerStreamState s = UNDERSTUDY__WORKER_STREAM_STATE__INIT;

	m.domid = f.domid;
	m.uuid.data = f.uuid;
	m.uuid.len = 16;
	m.name = f.name;
	m.role = f.role;
	m.state = f.state;
	m.term = f.term;
	m.epoch = f.epoch;
	m.kind = "PVH";
	m.vcpus = 1;
	m.memory_bytes = 128 << 20;
	m.pid = getpid();
	SEND(HELLO, hello, &m);
	send_stats();
	if (f.role != UNDERSTUDY__WORKER_ROLE__WORKER_BACKUP || f.stream >= 0)
		return;
	s.current = f.state == UNDERSTUDY__WORKER_STATE__WORKER_STANDBY;
	s.epoch = f.epoch;
	SEND(STREAM_STATE, stream_state, &s);
}

static void set_state(Understudy__WorkerState state)
{
	f.state = state;
	send_stats();
}

static void drop(const char *cause);

static void stream_end(const char *cause)
{
	Understudy__WorkerLost lost = UNDERSTUDY__WORKER_LOST__INIT;
	Understudy__WorkerStreamState s = UNDERSTUDY__WORKER_STREAM_STATE__INIT;

	if (f.stream < 0)
		return;
	close(f.stream);
	f.stream = -1;
	if (f.role == UNDERSTUDY__WORKER_ROLE__WORKER_BACKUP) {
		s.current = f.state == UNDERSTUDY__WORKER_STATE__WORKER_STANDBY;
		s.epoch = f.epoch;
		s.cause = (char *)cause;
		SEND(STREAM_STATE, stream_state, &s);
	} else if (f.state == UNDERSTUDY__WORKER_STATE__WORKER_PROTECTED) {
		lost.cause = (char *)cause;
		lost.last_committed = f.epoch;
		set_state(UNDERSTUDY__WORKER_STATE__WORKER_HOLDING);
		SEND(LOST, lost, &lost);
	} else if (f.state == UNDERSTUDY__WORKER_STATE__WORKER_SYNCING) {
		drop(cause);
	}
}

static void protect(const Understudy__WorkerProtect *p)
{
	uint8_t bytes[STREAM_HELLO_SIZE];
	struct stream_hello hello = {.version = STREAM_VERSION, .term = p->term, .token = p->token};
	struct sockaddr_in from = {.sin_family = AF_INET};
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)p->peer_port)};

	memcpy(hello.uuid, p->uuid.data, 16);
	stream_hello_put(bytes, &hello);
	inet_pton(AF_INET, p->peer_address, &to.sin_addr);
	/* Two hosts on one machine: the other one expects its peer's address. */
	inet_pton(AF_INET, strcmp(p->peer_address, "127.0.0.1") ? "127.0.0.1" : "127.0.0.2",
		  &from.sin_addr);
	f.stream = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(f.stream, (struct sockaddr *)&from, sizeof(from)))
		perror("bind");
	f.term = p->term;
	f.timeout_ms = p->policy->timeout_ms;
	if (connect(f.stream, (struct sockaddr *)&to, sizeof(to)) ||
	    write(f.stream, bytes, sizeof(bytes)) != sizeof(bytes)) {
		Understudy__WorkerFailed failed = UNDERSTUDY__WORKER_FAILED__INIT;

		close(f.stream);
		f.stream = -1;
		failed.command = "protect";
		failed.cause = strerror(errno);
		SEND(FAILED, failed, &failed);
		return;
	}
	f.heard_us = f.began_us = clock_us();
	set_state(UNDERSTUDY__WORKER_STATE__WORKER_SYNCING);
}

static void drop(const char *cause)
{
	Understudy__WorkerDropped m = UNDERSTUDY__WORKER_DROPPED__INIT;

	f.state = UNDERSTUDY__WORKER_STATE__WORKER_SERVING;
	stream_end(cause);
	m.cause = (char *)cause;
	send_stats();
	SEND(DROPPED, dropped, &m);
}

static void activate(uint64_t term)
{
	Understudy__WorkerActivated m = UNDERSTUDY__WORKER_ACTIVATED__INIT;

	if (f.stream >= 0)
		close(f.stream);
	f.stream = -1;
	f.role = UNDERSTUDY__WORKER_ROLE__WORKER_PRIMARY;
	f.term = term;
	m.epoch = f.epoch;
	m.term = term;
	m.total_us = 1234;
	f.state = UNDERSTUDY__WORKER_STATE__WORKER_SERVING;
	SEND(ACTIVATED, activated, &m);
	send_stats();
}

static void command(void *arg, const Understudy__WorkerCommand *c, int fd)
{
	Understudy__WorkerFinished finished = UNDERSTUDY__WORKER_FINISHED__INIT;
	Understudy__WorkerFailed failed = UNDERSTUDY__WORKER_FAILED__INIT;

	switch (c->command_case) {
	case UNDERSTUDY__WORKER_COMMAND__COMMAND_PROTECT:
		protect(c->protect);
		break;
	case UNDERSTUDY__WORKER_COMMAND__COMMAND_UNPROTECT:
		drop("unprotect");
		break;
	case UNDERSTUDY__WORKER_COMMAND__COMMAND_DROP:
		drop(c->drop->cause);
		break;
	case UNDERSTUDY__WORKER_COMMAND__COMMAND_FINISH:
		finished.epoch = f.epoch;
		finished.term = f.term;
		set_state(UNDERSTUDY__WORKER_STATE__WORKER_FINISHED);
		SEND(FINISHED, finished, &finished);
		break;
	case UNDERSTUDY__WORKER_COMMAND__COMMAND_RESUME:
		set_state(UNDERSTUDY__WORKER_STATE__WORKER_PROTECTED);
		break;
	case UNDERSTUDY__WORKER_COMMAND__COMMAND_STREAM:
		if (f.stream >= 0)
			close(f.stream);
		f.stream = fd;
		f.timeout_ms = 0;
		f.term = c->stream->term;
		f.heard_us = f.began_us = clock_us();
		f.epoch = 0;
		set_state(UNDERSTUDY__WORKER_STATE__WORKER_WAITING);
		break;
	case UNDERSTUDY__WORKER_COMMAND__COMMAND_ACTIVATE:
		if (getenv("FAKE_ACTIVATE")) {
			failed.command = "activate";
			failed.cause = "as the test asks";
			SEND(FAILED, failed, &failed);
		} else {
			activate(c->activate->term);
		}
		break;
	case UNDERSTUDY__WORKER_COMMAND__COMMAND_QUIT:
		event_base_loopbreak(f.base);
		break;
	default:
		break;
	}
}

static void became_whole(void)
{
	Understudy__WorkerStreamState s = UNDERSTUDY__WORKER_STREAM_STATE__INIT;
	Understudy__WorkerProtected p = UNDERSTUDY__WORKER_PROTECTED__INIT;

	f.epoch = 1;
	if (f.role == UNDERSTUDY__WORKER_ROLE__WORKER_BACKUP) {
		set_state(UNDERSTUDY__WORKER_STATE__WORKER_STANDBY);
		s.connected = s.current = true;
		s.epoch = 1;
		SEND(STREAM_STATE, stream_state, &s);
	} else {
		set_state(UNDERSTUDY__WORKER_STATE__WORKER_PROTECTED);
		p.epoch = 1;
		p.term = f.term;
		SEND(PROTECTED_, protected_, &p);
	}
}

static void tick(evutil_socket_t fd, short what, void *arg)
{
	char bytes[4096] = {0};
	uint64_t now = clock_us();
	ssize_t n;

	if (f.stream >= 0) {
		(void)!send(f.stream, bytes, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		n = recv(f.stream, bytes, sizeof(bytes), MSG_DONTWAIT);
		if (n > 0)
			f.heard_us = now;
		else if (n == 0 || (errno != EAGAIN && errno != EINTR))
			stream_end("closed");
		else if (f.timeout_ms && now - f.heard_us > f.timeout_ms * 1000ull)
			stream_end("silent");
	}
	if (f.stream >= 0 && now - f.began_us > CURRENT_AFTER_MS * 1000 &&
	    (f.state == UNDERSTUDY__WORKER_STATE__WORKER_SYNCING ||
	     f.state == UNDERSTUDY__WORKER_STATE__WORKER_WAITING))
		became_whole();
	if (now - f.stats_us > 1000000)
		send_stats();
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"domid", required_argument, NULL, 'd'},
		{"socket", required_argument, NULL, 's'},
		{"role", required_argument, NULL, 'r'},
		{0},
	};
	static const struct link_ops ops = {.connected = connected, .command = command};
	struct timeval tv = {.tv_usec = TICK_MS * 1000};
	const char *path = NULL;
	char file[256], uuid[64] = "";
	FILE *in;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'd')
			f.domid = (uint32_t)atoi(optarg);
		else if (c == 's')
			path = optarg;
		else if (c == 'r' && !strcmp(optarg, "backup"))
			f.role = UNDERSTUDY__WORKER_ROLE__WORKER_BACKUP;
	}
	if (f.role == UNDERSTUDY__WORKER_ROLE__WORKER_BACKUP)
		f.state = UNDERSTUDY__WORKER_STATE__WORKER_WAITING;
	log_open("fake-worker", LOG_INFO);
	snprintf(file, sizeof(file), "%s/%u", getenv("FAKE_XENSTORE"), f.domid);
	in = fopen(file, "r");
	if (!in || fscanf(in, "%63s %63s", f.name, uuid) != 2 || uuid_parse(uuid, f.uuid))
		return 1;
	fclose(in);
	f.base = event_base_new();
	if (link_new(f.base, path, &ops, &f, &f.link))
		return 1;
	event_add(event_new(f.base, -1, EV_PERSIST, tick, NULL), &tv);
	event_base_dispatch(f.base);
	unlink(path);
	return 0;
}
