/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Looking into a guest's own grant table, version 1 (xen/include/public/grant_table.h), through the mapped guest memory. */
#ifndef VMM_GRANT_TABLE_H
#define VMM_GRANT_TABLE_H

#include "vmm/domain.h"

/* The gfn that `ref` grants at this moment, or UINT64_MAX. The guest can change it at any time: good for knowing which pages a
 * back end's mappings touch, not for access. */
uint64_t grant_table_gfn(const struct domain *d, const struct domain_machine *m, uint32_t ref);

#endif
