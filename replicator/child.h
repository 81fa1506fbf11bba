/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Programs that the daemon runs, so that nothing in its loop blocks. */
#ifndef REPLICATOR_CHILD_H
#define REPLICATOR_CHILD_H

#include <stddef.h>
#include <sys/types.h>

struct event_base;
struct children;
struct child;

int children_new(struct event_base *base, struct children **out);
void children_free(struct children *c); /* running ones are left alone */

/* `status` is waitpid's; `out` and `err` are terminated, err without the last newline. */
typedef void child_done(void *arg, int status, const char *out, const char *err);

/*
 * Runs argv (NULL-terminated) with `input` as its standard input and calls `done` once, later.
 * After `limit_ms` it is killed (0: never). NULL: it could not be started (logged), `done` is not
 * called.
 */
struct child *child_run(struct children *c, const char *const *argv, const char *input,
			unsigned int limit_ms, child_done *done, void *arg);

/*
 * Starts a program of its own session that outlives this one, with our stderr. `exited` (may be
 * NULL) is called if it ends while we live. Its pid, or -errno.
 */
pid_t child_start(struct children *c, const char *const *argv, child_done *exited, void *arg);

/* "exit status 3", "killed by signal 9" */
const char *child_status_text(int status, char *out, size_t len);

#endif
