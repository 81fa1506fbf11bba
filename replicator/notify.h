/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sd_notify(3)'s protocol without its library. */
#ifndef REPLICATOR_NOTIFY_H
#define REPLICATOR_NOTIFY_H

#include <stdint.h>

/* Sends `state` to the service manager, if there is one: "READY=1", "WATCHDOG=1". */
void notify_send(const char *state);

/* How often WATCHDOG=1 is expected, halved; 0: never. */
uint64_t notify_watchdog_us(void);

#endif
