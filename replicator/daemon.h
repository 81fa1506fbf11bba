/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of understudyd share: one of it, made by daemon_main.c. */
#ifndef REPLICATOR_DAEMON_H
#define REPLICATOR_DAEMON_H

#include "replicator/config.h"
#include "replicator/host.h"

#include <stdbool.h>
#include <stdint.h>

struct certificate;
struct children;
struct control;
struct domains;
struct event;
struct event_base;
struct events;
struct guest;
struct metrics;
struct peer;
struct stream;
struct untold;
struct watchdog;
struct witness;
struct workers;

struct daemon {
	struct event_base *base;
	struct config config;
	struct host host;
	char guests_dir[CONFIG_PATH_MAX + 16], untold_dir[CONFIG_PATH_MAX + 16];
	struct children *children;
	struct events *events;
	struct domains *domains;
	struct workers *workers;
	struct witness *witness; /* NULL: none */
	struct certificate *certificate; /* NULL: no TLS */
	struct peer *peer;
	struct stream *stream;
	struct control *control;
	struct watchdog *watchdog; /* NULL: none */
	struct metrics *metrics; /* NULL: none */
	struct guest *guests; /* uthash by uuid */
	struct untold *untold;
	struct event *tick;
	uint64_t tick_at_us;
	uint64_t awake_us; /* nothing is called silent on account of time before this: the daemon
			      slept */
	uint64_t illegal_events;
	bool looked;    /* the domains here are known */
	bool same_boot; /* another daemon ran here since the host was started */
};

#endif
