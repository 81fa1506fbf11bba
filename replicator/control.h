/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The control socket: what the `understudy` command asks. */
#ifndef REPLICATOR_CONTROL_H
#define REPLICATOR_CONTROL_H

struct control;
struct daemon;
struct event_record;

int control_new(struct daemon *d, struct control **out);
void control_free(struct control *c);

/* A new event: to everybody who follows. */
void control_event(struct control *c, const struct event_record *r);

#endif
