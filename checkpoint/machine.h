/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Wire forms of the blobs that belong to no device: machine and layout (docs/protocol.md). */
#ifndef CHECKPOINT_MACHINE_H
#define CHECKPOINT_MACHINE_H

#include "common/buf.h"
#include "vmm/domain.h"

int machine_encode(const struct domain_machine *m, struct buf *out);
int machine_decode(const void *blob, size_t len, struct domain_machine *m);	/* -EINVAL */

/* Populated gfns, ascending, as (first, count) ranges. Decode allocates *gfn (free()). -EINVAL: not ascending, beyond limit. */
int layout_encode(const uint64_t *gfn, size_t nr, struct buf *out);
int layout_decode(const void *blob, size_t len, uint64_t gfn_limit, uint64_t **gfn, size_t *nr);

#endif
