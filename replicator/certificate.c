/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/certificate.h"
#include "replicator/config.h"
#include "replicator/events.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>

enum { LOOK_EVERY_S = 60 * 60, ALARM_EVERY_LOOKS = 24, SECONDS_PER_DAY = 24 * 60 * 60 };

struct certificate {
	const struct config *config;
	struct events *events;
	struct event *timer;
	int64_t seconds_left; /* when it was last looked at, as is `why` */
	char why[TLS_WHY_BYTES];
	unsigned int quiet_looks; /* to go before the next alarm */
};

static void say(struct certificate *c)
{
	char text[EVENT_TEXT_MAX];

	if (c->quiet_looks) {
		c->quiet_looks--;
		return;
	}
	c->quiet_looks = ALARM_EVERY_LOOKS - 1;
	if (c->why[0])
		snprintf(text, sizeof(text), "%.150s", c->why);
	else if (c->seconds_left < 0)
		snprintf(text, sizeof(text), "this host's certificate has run out: understudy pair init, or join");
	else
		snprintf(text, sizeof(text), "this host's certificate runs out in %lld days: understudy pair init, or join",
			 (long long)(c->seconds_left / SECONDS_PER_DAY));
	events_add(c->events, NULL, "alarm", text, "");
}

static void look(evutil_socket_t fd, short what, void *arg)
{
	struct certificate *c = arg;
	struct tls_files files = config_tls(c->config);

	c->why[0] = '\0';
	if (tls_seconds_left(&files, &c->seconds_left, c->why))
		c->seconds_left = -1;
	if (c->seconds_left < CERTIFICATE_ALARM_DAYS * SECONDS_PER_DAY)
		say(c);
	else
		c->quiet_looks = 0;
}

int certificate_new(struct event_base *base, const struct config *config, struct events *events, struct certificate **out)
{
	static const struct timeval every = {.tv_sec = LOOK_EVERY_S};
	struct tls_files files = config_tls(config);
	struct certificate *c;

	*out = NULL;
	if (!tls_wanted(&files))
		return 0;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->config = config;
	c->events = events;
	c->timer = event_new(base, -1, EV_PERSIST, look, c);
	if (!c->timer || event_add(c->timer, &every)) {
		certificate_free(c);
		return -ENOMEM;
	}
	look(-1, 0, c);
	*out = c;
	return 0;
}

void certificate_free(struct certificate *c)
{
	if (!c)
		return;
	if (c->timer)
		event_free(c->timer);
	free(c);
}

int32_t certificate_days_left(const struct certificate *c)
{
	if (!c)
		return INT32_MAX;
	return c->seconds_left < 0 ? -1 : (int32_t)(c->seconds_left / SECONDS_PER_DAY);
}
