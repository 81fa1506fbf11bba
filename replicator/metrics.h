/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What `understudy status` shows, as OpenMetrics over HTTP: GET /metrics on a loopback address. See understudy.conf(5), [metrics]. */
#ifndef REPLICATOR_METRICS_H
#define REPLICATOR_METRICS_H

struct daemon;
struct metrics;

/* Without a port in the configuration *out is NULL. An address that cannot be had is an alarm, and *out is NULL as well. 0 or -ENOMEM. */
int metrics_new(struct daemon *d, struct metrics **out);
void metrics_free(struct metrics *m);

#endif
