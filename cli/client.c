/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/cli.h"
#include "common/buf.h"
#include "common/clock.h"
#include "replicator/config.h"
#include "replicator/frame.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

enum { REPLY_MAX_MS = 60000 }; /* `tag` runs a tool behind it */

struct client {
	int fd;
	struct buf in;
};

int code_to_exit(Understudy__ControlCode code)
{
	static const int table[] = {
		[UNDERSTUDY__CONTROL_CODE__CONTROL_OK] = 0,
		[UNDERSTUDY__CONTROL_CODE__CONTROL_NO_SUCH_GUEST] = EX_NOINPUT,
		[UNDERSTUDY__CONTROL_CODE__CONTROL_ALREADY_TAGGED] = EX_CANTCREAT,
		[UNDERSTUDY__CONTROL_CODE__CONTROL_NOT_TAGGED] = EX_NOINPUT,
		[UNDERSTUDY__CONTROL_CODE__CONTROL_UNKNOWN_POLICY] = EX_CONFIG,
		[UNDERSTUDY__CONTROL_CODE__CONTROL_KIND_NOT_SUPPORTED] = EX_DATAERR,
		[UNDERSTUDY__CONTROL_CODE__CONTROL_PEER_UNREACHABLE] = EX_UNAVAILABLE,
		[UNDERSTUDY__CONTROL_CODE__CONTROL_NOT_NOW] = EX_TEMPFAIL,
		[UNDERSTUDY__CONTROL_CODE__CONTROL_BAD_REQUEST] = EX_PROTOCOL,
		[UNDERSTUDY__CONTROL_CODE__CONTROL_INTERNAL] = EX_SOFTWARE,
	};

	return (unsigned int)code < sizeof(table) / sizeof(table[0]) ? table[code] : EX_PROTOCOL;
}

static int socket_path(struct cli *cli, char *out, size_t len)
{
	struct config config;
	char why[512];
	int rc;

	if (cli->socket_path) {
		snprintf(out, len, "%s", cli->socket_path);
		return 0;
	}
	rc = config_load(&config, cli->config_path, why, sizeof(why));
	if (rc == -ENOENT) {
		config_defaults(&config);
	} else if (rc) {
		complain("%s", why);
		return EX_CONFIG;
	}
	return config_run_path(&config, "control.sock", out, len) ? EX_CONFIG : 0;
}

struct client *client_open(struct cli *cli, int *code)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct client *c;
	char path[sizeof(address.sun_path)];

	*code = socket_path(cli, path, sizeof(path));
	if (*code)
		return NULL;
	strcpy(address.sun_path, path);
	c = calloc(1, sizeof(*c));
	if (!c) {
		*code = EX_OSERR;
		return NULL;
	}
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof(address))) {
		if (errno == EACCES)
			complain("%s: permission denied: this needs root", path);
		else
			complain("understudyd does not answer on %s: %s (systemctl status "
				 "understudyd)",
				 path, strerror(errno));
		*code = errno == EACCES ? EX_NOPERM : EX_UNAVAILABLE;
		client_close(c);
		return NULL;
	}
	return c;
}

void client_close(struct client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	buf_free(&c->in);
	free(c);
}

int client_send(struct client *c, const Understudy__ControlRequest *r)
{
	struct buf out = {0};
	size_t at = 0;
	int rc = frame_add(control_kinds, CONTROL_REQUEST, &r->base, &out);

	while (!rc && at < out.len) {
		ssize_t n = send(c->fd, out.data + at, out.len - at, MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR)
			rc = -errno;
		else if (n > 0)
			at += (size_t)n;
	}
	buf_free(&out);
	return rc;
}

Understudy__ControlReply *client_receive(struct client *c, int limit_ms)
{
	struct pollfd p = {.fd = c->fd, .events = POLLIN};
	uint64_t end_us = clock_us() + (uint64_t)limit_ms * 1000;
	char why[160];

	for (;;) {
		struct frame f;
		int used = frame_parse(control_kinds, CONTROL_TYPES, c->in.data, c->in.len, &f, why,
				       sizeof(why));
		int64_t left_ms = limit_ms ? ((int64_t)end_us - (int64_t)clock_us()) / 1000 : -1;
		ssize_t n;

		if (used < 0 || (used > 0 && f.type != CONTROL_REPLY)) {
			complain("not understood: %s", used < 0 ? why : "a request");
			return NULL;
		}
		if (used > 0) {
			c->in.len -= (size_t)used;
			memmove(c->in.data, c->in.data + used, c->in.len);
			return (Understudy__ControlReply *)f.message;
		}
		if ((limit_ms && left_ms <= 0) || poll(&p, 1, (int)left_ms) == 0)
			return NULL;
		if (buf_reserve(&c->in, 65536))
			return NULL;
		n = recv(c->fd, c->in.data + c->in.len, 65536, MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return NULL;
		if (n > 0)
			c->in.len += (size_t)n;
	}
}

Understudy__ControlReply *client_ask(struct cli *cli, const Understudy__ControlRequest *r,
				     int *code)
{
	struct client *c = client_open(cli, code);
	Understudy__ControlReply *reply = NULL;

	if (!c)
		return NULL;
	if (!client_send(c, r))
		reply = client_receive(c, REPLY_MAX_MS);
	client_close(c);
	if (!reply) {
		complain("understudyd closed the connection without an answer");
		*code = EX_UNAVAILABLE;
		return NULL;
	}
	*code = code_to_exit(reply->code);
	if (*code) {
		complain("%s", reply->error);
		understudy__control_reply__free_unpacked(reply, NULL);
		return NULL;
	}
	return reply;
}

Understudy__ControlReply *client_status(struct cli *cli, const char *name, int *code)
{
	Understudy__ControlRequest r = UNDERSTUDY__CONTROL_REQUEST__INIT;
	Understudy__ControlStatus status = UNDERSTUDY__CONTROL_STATUS__INIT;

	if (name)
		status.name = (char *)name;
	r.request_case = UNDERSTUDY__CONTROL_REQUEST__REQUEST_STATUS;
	r.status = &status;
	return client_ask(cli, &r, code);
}
