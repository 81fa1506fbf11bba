/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pvdrivers/xenbus.h"
#include "common/log.h"

#include <errno.h>
#include <event2/event.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>
#include <xenstore.h>

enum { TRANSACTION_TRIES_MAX = 100, TOKEN_MAX = 24 };

static const char DOMAIN0[] = "/local/domain/0/";

struct xenbus_watch {
	struct xenbus_watch *next;
	struct xenbus *xenbus;
	void (*fn)(void *arg);
	void *arg;
	char token[TOKEN_MAX];
	char path[XENBUS_PATH_MAX];
};

struct xenbus {
	struct xs_handle *xs;
	struct event *event;
	struct xenbus_watch *watches;
	uint64_t next_token;
};

#define FORMAT_PATH(path, fmt)                                                                     \
	do {                                                                                       \
		va_list ap__;                                                                      \
                                                                                                   \
		va_start(ap__, fmt);                                                               \
		vsnprintf(path, sizeof(path), fmt, ap__);                                          \
		va_end(ap__);                                                                      \
	} while (0)

/* Watches may come and go while one is being served, so each event looks its token up. */
static void dispatch(evutil_socket_t fd, short what, void *arg)
{
	struct xenbus *xb = arg;
	char **event;

	while ((event = xs_check_watch(xb->xs))) {
		struct xenbus_watch *w;

		LL_FOREACH (xb->watches, w) {
			if (!strcmp(w->token, event[XS_WATCH_TOKEN]))
				break;
		}
		if (w)
			w->fn(w->arg);
		free(event);
	}
	if (errno != EAGAIN)
		log_err(NULL, "xenstore watches: %s", strerror(errno));
}

int xenbus_open(struct event_base *base, struct xenbus **out)
{
	struct xenbus *xb;
	int rc;

	xb = calloc(1, sizeof(*xb));
	if (!xb)
		return -ENOMEM;
	xb->xs = xs_open(0);
	if (!xb->xs) {
		rc = -errno;
		goto fail;
	}
	xb->event = event_new(base, xs_fileno(xb->xs), EV_READ | EV_PERSIST, dispatch, xb);
	if (!xb->event || event_add(xb->event, NULL)) {
		rc = -ENOMEM;
		goto fail;
	}
	*out = xb;
	return 0;

fail:
	xenbus_close(xb);
	return rc;
}

void xenbus_close(struct xenbus *xb)
{
	if (!xb)
		return;
	while (xb->watches)
		xenbus_unwatch(xb->watches);
	if (xb->event)
		event_free(xb->event);
	if (xb->xs)
		xs_close(xb->xs);
	free(xb);
}

static char *read_node(struct xenbus *xb, const char *path)
{
	unsigned int len;

	return xs_read(xb->xs, XBT_NULL, path, &len);
}

char *xenbus_read(struct xenbus *xb, const char *fmt, ...)
{
	char path[XENBUS_PATH_MAX];

	FORMAT_PATH(path, fmt);
	return read_node(xb, path);
}

static int read_u32(struct xenbus *xb, uint32_t *value, const char *path)
{
	unsigned long long n;
	char *text, *end;
	int rc;

	text = read_node(xb, path);
	if (!text)
		return -errno;
	errno = 0;
	n = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || n > UINT32_MAX) {
		rc = -EINVAL;
	} else {
		*value = (uint32_t)n;
		rc = 0;
	}
	free(text);
	return rc;
}

int xenbus_read_u32(struct xenbus *xb, uint32_t *value, const char *fmt, ...)
{
	char path[XENBUS_PATH_MAX];

	FORMAT_PATH(path, fmt);
	return read_u32(xb, value, path);
}

uint32_t xenbus_read_default(struct xenbus *xb, uint32_t otherwise, const char *fmt, ...)
{
	char path[XENBUS_PATH_MAX];
	uint32_t value;

	FORMAT_PATH(path, fmt);
	return read_u32(xb, &value, path) ? otherwise : value;
}

static int write_node(struct xenbus *xb, xs_transaction_t t, const char *path, const char *value)
{
	return xs_write(xb->xs, t, path, value, (unsigned int)strlen(value)) ? 0 : -errno;
}

int xenbus_write(struct xenbus *xb, const char *value, const char *fmt, ...)
{
	char path[XENBUS_PATH_MAX];

	FORMAT_PATH(path, fmt);
	return write_node(xb, XBT_NULL, path, value);
}

int xenbus_remove(struct xenbus *xb, const char *fmt, ...)
{
	char path[XENBUS_PATH_MAX];

	FORMAT_PATH(path, fmt);
	return xs_rm(xb->xs, XBT_NULL, path) ? 0 : -errno;
}

