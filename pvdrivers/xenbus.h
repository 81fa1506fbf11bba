/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xenstore as a back end sees it: nodes by printf paths, watches on a libevent base, xenbus states
 * (xen/include/public/io/xenbus.h), the error node. All calls block for one round trip to
 * xenstored.
 */
#ifndef PVDRIVERS_XENBUS_H
#define PVDRIVERS_XENBUS_H

#include <stdbool.h>
#include <stdint.h>
#include <xen/io/xenbus.h>

enum { XENBUS_PATH_MAX = 256 };

struct event_base;
struct xenbus;
struct xenbus_watch;

int xenbus_open(struct event_base *base, struct xenbus **out);
void xenbus_close(struct xenbus *xb);

#define xenbus_printf(at) __attribute__((format(printf, at, at + 1)))

/* The node's text (free()), or NULL with errno. */
char *xenbus_read(struct xenbus *xb, const char *fmt, ...) xenbus_printf(2);

/* An unsigned decimal. -ENOENT: no such node; -EINVAL: not a number. */
int xenbus_read_u32(struct xenbus *xb, uint32_t *value, const char *fmt, ...) xenbus_printf(3);

/* The number, or `otherwise` if there is none that can be read: for optional features. */
uint32_t xenbus_read_default(struct xenbus *xb, uint32_t otherwise, const char *fmt, ...)
	xenbus_printf(3);

int xenbus_write(struct xenbus *xb, const char *value, const char *fmt, ...) xenbus_printf(3);
int xenbus_remove(struct xenbus *xb, const char *fmt, ...) xenbus_printf(2);
bool xenbus_exists(struct xenbus *xb, const char *fmt, ...) xenbus_printf(2);

/* Names of the children (one free() for all), *nr of them. NULL: none. */
char **xenbus_list(struct xenbus *xb, unsigned int *nr, const char *fmt, ...) xenbus_printf(3);

/* State of a device directory. XenbusStateUnknown: the node is gone. */
enum xenbus_state xenbus_state(struct xenbus *xb, const char *device);
const char *xenbus_state_name(enum xenbus_state state);

/* Never brings back a directory that the toolstack has removed: -ENOENT then. */
int xenbus_set_state(struct xenbus *xb, const char *device, enum xenbus_state state);

/* Says in the store what is wrong with a device of domain 0, where `xenstore-ls
 * /local/domain/0/error` shows it; and takes it back. */
int xenbus_set_error(struct xenbus *xb, const char *device, int error, const char *text);
void xenbus_clear_error(struct xenbus *xb, const char *device);

bool xenbus_domain_alive(struct xenbus *xb, uint32_t domid);

/* Calls fn once soon and then after every change at or below the path. */
int xenbus_watch(struct xenbus *xb, void (*fn)(void *arg), void *arg, struct xenbus_watch **out,
		 const char *fmt, ...) xenbus_printf(5);
void xenbus_unwatch(struct xenbus_watch *w);

#endif
