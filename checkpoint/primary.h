/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The primary's side of protection: baseline, then the epoch loop, until it is unprotected, dropped or finished. All from commands of the
 * daemon; what happens comes back as worker events.
 */
#ifndef CHECKPOINT_PRIMARY_H
#define CHECKPOINT_PRIMARY_H

#include "checkpoint/worker.h"

/* Begins protection; later trouble comes as WorkerLost or WorkerDropped. An error was not reported yet. */
int primary_start(struct worker *w, const Understudy__WorkerProtect *p);

/* Ends protection in any state: output passes freely, the guest runs. Sends WorkerDropped; frees the primary (perhaps a little
 * later, when a thread of its has ended). */
void primary_drop(struct primary *p, const char *cause);

int primary_finish(struct primary *p);
int primary_resume(struct primary *p);

/* The worker ends. keep: a successor takes over the guest as it is; output that is held is lost with the worker, as if the
 * network had lost it. */
void primary_free(struct primary *p);

/* The daemon's word about the witness's lease. */
void primary_right(struct primary *p, uint64_t until_us);

void primary_stats(struct primary *p, Understudy__WorkerStats *s);

#endif
