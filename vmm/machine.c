/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What Xen keeps of a domain outside RAM and context: reading it, and putting it back on a shell. */
#include "vmm/internal.h"

#include "common/log.h"

#include <xen/hvm/params.h>
#include <xen/io/console.h>
#include <xen/io/xs_wire.h>

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static int grant_size_answer(struct domain *d, uint32_t *nr)
{
	const struct gnttab_query_size *query = &d->args->query;

	if (query->status != GNTST_okay)
		return -EIO;
	if (query->nr_frames > DOMAIN_GRANT_FRAMES_MAX)
		return -E2BIG;
	*nr = query->nr_frames;
	return 0;
}

int domain_grant_frames(struct domain *d, uint32_t *nr)
{
	struct gnttab_query_size *query = &d->args->query;

	*query = (struct gnttab_query_size){.dom = (domid_t)d->domid};
	if (xencall3(d->call, __HYPERVISOR_grant_table_op, GNTTABOP_query_size, (uintptr_t)query, 1) < 0)
		return -errno;
	return grant_size_answer(d, nr);
}

static void grant_table_ask(struct domain *d, uint32_t nr_frames)
{
	struct gnttab_setup_table *setup = &d->args->setup;

	/* Asking for as many frames as there are changes nothing and tells the gfns. */
	*setup = (struct gnttab_setup_table){.dom = (domid_t)d->domid, .nr_frames = nr_frames};
	set_xen_guest_handle_raw(setup->frame_list, d->args->frame);
}

static int grant_table_answer(struct domain *d, struct domain_machine *m)
{
	uint32_t i;

	if (d->args->setup.status != GNTST_okay)
		return -EIO;
	m->nr_grant_frames = d->args->setup.nr_frames;
	for (i = 0; i < m->nr_grant_frames; i++)
		m->grant_gfn[i] = d->args->frame[i];
	return 0;
}

static int machine_grants(struct domain *d, struct domain_machine *m, uint32_t nr_frames)
{
	grant_table_ask(d, nr_frames);
	if (xencall3(d->call, __HYPERVISOR_grant_table_op, GNTTABOP_setup_table, (uintptr_t)&d->args->setup, 1) < 0)
		return -errno;
	return grant_table_answer(d, m);
}

/* Only version 1 entries can be put back on a shell. */
static int machine_check_grant_version(struct domain *d)
{
	struct gnttab_get_version *v = &d->args->version;

	*v = (struct gnttab_get_version){.dom = (domid_t)d->domid};
	if (xencall3(d->call, __HYPERVISOR_grant_table_op, GNTTABOP_get_version, (uintptr_t)v, 1) < 0)
		return -errno;
	if (v->version == 1)
		return 0;
	log_err(d->name, "grant table version %u: not supported", v->version);
	return -EOPNOTSUPP;
}

/* What is settled when the domain is built. */
static int machine_get_fixed(struct domain *d, struct domain_machine *m)
{
	uint64_t store_port, console_port;
	int rc;

	rc = machine_check_grant_version(d);
	if (rc)
		return rc;
	rc = hvm_param_get(d, HVM_PARAM_STORE_PFN, &m->store_gfn);
	if (rc)
		return rc;
	rc = hvm_param_get(d, HVM_PARAM_CONSOLE_PFN, &m->console_gfn);
	if (rc)
		return rc;
	rc = hvm_param_get(d, HVM_PARAM_STORE_EVTCHN, &store_port);
	if (rc)
		return rc;
	rc = hvm_param_get(d, HVM_PARAM_CONSOLE_EVTCHN, &console_port);
	if (rc)
		return rc;
	m->store_port = (uint32_t)store_port;
	m->console_port = (uint32_t)console_port;
	return 0;
}

static void ask(multicall_entry_t *e, unsigned long op, uintptr_t arg0, uintptr_t arg1, uintptr_t arg2)
{
	*e = (multicall_entry_t){.op = op, .args = {arg0, arg1, arg2}};
}

/* Fills the arguments; the grant table is asked for as many frames as it had. */
static void machine_ask(struct domain *d, uint32_t nr_frames)
{
	struct hypercall_args *a = d->args;

	domctl_fill(d, &a->info, XEN_DOMCTL_getdomaininfo);
	ask(&a->ask[ASK_INFO], __HYPERVISOR_domctl, (uintptr_t)&a->info, 0, 0);
	a->query = (struct gnttab_query_size){.dom = (domid_t)d->domid};
	ask(&a->ask[ASK_GRANT_SIZE], __HYPERVISOR_grant_table_op, GNTTABOP_query_size, (uintptr_t)&a->query, 1);
	grant_table_ask(d, nr_frames);
	ask(&a->ask[ASK_GRANT_TABLE], __HYPERVISOR_grant_table_op, GNTTABOP_setup_table, (uintptr_t)&a->setup, 1);
	a->param = (struct xen_hvm_param){.domid = (domid_t)d->domid, .index = HVM_PARAM_CALLBACK_IRQ};
	ask(&a->ask[ASK_CALLBACK], __HYPERVISOR_hvm_op, HVMOP_get_param, (uintptr_t)&a->param, 0);
	domctl_fill(d, &a->tsc, XEN_DOMCTL_gettscinfo);
	ask(&a->ask[ASK_TSC], __HYPERVISOR_domctl, (uintptr_t)&a->tsc, 0, 0);
}

