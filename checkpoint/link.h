/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The worker's end of the conversation with its daemon (checkpoint/worker.proto). The worker listens; daemons come and go. */
#ifndef CHECKPOINT_LINK_H
#define CHECKPOINT_LINK_H

#include "checkpoint/worker.pb-c.h"

struct event_base;
struct link;

enum { LINK_PACKET_MAX = 65536 };

struct link_ops {
	void (*connected)(void *arg);
	/* `fd` came with it (the callee owns it) or is -1. */
	void (*command)(void *arg, const Understudy__WorkerCommand *command, int fd);
};

int link_new(struct event_base *base, const char *path, const struct link_ops *ops, void *arg,
	     struct link **out);
void link_free(struct link *l);

/* A daemon that is gone or does not read loses the event: it gets a fresh hello and stats when it is back.
 * A NULL link (the worker is still starting) is a daemon that is gone. */
void link_send(struct link *l, const Understudy__WorkerEvent *event);

#endif
