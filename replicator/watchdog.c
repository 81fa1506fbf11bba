/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/watchdog.h"
#include "common/clock.h"
#include "common/log.h"
#include "replicator/events.h"
#include "replicator/guest.h"
#include "replicator/keeper.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <linux/watchdog.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
	FEEDS_PER_LIMIT = 5,
	WORKER_SILENT_MAX_MS = 5000,  /* it says something every second */
	RETIRE_MAX_MS = 60000,
};

struct watchdog {
	struct daemon *d;
	int fd;
	struct event *timer;
	bool hungry; /* it was said that it is not fed any more */
};

/* Its right is over, and nobody has said that its output is held; or it is another host's by now, and does not go. */
static const char *doubt_about(struct guest *g, uint64_t now)
{
	const struct worker_view *w = guest_worker(g);

	if (g->state == GUEST_RETIRING && now - g->since_us > RETIRE_MAX_MS * 1000ull)
		return "it cannot be destroyed, and another host runs it";
	if (fsm_runs_here(g->state) && !keeper_left_us(g) && w && w->has_stats && now - w->stats_at_us > WORKER_SILENT_MAX_MS * 1000ull)
		return "its right to run is over, and its worker does not answer";
	return NULL;
}

static bool in_doubt(struct watchdog *w, uint64_t now)
{
	bool doubt = false;

	for (struct guest *g = w->d->guests; g; g = g->hh.next) {
		const char *what = doubt_about(g, now);

		if (what && !w->hungry)
			events_add(w->d->events, g->tag.name, "alarm", what, "");
		doubt |= what != NULL;
	}
	if (doubt && !w->hungry)
		log_err(NULL, "the watchdog is not fed: it resets this host in %u s", w->d->config.watchdog_s);
	w->hungry = doubt;
	return doubt;
}

static void feed(evutil_socket_t fd, short what, void *arg)
{
	struct watchdog *w = arg;

	if (!in_doubt(w, clock_us()) && write(w->fd, "", 1) != 1)
		log_err(NULL, "the watchdog cannot be fed: %s", strerror(errno));
}

static int arm(struct watchdog *w)
{
	const struct config *c = &w->d->config;
	int seconds = (int)c->watchdog_s;

	w->fd = open(c->watchdog, O_WRONLY | O_CLOEXEC);
	if (w->fd < 0 || ioctl(w->fd, WDIOC_SETTIMEOUT, &seconds))
		return -errno;
	log_info(NULL, "%s resets this host if it is not fed for %d s", c->watchdog, seconds);
	return 0;
}

static int start_feeding(struct watchdog *w)
{
	uint64_t us = w->d->config.watchdog_s * 1000000ull / FEEDS_PER_LIMIT;
	struct timeval every = {.tv_sec = (time_t)(us / 1000000), .tv_usec = (suseconds_t)(us % 1000000)};

	w->timer = event_new(w->d->base, -1, EV_PERSIST, feed, w);
	if (!w->timer || event_add(w->timer, &every))
		return -ENOMEM;
	feed(-1, 0, w);
	return 0;
}

int watchdog_new(struct daemon *d, struct watchdog **out)
{
	char text[EVENT_TEXT_MAX];
	struct watchdog *w;
	int rc;

	*out = NULL;
	if (!d->config.watchdog[0])
		return 0;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->d = d;
	w->fd = -1;
	rc = arm(w);
	if (rc) {
		snprintf(text, sizeof(text), "the watchdog %.90s cannot be armed: %.60s", d->config.watchdog, strerror(-rc));
		events_add(d->events, NULL, "alarm", text, "");
		watchdog_free(w);
		return 0;
	}
	rc = start_feeding(w);
	if (rc)
		watchdog_free(w);
	else
		*out = w;
	return rc;
}

void watchdog_free(struct watchdog *w)
{
	if (!w)
		return;
	if (w->timer)
		event_free(w->timer);
	/* Linux' watchdog-api: this letter before the end means that it is meant. */
	if (w->fd >= 0 && write(w->fd, "V", 1) != 1)
		log_err(NULL, "the watchdog cannot be disarmed: %s", strerror(errno));
	if (w->fd >= 0)
		close(w->fd);
	free(w);
}
