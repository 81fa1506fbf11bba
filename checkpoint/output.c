/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/output.h"
#include "common/buf.h"
#include "common/wire.h"

#include <errno.h>
#include <string.h>

enum { HEADER_BYTES = 8, ENTRY_BYTES = 8 };

int output_begin(struct buf *blob, uint64_t released)
{
	uint8_t *at = buf_extend(blob, HEADER_BYTES);

	if (!at)
		return -ENOMEM;
	wire_put64(at, released);
	return 0;
}

void output_add(struct buf *blob, const struct output_frame *f)
{
	uint8_t *at;

	if (f->len > OUTPUT_FRAME_MAX || blob->len + ENTRY_BYTES + f->len > OUTPUT_BLOB_MAX)
		return;
	at = buf_extend(blob, ENTRY_BYTES + f->len);
	if (!at)
		return;
	wire_put32(at, f->devid);
	wire_put32(at + 4, f->len);
	memcpy(at + ENTRY_BYTES, f->data, f->len);
}

bool output_any(const struct buf *blob)
{
	return blob->len > HEADER_BYTES;
}

int output_read(const void *blob, size_t len, uint64_t *released, void (*fn)(void *arg, const struct output_frame *f), void *arg)
{
	const uint8_t *at = blob, *end = at + len;

	if (len < HEADER_BYTES)
		return -EINVAL;
	*released = wire_get64(at);
	for (at += HEADER_BYTES; at < end;) {
		struct output_frame f;

		if (end - at < ENTRY_BYTES)
			return -EINVAL;
		f = (struct output_frame){wire_get32(at), wire_get32(at + 4), at + ENTRY_BYTES};
		if (f.len > OUTPUT_FRAME_MAX || f.len > (size_t)(end - f.data))
			return -EINVAL;
		fn(arg, &f);
		at = f.data + f.len;
	}
	return 0;
}
