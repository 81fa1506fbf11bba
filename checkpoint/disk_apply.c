/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/disk_apply.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { ZERO_BYTES = 64 << 10 };

/* A part of a change that no later one covers. */
struct piece {
	uint64_t start, end;
	const struct block_change *from;
};

/* Disjoint pieces in ascending order. */
struct pieces {
	struct piece *at;
	size_t nr, max;
};

static int insert(struct pieces *p, size_t where, const struct piece *piece)
{
	if (p->nr == p->max) {
		size_t max = p->max ? 2 * p->max : 64;
		struct piece *at = reallocarray(p->at, max, sizeof(*at));

		if (!at)
			return -ENOMEM;
		p->at = at;
		p->max = max;
	}
	memmove(&p->at[where + 1], &p->at[where], (p->nr - where) * sizeof(*p->at));
	p->at[where] = *piece;
	p->nr++;
	return 0;
}

/* The first piece that ends behind `start`. */
static size_t find(const struct pieces *p, uint64_t start)
{
	size_t low = 0, high = p->nr;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (p->at[mid].end > start)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

/* Adds what is not covered yet: called with the latest change first. */
static int add(struct pieces *p, const struct block_change *c)
{
	uint64_t at = c->offset_bytes, end = c->offset_bytes + c->bytes;
	size_t i = find(p, at);
	int rc;

	while (at < end) {
		uint64_t gap_end = i < p->nr && p->at[i].start < end ? p->at[i].start : end;

		if (at < gap_end) {
			rc = insert(p, i, &(struct piece){at, gap_end, c});
			if (rc)
				return rc;
			i++;
		}
		at = i < p->nr && gap_end < end ? p->at[i++].end : end;
	}
	return 0;
}

static bool fits(const struct disk_apply_target *t, const struct block_change *c)
{
	return c->kind < BLOCK_CHANGE_KINDS && c->offset_bytes <= t->bytes && c->bytes <= t->bytes - c->offset_bytes &&
	       (c->kind != BLOCK_WRITE || c->data);
}

/* The data of the piece. */
static int write_piece(const struct disk_apply_target *t, const struct piece *p)
{
	const uint8_t *data = (const uint8_t *)p->from->data + (p->start - p->from->offset_bytes);
	uint64_t at = p->start;

	while (at < p->end) {
		ssize_t n = pwrite(t->fd, data + (at - p->start), p->end - at, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		at += (uint64_t)n;
	}
	return 0;
}

/* A piece of a device by `request`, of a file by a hole. -EOPNOTSUPP: it cannot do that. */
static int punch(const struct disk_apply_target *t, const struct piece *p, unsigned long request)
{
	uint64_t range[2] = {p->start, p->end - p->start};
	int r;

	if (t->is_device)
		r = ioctl(t->fd, request, range);
	else
		r = fallocate(t->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)range[0], (off_t)range[1]);
	return r ? -errno : 0;
}

/* A disk that cannot discard keeps what it has: what a guest reads there is not defined anyway. */
static int discard_piece(const struct disk_apply_target *t, const struct piece *p)
{
	int rc = punch(t, p, BLKDISCARD);

	return rc == -EOPNOTSUPP ? 0 : rc;
}

static int zero_piece(const struct disk_apply_target *t, const struct piece *p)
{
	struct block_change zeroes = {.kind = BLOCK_WRITE};
	int rc = punch(t, p, BLKZEROOUT);
	void *page;

	if (rc != -EOPNOTSUPP)
		return rc;
	if (posix_memalign(&page, ZERO_BYTES, ZERO_BYTES))
		return -ENOMEM;
	memset(page, 0, ZERO_BYTES);
	zeroes.data = page;
	rc = 0;
	for (uint64_t at = p->start; !rc && at < p->end; at += ZERO_BYTES) {
		zeroes.offset_bytes = at;
		rc = write_piece(t, &(struct piece){at, at + ZERO_BYTES < p->end ? at + ZERO_BYTES : p->end, &zeroes});
	}
	free(page);
	return rc;
}

static int collect(const struct disk_apply_target *t, const struct block_change *change, size_t nr, struct pieces *p,
		   struct disk_apply_stats *stats)
{
	for (size_t i = nr; i-- > 0;) {
		const struct block_change *c = &change[i];
		int rc;

		if (c->devid != t->devid)
			continue;
		if (!fits(t, c))
			return -EINVAL;
		stats->flushes += c->kind == BLOCK_FLUSH;
		if (c->kind == BLOCK_FLUSH)
			continue;
		rc = add(p, c);
		if (rc)
			return rc;
	}
	return 0;
}

static int apply_piece(const struct disk_apply_target *t, const struct piece *p, struct disk_apply_stats *stats)
{
	if (p->from->kind == BLOCK_WRITE) {
		stats->written_bytes += p->end - p->start;
		return write_piece(t, p);
	}
	stats->discarded_bytes += p->end - p->start;
	return p->from->kind == BLOCK_ZERO ? zero_piece(t, p) : discard_piece(t, p);
}

int disk_apply(const struct disk_apply_target *t, const struct block_change *change, size_t nr, struct disk_apply_stats *stats)
{
	struct disk_apply_stats s = {0};
	struct pieces p = {0};
	int rc;

	rc = collect(t, change, nr, &p, &s);
	for (size_t i = 0; !rc && i < p.nr; i++)
		rc = apply_piece(t, &p.at[i], &s);
	if (!rc && s.flushes && fdatasync(t->fd))
		rc = -errno;
	free(p.at);
	if (stats)
		*stats = s;
	return rc;
}
