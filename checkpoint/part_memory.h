/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's memory, its context and what else Xen keeps about it, as a participant; and the baseline copy. */
#ifndef CHECKPOINT_PART_MEMORY_H
#define CHECKPOINT_PART_MEMORY_H

#include "checkpoint/hot.h"
#include "checkpoint/participant.h"
#include "vmm/domain.h"

enum { MEMORY_ALWAYS_MAX = 512, MEMORY_LOGGED_MAX = 4096 };

struct part_memory {
	struct participant base;
	struct domain *domain;
	const char *guest;

	/* Adds the gfns of pages that back ends write through mappings of their own; NULL: none. */
	int (*more_always)(void *arg, uint64_t *gfn, size_t max);
	void *more_arg;

	struct domain_machine machine;
	bool machine_sent;		/* the backup has this machine blob */
	uint64_t *more;			/* from more_always(), refreshed in drain() */
	size_t nr_more;
	uint64_t *always_found, *always;	/* the always-copied pages as found the last time, and sorted */
	size_t nr_found, nr_always;

	const uint64_t *dirty;		/* as last cleaned, or NULL */
	uint64_t *carry;		/* dirty pages of aborted captures */
	bool carry_used, carry_any;	/* it is in an epoch; there may be bits in it */
	size_t words;			/* of dirty and carry */
	struct hot hot;
	uint64_t *logged;		/* gfns of the last bitmap, for `hot`; no more than MEMORY_LOGGED_MAX */
	size_t nr_logged;
	bool read;			/* ... which was read since the last drain() */
};

extern const struct participant_ops part_memory_ops;

/* Before setup(), blocking for seconds: finds and maps the guest's memory. May run in a thread of its own while nobody else
 * uses the domain. */
int part_memory_prepare(struct part_memory *pm);

/* Takes from a domain whatever protection has left in it, also by a worker that died; does nothing to one that was never protected.
 * -errno is logged. */
int part_memory_forget(struct domain *d, const char *guest);

/* The baseline: adds up to `max` pages of [*from, nr_gfns) to `e`, moves *from. 0, or 1 when all are added. */
int part_memory_sync_all(struct part_memory *pm, size_t *from, size_t max, struct epoch *e);

/* Reads and clears the dirty log into the carry set (guest running); returns how many pages are in it, or -errno. */
long part_memory_sync_mark(struct part_memory *pm);

/* Adds up to `max` marked pages to `e` and unmarks them, from word *from on. 0, or 1 when none are left. */
int part_memory_sync_marked(struct part_memory *pm, size_t *from, size_t max, struct epoch *e);

/* Adds the machine and layout blobs (to the first sync epoch). */
int part_memory_sync_layout(struct part_memory *pm, struct epoch *e);

#endif
