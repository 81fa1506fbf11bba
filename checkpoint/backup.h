/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The backup's side: keeps a shell up to date with committed epochs, activates it. */
#ifndef CHECKPOINT_BACKUP_H
#define CHECKPOINT_BACKUP_H

#include "checkpoint/worker.h"

/* Maps the shell's memory (in a thread), then sends WorkerStreamState; streams are taken from then on. */
int backup_new(struct worker *w, struct backup **out);
void backup_free(struct backup *b);

/* Takes the stream in `fd` (owned from here on, also on error). A stream that is connected is closed first. */
int backup_stream(struct backup *b, const Understudy__WorkerStream *s, int fd);

/*
 * Brings the last committed epoch to life and makes this worker a primary one. 0: the guest runs, WorkerActivated was sent, the backup is
 * w->former until its remains are put away. An error: nothing runs; the shell may be tried again (-EAGAIN: the
 * backup's own promise to the primary still binds).
 */
int backup_activate(struct backup *b, const Understudy__WorkerActivate *a);

/* Puts away what an activation left, if anything: xenbus states, traces of the copy in Xen, its mapping, `former`. By itself a moment after the
 * activation, when the guest has answered those who waited; before a protection begins it must be done. */
void backup_settle(struct worker *w);

void backup_stats(const struct backup *b, Understudy__WorkerStats *s);

#endif
