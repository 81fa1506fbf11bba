/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Log-dirty by direct domctl into a bitmap that is allocated once. */
#include "vmm/internal.h"

#include <errno.h>

static int dirty_op(struct domain *d, uint32_t op)
{
	struct xen_domctl *domctl = domctl_begin(d, XEN_DOMCTL_shadow_op);

	domctl->u.shadow_op.op = op;
	return domctl_do(d);
}

int domain_dirty_enable(struct domain *d)
{
	int rc;

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

static int dirty_reserve(struct domain *d, uint64_t bits)
{
	size_t pages = (bits / 8 + DOMAIN_PAGE_SIZE) / DOMAIN_PAGE_SIZE;

	if (pages <= d->dirty_pages)
		return 0;
	if (d->dirty)
		xencall_free_buffer_pages(d->call, d->dirty, d->dirty_pages);
	d->dirty = xencall_alloc_buffer_pages(d->call, pages);
	d->dirty_pages = d->dirty ? pages : 0;
	return d->dirty ? 0 : -ENOMEM;
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

	d->dirty[(limit - 1) / 64] = 0;		/* Xen writes whole bytes, the last word may have more */
	domctl = domctl_begin(d, XEN_DOMCTL_shadow_op);
	domctl->u.shadow_op.op = XEN_DOMCTL_SHADOW_OP_CLEAN;
	domctl->u.shadow_op.pages = limit;
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
