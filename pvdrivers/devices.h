/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The devices of one kind that a domain has, as the toolstack makes and removes them below backend/KIND/DOMID of domain 0: watches
 * xenstore and says what came, changed and went. A back end keeps its devices in numbered places of its own.
 */
#ifndef PVDRIVERS_DEVICES_H
#define PVDRIVERS_DEVICES_H

#include <stdbool.h>
#include <stdint.h>

struct devices;
struct event_base;
struct timeval;
struct xenbus;

struct devices_ops {
	/* Is a device in this place? Then its number. */
	bool (*at)(void *arg, unsigned int place, uint32_t *devid);

	/* A new directory; what goes wrong is said there. False: there is no place for it. */
	bool (*open)(void *arg, uint32_t devid);

	/* Something changed, maybe this device: brings it into accord with xenstore. */
	void (*look)(void *arg, unsigned int place);

	/* The domain is gone; the directory waits for the toolstack. */
	void (*end)(void *arg, unsigned int place);

	/* The directory is gone. */
	void (*forget)(void *arg, unsigned int place);
};

struct devices_config {
	struct event_base *base;
	struct xenbus *xenbus;
	const char *guest; /* for messages; outlives the devices */
	const char *kind;  /* "vif", "vbd"; static */
	uint32_t domid, devid_max;
	unsigned int places;
	const struct devices_ops *ops;
	void *arg;
};

int devices_new(const struct devices_config *config, struct devices **out);
void devices_free(struct devices *ds); /* before its xenbus */

/* Looks at xenstore: now; in the next turn (`arg` is the devices: for watches); after a while. */
void devices_look(struct devices *ds);
void devices_look_soon(void *arg);
void devices_look_in(struct devices *ds, const struct timeval *delay);

/* While the guest stands still nothing is looked at; afterwards, what was missed. */
void devices_freeze(struct devices *ds, bool frozen);

#endif
