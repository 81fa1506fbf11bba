/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifdef __XEN__
#include <xen/errno.h>
#include <xen/lib.h>
#include <public/hvm/pvstate_check.h>
#else
#include "../include/pvstate_check.h"

#include <errno.h>
#include <stddef.h>
#endif

#define PAGE_BYTES		4096u
#define VCPU_INFO_BYTES		64u
#define CONTROL_BLOCK_BYTES	72u	/* ready, reserved, head[16] */
#define TIME_MAX		((uint64_t)1 << 62)
#define PERIOD_MIN		1000000u	/* VCPUOP_set_periodic_timer's */
#define GFN_LIMIT		((uint64_t)1 << 40)
#define VIRQS			24u
#define VIRQS_BOUND_MAX		(VIRQS * PVSTATE_VCPUS_MAX)
#define DOMID_FIRST_SPECIAL	0x7ff0u
#define UPCALL_VECTOR_MIN	0x10u
#define VA_SIGN_BITS		(~(uint64_t)0 << 56)	/* canonical with five-level paging */

_Static_assert(sizeof(struct pvstate_port) == 16, "format");
_Static_assert(sizeof(struct pvstate_evtchn) == 8, "format");
_Static_assert(sizeof(struct pvstate_domain) == 32, "format");
_Static_assert(sizeof(struct pvstate_vcpu) == 160, "format");

static int bad(const char **why, const char *what)
{
	*why = what;
	return -EINVAL;
}

int pvstate_virq_is_global(uint32_t virq)
{
	/* VIRQ_TIMER, VIRQ_DEBUG, VIRQ_XENOPROF, VIRQ_XENPMU */
	return virq != 0 && virq != 1 && virq != 7 && virq != 13;
}

static int same_virq(const struct pvstate_port *a, const struct pvstate_port *b)
{
	return b->kind == PVSTATE_PORT_VIRQ && a->remote == b->remote &&
	       (pvstate_virq_is_global(a->remote) || a->vcpu == b->vcpu);
}

static int check_virq(const struct pvstate_evtchn *e, uint32_t at, const char **why)
{
	const struct pvstate_port *p = &e->port[at];
	uint32_t i;

	if (p->remote >= VIRQS)
		return bad(why, "VIRQ number");
	for (i = 0; i < at; i++)
		if (same_virq(p, &e->port[i]))
			return bad(why, "VIRQ bound twice");
	return 0;
}

static int check_port(const struct pvstate_evtchn *e, uint32_t at, uint32_t nr_vcpus, const char **why)
{
	const struct pvstate_port *p = &e->port[at];

	if (p->port == 0 || p->port >= PVSTATE_PORT_LIMIT)
		return bad(why, "port number");
	if (at > 0 && p->port <= e->port[at - 1].port)
		return bad(why, "ports not ascending");
	if (p->vcpu >= nr_vcpus)
		return bad(why, "port's vCPU");
	if (p->last_vcpu >= nr_vcpus)
		return bad(why, "port's last vCPU");
	if (p->priority >= PVSTATE_QUEUES)
		return bad(why, "port's priority");
	if (p->last_priority >= PVSTATE_QUEUES)
		return bad(why, "port's last priority");
	if (p->flags & ~PVSTATE_PORT_RAISED)
		return bad(why, "port's flags");
	switch (p->kind) {
	case PVSTATE_PORT_UNBOUND:
	case PVSTATE_PORT_INTERDOMAIN:
		return p->remote < DOMID_FIRST_SPECIAL ? 0 : bad(why, "remote domid");
	case PVSTATE_PORT_VIRQ:
		return check_virq(e, at, why);
	case PVSTATE_PORT_IPI:
		return p->remote == 0 ? 0 : bad(why, "IPI port's padding");
	default:
		return bad(why, "port's kind");
	}
}

int pvstate_check_evtchn(const struct pvstate_evtchn *e, uint32_t len, uint32_t nr_vcpus, const char **why)
{
	uint32_t i, virqs = 0;
	int rc;

	if (len < sizeof(*e) || e->version != PVSTATE_VERSION)
		return bad(why, "event channels: version");
	if (e->pad)
		return bad(why, "event channels: padding");
	if (e->nr_ports > PVSTATE_PORTS_MAX || len != PVSTATE_EVTCHN_BYTES(e->nr_ports))
		return bad(why, "event channels: count");
	for (i = 0; i < e->nr_ports; i++) {
		virqs += e->port[i].kind == PVSTATE_PORT_VIRQ;
		if (virqs > VIRQS_BOUND_MAX)
			return bad(why, "too many VIRQs");
		rc = check_port(e, i, nr_vcpus, why);
		if (rc)
			return rc;
	}
	return 0;
}

int pvstate_check_domain(const struct pvstate_domain *d, uint32_t len, const char **why)
{
	uint32_t i, j;

	if (len < sizeof(*d) || d->version != PVSTATE_VERSION)
		return bad(why, "domain: version");
	if (d->pad)
		return bad(why, "domain: padding");
	if (d->abi != PVSTATE_ABI_2L && d->abi != PVSTATE_ABI_FIFO)
		return bad(why, "domain: event ABI");
	if (d->nr_arrays > (d->abi == PVSTATE_ABI_FIFO ? PVSTATE_ARRAYS_MAX : 0) ||
	    len != PVSTATE_DOMAIN_BYTES(d->nr_arrays))
		return bad(why, "domain: event arrays");
	if (d->system_time >= TIME_MAX)
		return bad(why, "domain: system time");
	if (d->shared_info_gfn >= GFN_LIMIT && d->shared_info_gfn != PVSTATE_GFN_NONE)
		return bad(why, "domain: shared_info gfn");
	for (i = 0; i < d->nr_arrays; i++) {
		if (d->array_gfn[i] >= GFN_LIMIT)
			return bad(why, "domain: event array gfn");
		for (j = 0; j < i; j++)
			if (d->array_gfn[i] == d->array_gfn[j])
				return bad(why, "domain: event array twice");
	}
	return 0;
}

