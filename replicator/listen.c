/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/listen.h"
#include "common/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 16 };

int address_make(const char *text, uint32_t port, struct sockaddr_storage *out)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)out;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;

	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)port);
		return sizeof(*v4);
	}
	if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)port);
		return sizeof(*v6);
	}
	return -EINVAL;
}

/* Every address as an IPv6 one. */
static bool address_v6(const struct sockaddr *a, struct in6_addr *out)
{
	if (a->sa_family == AF_INET6) {
		*out = ((const struct sockaddr_in6 *)a)->sin6_addr;
		return true;
	}
	if (a->sa_family != AF_INET)
		return false;
	memset(out, 0, sizeof(*out));
	out->s6_addr[10] = out->s6_addr[11] = 0xff;
	memcpy(out->s6_addr + 12, &((const struct sockaddr_in *)a)->sin_addr, 4);
	return true;
}

bool address_is(const struct sockaddr *from, const char *text)
{
	struct sockaddr_storage s;
	struct in6_addr a, b;

	return address_make(text, 0, &s) > 0 && address_v6(from, &a) &&
	       address_v6((struct sockaddr *)&s, &b) && !memcmp(&a, &b, sizeof(a));
}

int listener_new(struct event_base *base, const char *address, uint32_t port,
		 evconnlistener_cb accepted, void *arg, struct evconnlistener **out)
{
	struct sockaddr_storage at;
	int len = address_make(address, port, &at);
	int on = 1, off = 0;
	int fd, rc;

	if (len < 0)
		return len;
	fd = socket(at.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 && errno == EAFNOSUPPORT && !strcmp(address, "::")) {
		len = address_make("0.0.0.0", port, &at);
		fd = socket(at.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	}
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (at.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, (struct sockaddr *)&at, (socklen_t)len) || listen(fd, BACKLOG)) {
		rc = -errno;
		log_err(NULL, "%s port %u: %s", address, port, strerror(errno));
		close(fd);
		return rc;
	}
	*out = evconnlistener_new(base, accepted, arg,
				  LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
	if (*out)
		return 0;
	close(fd);
	return -ENOMEM;
}
