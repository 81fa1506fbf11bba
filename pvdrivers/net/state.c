/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The net blob (docs/protocol.md). */
#include "common/buf.h"
#include "common/wire.h"
#include "pvdrivers/net/vif.h"

#include <errno.h>
#include <sys/types.h>

enum { BLOB_VERSION = 2, BLOB_HEADER_BYTES = 4, BLOB_VIF_BYTES = 8 };

static int encode_vif(struct vif *v, struct buf *out)
{
	uint8_t *at = buf_extend(out, BLOB_VIF_BYTES);
	int rc;

	if (!at)
		return -ENOMEM;
	wire_put32(at, v->devid);
	wire_put16(at + 4, (uint16_t)addresses_count(&v->addresses));
	wire_put16(at + 6, (uint16_t)flows_count(&v->flows));
	rc = addresses_encode(&v->addresses, out);
	if (rc)
		return rc;
	rc = flows_encode(&v->flows, out);
	flows_close_epoch(&v->flows);
	return rc;
}

int netback_state(struct netback *nb, struct buf *out)
{
	size_t start = out->len;
	uint16_t nr = 0;
	uint8_t *header;

	header = buf_extend(out, BLOB_HEADER_BYTES);
	if (!header)
		return -ENOMEM;
	FOR_EACH_VIF(nb, v)
	{
		int rc;

		if (!v->present)
			continue;
		rc = encode_vif(v, out);
		if (rc)
			return rc;
		nr++;
	}
	wire_put16(out->data + start, BLOB_VERSION);
	wire_put16(out->data + start + 2, nr);
	return 0;
}

static struct vif *present_vif(struct netback *nb, uint32_t devid)
{
	FOR_EACH_VIF(nb, v)
	{
		if (v->present && v->devid == devid)
			return v;
	}
	return NULL;
}

/* One vif's part of the blob; with `nb` the vif takes it. The bytes used, or -EINVAL. */
static ssize_t decode_vif(struct netback *nb, const uint8_t *at, size_t len)
{
	unsigned int addresses, flows;
	struct vif *v;
	size_t used;
	int rc;

	if (len < BLOB_VIF_BYTES)
		return -EINVAL;
	addresses = wire_get16(at + 4);
	flows = wire_get16(at + 6);
	used = BLOB_VIF_BYTES + (size_t)addresses * ADDRESSES_ENTRY_BYTES;
	if (len < used + (size_t)flows * FLOWS_ENTRY_BYTES)
		return -EINVAL;
	v = nb ? present_vif(nb, wire_get32(at)) : NULL;
	rc = addresses_decode(v ? &v->addresses : NULL, addresses, at + BLOB_VIF_BYTES);
	if (!rc)
		rc = flows_decode(v ? &v->flows : NULL, flows, at + used);
	return rc ? rc : (ssize_t)(used + (size_t)flows * FLOWS_ENTRY_BYTES);
}

/* Walks through the blob; with `nb` each vif takes what it knew. */
static int read_state(struct netback *nb, const uint8_t *blob, size_t len)
{
	size_t at = BLOB_HEADER_BYTES;
	uint16_t nr;

	if (len < BLOB_HEADER_BYTES || wire_get16(blob) != BLOB_VERSION)
		return -EINVAL;
	nr = wire_get16(blob + 2);
	if (nr > NETBACK_VIFS_MAX)
		return -EINVAL;
	for (uint16_t i = 0; i < nr; i++) {
		ssize_t used = decode_vif(nb, blob + at, len - at);

		if (used < 0)
			return (int)used;
		at += (size_t)used;
	}
	return at == len ? 0 : -EINVAL;
}

int netback_state_check(const void *blob, size_t len)
{
	return read_state(NULL, blob, len);
}

int netback_state_take(struct netback *nb, const void *blob, size_t len)
{
	int rc = read_state(NULL, blob, len);

	return rc ? rc : read_state(nb, blob, len);
}
