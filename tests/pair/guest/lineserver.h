/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A TCP server of text lines for the guest's test programs: IPv4 and IPv6, one thread per client.
 */
#ifndef LINESERVER_H
#define LINESERVER_H

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LINE_BYTES = 1024 };

struct line_client;

/* Called for every line, without its end of line, from the client's own thread. */
typedef void (*line_handler)(void *context, const char *line, struct line_client *client);

struct line_client {
	int fd;
	line_handler handler;
	void *context;
};

/* Sends all of `size` bytes; a client that is gone is noticed by the next read. */
static inline void line_send(struct line_client *client, const char *data, size_t size)
{
	while (size > 0) {
		ssize_t r = send(client->fd, data, size, MSG_NOSIGNAL);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return;
		data += r;
		size -= (size_t)r;
	}
}

static void *line_client_run(void *arg)
{
	struct line_client *client = arg;
	FILE *in = fdopen(client->fd, "r");
	char line[LINE_BYTES];

	while (in && fgets(line, sizeof(line), in)) {
		line[strcspn(line, "\r\n")] = '\0';
		client->handler(client->context, line, client);
	}
	if (in)
		fclose(in);
	else
		close(client->fd);
	free(client);
	return NULL;
}

/* Serves `port` for good; returns an exit status when it cannot. */
static inline int line_serve(int port, line_handler handler, void *context)
{
	struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
	int on = 1, off = 0, listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) ||
	    bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 64)) {
		perror("lineserver");
		return 1;
	}
	for (;;) {
		struct line_client *client;
		pthread_t thread;
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			continue;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		client = malloc(sizeof(*client));
		if (client)
			*client = (struct line_client){fd, handler, context};
		if (!client || pthread_create(&thread, NULL, line_client_run, client)) {
			free(client);
			close(fd);
			continue;
		}
		pthread_detach(thread);
	}
}

#endif
