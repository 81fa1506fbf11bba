/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The daemon's side of its workers: starts them, finds those that outlived a daemon, talks to them,
 * restarts those that die or hang. Knows nothing of guests' states: that is the caller's.
 */
#ifndef REPLICATOR_WORKERS_H
#define REPLICATOR_WORKERS_H

#include "checkpoint/worker.pb-c.h"

#include <stdbool.h>
#include <stdint.h>

struct config;
struct children;
struct event_base;
struct workers;

enum { WORKER_KIND_MAX = 16, WORKER_NAME_MAX = 64 };

/* What is known of one worker; read only. */
struct worker_view {
	uint32_t domid;
	Understudy__WorkerRole role; /* as wanted; hello_role is what it says */
	bool ready;		     /* connected, hello received */
	bool hang_strict; /* may be set: silence is judged sooner, the guest hangs on it */
	/* of the hello */
	Understudy__WorkerRole hello_role;
	Understudy__WorkerState state; /* kept up to date by stats */
	uint8_t uuid[16];
	char name[WORKER_NAME_MAX], kind[WORKER_KIND_MAX];
	uint64_t term, epoch, memory_bytes;
	uint32_t vcpus, vifs, disks, passthrough_devices;
	int32_t pid;
	bool unpaused_at_start;
	/* of the last stats */
	bool has_stats;
	uint64_t stats_at_us;	       /* clock_us() when they came */
	Understudy__WorkerStats stats; /* scalars only */
};

struct workers_ops {
	void (*hello)(void *arg, struct worker_view *w);
	void (*event)(void *arg, struct worker_view *w, const Understudy__WorkerEvent *event);
	/* It died, hung or left; a successor is started when may_start says so. */
	void (*gone)(void *arg, struct worker_view *w, const char *cause);
	/* Asked before every start; on false ask again with workers_kick(). */
	bool (*may_start)(void *arg, uint32_t domid);
};

int workers_new(struct event_base *base, struct children *children, const struct config *config,
		const struct workers_ops *ops, void *arg, struct workers **out);
void workers_free(struct workers *ws); /* the workers themselves go on */

/* Connects to every worker whose socket is in the run directory; removes sockets nobody listens on.
 */
void workers_adopt(struct workers *ws);

/* There shall be a worker for `domid` in `role`. Cheap to repeat. */
void workers_want(struct workers *ws, uint32_t domid, Understudy__WorkerRole role);

/* No longer: it is told to quit and forgotten. `gone` is not called. */
void workers_release(struct workers *ws, uint32_t domid);

/* Starts now what waits for may_start or its back-off. */
void workers_kick(struct workers *ws, uint32_t domid);

/* SIGKILL: it hangs. `gone` follows. */
void workers_kill(struct workers *ws, uint32_t domid);

struct worker_view *workers_find(struct workers *ws, uint32_t domid);
void workers_each(struct workers *ws, void (*fn)(void *arg, struct worker_view *w), void *arg);

/* 0, -ENOTCONN, -errno. `fd` (or -1) travels along and stays the caller's. */
int workers_send(struct workers *ws, uint32_t domid, const Understudy__WorkerCommand *command,
		 int fd);

#endif
