/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Frames of a guest's last epochs, kept on the backup. Two kinds, so that a takeover is not a loss for those who talk to the guest
 * and need not find out about it by their own time-outs:
 * - input that the primary's guest received after the last committed epoch. The guest that is brought to life here has not seen it,
 *   and receives it first. To whoever sent it the network was slow.
 * - output of committed epochs that the primary may not have released. It is sent here. Where it was released the network
 *   has sent it twice.
 * Best effort: what is missing was lost on the way, as frames may be.
 */
#ifndef CHECKPOINT_FRAMELOG_H
#define CHECKPOINT_FRAMELOG_H

#include <stddef.h>
#include <stdint.h>

struct framelog;
struct netback;

enum { FRAMELOG_BYTES_MAX = 1 << 20 }; /* beyond it the newest are dropped */

int framelog_new(struct framelog **out);
void framelog_free(struct framelog *log);

/* A frame of vif `devid` behind its virtio-net header; copied. `epoch`: the first that contains it, not below the last one's. */
void framelog_add(struct framelog *log, uint64_t epoch, uint32_t devid, const void *data, size_t len);

/* Those of epochs up to `number` have become pointless. UINT64_MAX: all. */
void framelog_forget(struct framelog *log, uint64_t number);

/* Hands everything to a function of the back end, oldest first, and keeps it; how many that took (returned 0 for). */
unsigned int framelog_give(const struct framelog *log, int (*fn)(struct netback *nb, uint32_t devid, const void *data, size_t len),
			   struct netback *nb);

#endif
