/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files behind domain.h share; nobody else includes it. */
#ifndef VMM_INTERNAL_H
#define VMM_INTERNAL_H

#include "vmm/domain.h"

#include <xencall.h>
#include <xenctrl.h>
#include <xenforeignmemory.h>
#include <xenstore.h>
#include <xen/grant_table.h>
#include <xen/hvm/hvm_op.h>

enum {
	SCAN_BATCH = 1024,		/* XEN_DOMCTL_getpageframeinfo3 takes no more */
	MAP_BATCH_PAGES = 1 << 11,	/* pages in one foreign mapping: the kernel does not reschedule within one */
	MAP_SLACK_PAGES = 256,		/* room behind the guest for grant frames that appear later */
};

#define GFN_NONE UINT64_MAX
#define SLOT_NONE UINT32_MAX

/* What is asked of every epoch's machine state, in one hypercall: each is two changes of address space for a PV dom0. */
enum machine_ask { ASK_INFO, ASK_GRANT_SIZE, ASK_GRANT_TABLE, ASK_CALLBACK, ASK_TSC, MACHINE_ASKS };

/* Arguments of the hypercalls of the epoch path, in one page that never faults. */
struct hypercall_args {
	multicall_entry_t ask[MACHINE_ASKS];
	struct xen_domctl domctl, info, tsc;
	struct xen_hvm_param param;
	struct gnttab_query_size query;
	struct gnttab_setup_table setup;
	struct gnttab_get_version version;
	xen_pfn_t frame[DOMAIN_GRANT_FRAMES_MAX];
};
_Static_assert(sizeof(struct hypercall_args) <= DOMAIN_PAGE_SIZE, "one page");

/* Guest memory: a slot of one page per gfn in one stretch of address space. */
struct memory {
	uint8_t *base;
	size_t used, room;		/* slots */
	size_t initial;		/* slots that domain_map() filled; memory_add() appends */
	int prot;
	uint32_t *slot;			/* [limit]: where a gfn is mapped, or SLOT_NONE */
	uint64_t limit;			/* highest populated gfn + 1 */
	uint64_t bound;			/* for the limit */
	uint64_t *gfn;			/* [nr] ascending */
	size_t nr;
	uint64_t pages;			/* tot_pages when it was mapped */
};

struct domain {
	uint32_t domid;
	char name[64];
	xc_interface *xc;
	xencall_handle *call;
	xenforeignmemory_handle *foreign;
	struct xs_handle *xs;

	struct hypercall_args *args;
	void *context;
	size_t context_pages;
	bool context_sized;		/* for contexts with the records that are asked for now */
	uint64_t *dirty;		/* two bitmaps: the dirty pages, and those to keep */
	size_t dirty_pages;		/* of buffer in each */
	bool keep;			/* the hypervisor takes the second */

	struct memory memory;
	uint64_t frozen_pages;		/* the cap that domain_freeze_memory() set, or 0 */
	struct domain_machine machine;	/* as last read; machine_known: the parts that never change are valid */
	bool machine_known;
};

/* An empty domctl for this domain. */
void domctl_fill(const struct domain *d, struct xen_domctl *domctl, uint32_t cmd);

/* One in the preallocated buffer; fill `u`, then domctl_do(). */
struct xen_domctl *domctl_begin(struct domain *d, uint32_t cmd);
int domctl_do(struct domain *d);

int domain_getinfo(struct domain *d, struct xen_domctl_getdomaininfo *info);
int hvm_param_get(struct domain *d, uint32_t index, uint64_t *value);
int hvm_param_set(struct domain *d, uint32_t index, uint64_t value);

void dirty_release(struct domain *d);

/* The populated gfns, ascending, in *gfn (free()): RAM by scanning, plus what of `m` is in the physmap. */
int memory_scan(struct domain *d, const struct domain_machine *m, uint64_t **gfn, size_t *nr);

/* Maps one more gfn, or what is behind a mapped gfn now. The list of gfns and the limit follow. */
int memory_add(struct domain *d, uint64_t gfn);
void memory_drop(struct domain *d, uint64_t gfn);

static inline int gfn_compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

#endif
