/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pvdrivers/devices.h"
#include "common/log.h"
#include "pvdrivers/xenbus.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct devices {
	struct devices_config config;
	struct xenbus_watch *watch, *released;
	struct event *timer;
	bool frozen, missed;
	bool seen_alive; /* the domain has been introduced to xenstored */
};

/* The number in a directory's name. False: none, or a greater one than can be. */
static bool number_of(const struct devices *ds, const char *name, uint32_t *devid)
{
	unsigned long n;
	char *end;

	n = strtoul(name, &end, 10);
	if (*end || end == name || n > ds->config.devid_max)
		return false;
	*devid = (uint32_t)n;
	return true;
}

static bool is_listed(char **names, unsigned int nr, uint32_t devid)
{
	char name[12];

	snprintf(name, sizeof(name), "%u", devid);
	for (unsigned int i = 0; i < nr; i++)
		if (!strcmp(names[i], name))
			return true;
	return false;
}

static bool is_open(const struct devices *ds, uint32_t devid)
{
	const struct devices_config *c = &ds->config;
	uint32_t found;

	for (unsigned int place = 0; place < c->places; place++)
		if (c->ops->at(c->arg, place, &found) && found == devid)
			return true;
	return false;
}

static void open_new(struct devices *ds, char **names, unsigned int nr)
{
	const struct devices_config *c = &ds->config;
	uint32_t devid;

	for (unsigned int i = 0; i < nr; i++)
		if (number_of(ds, names[i], &devid) && !is_open(ds, devid) && !c->ops->open(c->arg, devid))
			log_err(c->guest, "%s %u: a guest may have %u", c->kind, devid, c->places);
}

static void for_each(struct devices *ds, void (*fn)(void *arg, unsigned int place))
{
	const struct devices_config *c = &ds->config;
	uint32_t devid;

	for (unsigned int place = 0; place < c->places; place++)
		if (c->ops->at(c->arg, place, &devid))
			fn(c->arg, place);
}

static void forget_gone(struct devices *ds, char **names, unsigned int nr)
{
	const struct devices_config *c = &ds->config;
	uint32_t devid;

	for (unsigned int place = 0; place < c->places; place++)
		if (c->ops->at(c->arg, place, &devid) && !is_listed(names, nr, devid))
			c->ops->forget(c->arg, place);
}

void devices_look(struct devices *ds)
{
	const struct devices_config *c = &ds->config;
	bool alive = xenbus_domain_alive(c->xenbus, c->domid);
	unsigned int nr;
	char **names;

	if (ds->seen_alive && !alive)
		for_each(ds, c->ops->end);
	ds->seen_alive |= alive;
	names = xenbus_list(c->xenbus, &nr, "/local/domain/0/backend/%s/%u", c->kind, c->domid);
	if (!names)
		nr = 0;
	forget_gone(ds, names, nr);
	if (alive || !ds->seen_alive)
		open_new(ds, names, nr);
	free(names);
	for_each(ds, c->ops->look);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct devices *ds = arg;

	if (ds->frozen)
		ds->missed = true;
	else
		devices_look(ds);
}

void devices_look_soon(void *arg)
{
	static const struct timeval now;

	devices_look_in(arg, &now);
}

void devices_look_in(struct devices *ds, const struct timeval *delay)
{
	evtimer_add(ds->timer, delay);
}

void devices_freeze(struct devices *ds, bool frozen)
{
	ds->frozen = frozen;
	if (frozen)
		return;
	if (ds->missed)
		devices_look_soon(ds);
	ds->missed = false;
}

int devices_new(const struct devices_config *config, struct devices **out)
{
	struct devices *ds = calloc(1, sizeof(*ds));
	int rc;

	if (!ds)
		return -ENOMEM;
	ds->config = *config;
	ds->timer = evtimer_new(config->base, on_timer, ds);
	rc = ds->timer ? 0 : -ENOMEM;
	rc = rc ?: xenbus_watch(config->xenbus, devices_look_soon, ds, &ds->released, "@releaseDomain");
	/* The hotplug script's nodes are below as well. */
	rc = rc ?: xenbus_watch(config->xenbus, devices_look_soon, ds, &ds->watch, "/local/domain/0/backend/%s/%u", config->kind,
				config->domid);
	if (rc) {
		devices_free(ds);
		return rc;
	}
	*out = ds;
	return 0;
}

void devices_free(struct devices *ds)
{
	if (!ds)
		return;
	xenbus_unwatch(ds->watch);
	xenbus_unwatch(ds->released);
	if (ds->timer)
		event_free(ds->timer);
	free(ds);
}
