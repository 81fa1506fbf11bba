/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Event channels of one process on its libevent base. */
#ifndef PVDRIVERS_EVTCHN_H
#define PVDRIVERS_EVTCHN_H

#include <stdint.h>

struct event_base;
struct evtchn;	    /* the connection to the driver */
struct evtchn_port; /* our end of one channel */

int evtchn_open(struct event_base *base, struct evtchn **out);
void evtchn_close(struct evtchn *e); /* every port has been unbound */

/* Binds to the guest's unbound port; `fn` runs on the base whenever the guest sends. 0 or -errno.
 */
int evtchn_bind(struct evtchn *e, uint32_t domid, uint32_t remote_port, void (*fn)(void *arg),
		void *arg, struct evtchn_port **out);
void evtchn_unbind(struct evtchn_port *p); /* NULL is allowed; also from within a callback */

int evtchn_notify(struct evtchn_port *p);

#endif
