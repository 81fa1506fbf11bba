/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/disk_replica.h"
#include "checkpoint/disk_apply.h"
#include "common/fault.h"
#include "common/log.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { QUEUED_BYTES_MAX = 64 << 20 };

struct batch {
	struct batch *next;
	uint64_t number, bytes;
	size_t nr;
	struct block_change change[]; /* [nr], their data as well */
};

struct disk_replica {
	char guest[64];
	unsigned int nr_disks;
	struct block_disk disk[BLOCK_DISKS_MAX];
	pthread_t thread;

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t changed;
	struct batch *first, **last; /* the first one is in work */
	uint64_t queued_bytes;
	int error;
	bool stop;
};

static void batch_free(struct batch *b)
{
	for (size_t i = 0; i < b->nr; i++)
		free(b->change[i].data);
	free(b);
}

static int apply(struct disk_replica *r, const struct batch *b)
{
	int rc = fi_point("DISK_APPLY");

	for (unsigned int i = 0; !rc && i < r->nr_disks; i++) {
		const struct block_disk *d = &r->disk[i];
		struct disk_apply_target t = {
			.devid = d->devid, .fd = d->fd, .is_device = d->is_device, .bytes = d->bytes};

		if (!d->readonly)
			rc = disk_apply(&t, b->change, b->nr, NULL);
	}
	if (rc)
		log_err(r->guest, "epoch %llu: its disks cannot be written: %s", (unsigned long long)b->number,
			strerror(-rc));
	return rc;
}

static void *replica_thread(void *arg)
{
	struct disk_replica *r = arg;

	pthread_mutex_lock(&r->lock);
	for (;;) {
		struct batch *b;
		int rc = r->error;

		while (!r->first && !r->stop)
			pthread_cond_wait(&r->changed, &r->lock);
		b = r->first;
		if (!b)
			break;
		pthread_mutex_unlock(&r->lock);
		/* Behind an error nothing is applied any more: the disks stay those of one epoch, torn as it may be. */
		if (!rc)
			rc = apply(r, b);
		pthread_mutex_lock(&r->lock);
		r->error = rc;
		r->first = b->next;
		if (!r->first)
			r->last = &r->first;
		r->queued_bytes -= b->bytes;
		pthread_cond_broadcast(&r->changed);
		batch_free(b);
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

int disk_replica_new(const char *guest, const struct block_disk *disk, unsigned int nr, struct disk_replica **out)
{
	struct disk_replica *r = calloc(1, sizeof(*r));
	sigset_t all, old;
	int rc;

	if (!r)
		return -ENOMEM;
	strncpy(r->guest, guest, sizeof(r->guest) - 1);
	memcpy(r->disk, disk, nr * sizeof(*disk));
	r->nr_disks = nr;
	r->last = &r->first;
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->changed, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = -pthread_create(&r->thread, NULL, replica_thread, r);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc) {
		free(r);
		return rc;
	}
	*out = r;
	return 0;
}

void disk_replica_free(struct disk_replica *r)
{
	if (!r)
		return;
	pthread_mutex_lock(&r->lock);
	r->stop = true;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
	pthread_join(r->thread, NULL);
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

static bool has_place(const struct disk_replica *r, const struct block_change *c)
{
	for (unsigned int i = 0; i < r->nr_disks; i++)
		if (r->disk[i].devid == c->devid && !r->disk[i].readonly)
			return c->offset_bytes <= r->disk[i].bytes && c->bytes <= r->disk[i].bytes - c->offset_bytes;
	return false;
}

static int batch_of(struct disk_replica *r, struct epoch *e, struct batch **out)
{
	struct batch *b;

	for (size_t i = 0; i < e->nr_changes; i++)
		if (!has_place(r, &e->change[i])) {
			log_err(r->guest, "epoch %llu: a change at byte %llu of vbd %u, which is not there",
				(unsigned long long)e->number, (unsigned long long)e->change[i].offset_bytes,
				e->change[i].devid);
			return -EINVAL;
		}
	b = malloc(sizeof(*b) + e->nr_changes * sizeof(b->change[0]));
	if (!b)
		return -ENOMEM;
	*b = (struct batch){.number = e->number, .nr = e->nr_changes};
	for (size_t i = 0; i < b->nr; i++) {
		b->change[i] = e->change[i];
		b->bytes += e->change[i].data ? e->change[i].bytes : 0;
		e->change[i].data = NULL;
	}
	*out = b;
	return 0;
}

int disk_replica_add(struct disk_replica *r, struct epoch *e)
{
	struct batch *b = NULL;
	int rc;

	rc = e->nr_changes ? batch_of(r, e, &b) : 0;
	if (rc)
		return rc;
	pthread_mutex_lock(&r->lock);
	if (b) {
		while (r->first && r->queued_bytes + b->bytes > QUEUED_BYTES_MAX)
			pthread_cond_wait(&r->changed, &r->lock);
		*r->last = b;
		r->last = &b->next;
		r->queued_bytes += b->bytes;
		pthread_cond_broadcast(&r->changed);
	}
	rc = r->error;
	pthread_mutex_unlock(&r->lock);
	return rc;
}

int disk_replica_finish(struct disk_replica *r)
{
	int rc;

	pthread_mutex_lock(&r->lock);
	while (r->first)
		pthread_cond_wait(&r->changed, &r->lock);
	rc = r->error;
	pthread_mutex_unlock(&r->lock);
	return rc;
}
