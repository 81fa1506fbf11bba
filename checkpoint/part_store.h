/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's part of xenstore as a participant: shipped when it changed, never captured in the middle of an exchange. */
#ifndef CHECKPOINT_PART_STORE_H
#define CHECKPOINT_PART_STORE_H

#include "checkpoint/part_memory.h"

struct xs_handle;
struct store_ahead;

struct part_store {
	struct participant base;
	struct xs_handle *xs;
	const struct part_memory *memory;	/* for the store ring */
	uint32_t domid;
	bool *changed_hint;		/* set by the worker's watch: the toolstack wrote something */
	uint64_t stamp;			/* of the ring when the snapshot was taken */
	struct buf snapshot, sent;
	struct store_ahead *ahead;	/* activation: nodes that are in place already; may be NULL */
};

extern const struct participant_ops part_store_ops;

#endif