static int machine_answers(struct domain *d)
{
	unsigned int i;

	if (xencall2(d->call, __HYPERVISOR_multicall, (uintptr_t)d->args->ask, MACHINE_ASKS) < 0)
		return -errno;
	for (i = 0; i < MACHINE_ASKS; i++) {
		long r = (long)d->args->ask[i].result;

		if (r < 0)
			return r == -ESRCH ? -ENOENT : (int)r;
	}
	return d->args->info.u.getdomaininfo.domain == d->domid ? 0 : -ENOENT;
}

static void machine_take_tsc(struct domain_machine *m, const struct xen_domctl *domctl)
{
	m->tsc_mode = domctl->u.tsc_info.tsc_mode;
	m->tsc_khz = domctl->u.tsc_info.gtsc_khz;
	m->tsc_incarnation = domctl->u.tsc_info.incarnation;
	m->tsc_elapsed_ns = domctl->u.tsc_info.elapsed_nsec;
}

/* A frame that moved or came after domain_map() is mapped where it is now. */
static int machine_follow(struct domain *d, const struct domain_machine *old, const struct domain_machine *now)
{
	uint32_t i;
	int rc;

	if (!d->memory.base)
		return 0;
	if (now->shared_info_gfn != old->shared_info_gfn && now->shared_info_gfn != GFN_NONE) {
		rc = memory_add(d, now->shared_info_gfn);
		if (rc)
			return rc;
	}
	for (i = 0; i < now->nr_grant_frames; i++) {
		if (now->grant_gfn[i] == GFN_NONE ||
		    (i < old->nr_grant_frames && now->grant_gfn[i] == old->grant_gfn[i]))
			continue;
		rc = memory_add(d, now->grant_gfn[i]);
		if (rc)
			return rc;
	}
	return 0;
}

/*
 * Pages that were given up stay allocated while we map them, so the count cannot fall; it rises only if somebody
 * raised the cap. Put it back before the guest can use it, and give up if that came too late.
 */
static int machine_check_pages(struct domain *d, const struct xen_domctl_getdomaininfo *info)
{
	if (!d->memory.base)
		return 0;
	if (info->tot_pages != d->memory.pages) {
		log_err(d->name, "memory went from %" PRIu64 " to %" PRIu64 " pages: its map is stale", d->memory.pages,
			(uint64_t)info->tot_pages);
		return -ESTALE;
	}
	if (d->frozen_pages && info->max_pages > d->frozen_pages) {
		log_warn(d->name, "memory limit was raised to %" PRIu64 " pages: set back", (uint64_t)info->max_pages);
		if (xc_domain_setmaxmem(d->xc, d->domid, d->frozen_pages * (DOMAIN_PAGE_SIZE / 1024)))
			return -errno;
	}
	return 0;
}

/* The grants as they are now; the table may have grown since its size was last known. */
static int machine_take_grants(struct domain *d, struct domain_machine *m)
{
	uint32_t nr;
	int rc;

	rc = grant_size_answer(d, &nr);
	if (rc)
		return rc;
	return nr == m->nr_grant_frames ? grant_table_answer(d, m) : machine_grants(d, m, nr);
}

int domain_machine_get(struct domain *d, struct domain_machine *m)
{
	const struct xen_domctl_getdomaininfo *info = &d->args->info.u.getdomaininfo;
	int rc;

	*m = d->machine;
	if (!d->machine_known) {
		rc = machine_get_fixed(d, m);
		if (rc)
			return rc;
	}
	machine_ask(d, m->nr_grant_frames);
	rc = machine_answers(d);
	if (rc)
		return rc;
	m->callback_irq = d->args->param.value;
	machine_take_tsc(m, &d->args->tsc);
	/* Xen answers with an invalid gfn of its own where shared_info is not in the physmap. */
	m->shared_info_gfn = info->shared_info_frame >> 52 ? GFN_NONE : info->shared_info_frame;
	rc = machine_check_pages(d, info);
	if (rc)
		return rc;
	rc = machine_take_grants(d, m);
	if (rc)
		return rc;
	if (d->machine_known) {
		rc = machine_follow(d, &d->machine, m);
		if (rc)
			return rc;
	}
	d->machine = *m;
	d->machine_known = true;
	return 0;
}

bool domain_page_is_tail(const struct domain_machine *m, uint64_t gfn)
{
	uint32_t i;

	if (gfn == m->shared_info_gfn || gfn == m->store_gfn || gfn == m->console_gfn)
		return true;
	for (i = 0; i < m->nr_grant_frames && i < DOMAIN_GRANT_FRAMES_MAX; i++)
		if (gfn == m->grant_gfn[i])
			return true;
	return false;
}

