/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The output blob (docs/protocol.md): what the guest sent in an epoch, so that the backup can send it should the primary be lost between
 * commit and release. Not what is long, or much: nothing depends on it.
 */
#ifndef CHECKPOINT_OUTPUT_H
#define CHECKPOINT_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;

enum { OUTPUT_FRAME_MAX = 2048, OUTPUT_BLOB_MAX = 32 << 10 };

struct output_frame {
	uint32_t devid;			/* of the vif */
	uint32_t len;			/* virtio-net header and frame */
	const uint8_t *data;
};

/* Begins a blob in an empty buffer. `released`: the primary has released the output of the epochs up to it. 0 or -ENOMEM. */
int output_begin(struct buf *blob, uint64_t released);

/* Appends a frame, unless it is too long or the blob would be. */
void output_add(struct buf *blob, const struct output_frame *f);

/* Has it any frame? */
bool output_any(const struct buf *blob);

/* Tells `fn` of each frame, which is valid during the call. 0; -EINVAL: the blob is damaged, some may have been told. */
int output_read(const void *blob, size_t len, uint64_t *released, void (*fn)(void *arg, const struct output_frame *f), void *arg);

#endif
