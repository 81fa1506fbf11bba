/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opening, life and identity of a domain, and the direct hypercalls that the other files build on. */
#include "vmm/internal.h"

#include "common/log.h"
#include "vmm/hypervisor/include/pvstate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const domain_kind_name[] = {
	[DOMAIN_PV] = "PV",
	[DOMAIN_HVM] = "HVM",
	[DOMAIN_PVH] = "PVH",
};

void domctl_fill(const struct domain *d, struct xen_domctl *domctl, uint32_t cmd)
{
	memset(domctl, 0, sizeof(*domctl));
	domctl->cmd = cmd;
	domctl->interface_version = XEN_DOMCTL_INTERFACE_VERSION;
	domctl->domain = (domid_t)d->domid;
}

struct xen_domctl *domctl_begin(struct domain *d, uint32_t cmd)
{
	domctl_fill(d, &d->args->domctl, cmd);
	return &d->args->domctl;
}

int domctl_do(struct domain *d)
{
	int r = xencall1(d->call, __HYPERVISOR_domctl, (uintptr_t)&d->args->domctl);

	if (r >= 0)
		return 0;
	return errno == ESRCH ? -ENOENT : -errno;
}

/* XEN_DOMCTL_getdomaininfo answers for the next domain where the asked one is gone. */
int domain_getinfo(struct domain *d, struct xen_domctl_getdomaininfo *info)
{
	struct xen_domctl *domctl = domctl_begin(d, XEN_DOMCTL_getdomaininfo);
	int rc;

	rc = domctl_do(d);
	if (rc)
		return rc;
	*info = domctl->u.getdomaininfo;
	return info->domain == d->domid ? 0 : -ENOENT;
}

static int hvm_param(struct domain *d, unsigned int op, uint32_t index, uint64_t *value)
{
	struct xen_hvm_param *p = &d->args->param;

	*p = (struct xen_hvm_param){.domid = (domid_t)d->domid, .index = index, .value = *value};
	if (xencall2(d->call, __HYPERVISOR_hvm_op, op, (uintptr_t)p) < 0)
		return errno == ESRCH ? -ENOENT : -errno;
	*value = p->value;
	return 0;
}

int hvm_param_get(struct domain *d, uint32_t index, uint64_t *value)
{
	*value = 0;
	return hvm_param(d, HVMOP_get_param, index, value);
}

int hvm_param_set(struct domain *d, uint32_t index, uint64_t value)
{
	return hvm_param(d, HVMOP_set_param, index, &value);
}

int domain_open(uint32_t domid, const char *name, struct domain **out)
{
	struct xen_domctl_getdomaininfo info;
	struct domain *d = calloc(1, sizeof(*d));
	int rc;

	if (!d)
		return -ENOMEM;
	d->domid = domid;
	snprintf(d->name, sizeof(d->name), "%s", name ? name : "");

	d->xc = xc_interface_open(NULL, NULL, 0);
	d->call = xencall_open(NULL, 0);
	d->foreign = xenforeignmemory_open(NULL, 0);
	d->xs = xs_open(0);
	if (!d->xc || !d->call || !d->foreign || !d->xs) {
		rc = errno ? -errno : -EIO;
		goto out;
	}
	d->args = xencall_alloc_buffer_pages(d->call, 1);
	if (!d->args) {
		rc = -ENOMEM;
		goto out;
	}
	rc = domain_getinfo(d, &info);
out:
	if (rc) {
		domain_close(d);
		d = NULL;
	}
	*out = d;
	return rc;
}

void domain_close(struct domain *d)
{
	if (!d)
		return;
	domain_unmap(d);
	if (d->context)
		xencall_free_buffer_pages(d->call, d->context, d->context_pages);
	if (d->args)
		xencall_free_buffer_pages(d->call, d->args, 1);
	if (d->xs)
		xs_close(d->xs);
	if (d->foreign)
		xenforeignmemory_close(d->foreign);
	if (d->call)
		xencall_close(d->call);
	if (d->xc)
		xc_interface_close(d->xc);
	free(d);
}

/* libxl keeps one node per passed-through PCI or USB device below /libxl (tools/libs/light). */
static unsigned int domain_passthrough(struct domain *d)
{
	static const char *const class_of[] = {"pci", "vusb"};
	unsigned int i, nr, n = 0;
	char path[96], **found, *count;

	for (i = 0; i < sizeof(class_of) / sizeof(*class_of); i++) {
		snprintf(path, sizeof(path), "/libxl/%u/device/%s", d->domid, class_of[i]);
		found = xs_directory(d->xs, XBT_NULL, path, &nr);
		if (found && nr)
			n += nr;
		free(found);
	}
	/* One "pci" back end stands for num_devs devices. */
	snprintf(path, sizeof(path), "/local/domain/0/backend/pci/%u/0/num_devs", d->domid);
	count = xs_read(d->xs, XBT_NULL, path, &nr);
	if (count && n && strtoul(count, NULL, 10) > n)
		n = (unsigned int)strtoul(count, NULL, 10);
	free(count);
	return n;
}

/* A PVH guest is an HVM container without the emulated platform: only the local APIC and, in dom0, vPCI. */
static enum domain_kind domain_kind_of(const struct xen_domctl_getdomaininfo *info)
{
	if (!(info->flags & XEN_DOMINF_hvm_guest))
		return DOMAIN_PV;
	return info->arch_config.emulation_flags & ~(XEN_X86_EMU_LAPIC | XEN_X86_EMU_VPCI) ? DOMAIN_HVM
											 : DOMAIN_PVH;
}

int domain_info(struct domain *d, struct domain_info *info)
{
	struct xen_domctl_getdomaininfo x;
	int rc;

	rc = domain_getinfo(d, &x);
	if (rc)
		return rc;

	*info = (struct domain_info){
		.domid = d->domid,
		.kind = domain_kind_of(&x),
		.vcpus = x.max_vcpu_id == XEN_INVALID_MAX_VCPU_ID ? 0 : x.max_vcpu_id + 1,
		.pages = x.tot_pages,
		.max_pages = x.max_pages,
		.paused = x.flags & XEN_DOMINF_paused,
		.shutdown = x.flags & XEN_DOMINF_shutdown,
		.dying = x.flags & XEN_DOMINF_dying,
		.ever_ran = x.cpu_time > 0,
		.shutdown_reason = (x.flags >> XEN_DOMINF_shutdownshift) & XEN_DOMINF_shutdownmask,
		.passthrough_devices = domain_passthrough(d),
	};
	memcpy(info->uuid, x.handle, sizeof(info->uuid));
	return 0;
}

int domain_pause(struct domain *d)
{
	domctl_begin(d, XEN_DOMCTL_pausedomain);
	return domctl_do(d);
}

int domain_unpause(struct domain *d)
{
	domctl_begin(d, XEN_DOMCTL_unpausedomain);
	return domctl_do(d);
}

int domain_pv_state(struct domain *d, bool on)
{
	int rc;

	d->context_sized = false;
	rc = hvm_param_set(d, HVM_PARAM_PV_STATE, on);
	/* A hypervisor that does not know the parameter calls its index invalid. */
	return rc == -EINVAL ? -ENOSYS : rc;
}

int domain_pv_state_get(struct domain *d, bool *on)
{
	uint64_t value = 0;
	int rc;

	rc = hvm_param_get(d, HVM_PARAM_PV_STATE, &value);
	*on = !rc && value;
	return rc == -EINVAL ? 0 : rc;
}
