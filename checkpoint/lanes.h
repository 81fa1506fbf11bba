/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The connections of one epoch stream. A network may cap what one connection carries (clouds do, at 5 to 10 Gbit/s between instances); several
 * carry the primary's bytes in turn: the first LANE_TURN_BYTES behind the hello on lane 0, the next on lane 1, and so on, round and round.
 * The order needs no numbers then, and neither end anything to put together. What the backup says goes on lane 0.
 *
 * With one lane that is the plain channel. Non-blocking, one thread at a time.
 */
#ifndef CHECKPOINT_LANES_H
#define CHECKPOINT_LANES_H

#include "checkpoint/channel.h"
#include "checkpoint/record.h"

#include <poll.h>

enum { LANE_TURN_BYTES = 256 << 10 };

struct lane {
	struct channel channel;
	uint8_t hello[STREAM_HELLO_SIZE]; /* lanes behind the first: what goes first on them */
	size_t hello_done;
};

/* Embedded, and moved with whoever owns it. A zeroed one has no lanes. */
struct lanes {
	unsigned int nr, at; /* `at`: whose turn it is */
	size_t turn_bytes;   /* of this turn, so far; the hello of lane 0 is not counted */
	bool greeted;	     /* lane 0's hello is through */
	struct lane lane[STREAM_LANES_MAX];
};

/* One plain lane on a connected socket. */
static inline struct lanes lanes_plain(int fd)
{
	return (struct lanes){.nr = 1, .lane[0].channel.fd = fd};
}

/* `nr` lanes (1 to STREAM_LANES_MAX) without sockets. 0 or -errno, after saying why; nothing is left to close then. */
int lanes_open(struct lanes *l, unsigned int nr, const Understudy__WorkerTls *tls, bool dials, const char *guest);

/* Gives lane `i` its socket. -EEXIST: it has one; -EINVAL: no such lane; the socket is the caller's then. */
int lanes_attach(struct lanes *l, unsigned int i, int fd);

/* The dialer, when all sockets are there: says on each where it belongs. `hello` is the stream's, of lane 0. */
int lanes_announce(struct lanes *l, const struct stream_hello *hello);

/* The other end: behind its announcement lane `i` begins. `hello` is what its own has to be like, but for the lane. */
int lanes_expect(struct lanes *l, unsigned int i, const struct stream_hello *hello);

/* As channel_send() and channel_receive(); the dialer's direction. */
ssize_t lanes_send(struct lanes *l, const void *data, size_t len);
ssize_t lanes_receive(struct lanes *l, void *data, size_t size);

/* The other direction. */
static inline struct channel *lanes_back(struct lanes *l)
{
	return &l->lane[0].channel;
}

/* What the dialer has to poll() for: fills fds[2], of which the first is lane 0; the second is {-1} if it is that one's turn. */
void lanes_poll(const struct lanes *l, bool sending, struct pollfd fds[2]);

/* The socket on which the other end's next bytes come, or -1: it is not there yet. */
int lanes_fd(const struct lanes *l);

/* `rc` of lanes_send() or lanes_receive() in words. */
const char *lanes_strerror(const struct lanes *l, int rc);

void lanes_close(struct lanes *l);

#endif
