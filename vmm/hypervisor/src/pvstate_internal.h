/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PV interface state, inside Xen: see arch/x86/hvm/pvstate.c. Installed as xen/include/xen/pvstate.h. */
#ifndef __XEN_PVSTATE_H__
#define __XEN_PVSTATE_H__

#include <xen/time.h>
#include <xen/types.h>

struct domain;
struct evtchn;
struct hvm_domain_context;
struct pvstate_evtchn;
struct pvstate_port;
struct pvstate_set;
struct pvstate_vcpu;
struct vcpu;

/* HVM_PARAM_PV_STATE was set to `value`; -EINVAL for anything but 0 and 1. */
int pvstate_set_param(struct domain *d, uint64_t value);

/* What the records can take in d's context: 0 while the parameter is off. */
size_t pvstate_save_size(const struct domain *d);

/* End of hvm_load(): applies the records that its handlers gathered, if rc is 0; drops them. The final result. */
int pvstate_load_end(struct domain *d, int rc);

/*
 * While the controller has a domain paused nothing but its own tools may write to its memory. An event for it is
 * only noted in its channel, and delivered by the last unpause.
 */
void evtchn_pv_set_pending(struct domain *d, unsigned int vcpu_id, struct evtchn *chn);
void evtchn_pv_thaw(struct domain *d);

/* Waits until no event is on its way into the memory of a domain that the controller has paused. */
void evtchn_pv_settle(const struct domain *d);

/* -E2BIG: more than PVSTATE_PORTS_MAX ports; -EOPNOTSUPP: a PIRQ, or a channel from the domain to itself. */
int evtchn_pv_export(struct domain *d, struct pvstate_evtchn *rec);

/*
 * Import, with event_lock held throughout. prepare() does all that can fail and notes the ports that it creates in
 * `created` (one bit per entry of the record); abandon() undoes it; commit() cannot fail.
 */
int evtchn_pv_prepare(struct domain *d, const struct pvstate_evtchn *rec, unsigned long *created, const char **why);
void evtchn_pv_abandon(struct domain *d, const struct pvstate_evtchn *rec, const unsigned long *created);
void evtchn_pv_commit(struct domain *d, const struct pvstate_evtchn *rec);

/* Raises the ports that may have lost a notification. Takes event_lock. */
void evtchn_pv_raise(struct domain *d, const struct pvstate_evtchn *rec);

/* The same for the FIFO ABI's pages; no-ops on a set with the 2-level ABI, except that it refuses a FIFO domain. */
void evtchn_fifo_pv_export(struct vcpu *v, struct pvstate_vcpu *rec);
unsigned int evtchn_fifo_pv_arrays(const struct domain *d, uint64_t *gfn);
int evtchn_fifo_pv_prepare(struct domain *d, const struct pvstate_set *set, const char **why);
void evtchn_fifo_pv_abandon(struct domain *d);
void evtchn_fifo_pv_commit(struct domain *d, const struct pvstate_set *set);

/* Takes effect when the vCPU is next scheduled. */
void vcpu_restore_periodic_timer(struct vcpu *v, s_time_t period);

/* Continues the accounting of a restored vCPU: steal time must not go back. */
void vcpu_runstate_restore(struct vcpu *v, const uint64_t *time);

#endif
