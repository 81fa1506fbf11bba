/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HVM context by a direct domctl: libxc's wrapper allocates and copies a bounce buffer on every call, which costs
 * 1.1 ms more than the 0.2 ms of the hypercall itself (measured under emulation).
 */
#include "vmm/internal.h"

#include "common/log.h"
#include "vmm/hypervisor/include/pvstate.h"
#include "vmm/hypervisor/include/pvstate_walk.h"

#include <xen/hvm/save.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int context_reserve(struct domain *d, size_t bytes)
{
	size_t pages = (bytes + DOMAIN_PAGE_SIZE - 1) / DOMAIN_PAGE_SIZE;
	void *buffer;

	if (pages <= d->context_pages)
		return 0;
	buffer = xencall_alloc_buffer_pages(d->call, pages);
	if (!buffer)
		return -ENOMEM;
	if (d->context)
		xencall_free_buffer_pages(d->call, d->context, d->context_pages);
	d->context = buffer;
	d->context_pages = pages;
	return 0;
}

static int context_size(struct domain *d, size_t *bytes)
{
	struct xen_domctl *domctl = domctl_begin(d, XEN_DOMCTL_gethvmcontext);
	int rc;

	rc = domctl_do(d);
	*bytes = domctl->u.hvmcontext.size;
	return rc;
}

int domain_context_get(struct domain *d, const void **context, size_t *len)
{
	struct xen_domctl *domctl;
	size_t bytes;
	int rc;

	/* Xen asks for room for the greatest context, which one that was loaded here need not be. */
	if (!d->context_sized) {
		rc = context_size(d, &bytes);
		if (rc)
			return rc;
		rc = context_reserve(d, bytes);
		if (rc)
			return rc;
		d->context_sized = true;
	}

	domctl = domctl_begin(d, XEN_DOMCTL_gethvmcontext);
	domctl->u.hvmcontext.size = (uint32_t)(d->context_pages * DOMAIN_PAGE_SIZE);
	set_xen_guest_handle_raw(domctl->u.hvmcontext.buffer, d->context);
	rc = domctl_do(d);
	if (rc)
		return rc;
	*context = d->context;
	*len = domctl->u.hvmcontext.size;
	return 0;
}

int domain_context_set(struct domain *d, const void *context, size_t len)
{
	struct xen_domctl *domctl;
	int rc;

	rc = context_reserve(d, len);
	if (rc)
		return rc;
	memmove(d->context, context, len);
	domctl = domctl_begin(d, XEN_DOMCTL_sethvmcontext);
	domctl->u.hvmcontext.size = (uint32_t)len;
	set_xen_guest_handle_raw(domctl->u.hvmcontext.buffer, d->context);
	return domctl_do(d);
}

struct gfn_list {
	uint64_t *gfn;
	size_t nr, max;
	bool full;
};

static void gfn_list_add(struct gfn_list *l, uint64_t gfn)
{
	if (gfn == GFN_NONE)
		return;
	if (l->nr == l->max)
		l->full = true;
	else
		l->gfn[l->nr++] = gfn;
}

static int always_domain(const uint8_t *rec, size_t len, struct gfn_list *l)
{
	struct pvstate_domain head;
	uint64_t gfn;
	uint32_t i;

	if (len < sizeof(head))
		return -EINVAL;
	memcpy(&head, rec, sizeof(head));
	if (head.version != PVSTATE_VERSION || head.nr_arrays > PVSTATE_ARRAYS_MAX ||
	    len != PVSTATE_DOMAIN_BYTES(head.nr_arrays))
		return -EINVAL;

	gfn_list_add(l, head.shared_info_gfn);
	for (i = 0; i < head.nr_arrays; i++) {
		memcpy(&gfn, rec + PVSTATE_DOMAIN_BYTES(i), sizeof(gfn));
		gfn_list_add(l, gfn);
	}
	return 0;
}

static int always_vcpu(const uint8_t *rec, size_t len, struct gfn_list *l)
{
	struct pvstate_vcpu v;

	if (len != sizeof(v))
		return -EINVAL;
	memcpy(&v, rec, sizeof(v));
	if (v.version != PVSTATE_VERSION)
		return -EINVAL;
	gfn_list_add(l, v.vcpu_info_gfn);
	gfn_list_add(l, v.control_gfn);
	return 0;
}

/* Walks the records of a context; there must be exactly one domain record and an END. */
static int always_context(const uint8_t *context, size_t len, struct gfn_list *l)
{
	unsigned int domains = 0;
	size_t at = 0;

	for (;;) {
		struct hvm_save_descriptor desc;
		int rc = 0;

		if (len - at < sizeof(desc))
			return -EINVAL;
		memcpy(&desc, context + at, sizeof(desc));
		at += sizeof(desc);
		if (desc.length > len - at)
			return -EINVAL;
		if (desc.typecode == HVM_SAVE_CODE(END))
			return domains == 1 ? 0 : -EINVAL;

		if (desc.typecode == PVSTATE_CODE_DOMAIN) {
			domains++;
			rc = always_domain(context + at, desc.length, l);
		} else if (desc.typecode == PVSTATE_CODE_VCPU) {
			rc = always_vcpu(context + at, desc.length, l);
		}
		if (rc)
			return rc;
		at += desc.length;
	}
}

int domain_always_gfns(const void *context, size_t len, const struct domain_machine *m, uint64_t *gfn,
		       size_t max)
{
	struct gfn_list l = {.gfn = gfn, .max = max};
	size_t i, nr = 0;
	int rc;

	if (m->nr_grant_frames > DOMAIN_GRANT_FRAMES_MAX)
		return -EINVAL;
	rc = always_context(context, len, &l);
	if (rc)
		return rc;
	gfn_list_add(&l, m->shared_info_gfn);
	for (i = 0; i < m->nr_grant_frames; i++)
		gfn_list_add(&l, m->grant_gfn[i]);
	gfn_list_add(&l, m->store_gfn);
	gfn_list_add(&l, m->console_gfn);
	if (l.full)
		return -E2BIG;

	qsort(gfn, l.nr, sizeof(*gfn), gfn_compare);
	for (i = 0; i < l.nr; i++)
		if (!nr || gfn[nr - 1] != gfn[i])
			gfn[nr++] = gfn[i];
	return (int)nr;
}

int domain_context_check(const void *context, size_t len, unsigned int vcpus, const char **why)
{
	struct pvstate_set set;
	int rc;

	rc = pvstate_parse(context, len, vcpus, &set, why);
	if (!rc)
		pvstate_free(&set);
	return rc;
}
