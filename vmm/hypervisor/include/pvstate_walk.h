/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The PV state records of an HVM context, in dom0. */
#ifndef PVSTATE_WALK_H
#define PVSTATE_WALK_H

#include "pvstate_check.h"

#include <stddef.h>

/* One record in place: not aligned. */
struct pvstate_span {
	const void *at;
	uint32_t len;
	uint16_t code, instance;
};

/*
 * The next record of any type: start with `*pos` 0. 1 and the record, 0 at the end marker, -EINVAL when the context
 * is cut off or goes on after its end marker.
 */
int pvstate_next(const void *context, size_t len, size_t *pos, struct pvstate_span *span);

/*
 * Copies and checks the PV state records of a context of a domain with `nr_vcpus` vCPUs: what Xen will check on load,
 * but for what depends on the domain it is loaded into. 0 and `*set`, to be freed; -EINVAL and `*why`; -ENOMEM.
 */
int pvstate_parse(const void *context, size_t len, uint32_t nr_vcpus, struct pvstate_set *set, const char **why);
void pvstate_free(struct pvstate_set *set);

#endif
