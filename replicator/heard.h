/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When a guest's epoch stream was last heard: the kernel's word on the sockets that were handed to the worker, by duplicates kept here. */
#ifndef REPLICATOR_HEARD_H
#define REPLICATOR_HEARD_H

#include "checkpoint/record.h"

#include <stdbool.h>

struct heard {
	int fd[STREAM_LANES_MAX]; /* -1: none */
	uint64_t at_us;		  /* of sockets that are gone, or as told otherwise; 0: never */
};

void heard_init(struct heard *h);

/* A stream's socket, which is this module's from now on. Lane 0 begins a new stream. */
void heard_add(struct heard *h, unsigned int lane, int fd);

/* Whether there are sockets to ask. */
bool heard_live(const struct heard *h);

/* clock_us() of the last byte on any of them; 0: never. */
uint64_t heard_us(const struct heard *h);

/* Notes a time that came from elsewhere, unless a later one is known. */
void heard_note(struct heard *h, uint64_t at_us);

/* The sockets here only: the worker keeps its own. */
void heard_free(struct heard *h);

/* Ends the connections, also for the worker that has them; what was heard is remembered. */
void heard_close(struct heard *h);

#endif
