/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numeric addresses and listening sockets. */
#ifndef REPLICATOR_LISTEN_H
#define REPLICATOR_LISTEN_H

#include <event2/listener.h>
#include <stdbool.h>
#include <stdint.h>

struct sockaddr;
struct sockaddr_storage;

/* Returns the length of the address, or -EINVAL. */
int address_make(const char *text, uint32_t port, struct sockaddr_storage *out);

/* Is `from` the address `text` (an IPv4 address mapped into IPv6 counts as itself)? An empty text
 * is nobody's. */
bool address_is(const struct sockaddr *from, const char *text);

/* Listens on `address` ("::" is IPv4, too). 0 or -errno. */
int listener_new(struct event_base *base, const char *address, uint32_t port,
		 evconnlistener_cb accepted, void *arg, struct evconnlistener **out);

#endif