/* A structure of `bytes` at `offset` of page `gfn`, aligned to 8 and inside the page; both zero and none if absent. */
static int check_place(uint64_t gfn, uint32_t offset, uint32_t bytes)
{
	if (gfn == PVSTATE_GFN_NONE)
		return offset == 0;
	return gfn < GFN_LIMIT && (offset & 7) == 0 && offset <= PAGE_BYTES - bytes;
}

static int canonical(uint64_t va)
{
	uint64_t sign = va & VA_SIGN_BITS;

	return sign == 0 || sign == VA_SIGN_BITS;
}

static int check_vcpu_times(const struct pvstate_vcpu *v, const char **why)
{
	uint32_t i;

	for (i = 0; i < 4; i++)
		if (v->runstate_time[i] >= TIME_MAX)
			return bad(why, "vCPU: runstate time");
	if (v->singleshot >= TIME_MAX)
		return bad(why, "vCPU: singleshot timer");
	if (v->periodic_period && (v->periodic_period < PERIOD_MIN || v->periodic_period >= TIME_MAX))
		return bad(why, "vCPU: periodic timer");
	return 0;
}

int pvstate_check_vcpu(const struct pvstate_vcpu *v, uint32_t len, const char **why)
{
	uint32_t i;

	if (len != sizeof(*v) || v->version != PVSTATE_VERSION)
		return bad(why, "vCPU: version");
	for (i = 0; i < sizeof(v->pad); i++)
		if (v->pad[i])
			return bad(why, "vCPU: padding");
	if (v->upcall_vector && v->upcall_vector < UPCALL_VECTOR_MIN)
		return bad(why, "vCPU: upcall vector");
	if (!check_place(v->vcpu_info_gfn, v->vcpu_info_offset, VCPU_INFO_BYTES))
		return bad(why, "vCPU: vcpu_info");
	if (!check_place(v->control_gfn, v->control_offset, CONTROL_BLOCK_BYTES))
		return bad(why, "vCPU: control block");
	if (!canonical(v->runstate_va))
		return bad(why, "vCPU: runstate area");
	if (!canonical(v->time_info_va))
		return bad(why, "vCPU: time area");
	for (i = 0; i < PVSTATE_QUEUES; i++)
		if (v->queue_tail[i] >= PVSTATE_PORT_LIMIT || (v->queue_tail[i] && v->control_gfn == PVSTATE_GFN_NONE))
			return bad(why, "vCPU: queue tail");
	return check_vcpu_times(v, why);
}

static uint32_t distance(uint32_t a, uint32_t b)
{
	return a > b ? a - b : b - a;
}

/* Two vCPUs' registrations must not share bytes, nor a control block lie in an event array. */
static int check_overlaps(const struct pvstate_set *set, uint32_t at, const char **why)
{
	const struct pvstate_vcpu *v = set->vcpu[at];
	uint32_t i;

	for (i = 0; i < at; i++) {
		const struct pvstate_vcpu *o = set->vcpu[i];

		if (!o)
			continue;
		if (v->vcpu_info_gfn != PVSTATE_GFN_NONE && v->vcpu_info_gfn == o->vcpu_info_gfn &&
		    distance(v->vcpu_info_offset, o->vcpu_info_offset) < VCPU_INFO_BYTES)
			return bad(why, "vCPU: vcpu_info shared");
		if (v->control_gfn != PVSTATE_GFN_NONE && v->control_gfn == o->control_gfn &&
		    distance(v->control_offset, o->control_offset) < CONTROL_BLOCK_BYTES)
			return bad(why, "vCPU: control block shared");
	}
	for (i = 0; i < set->domain->nr_arrays; i++)
		if (v->control_gfn == set->domain->array_gfn[i] || v->vcpu_info_gfn == set->domain->array_gfn[i])
			return bad(why, "vCPU: registration inside an event array");
	return 0;
}

static int check_against_abi(const struct pvstate_set *set, const struct pvstate_vcpu *v, const char **why)
{
	uint32_t i, words = set->domain->nr_arrays * PVSTATE_WORDS_PER_ARRAY;

	if (set->domain->abi == PVSTATE_ABI_2L && v->control_gfn != PVSTATE_GFN_NONE)
		return bad(why, "vCPU: control block without the FIFO ABI");
	for (i = 0; i < PVSTATE_QUEUES; i++)
		if (v->queue_tail[i] && v->queue_tail[i] >= words)
			return bad(why, "vCPU: queue tail outside the event arrays");
	return 0;
}

int pvstate_check_set(const struct pvstate_set *set, const char **why)
{
	uint32_t i, blocks = 0;
	int rc;

	if (!set->evtchn || !set->domain)
		return bad(why, "a record is missing");
	for (i = 0; i < set->nr_vcpus; i++) {
		if (!set->vcpu[i])
			return bad(why, "a vCPU's record is missing");
		rc = check_against_abi(set, set->vcpu[i], why);
		if (!rc)
			rc = check_overlaps(set, i, why);
		if (rc)
			return rc;
		blocks += set->vcpu[i]->control_gfn != PVSTATE_GFN_NONE;
	}
	/* The first control block is what switches a domain to this ABI. */
	if (set->domain->abi == PVSTATE_ABI_FIFO && blocks == 0)
		return bad(why, "domain: FIFO ABI without a control block");
	return 0;
}
