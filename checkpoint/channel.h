/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The connection under an epoch stream: TCP, or TLS on it. Non-blocking, one thread at a time.
 *
 * With TLS the dialer's hello goes out twice: first as plain bytes, by which the other daemon finds the worker that is meant and which prove
 * nothing, then inside, where the worker reads the hello that counts.
 */
#ifndef CHECKPOINT_CHANNEL_H
#define CHECKPOINT_CHANNEL_H

#include "common/tls.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct Understudy__WorkerTls Understudy__WorkerTls;

/* Embedded, and moved with whoever owns it. {.fd = a connected socket} is a plain one. */
struct channel {
	int fd;		    /* -1: none */
	struct ssl_st *ssl; /* NULL: plain */
	uint64_t key_bytes; /* sent with the present key */
	bool send_wants_input, receive_wants_output;
	bool failed;	    /* TLS says that nothing more can come of it; `why` says why */
	char why[TLS_WHY_BYTES];
};

/* A channel without a socket; `tls` NULL: a plain one. 0 or -errno, after saying why. */
int channel_open(struct channel *c, const Understudy__WorkerTls *tls, bool dials, const char *guest);

/* Gives it its socket, which is the channel's from now on. */
void channel_attach(struct channel *c, int fd);

/* First call on a connection: the hello as plain bytes (dialer), or away with it (the end that accepted; it is there). Only with TLS;
 * 0 or -errno. */
int channel_announce(struct channel *c, const void *hello, size_t len);
int channel_skip_announced(struct channel *c, size_t len);

/* Bytes (send: more than 0), or -errno; -EAGAIN: nothing now; receive: 0 is the end. */
ssize_t channel_send(struct channel *c, const void *data, size_t len);
ssize_t channel_receive(struct channel *c, void *data, size_t size);

/* What to poll() the fd for; `sending`: there is something to be sent. */
short channel_events(const struct channel *c, bool sending);

/* `rc` of one of the above, in words. */
const char *channel_strerror(const struct channel *c, int rc);

/* No goodbye of TLS: the records have their own. */
void channel_close(struct channel *c);

#endif
