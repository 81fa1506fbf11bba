/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Looks after [tls]'s certificates: an alarm while there is time, and what `status` says of them. */
#ifndef REPLICATOR_CERTIFICATE_H
#define REPLICATOR_CERTIFICATE_H

#include <stdint.h>

struct certificate;
struct config;
struct event_base;
struct events;

enum { CERTIFICATE_ALARM_DAYS = 30 };

/* Looks at once and every hour; an alarm at most once a day. Without [tls] there is nothing to look after: *out is NULL. 0 or -ENOMEM. */
int certificate_new(struct event_base *base, const struct config *config, struct events *events, struct certificate **out);
void certificate_free(struct certificate *c);

/* As of now, whole days; negative: it has run out, or cannot be read. INT32_MAX: no [tls]. */
int32_t certificate_days_left(const struct certificate *c);

#endif
