/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/dial.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int wait_connected(int fd, int timeout_ms)
{
	struct pollfd pfd = {.fd = fd, .events = POLLOUT};
	socklen_t len = sizeof(int);
	int error, r;

	r = poll(&pfd, 1, timeout_ms);
	if (r < 0)
		return -errno;
	if (!r)
		return -ETIMEDOUT;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len))
		return -errno;
	return -error;
}

int dial(const char *address, uint16_t port, int timeout_ms)
{
	struct addrinfo hints = {
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
		.ai_socktype = SOCK_STREAM,
	};
	struct addrinfo *ai;
	char service[8];
	int fd, rc;

	snprintf(service, sizeof(service), "%u", port);
	if (getaddrinfo(address, service, &hints, &ai))
		return -EADDRNOTAVAIL;

	fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		rc = -errno;
		goto out;
	}
	rc = connect(fd, ai->ai_addr, ai->ai_addrlen) ? -errno : 0;
	if (rc == -EINPROGRESS)
		rc = wait_connected(fd, timeout_ms);
	if (rc)
		close(fd);
	else
		rc = fd;
out:
	freeaddrinfo(ai);
	return rc;
}
