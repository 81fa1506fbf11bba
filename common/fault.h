/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fault points. `UNDERSTUDY_FAULT=NAME:ACTION[:SKIP][,...]` arms some; without it a point costs one load.
 * ACTION: kill (SIGKILL to this process), stop (SIGSTOP), fail (fi_point returns -EIO), sleep=MS.
 * SKIP: how often the point is passed before it acts; it acts once.
 */
#ifndef COMMON_FAULT_H
#define COMMON_FAULT_H

#include <stdatomic.h>
#include <stdbool.h>

extern atomic_bool fi_armed;

/* Reads UNDERSTUDY_FAULT; if UNDERSTUDY_FAULT_FILE names a readable file its first line counts instead. Called at the
 * start, and again on SIGUSR2 so that a live worker can be armed. Bad words are logged and ignored. */
void fi_load(void);

int fi_point_slow(const char *name);

/* 0, or -EIO where the armed action is `fail`. */
static inline int fi_point(const char *name)
{
	return __builtin_expect(atomic_load_explicit(&fi_armed, memory_order_relaxed), 0) ? fi_point_slow(name) : 0;
}

#endif
