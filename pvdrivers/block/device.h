/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The local device or raw file behind a vbd. */
#ifndef PVDRIVERS_BLOCK_DEVICE_H
#define PVDRIVERS_BLOCK_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

struct device {
	int fd; /* -1: closed */
	bool is_device, readonly, direct;
	bool can_discard;
	uint64_t bytes;	       /* a multiple of sector_bytes */
	uint32_t sector_bytes; /* what requests must be aligned to: 512..4096 */
	uint32_t physical_bytes;
	uint32_t discard_granularity_bytes;
};

/*
 * Opens for O_DIRECT, or through the page cache where the file system has no O_DIRECT for 512 bytes (logged).
 * A writable device is locked (flock, exclusive): the lock outlives a killed process until the last of its I/O has ended, so no
 * write of a predecessor can arrive behind ours. -EBUSY: somebody has the lock; try again. Other -errno: cannot be served.
 */
int device_open(const char *path, bool readonly, const char *guest, struct device *out);
void device_close(struct device *d);

#endif
