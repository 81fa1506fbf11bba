/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The block blob (docs/disks.md). */
#include "common/buf.h"
#include "common/log.h"
#include "common/wire.h"
#include "pvdrivers/block/vbd.h"

#include <errno.h>

enum { BLOB_VERSION = 1, BLOB_HEADER_BYTES = 4, BLOB_DISK_BYTES = 24, BLOB_READONLY = 1 << 0 };

int block_state(struct block *bb, struct buf *out)
{
	size_t start = out->len;
	uint16_t nr = 0;

	if (!buf_extend(out, BLOB_HEADER_BYTES))
		return -ENOMEM;
	FOR_EACH_VBD(bb, v)
	{
		uint8_t *at;

		if (!v->attached)
			continue;
		at = buf_extend(out, BLOB_DISK_BYTES);
		if (!at)
			return -ENOMEM;
		wire_put32(at, v->devid);
		wire_put32(at + 4, v->device.sector_bytes);
		wire_put64(at + 8, v->device.bytes);
		wire_put32(at + 16, v->readonly ? BLOB_READONLY : 0);
		nr++;
	}
	wire_put16(out->data + start, BLOB_VERSION);
	wire_put16(out->data + start + 2, nr);
	return 0;
}

static bool is_disk(const uint8_t *at)
{
	uint32_t sector = wire_get32(at + 4);
	uint64_t bytes = wire_get64(at + 8);

	return sector >= BLOCK_SECTOR_BYTES && sector <= RING_PAGE_SIZE && !(sector & (sector - 1)) && bytes &&
	       bytes % BLOCK_SECTOR_BYTES == 0 && !(wire_get32(at + 16) & ~BLOB_READONLY) && !wire_get32(at + 20);
}

int block_state_check(const void *blob, size_t len)
{
	const uint8_t *at = blob;
	uint16_t nr;

	if (len < BLOB_HEADER_BYTES || wire_get16(at) != BLOB_VERSION)
		return -EINVAL;
	nr = wire_get16(at + 2);
	if (nr > BLOCK_DISKS_MAX || len != BLOB_HEADER_BYTES + (size_t)nr * BLOB_DISK_BYTES)
		return -EINVAL;
	for (uint16_t i = 0; i < nr; i++)
		if (!is_disk(at + BLOB_HEADER_BYTES + (size_t)i * BLOB_DISK_BYTES))
			return -EINVAL;
	return 0;
}

/* The front end knows the size that its first back end told it; a larger device will do. */
static int match_disk(struct block *bb, const uint8_t *at)
{
	uint32_t devid = wire_get32(at);

	FOR_EACH_VBD(bb, v)
	{
		if (!v->present || v->devid != devid)
			continue;
		if (v->device.fd >= 0 && v->device.bytes >= wire_get64(at + 8) &&
		    v->device.sector_bytes <= wire_get32(at + 4))
			return 0;
		log_err(bb->config.guest, "%s: the device here has %llu bytes in sectors of %u, the guest's had %llu of %u",
			v->name, (unsigned long long)v->device.bytes, v->device.sector_bytes,
			(unsigned long long)wire_get64(at + 8), wire_get32(at + 4));
		return -ENXIO;
	}
	log_err(bb->config.guest, "there is no vbd %u here", devid);
	return -ENXIO;
}

int block_state_match(struct block *bb, const void *blob, size_t len)
{
	const uint8_t *at = (const uint8_t *)blob + BLOB_HEADER_BYTES;
	int rc;

	rc = block_state_check(blob, len);
	for (uint16_t i = 0; !rc && i < wire_get16((const uint8_t *)blob + 2); i++)
		rc = match_disk(bb, at + (size_t)i * BLOB_DISK_BYTES);
	return rc;
}
