/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One domain as the checkpointer sees it: pause, memory, dirty pages, context, and what else Xen keeps about it.
 * On libxenctrl, libxencall and libxenforeignmemory; blocking, a few hundred microseconds per call at most, except
 * where said. Not thread safe: one thread owns a struct domain.
 */
#ifndef VMM_DOMAIN_H
#define VMM_DOMAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DOMAIN_PAGE_SIZE = 4096, DOMAIN_GRANT_FRAMES_MAX = 64 };

enum domain_kind { DOMAIN_PV, DOMAIN_HVM, DOMAIN_PVH };
extern const char *const domain_kind_name[];

struct domain;

struct domain_info {
	uint32_t domid;
	uint8_t uuid[16];
	enum domain_kind kind;
	unsigned int vcpus;
	uint64_t pages, max_pages;
	bool paused, shutdown, dying, ever_ran;
	unsigned int shutdown_reason;		/* SHUTDOWN_* of public/sched.h, valid if shutdown */
	unsigned int passthrough_devices;
};

/* Opens the handles for `domid`; cheap, maps nothing. 0, -ENOENT (no such domain), -errno. */
int domain_open(uint32_t domid, const char *name, struct domain **out);
void domain_close(struct domain *d);

/* -ENOENT once the domain is gone. */
int domain_info(struct domain *d, struct domain_info *info);

int domain_pause(struct domain *d);
int domain_unpause(struct domain *d);

/* Asks Xen to include the PV state records in contexts (HVM_PARAM_PV_STATE). -ENOSYS: not our hypervisor. */
int domain_pv_state(struct domain *d, bool on);
int domain_pv_state_get(struct domain *d, bool *on);	/* off on a hypervisor or for a kind of guest that has none */

/*
 * Memory: finds every populated gfn (seconds under emulation: call it outside any pause) and maps all of it for good.
 * The p2m must not change afterwards (no ballooning: see domain_freeze_memory()).
 */
int domain_map(struct domain *d, bool writable);

/* Returns at once; the pages go in the background. A domain that has died stays a zombie until they are gone. */
void domain_unmap(struct domain *d);

/* The populated gfns, ascending; valid until unmap. Grant frames and shared_info are in it where the guest has them
 * in its physmap. */
const uint64_t *domain_gfns(const struct domain *d, size_t *nr);
uint64_t domain_gfn_limit(const struct domain *d);	/* highest populated gfn + 1 */

/* The mapped page, or NULL for a hole. */
void *domain_page(const struct domain *d, uint64_t gfn);

/* Caps max_pages to what is populated so that a balloon request is refused by Xen; undone by on=false. */
int domain_freeze_memory(struct domain *d, bool on);

/* Log-dirty. Enabling when it is on already (a crashed worker left it) restarts it. Disabling leaves no trace. */
int domain_dirty_enable(struct domain *d);
int domain_dirty_disable(struct domain *d);

/* Reads and clears. `*bits` has one bit per gfn below domain_gfn_limit(), in 64-bit words; valid until the next call. */
int domain_dirty_clean(struct domain *d, const uint64_t **bits);

/*
 * The pages that are not write-protected again by domain_dirty_clean() if they were dirty: they cost the guest no fault, and the next
 * call reports them as dirty whether they were written or not. As many words; empty at first, the caller's to change, valid
 * until the next call. NULL: this hypervisor always protects them. To be asked for while the PV state is on.
 */
uint64_t *domain_dirty_keep(struct domain *d);

/* The HVM context by one direct domctl into a buffer allocated once; valid until the next call. */
int domain_context_get(struct domain *d, const void **context, size_t *len);
int domain_context_set(struct domain *d, const void *context, size_t len);

/* What Xen checks of our records when a context is loaded, as far as it does not depend on the domain. -EINVAL: `*why` says what. */
int domain_context_check(const void *context, size_t len, unsigned int vcpus, const char **why);

/*
 * What Xen knows of the domain outside RAM and context. Byte order on the wire: checkpoint/machine.h.
 */
/*
 * RAM starts at 0 and goes around a hole below 4 GiB, where a PVH guest's special pages are. The guest can put pages anywhere; from
 * this gfn on it loses its protection, because what we keep for each gfn must not grow at its will.
 */
static inline uint64_t domain_gfn_limit_of(uint64_t max_pages)
{
	const uint64_t below_4g = UINT64_C(1) << 20, sanest = UINT64_C(1) << 31;

	return max_pages < sanest ? max_pages + below_4g : sanest;
}

struct domain_machine {
	uint64_t shared_info_gfn;
	uint32_t nr_grant_frames;
	uint64_t grant_gfn[DOMAIN_GRANT_FRAMES_MAX];
	uint64_t callback_irq;
	uint64_t store_gfn, console_gfn;
	uint32_t store_port, console_port;
	uint32_t tsc_mode, tsc_khz, tsc_incarnation;
	uint64_t tsc_elapsed_ns;
};

int domain_machine_get(struct domain *d, struct domain_machine *m);

/* How many frames the grant table has now: one hypercall. */
int domain_grant_frames(struct domain *d, uint32_t *nr);

/*
 * The pages that log-dirty does not see, from a captured context and machine: vcpu_info, FIFO control block and event
 * array pages, shared_info, grant frames, store and console rings. Returns how many were written to `gfn`
 * (ascending, unique), or -E2BIG, or -EINVAL for a context it cannot read.
 */
int domain_always_gfns(const void *context, size_t len, const struct domain_machine *m,
		       uint64_t *gfn, size_t max);

/*
 * On a shell (paused, never ran): gives it the guest's physmap. `gfn`: what is populated on the primary, ascending;
 * missing pages are populated, others removed, grant frames and shared_info placed where `m` says. May be called
 * again with more grant frames. Afterwards the shell is mapped writable (domain_map() is done here, once).
 */
int domain_shape(struct domain *d, const uint64_t *gfn, size_t nr, const struct domain_machine *m);

/* True for the gfns that a shell must not be written to before activation: Xen or a dom0 daemon writes there. */
bool domain_page_is_tail(const struct domain_machine *m, uint64_t gfn);

/*
 * Activation, first half: puts the tail pages in place. `page(arg, gfn)` returns the committed content or NULL for
 * none. Grant frames lose GTF_reading/GTF_writing and keep the shell's reserved entries 0-7; shared_info, store and
 * console rings are written in place.
 */
int domain_tail_set(struct domain *d, const struct domain_machine *m,
		    const void *(*page)(void *arg, uint64_t gfn), void *arg);

/* Activation, second half: HVM parameters and TSC; then domain_context_set(), then domain_unpause(). */
int domain_machine_set(struct domain *d, const struct domain_machine *m);

/* True if the guest's xenstore ring holds no half-done exchange; `*stamp` changes whenever the ring moved. */
bool domain_store_quiet(const struct domain *d, const struct domain_machine *m, uint64_t *stamp);

#endif
