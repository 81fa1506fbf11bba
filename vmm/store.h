/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a guest has in xenstore: the nodes that it or its toolstack wrote below /local/domain/<domid>, with permissions, and its
 * watches (from our xenstored's `watches` command). Taken on the primary, put back on the backup at activation.
 */
#ifndef VMM_STORE_H
#define VMM_STORE_H

#include "common/buf.h"

#include <stdbool.h>
#include <stdint.h>

struct xs_handle;

/* Appends the snapshot of `domid` to `out` in the form of docs/protocol.md ("store blob"). Blocking, some ms.
 * -EAGAIN: a transaction is open or an exchange half done; ask again later. */
int store_snapshot(struct xs_handle *xs, uint32_t domid, struct buf *out);

/*
 * Writes the nodes and adds the watches. Left alone: what the shell's toolstack wrote for itself (name, vm, domid,
 * store/, console/, backend paths) and every device's `state`, which belongs to the back ends. Bounded by the blob.
 * -EINVAL: a malformed blob (nothing was written).
 */
int store_apply(struct xs_handle *xs, uint32_t domid, const void *blob, size_t len);

/*
 * The same in a fraction of the round trips: `base` is what store_nodes() found in the shell when it was made, and nobody wrote
 * since; only what differs is written.
 */
int store_apply_onto(struct xs_handle *xs, uint32_t domid, const void *blob, size_t len, const void *base, size_t base_len);

/* The two halves of it. Watches come last, when their ring is about to be put in place: an event for a guest that does not read would
 * fill the ring, and xenstored would stop in the middle of a message. */
int store_apply_nodes(struct xs_handle *xs, uint32_t domid, const void *blob, size_t len, const void *base, size_t base_len);
int store_apply_watches(struct xs_handle *xs, uint32_t domid, const void *blob, size_t len);

/* Appends a blob of the nodes alone, from an xenstored of any kind. */
int store_nodes(struct xs_handle *xs, uint32_t domid, struct buf *out);

/* Checks a blob without touching xenstore: 0 or -EINVAL. */
int store_check(const void *blob, size_t len);

#endif
