/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/part_disk.h"
#include "checkpoint/disk_replica.h"
#include "common/log.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static struct part_disk *disk_self(struct participant *p)
{
	return participant_self(p, struct part_disk, base);
}

int part_disk_check(struct block *bb, const char *guest)
{
	struct block_stats s;

	block_stats(bb, &s);
	if (s.disks == s.connected)
		return 0;
	log_err(guest, "%u of its %u disks are not served or not in use: they cannot be replicated", s.disks - s.connected,
		s.disks);
	return -EOPNOTSUPP;
}

static void room(void *arg)
{
	block_pressure(((struct part_disk *)arg)->block);
}

/* What is in flight now is noted when it is answered; what was answered before is found on the disk by the baseline. */
static int disk_setup(struct participant *p)
{
	struct part_disk *pd = disk_self(p);
	int rc;

	pd->nr_disks = block_disks(pd->block, pd->disk);
	pd->sync_disk = 0;
	pd->sync_from = pd->sync_bytes = pd->sync_total_bytes = 0;
	pd->state_sent = false;
	buf_reset(&pd->begun);
	rc = block_state(pd->block, &pd->begun);
	if (rc || !pd->nr_disks)
		return rc;
	for (unsigned int i = 0; i < pd->nr_disks; i++)
		pd->sync_total_bytes += pd->disk[i].readonly ? 0 : pd->disk[i].bytes;
	rc = writelog_new(PART_DISK_LOG_BYTES, room, pd, &pd->log);
	if (rc)
		return rc;
	block_set_log(pd->block, &writelog_ops, pd->log);
	return 0;
}

/* Stopped, nothing is left to do: what the guest asked for meanwhile is in its rings, and stays there. */
static int disk_drain(struct participant *p, bool paused)
{
	struct part_disk *pd = disk_self(p);

	if (paused)
		return 0;
	pd->closed = 0;
	return block_drain(pd->block);
}

/* Which disks there are. That changes only when one is plugged or unplugged, of which the backup's shell knows nothing. */
static int capture_state(struct part_disk *pd, struct epoch *e)
{
	int rc;

	buf_reset(&pd->now);
	rc = block_state(pd->block, &pd->now);
	if (rc)
		return rc;
	if (pd->now.len != pd->begun.len || memcmp(pd->now.data, pd->begun.data, pd->now.len)) {
		log_err(pd->guest, "its disks are not those that it was protected with");
		return -ENODEV;
	}
	if (pd->state_sent || !pd->log)
		return 0;
	rc = buf_add(&e->blob[BLOB_DISKS], pd->now.data, pd->now.len);
	pd->state_sent = !rc;
	return rc;
}

static int close_log(struct part_disk *pd, struct epoch *e)
{
	int rc;

	rc = writelog_close(pd->log, e->number);
	if (rc)
		return rc;
	pd->closed = e->number;
	for (const struct writelog_entry *w = writelog_epoch(pd->log, e->number); w && !rc; w = w->next)
		rc = epoch_add_change(e, &w->change);
	return rc;
}

static int disk_capture(struct participant *p, struct epoch *e)
{
	struct part_disk *pd = disk_self(p);
	int rc;

	rc = capture_state(pd, e);
	if (!rc && pd->log)
		rc = close_log(pd, e);
	/* Behind a final epoch this host's disks are done with. */
	if (!rc && e->flags & EPOCH_FINAL)
		block_freeze(pd->block, true);
	return rc;
}

static int disk_commit(struct participant *p, uint64_t number)
{
	part_disk_synced(disk_self(p), number);
	return 0;
}

static void disk_abort(struct participant *p)
{
	struct part_disk *pd = disk_self(p);

	if (pd->log && pd->closed)
		writelog_reopen(pd->log, pd->closed);
	pd->closed = 0;
	pd->state_sent = false;
	block_freeze(pd->block, false);
}

static int disk_activate(struct participant *p, const struct epoch *last)
{
	struct part_disk *pd = disk_self(p);
	const struct buf *b = &last->blob[BLOB_DISKS];
	int rc;

	rc = pd->replica ? disk_replica_finish(pd->replica) : 0;
	if (rc || !b->len)
		return rc;
	return block_activate(pd->block, b->data, b->len);
}

static void disk_teardown(struct participant *p)
{
	struct part_disk *pd = disk_self(p);

	block_set_log(pd->block, NULL, NULL);
	block_freeze(pd->block, false);
	writelog_free(pd->log);
	pd->log = NULL;
	buf_free(&pd->begun);
	buf_free(&pd->now);
	block_pressure(pd->block); /* what the log had no room for */
}

const struct participant_ops part_disk_ops = {
	.name = "disks",
	.setup = disk_setup,
	.drain = disk_drain,
	.capture = disk_capture,
	.commit = disk_commit,
	.abort = disk_abort,
	.activate = disk_activate,
	.teardown = disk_teardown,
};

/* ---- the baseline ---- */

static int read_all(const struct block_disk *d, uint8_t *to, uint64_t from, uint64_t bytes)
{
	uint64_t done = 0;

	while (done < bytes) {
		ssize_t n = pread(d->fd, to + done, bytes - done, (off_t)(from + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		done += (uint64_t)n;
	}
	return 0;
}

static bool is_zero(const uint8_t *at, uint64_t bytes)
{
	return !at[0] && !memcmp(at, at + 1, bytes - 1);
}

/* A write that is in flight now may be found or not, in parts: it is in the log of the epoch that it is answered in, behind this; or
 * is served again. */
static int read_next(struct part_disk *pd, struct epoch *e)
{
	const struct block_disk *d = &pd->disk[pd->sync_disk];
	uint8_t *to = epoch_baseline(e);
	struct block_change c = {.devid = d->devid, .kind = BLOCK_WRITE, .offset_bytes = pd->sync_from, .data = to};
	int rc;

	if (!to)
		return -ENOMEM;
	c.bytes = d->bytes - pd->sync_from;
	if (c.bytes > EPOCH_BASELINE_BYTES)
		c.bytes = EPOCH_BASELINE_BYTES;
	rc = read_all(d, to, c.offset_bytes, c.bytes);
	if (rc) {
		log_err(pd->guest, "vbd %u: byte %llu cannot be read: %s", d->devid, (unsigned long long)c.offset_bytes,
			strerror(-rc));
		return rc;
	}
	if (is_zero(to, c.bytes)) {
		c.kind = BLOCK_ZERO;
		c.data = NULL;
	}
	pd->sync_from += c.bytes;
	pd->sync_bytes += c.bytes;
	return epoch_add_change(e, &c);
}

int part_disk_sync(struct part_disk *pd, struct epoch *e)
{
	int rc;

	if (!pd->log)
		return 1;
	rc = capture_state(pd, e);
	/* The same disks, but the guest may have connected them anew. */
	if (!rc && block_disks(pd->block, pd->disk) != pd->nr_disks)
		rc = -ENODEV;
	while (pd->sync_disk < pd->nr_disks &&
	       (pd->disk[pd->sync_disk].readonly || pd->sync_from == pd->disk[pd->sync_disk].bytes)) {
		pd->sync_disk++;
		pd->sync_from = 0;
	}
	if (!rc && pd->sync_disk < pd->nr_disks)
		rc = read_next(pd, e);
	if (!rc)
		rc = close_log(pd, e);
	return rc ?: pd->sync_disk == pd->nr_disks;
}

void part_disk_synced(struct part_disk *pd, uint64_t number)
{
	if (pd->log)
		writelog_commit(pd->log, number);
}
