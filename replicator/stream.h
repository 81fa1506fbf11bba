/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The stream port: reads who a connection is for (without taking a byte from it) and hands it on.
 */
#ifndef REPLICATOR_STREAM_H
#define REPLICATOR_STREAM_H

#include "checkpoint/record.h"

struct config;
struct event_base;
struct stream;

/* `fd` is the callee's to close. */
typedef void stream_arrived(void *arg, const struct stream_hello *hello, int fd);

int stream_new(struct event_base *base, const struct config *config, stream_arrived *arrived,
	       void *arg, struct stream **out);
void stream_free(struct stream *s);

#endif
