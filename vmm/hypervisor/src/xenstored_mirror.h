/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Control commands that copy a domain's watches to another host behind the domain's back: docs/hypervisor.md. */
#ifndef _XENSTORED_MIRROR_H
#define _XENSTORED_MIRROR_H

struct connection;

/* watches <domid> [<first>] */
int do_control_watches(const void *ctx, struct connection *conn, char **vec, int num);

/* watch-add <domid> (<path> <token>)... */
int do_control_watch_add(const void *ctx, struct connection *conn, char **vec, int num);

#endif