/* No back end of the backup has mapped anything yet; entries 0-7 of frame 0 are the toolstack's (store, console). */
static void tail_grant_frame(grant_entry_v1_t *to, const grant_entry_v1_t *from, uint32_t frame)
{
	unsigned int i, nr = DOMAIN_PAGE_SIZE / sizeof(*to);

	for (i = frame ? 0 : GNTTAB_NR_RESERVED_ENTRIES; i < nr; i++) {
		grant_entry_v1_t e = from[i];

		e.flags &= (uint16_t)~(GTF_reading | GTF_writing);
		to[i] = e;
	}
}

/* Consumer and producer of a direction in one store: the daemon that shares the page must not see one without the other. */
static void tail_indexes(void *to, const void *from)
{
	uint64_t pair;

	memcpy(&pair, from, sizeof(pair));
	__atomic_store_n((uint64_t *)to, pair, __ATOMIC_RELEASE);
}

static void tail_ring(uint8_t *to, const uint8_t *from, size_t indexes)
{
	memcpy(to, from, indexes);
	tail_indexes(to + indexes, from + indexes);
	tail_indexes(to + indexes + sizeof(uint64_t), from + indexes + sizeof(uint64_t));
}

#define STORE_INDEXES offsetof(struct xenstore_domain_interface, req_cons)
#define CONSOLE_INDEXES offsetof(struct xencons_interface, in_cons)
_Static_assert(STORE_INDEXES % sizeof(uint64_t) == 0 &&
	       offsetof(struct xenstore_domain_interface, rsp_prod) == STORE_INDEXES + 12, "two pairs");
_Static_assert(CONSOLE_INDEXES % sizeof(uint64_t) == 0 &&
	       offsetof(struct xencons_interface, out_prod) == CONSOLE_INDEXES + 12, "two pairs");

int domain_tail_set(struct domain *d, const struct domain_machine *m, const void *(*page)(void *arg, uint64_t gfn),
		    void *arg)
{
	const void *from;
	void *to;
	uint32_t i;

	if (m->nr_grant_frames > DOMAIN_GRANT_FRAMES_MAX)
		return -EINVAL;
	for (i = 0; i < m->nr_grant_frames; i++) {
		if (m->grant_gfn[i] == GFN_NONE)
			continue;
		to = domain_page(d, m->grant_gfn[i]);
		from = page(arg, m->grant_gfn[i]);
		if (!to || !from)
			return -ENOENT;
		tail_grant_frame(to, from, i);
	}

	to = domain_page(d, m->shared_info_gfn);
	from = page(arg, m->shared_info_gfn);
	if (to && from)
		memcpy(to, from, DOMAIN_PAGE_SIZE);
	else if (m->shared_info_gfn != GFN_NONE)
		return -ENOENT;

	to = domain_page(d, m->store_gfn);
	from = page(arg, m->store_gfn);
	if (!to || !from)
		return -ENOENT;
	tail_ring(to, from, STORE_INDEXES);

	to = domain_page(d, m->console_gfn);
	from = page(arg, m->console_gfn);
	if (!to || !from)
		return -ENOENT;
	tail_ring(to, from, CONSOLE_INDEXES);
	return 0;
}

int domain_machine_set(struct domain *d, const struct domain_machine *m)
{
	struct domain_machine here = {0};
	struct xen_domctl *domctl;
	int rc;

	/* The guest knows its store and console by gfn and port: a shell that was built differently is none. */
	rc = machine_get_fixed(d, &here);
	if (rc)
		return rc;
	if (here.store_gfn != m->store_gfn || here.console_gfn != m->console_gfn || here.store_port != m->store_port ||
	    here.console_port != m->console_port) {
		log_err(d->name, "the shell's store is gfn %#" PRIx64 " port %u, console gfn %#" PRIx64 " port %u; "
			"the guest has %#" PRIx64 " %u, %#" PRIx64 " %u", here.store_gfn, here.store_port,
			here.console_gfn, here.console_port, m->store_gfn, m->store_port, m->console_gfn,
			m->console_port);
		return -EINVAL;
	}

	rc = hvm_param_set(d, HVM_PARAM_CALLBACK_IRQ, m->callback_irq);
	if (rc)
		return rc;
	domctl = domctl_begin(d, XEN_DOMCTL_settscinfo);
	domctl->u.tsc_info.tsc_mode = m->tsc_mode;
	domctl->u.tsc_info.gtsc_khz = m->tsc_khz;
	domctl->u.tsc_info.incarnation = m->tsc_incarnation - 1;	/* Xen adds one */
	domctl->u.tsc_info.elapsed_nsec = m->tsc_elapsed_ns;
	return domctl_do(d);
}

bool domain_store_quiet(const struct domain *d, const struct domain_machine *m, uint64_t *stamp)
{
	const volatile struct xenstore_domain_interface *ring = domain_page(d, m->store_gfn);
	uint32_t req_prod, rsp_prod;

	*stamp = 0;
	if (!ring)
		return false;
	req_prod = ring->req_prod;
	rsp_prod = ring->rsp_prod;
	*stamp = (uint64_t)req_prod << 32 | rsp_prod;
	return ring->req_cons == req_prod && ring->rsp_cons == rsp_prod;
}
