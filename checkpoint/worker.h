/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The worker: one process per guest. It owns the guest's devices, and while the guest is protected its epochs
 * (primary.c), or the shell on the other host (backup.c). One thread, one event loop; encoding and sending happen beside it.
 */
#ifndef CHECKPOINT_WORKER_H
#define CHECKPOINT_WORKER_H

#include "checkpoint/worker.pb-c.h"
#include "checkpoint/pausemark.h"
#include "netbuf/netbuf.h"
#include "pvdrivers/block/block.h"
#include "pvdrivers/net/netback.h"
#include "vmm/domain.h"

#include <event2/event.h>

struct xs_handle;
struct link;
struct primary;
struct backup;

enum {
	WORKER_STATS_MS = 1000,
	WORKER_NETBUF_BYTES = 64 << 20,
};

struct worker {
	struct event_base *base;
	uint32_t domid;
	char name[64];
	struct domain_info info;	/* as of the start; the uuid does not change */
	Understudy__WorkerRole role;
	Understudy__WorkerState state;
	uint64_t term, epoch;

	struct domain *domain;		/* may be in use by a job's thread: see primary.c, backup.c */
	struct domain *observer;	/* a second handle, always the loop's: is it still there? */
	struct xs_handle *xs;		/* of the worker's own watches and of the store participant */
	bool store_changed;		/* something below the guest's home changed since the store participant looked */
	struct netbuf *netbuf;
	struct netback *netback;
	struct block *block;
	struct pausemark *mark;
	char mark_path[108], block_mark_path[108];
	bool unpaused_at_start;
	uint64_t target_kib;		/* memory/target as it was last seen */

	struct link *link;
	struct event *xs_event, *stats_event;
	struct primary *primary;	/* while protected or becoming so */
	struct backup *backup;		/* role backup */
	struct backup *former;		/* what it was before an activation: see backup_settle() */
	bool keep_devices;
};

struct worker_options {
	uint32_t domid;
	const char *socket_path;
	Understudy__WorkerRole role;
};

int worker_new(const struct worker_options *options, struct worker **out);
void worker_free(struct worker *w);

/* The one place that changes a worker's state: logs old, new and cause, tells the daemon. */
void worker_set_state(struct worker *w, Understudy__WorkerState state, const char *cause);

void worker_send_failed(struct worker *w, const char *command, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void worker_send_alarm(struct worker *w, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void worker_send_stats(struct worker *w);

/* Sends one event: worker_send(w, STATS, stats, &message). */
#define worker_send(w, CASE, field, message)                                                       \
	do {                                                                                       \
		Understudy__WorkerEvent ev_ = UNDERSTUDY__WORKER_EVENT__INIT;                      \
                                                                                                   \
		ev_.event_case = UNDERSTUDY__WORKER_EVENT__EVENT_##CASE;                           \
		ev_.field = (message);                                                             \
		link_send((w)->link, &ev_);                                                        \
	} while (0)

/* Leaves the loop. keep_devices: a successor will attach to the live rings. */
void worker_quit(struct worker *w, bool keep_devices);

/* The guest stands still / runs, remembered in the pause mark. */
int worker_pause(struct worker *w, enum pausemark_state mark);
int worker_unpause(struct worker *w);

#endif
