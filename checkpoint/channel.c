/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/channel.h"
#include "checkpoint/worker.pb-c.h"
#include "common/log.h"
#include "common/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* RFC 8446, 5.5: AES-GCM is good for 2^24.5 full records, some 360 GiB, with one key. */
#define KEY_BYTES_MAX (64ull << 30)

int channel_open(struct channel *c, const Understudy__WorkerTls *tls, bool dials, const char *guest)
{
	struct tls_files files;
	char why[TLS_WHY_BYTES];
	int rc;

	*c = (struct channel){.fd = -1};
	if (!tls)
		return 0;
	files = (struct tls_files){.ca = tls->ca, .cert = tls->cert, .key = tls->key, .peer = tls->peer};
	rc = tls_new(&files, dials, &c->ssl, why);
	if (rc)
		log_err(guest, "%s", why);
	return rc;
}

void channel_attach(struct channel *c, int fd)
{
	int flags = fcntl(fd, F_GETFL);

	c->fd = fd;
	/* OpenSSL reads and writes by itself: it has to be told by the socket not to wait. */
	if (!c->ssl || (flags >= 0 && !fcntl(fd, F_SETFL, flags | O_NONBLOCK) && SSL_set_fd(c->ssl, fd) == 1))
		return;
	c->failed = true;
	snprintf(c->why, sizeof(c->why), "TLS: the socket cannot be prepared");
}

int channel_announce(struct channel *c, const void *hello, size_t len)
{
	ssize_t n;

	if (!c->ssl)
		return 0;
	/* The first bytes of a connection: there is room. */
	n = send(c->fd, hello, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	return n < 0 ? -errno : (size_t)n == len ? 0 : -EIO;
}

int channel_skip_announced(struct channel *c, size_t len)
{
	uint8_t bytes[64];
	ssize_t n;

	if (!c->ssl)
		return 0;
	if (len > sizeof(bytes))
		return -EINVAL;
	n = recv(c->fd, bytes, len, MSG_DONTWAIT);
	return n < 0 ? -errno : (size_t)n == len ? 0 : -EPROTO;
}

/* What an SSL function's failure means to its caller. */
static ssize_t tls_result(struct channel *c, int r, bool *wants_other, int other)
{
	int error = SSL_get_error(c->ssl, r), saved = errno;

	*wants_other = error == other;
	switch (error) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_SYSCALL:
		/* Only this direction's end, perhaps: what has arrived can still be read. */
		ERR_clear_error();
		return saved ? -saved : -ECONNRESET;
	default:
		tls_explain(c->ssl, 0, c->why);
		c->failed = true;
		return -EPROTO;
	}
}

static ssize_t tls_send(struct channel *c, const void *data, size_t len)
{
	int r;

	if (c->key_bytes >= KEY_BYTES_MAX && SSL_is_init_finished(c->ssl)) {
		if (SSL_key_update(c->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) != 1)
			return tls_result(c, 0, &c->send_wants_input, SSL_ERROR_WANT_READ) ?: -EPROTO;
		c->key_bytes = 0;
	}
	r = SSL_write(c->ssl, data, len > INT_MAX ? INT_MAX : (int)len);
	if (r <= 0)
		return tls_result(c, r, &c->send_wants_input, SSL_ERROR_WANT_READ) ?: -EPIPE;
	c->send_wants_input = false;
	c->key_bytes += (unsigned int)r;
	return r;
}

static ssize_t tls_receive(struct channel *c, void *data, size_t size)
{
	int r = SSL_read(c->ssl, data, size > INT_MAX ? INT_MAX : (int)size);

	if (r <= 0)
		return tls_result(c, r, &c->receive_wants_output, SSL_ERROR_WANT_WRITE);
	c->receive_wants_output = false;
	/* A handshake that waited for input may have got it. */
	c->send_wants_input = false;
	return r;
}

static ssize_t tls_call(struct channel *c, void *in, const void *out, size_t len)
{
	if (c->failed)
		return -EPROTO;
	ERR_clear_error();
	errno = 0;
	return out ? tls_send(c, out, len) : tls_receive(c, in, len);
}

ssize_t channel_send(struct channel *c, const void *data, size_t len)
{
	ssize_t n;

	if (c->ssl)
		return tls_call(c, NULL, data, len);
	do {
		n = send(c->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

ssize_t channel_receive(struct channel *c, void *data, size_t size)
{
	ssize_t n;

	if (c->ssl)
		return tls_call(c, data, NULL, size);
	do {
		n = recv(c->fd, data, size, MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

short channel_events(const struct channel *c, bool sending)
{
	return (short)(POLLIN | ((sending && !c->send_wants_input) || c->receive_wants_output ? POLLOUT : 0));
}

const char *channel_strerror(const struct channel *c, int rc)
{
	return c->why[0] ? c->why : strerror(rc < 0 ? -rc : rc);
}

void channel_close(struct channel *c)
{
	SSL_free(c->ssl);
	c->ssl = NULL;
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}
