/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The state of things as control messages. */
#ifndef REPLICATOR_STATUS_H
#define REPLICATOR_STATUS_H

#include "replicator/control.pb-c.h"

struct daemon;
struct guest;

/* Strings in them belong to the daemon: free only with these, before anything else happens. NULL:
 * no memory. */
Understudy__HostStatus *status_host(struct daemon *d);
void status_host_free(Understudy__HostStatus *h);
Understudy__GuestStatus *status_guest(struct guest *g);
void status_guest_free(Understudy__GuestStatus *s);

#endif
