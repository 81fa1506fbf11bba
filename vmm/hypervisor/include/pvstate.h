/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PV interface state of a domain in its HVM context: what a running guest has registered with the hypervisor outside
 * of its own memory. Three save records, emitted only while HVM_PARAM_PV_STATE is 1, carried by the stock get/set
 * HVM context domctls. The only definition: Xen (xen/include/public/hvm/pvstate.h) and dom0 compile this file.
 *
 * All fields little endian, all records a multiple of 8 bytes, padding zero. Times are nanoseconds of the guest's
 * system time (what its pvclock shows). Byte diagrams: docs/hypervisor.md.
 */
#ifndef PUBLIC_HVM_PVSTATE_H
#define PUBLIC_HVM_PVSTATE_H

#ifndef __XEN__
#include <stdint.h>
#endif

#define HVM_PARAM_PV_STATE	39	/* 1: the context carries the records below; 0 (at birth): it does not */

#define PVSTATE_VERSION		1

/*
 * In the mode of XEN_DOMCTL_SHADOW_OP_CLEAN, while HVM_PARAM_PV_STATE is 1: a second bitmap of as many bits follows the one for the
 * dirty pages in the same buffer (`pages` is a multiple of 8). Pages in it that were dirty stay writable, without a fault,
 * and the next CLEAN reports them as dirty again, written or not. With PEEK it has no meaning and is accepted: a way to ask.
 */
#define PVSTATE_CLEAN_KEEP	0x80000000u

/* Type codes in struct hvm_save_descriptor (22 to 34 are reserved upstream). */
#define PVSTATE_CODE_EVTCHN	35	/* instance 0 */
#define PVSTATE_CODE_DOMAIN	36	/* instance 0 */
#define PVSTATE_CODE_VCPU	37	/* instance = vCPU number */

#define PVSTATE_GFN_NONE	(~(uint64_t)0)
#define PVSTATE_PORTS_MAX	1024	/* entries in one context; libxl's default limit per domain is 1023 */
#define PVSTATE_PORT_LIMIT	131072	/* port numbers of the FIFO ABI are below this */
#define PVSTATE_ARRAYS_MAX	128	/* event array pages */
#define PVSTATE_WORDS_PER_ARRAY	1024	/* event words in one such page */
#define PVSTATE_QUEUES		16	/* FIFO priorities, 0 (highest) to 15 */
#define PVSTATE_VCPUS_MAX	128	/* HVM_MAX_VCPUS */

enum pvstate_port_kind {		/* equal to Xen's ECS_* */
	PVSTATE_PORT_UNBOUND = 2,
	PVSTATE_PORT_INTERDOMAIN = 3,	/* comes back unbound, for the new back end to bind */
	PVSTATE_PORT_VIRQ = 5,
	PVSTATE_PORT_IPI = 6,
};

#define PVSTATE_PORT_RAISED	0x1	/* raised while the domain was paused, not yet in guest memory */

struct pvstate_port {
	uint32_t port;
	uint32_t remote;		/* remote domid, or VIRQ number, or 0 */
	uint16_t vcpu;			/* notified vCPU */
	uint16_t last_vcpu;		/* FIFO: vCPU and priority of the queue it was last on */
	uint8_t last_priority;
	uint8_t priority;
	uint8_t kind;			/* enum pvstate_port_kind */
	uint8_t flags;			/* PVSTATE_PORT_* */
};

struct pvstate_evtchn {
	uint16_t version;
	uint16_t pad;
	uint32_t nr_ports;
	struct pvstate_port port[];	/* ascending port number */
};

enum pvstate_abi { PVSTATE_ABI_2L = 0, PVSTATE_ABI_FIFO = 1 };

struct pvstate_domain {
	uint16_t version;
	uint8_t abi;			/* enum pvstate_abi */
	uint8_t pad;
	uint32_t nr_arrays;		/* 0 with the 2-level ABI */
	uint64_t system_time;
	uint64_t shared_info_gfn;
	uint64_t vm_assist;		/* VMASST_TYPE_* bits */
	uint64_t array_gfn[];
};

struct pvstate_vcpu {
	uint16_t version;
	uint8_t upcall_vector;		/* 0: none, else 0x10 to 0xff */
	uint8_t pad[5];
	uint64_t vcpu_info_gfn;		/* PVSTATE_GFN_NONE: in shared_info */
	uint64_t control_gfn;		/* FIFO control block; PVSTATE_GFN_NONE: none */
	uint32_t vcpu_info_offset;
	uint32_t control_offset;
	uint64_t runstate_va;		/* guest virtual, 0: none */
	uint64_t time_info_va;		/* guest virtual, 0: none */
	uint64_t runstate_time[4];	/* running, runnable, blocked, offline */
	uint64_t singleshot;		/* expiry, 0: not armed */
	uint64_t periodic_period;	/* 0: none */
	uint32_t queue_tail[PVSTATE_QUEUES];	/* FIFO: port at the end of each queue, 0: none */
};

#define PVSTATE_EVTCHN_BYTES(nr)	(sizeof(struct pvstate_evtchn) + (nr) * sizeof(struct pvstate_port))
#define PVSTATE_DOMAIN_BYTES(nr)	(sizeof(struct pvstate_domain) + (nr) * sizeof(uint64_t))

#endif
