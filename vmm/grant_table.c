/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/grant_table.h"

#include <xenctrl.h>
#include <xen/grant_table.h>

enum { ENTRIES_PER_FRAME = DOMAIN_PAGE_SIZE / sizeof(grant_entry_v1_t) };

uint64_t grant_table_gfn(const struct domain *d, const struct domain_machine *m, uint32_t ref)
{
	const volatile grant_entry_v1_t *entry;

	if (ref / ENTRIES_PER_FRAME >= m->nr_grant_frames)
		return UINT64_MAX;
	entry = domain_page(d, m->grant_gfn[ref / ENTRIES_PER_FRAME]);
	if (!entry)
		return UINT64_MAX;
	entry += ref % ENTRIES_PER_FRAME;
	if ((entry->flags & GTF_type_mask) != GTF_permit_access)
		return UINT64_MAX;
	return entry->frame;
}
