/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Validation of PV state records that needs nothing but the records: built into Xen (load) and into dom0 (a backup
 * checks a context before it acknowledges it; the fuzz target). Each record must be aligned to 8 bytes. 0 or -EINVAL;
 * `*why` is then a constant string that names the field.
 */
#ifndef PUBLIC_HVM_PVSTATE_CHECK_H
#define PUBLIC_HVM_PVSTATE_CHECK_H

#ifdef __XEN__
#include <public/hvm/pvstate.h>
#else
#include "pvstate.h"
#endif

/* A whole set. `vcpu[i]` is NULL where the context had no record for vCPU i. */
struct pvstate_set {
	struct pvstate_evtchn *evtchn;
	struct pvstate_domain *domain;
	struct pvstate_vcpu **vcpu;
	uint32_t nr_vcpus;		/* length of `vcpu`: the domain's max_vcpus */
};

/* One record by itself; `len` is the descriptor's length, `nr_vcpus` the domain's max_vcpus. */
int pvstate_check_evtchn(const struct pvstate_evtchn *e, uint32_t len, uint32_t nr_vcpus, const char **why);
int pvstate_check_domain(const struct pvstate_domain *d, uint32_t len, const char **why);
int pvstate_check_vcpu(const struct pvstate_vcpu *v, uint32_t len, const char **why);

/* What must hold between records that each passed: completeness, ABI against arrays and control blocks, overlaps. */
int pvstate_check_set(const struct pvstate_set *set, const char **why);

/* VIRQs of which a domain has one, at vCPU 0, instead of one per vCPU. */
int pvstate_virq_is_global(uint32_t virq);

#endif
