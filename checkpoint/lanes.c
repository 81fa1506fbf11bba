/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/lanes.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int lanes_open(struct lanes *l, unsigned int nr, const Understudy__WorkerTls *tls, bool dials, const char *guest)
{
	int rc = nr && nr <= STREAM_LANES_MAX ? 0 : -EINVAL;

	*l = (struct lanes){0};
	while (!rc && l->nr < nr) {
		rc = channel_open(&l->lane[l->nr].channel, tls, dials, guest);
		l->nr++;
	}
	if (rc)
		lanes_close(l);
	return rc;
}

int lanes_attach(struct lanes *l, unsigned int i, int fd)
{
	if (i >= l->nr)
		return -EINVAL;
	if (l->lane[i].channel.fd >= 0)
		return -EEXIST;
	channel_attach(&l->lane[i].channel, fd);
	return 0;
}

/* Lane 0's hello is the stream's first bytes. The others' are kept here: the plain one goes out at once, so that the other host's daemon
 * can tell where the connection belongs; with TLS it is said again inside, in the lane's first turn. */
int lanes_announce(struct lanes *l, const struct stream_hello *hello)
{
	struct stream_hello own = *hello;
	int rc = 0;

	for (unsigned int i = 0; !rc && i < l->nr; i++) {
		struct lane *lane = &l->lane[i];
		ssize_t n;

		own.lane = (uint16_t)i;
		own.further = (uint16_t)(l->nr - 1);
		own.features = i ? 0 : hello->features;
		stream_hello_put(lane->hello, &own);
		rc = channel_announce(&lane->channel, lane->hello, STREAM_HELLO_SIZE);
		if (rc || !i || lane->channel.ssl)
			continue;
		/* The first bytes of a connection: there is room. */
		n = channel_send(&lane->channel, lane->hello, STREAM_HELLO_SIZE);
		lane->hello_done = STREAM_HELLO_SIZE;
		rc = n < 0 ? (int)n : n == STREAM_HELLO_SIZE ? 0 : -EIO;
	}
	return rc;
}

int lanes_expect(struct lanes *l, unsigned int i, const struct stream_hello *hello)
{
	struct stream_hello own = *hello;

	own.lane = (uint16_t)i;
	own.further = (uint16_t)(l->nr - 1);
	own.features = 0;
	stream_hello_put(l->lane[i].hello, &own);
	return channel_skip_announced(&l->lane[i].channel, STREAM_HELLO_SIZE);
}

/* Whose turn it is, and how much of it is left. Lane 0's hello stands before all turns. */
static struct lane *turn(struct lanes *l, size_t *left)
{
	*left = l->nr == 1 ? SIZE_MAX : (l->greeted ? LANE_TURN_BYTES : STREAM_HELLO_SIZE) - l->turn_bytes;
	return &l->lane[l->at];
}

static void taken(struct lanes *l, size_t bytes, size_t left)
{
	l->turn_bytes += bytes;
	if (bytes < left)
		return;
	l->turn_bytes = 0;
	if (l->greeted)
		l->at = (l->at + 1) % l->nr;
	l->greeted = true;
}

/* 0 when the lane's hello is through; or -errno. */
static int send_hello(struct lanes *l, struct lane *lane)
{
	while (l->at && lane->hello_done < STREAM_HELLO_SIZE) {
		ssize_t n = channel_send(&lane->channel, lane->hello + lane->hello_done, STREAM_HELLO_SIZE - lane->hello_done);

		if (n < 0)
			return (int)n;
		lane->hello_done += (size_t)n;
	}
	return 0;
}

ssize_t lanes_send(struct lanes *l, const void *data, size_t len)
{
	size_t left;
	struct lane *lane = turn(l, &left);
	ssize_t n = send_hello(l, lane);

	if (!n)
		n = channel_send(&lane->channel, data, len < left ? len : left);
	if (n > 0)
		taken(l, (size_t)n, left);
	return n;
}

/* 1 when the lane's hello has come and is what it has to be; else as channel_receive(). */
static ssize_t receive_hello(struct lanes *l, struct lane *lane)
{
	uint8_t got[STREAM_HELLO_SIZE];

	while (l->at && lane->hello_done < STREAM_HELLO_SIZE) {
		ssize_t n = channel_receive(&lane->channel, got, STREAM_HELLO_SIZE - lane->hello_done);

		if (n <= 0)
			return n;
		if (memcmp(got, lane->hello + lane->hello_done, (size_t)n)) {
			snprintf(lane->channel.why, sizeof(lane->channel.why), "lane %u begins with another stream's hello", l->at);
			return -EACCES;
		}
		lane->hello_done += (size_t)n;
	}
	return 1;
}

ssize_t lanes_receive(struct lanes *l, void *data, size_t size)
{
	size_t left;
	struct lane *lane = turn(l, &left);
	ssize_t n;

	if (lane->channel.fd < 0)
		return -EAGAIN;
	n = receive_hello(l, lane);
	if (n > 0)
		n = channel_receive(&lane->channel, data, size < left ? size : left);
	if (n > 0)
		taken(l, (size_t)n, left);
	return n;
}

/* A lane whose turn it is not, or that has nothing to send, is not looked at: there may be what TLS leaves unread. */
void lanes_poll(const struct lanes *l, bool sending, struct pollfd fds[2])
{
	const struct channel *now = &l->lane[l->at].channel;

	fds[0] = (struct pollfd){.fd = l->lane[0].channel.fd, .events = channel_events(&l->lane[0].channel, sending && !l->at)};
	fds[1] = (struct pollfd){.fd = -1};
	if (l->at && sending)
		fds[1] = (struct pollfd){.fd = now->fd, .events = now->send_wants_input ? POLLIN : POLLOUT};
}

int lanes_fd(const struct lanes *l)
{
	return l->nr ? l->lane[l->at].channel.fd : -1;
}

const char *lanes_strerror(const struct lanes *l, int rc)
{
	return channel_strerror(&l->lane[l->at].channel, rc);
}

void lanes_close(struct lanes *l)
{
	while (l->nr)
		channel_close(&l->lane[--l->nr].channel);
	l->at = 0;
}