bool xenbus_exists(struct xenbus *xb, const char *fmt, ...)
{
	char path[XENBUS_PATH_MAX], *text;

	FORMAT_PATH(path, fmt);
	text = read_node(xb, path);
	free(text);
	return text != NULL;
}

char **xenbus_list(struct xenbus *xb, unsigned int *nr, const char *fmt, ...)
{
	char path[XENBUS_PATH_MAX], **names;

	FORMAT_PATH(path, fmt);
	*nr = 0;
	names = xs_directory(xb->xs, XBT_NULL, path, nr);
	return names;
}

enum xenbus_state xenbus_state(struct xenbus *xb, const char *device)
{
	uint32_t state = xenbus_read_default(xb, XenbusStateUnknown, "%s/state", device);

	return state <= XenbusStateReconfigured ? (enum xenbus_state)state : XenbusStateUnknown;
}

const char *xenbus_state_name(enum xenbus_state state)
{
	static const char *const names[] = {
		[XenbusStateUnknown] = "unknown",
		[XenbusStateInitialising] = "initialising",
		[XenbusStateInitWait] = "waiting",
		[XenbusStateInitialised] = "initialised",
		[XenbusStateConnected] = "connected",
		[XenbusStateClosing] = "closing",
		[XenbusStateClosed] = "closed",
		[XenbusStateReconfiguring] = "reconfiguring",
		[XenbusStateReconfigured] = "reconfigured",
	};

	return (size_t)state < sizeof(names) / sizeof(names[0]) ? names[state] : "?";
}

/* One try: 0, -EAGAIN (somebody was faster) or another error. */
static int try_set_state(struct xenbus *xb, const char *path, const char *value)
{
	xs_transaction_t t;
	unsigned int len;
	char *old;
	int rc;

	t = xs_transaction_start(xb->xs);
	if (t == XBT_NULL)
		return -errno;
	old = xs_read(xb->xs, t, path, &len);
	if (!old)
		rc = -errno;
	else if (!strcmp(old, value))
		rc = 0;
	else
		rc = write_node(xb, t, path, value);
	free(old);
	if (!xs_transaction_end(xb->xs, t, rc != 0) && !rc)
		rc = -errno;
	return rc;
}

int xenbus_set_state(struct xenbus *xb, const char *device, enum xenbus_state state)
{
	char path[XENBUS_PATH_MAX], value[4];
	int rc = -EAGAIN;

	snprintf(path, sizeof(path), "%s/state", device);
	snprintf(value, sizeof(value), "%d", state);
	for (int i = 0; i < TRANSACTION_TRIES_MAX && rc == -EAGAIN; i++)
		rc = try_set_state(xb, path, value);
	return rc;
}

/* The part of a device's path that error nodes use: /local/domain/0/X is X. NULL: not a device of
 * domain 0. */
static const char *device_name(const char *device)
{
	size_t len = sizeof(DOMAIN0) - 1;

	return strncmp(device, DOMAIN0, len) ? NULL : device + len;
}

int xenbus_set_error(struct xenbus *xb, const char *device, int error, const char *text)
{
	const char *name = device_name(device);
	char value[256];

	if (!name)
		return -EINVAL;
	snprintf(value, sizeof(value), "%d %s", error, text);
	return xenbus_write(xb, value, "%serror/%s/error", DOMAIN0, name);
}

void xenbus_clear_error(struct xenbus *xb, const char *device)
{
	const char *name = device_name(device);

	if (name && xenbus_exists(xb, "%serror/%s", DOMAIN0, name))
		xenbus_remove(xb, "%serror/%s", DOMAIN0, name);
}

bool xenbus_domain_alive(struct xenbus *xb, uint32_t domid)
{
	return xs_is_domain_introduced(xb->xs, domid);
}

int xenbus_watch(struct xenbus *xb, void (*fn)(void *arg), void *arg, struct xenbus_watch **out,
		 const char *fmt, ...)
{
	struct xenbus_watch *w;

	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	FORMAT_PATH(w->path, fmt);
	snprintf(w->token, sizeof(w->token), "%llu", (unsigned long long)++xb->next_token);
	w->xenbus = xb;
	w->fn = fn;
	w->arg = arg;
	if (!xs_watch(xb->xs, w->path, w->token)) {
		int rc = -errno;

		free(w);
		return rc;
	}
	LL_PREPEND(xb->watches, w);
	*out = w;
	return 0;
}

void xenbus_unwatch(struct xenbus_watch *w)
{
	if (!w)
		return;
	xs_unwatch(w->xenbus->xs, w->path, w->token);
	LL_DELETE(w->xenbus->watches, w);
	free(w);
}
