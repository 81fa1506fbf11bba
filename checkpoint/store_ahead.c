/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/store_ahead.h"
#include "checkpoint/job.h"
#include "common/log.h"
#include "vmm/store.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <xenstore.h>

/* Owned by the loop and by at most one thread; the later of the two to be done frees it. */
struct store_ahead {
	struct event_base *base;
	uint32_t domid;
	char guest[64];
	void (*done)(void *arg);
	void *done_arg;
	struct xs_handle *xs;		/* the thread's */
	bool busy, abandoned;		/* the loop's */
	struct buf wanted;		/* the thread's while busy */
	struct buf next;		/* came meanwhile; empty: none */

	pthread_mutex_t *lock;		/* held while nodes are written */
	struct buf *there;		/* under the lock: what the shell holds; empty: not known */
	atomic_bool finished;		/* the nodes are the guest's now; set under the lock */
};

static int replace(struct buf *to, const struct buf *from)
{
	buf_reset(to);
	return buf_add(to, from->data, from->len);
}

static int write_nodes(struct store_ahead *sa)
{
	struct buf *there = sa->there;
	int rc = 0;

	if (!there->len)
		rc = store_nodes(sa->xs, sa->domid, there);
	if (!rc)
		rc = store_apply_nodes(sa->xs, sa->domid, sa->wanted.data, sa->wanted.len,
				       there->data, there->len);
	if (!rc)
		rc = replace(there, &sa->wanted);
	if (rc)
		buf_reset(there);
	return rc;
}

static int ahead_work(void *arg)
{
	struct store_ahead *sa = arg;
	int rc;

	pthread_mutex_lock(sa->lock);
	rc = atomic_load(&sa->finished) ? 0 : write_nodes(sa);
	pthread_mutex_unlock(sa->lock);
	return rc;
}

static void destroy(struct store_ahead *sa)
{
	if (sa->xs)
		xs_close(sa->xs);
	if (sa->lock)
		pthread_mutex_destroy(sa->lock);
	if (sa->there)
		buf_free(sa->there);
	free(sa->lock);
	free(sa->there);
	buf_free(&sa->wanted);
	buf_free(&sa->next);
	free(sa);
}

static void ahead_done(void *arg, int rc)
{
	struct store_ahead *sa = arg;

	sa->busy = false;
	if (sa->abandoned) {
		destroy(sa);
		return;
	}
	if (rc)
		log_warn(sa->guest, "xenstore nodes wait for activation: %s", strerror(-rc));
	if (sa->next.len) {
		if (!replace(&sa->wanted, &sa->next))
			sa->busy = !job_start(sa->base, ahead_work, ahead_done, sa);
		buf_reset(&sa->next);
	} else if (!rc) {
		sa->done(sa->done_arg);
	}
}

int store_ahead_new(struct event_base *base, uint32_t domid, const char *guest,
		    void (*there)(void *arg), void *arg, struct store_ahead **out)
{
	struct store_ahead *sa = calloc(1, sizeof(*sa));

	if (!sa)
		return -ENOMEM;
	sa->base = base;
	sa->domid = domid;
	sa->done = there;
	sa->done_arg = arg;
	strncpy(sa->guest, guest, sizeof(sa->guest) - 1);
	sa->lock = malloc(sizeof(*sa->lock));
	sa->there = calloc(1, sizeof(*sa->there));
	sa->xs = xs_open(0);
	if (!sa->lock || !sa->there || !sa->xs || pthread_mutex_init(sa->lock, NULL)) {
		free(sa->lock);
		sa->lock = NULL;
		destroy(sa);
		return -ENOMEM;
	}
	*out = sa;
	return 0;
}

void store_ahead_free(struct store_ahead *sa)
{
	if (!sa)
		return;
	if (sa->busy)
		sa->abandoned = true;
	else
		destroy(sa);
}

void store_ahead_update(struct store_ahead *sa, const struct buf *blob)
{
	atomic_store(&sa->finished, false);
	/* What does not get there in time is left to store_ahead_finish(). */
	if (replace(sa->busy ? &sa->next : &sa->wanted, blob) || sa->busy)
		return;
	sa->busy = !job_start(sa->base, ahead_work, ahead_done, sa);
}

int store_ahead_finish(struct store_ahead *sa, struct xs_handle *xs, const struct buf *blob)
{
	const struct buf *there = sa->there;
	int rc = 0;

	pthread_mutex_lock(sa->lock);
	if (there->len != blob->len || memcmp(there->data, blob->data, blob->len))
		rc = store_apply_nodes(xs, sa->domid, blob->data, blob->len,
				       there->len ? there->data : NULL, there->len);
	atomic_store(&sa->finished, true);
	pthread_mutex_unlock(sa->lock);
	return rc;
}
