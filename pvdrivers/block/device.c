/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pvdrivers/block/device.h"
#include "pvdrivers/block/block.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { SECTOR_BYTES_MAX = 4096 };

/* A queue limit of the device, or of the disk that the partition is on; 0: none. */
static uint64_t queue_limit(dev_t id, const char *name)
{
	static const char *const at[] = {"", "/.."};
	unsigned long long value = 0;

	for (int i = 0; i < 2; i++) {
		char path[128];
		FILE *f;

		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u%s/queue/%s", major(id), minor(id), at[i], name);
		f = fopen(path, "re");
		if (!f)
			continue;
		if (fscanf(f, "%llu", &value) != 1)
			value = 0;
		fclose(f);
		return value;
	}
	return 0;
}

static int look_at_device(const struct stat *st, struct device *d)
{
	int logical = 0;
	unsigned int physical = 0;

	if (ioctl(d->fd, BLKGETSIZE64, &d->bytes) || ioctl(d->fd, BLKSSZGET, &logical) ||
	    ioctl(d->fd, BLKPBSZGET, &physical))
		return -errno;
	if (logical < BLOCK_SECTOR_BYTES || logical > SECTOR_BYTES_MAX || logical & (logical - 1))
		return -EOPNOTSUPP;
	d->is_device = true;
	d->sector_bytes = (uint32_t)logical;
	d->physical_bytes = physical;
	d->discard_granularity_bytes = (uint32_t)queue_limit(st->st_rdev, "discard_granularity");
	d->can_discard = queue_limit(st->st_rdev, "discard_max_bytes") > 0 && d->discard_granularity_bytes;
	return 0;
}

/* O_DIRECT with sectors of 512 bytes, as guests' partition tables have them? */
static bool takes_sectors(int fd)
{
	void *page;
	ssize_t n;

	if (posix_memalign(&page, SECTOR_BYTES_MAX, SECTOR_BYTES_MAX))
		return false;
	n = pread(fd, page, BLOCK_SECTOR_BYTES, BLOCK_SECTOR_BYTES);
	free(page);
	return n >= 0 || errno != EINVAL;
}

static int look_at_file(const struct stat *st, struct device *d)
{
	d->bytes = (uint64_t)st->st_size / BLOCK_SECTOR_BYTES * BLOCK_SECTOR_BYTES;
	d->sector_bytes = BLOCK_SECTOR_BYTES;
	d->physical_bytes = (uint32_t)st->st_blksize;
	d->discard_granularity_bytes = (uint32_t)st->st_blksize;
	d->can_discard = true;
	if (!d->direct || takes_sectors(d->fd))
		return 0;
	d->direct = false;
	return fcntl(d->fd, F_SETFL, 0) ? -errno : 0;
}

static int look_at(const char *path, const char *guest, struct device *d)
{
	struct stat st;
	int rc;

	if (fstat(d->fd, &st))
		return -errno;
	if (S_ISBLK(st.st_mode))
		rc = look_at_device(&st, d);
	else if (S_ISREG(st.st_mode))
		rc = look_at_file(&st, d);
	else
		rc = -ENOTBLK;
	if (!rc && !d->direct)
		log_warn(guest, "%s: no O_DIRECT with sectors of %d bytes: the page cache is used", path,
			 BLOCK_SECTOR_BYTES);
	if (d->readonly)
		d->can_discard = false;
	return rc ?: d->bytes ? 0 : -ENOSPC;
}

int device_open(const char *path, bool readonly, const char *guest, struct device *out)
{
	int flags = (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC;
	struct device d = {.readonly = readonly, .direct = true};
	int rc;

	d.fd = open(path, flags | O_DIRECT);
	if (d.fd < 0 && errno == EINVAL) {
		d.direct = false;
		d.fd = open(path, flags);
	}
	if (d.fd < 0)
		return -errno;
	rc = look_at(path, guest, &d);
	if (!rc && !readonly && flock(d.fd, LOCK_EX | LOCK_NB))
		rc = errno == EWOULDBLOCK ? -EBUSY : -errno;
	if (rc)
		close(d.fd);
	else
		*out = d;
	return rc;
}

void device_close(struct device *d)
{
	if (d->fd >= 0)
		close(d->fd);
	d->fd = -1;
}
