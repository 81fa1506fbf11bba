/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Log-dirty by direct domctl into a buffer that is allocated once. */
#include "vmm/hypervisor/include/pvstate.h"
#include "vmm/internal.h"

#include <errno.h>
#include <string.h>

enum { BITS_PER_PAGE = 8 * DOMAIN_PAGE_SIZE };

static int dirty_op(struct domain *d, uint32_t op)
{
	struct xen_domctl *domctl = domctl_begin(d, XEN_DOMCTL_shadow_op);

	domctl->u.shadow_op.op = op;
	return domctl_do(d);
}

int domain_dirty_enable(struct domain *d)
{
	int rc;

	d->keep = false;
	rc = dirty_op(d, XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY);
	if (rc != -EINVAL)
		return rc;
	/* Already on, by somebody who is gone: start again, so that its bits are not taken for ours. */
	rc = dirty_op(d, XEN_DOMCTL_SHADOW_OP_OFF);
	if (rc)
		return rc;
	return dirty_op(d, XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY);
}

int domain_dirty_disable(struct domain *d)
{
	int rc;

	rc = dirty_op(d, XEN_DOMCTL_SHADOW_OP_OFF);
	return rc == -EINVAL ? 0 : rc;
}

static uint64_t *keep_bits(const struct domain *d)
{
	return d->dirty + d->dirty_pages * DOMAIN_PAGE_SIZE / sizeof(*d->dirty);
}

void dirty_release(struct domain *d)
{
	if (d->dirty)
		xencall_free_buffer_pages(d->call, d->dirty, 2 * d->dirty_pages);
	d->dirty = NULL;
	d->dirty_pages = 0;
	d->keep = false;
}

/* What was to be kept is forgotten when the buffer grows: that costs faults, no more. */
static int dirty_reserve(struct domain *d, uint64_t bits)
{
	size_t pages = (bits + BITS_PER_PAGE - 1) / BITS_PER_PAGE;
	bool keep = d->keep;

	if (pages <= d->dirty_pages)
		return 0;
	dirty_release(d);
	d->keep = keep;
	d->dirty = xencall_alloc_buffer_pages(d->call, 2 * pages);
	d->dirty_pages = d->dirty ? pages : 0;
	if (!d->dirty)
		return -ENOMEM;
	memset(keep_bits(d), 0, pages * DOMAIN_PAGE_SIZE);
	return 0;
}

/* A PEEK at no pages that names the mode: a hypervisor that does not know it refuses. */
static bool keep_supported(struct domain *d)
{
	struct xen_domctl *domctl = domctl_begin(d, XEN_DOMCTL_shadow_op);

	domctl->u.shadow_op.op = XEN_DOMCTL_SHADOW_OP_PEEK;
	domctl->u.shadow_op.mode = PVSTATE_CLEAN_KEEP;
	return !domctl_do(d);
}

uint64_t *domain_dirty_keep(struct domain *d)
{
	if (d->keep)
		return keep_bits(d);
	if (dirty_reserve(d, d->memory.limit) || !keep_supported(d))
		return NULL;
	memset(keep_bits(d), 0, d->dirty_pages * DOMAIN_PAGE_SIZE);
	d->keep = true;
	return keep_bits(d);
}

int domain_dirty_clean(struct domain *d, const uint64_t **bits)
{
	uint64_t limit = d->memory.limit;
	struct xen_domctl *domctl;
	int rc;

	if (!limit)
		return -EINVAL;
	rc = dirty_reserve(d, limit);
	if (rc)
		return rc;

	domctl = domctl_begin(d, XEN_DOMCTL_shadow_op);
	domctl->u.shadow_op.op = XEN_DOMCTL_SHADOW_OP_CLEAN;
	domctl->u.shadow_op.mode = d->keep ? PVSTATE_CLEAN_KEEP : 0;
	domctl->u.shadow_op.pages = d->dirty_pages * BITS_PER_PAGE;
	set_xen_guest_handle_raw(domctl->u.shadow_op.dirty_bitmap, (uint8_t *)d->dirty);
	rc = domctl_do(d);
	if (rc)
		return rc;
	if (domctl->u.shadow_op.pages < limit)
		return -EIO;
	if (limit % 64)
		d->dirty[(limit - 1) / 64] &= (1ull << (limit % 64)) - 1;
	*bits = d->dirty;
	return 0;
}
