/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host's watchdog (/dev/watchdog: Xen's by xen_wdt, or the kernel's softdog), which resets a host whose daemon does not turn any more, or
 * cannot say that what it is responsible for is safe.
 */
#ifndef REPLICATOR_WATCHDOG_H
#define REPLICATOR_WATCHDOG_H

struct daemon;
struct watchdog;

/* Arms the configured device; without one *out is NULL. A device that cannot be armed is an alarm, and *out is NULL as well. 0 or -ENOMEM. */
int watchdog_new(struct daemon *d, struct watchdog **out);

/* Disarms: an orderly end leaves nobody who feeds it. A daemon that dies leaves it armed, and its successor feeds it. */
void watchdog_free(struct watchdog *w);

#endif
