// sources: vmm/hypervisor/src/pvstate_walk.c vmm/hypervisor/src/pvstate_check.c
/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An HVM context from outside: byte 0 is the number of vCPUs, then the context. What passes must be safe to index with. */
#include "vmm/hypervisor/include/pvstate_walk.h"

#include <stdlib.h>

static void require(int holds)
{
	if (!holds)
		abort();
}

static void use_vcpu(const struct pvstate_set *set, const struct pvstate_vcpu *v)
{
	uint32_t i, words = set->domain->nr_arrays * PVSTATE_WORDS_PER_ARRAY;

	require(v->vcpu_info_gfn == PVSTATE_GFN_NONE || v->vcpu_info_offset + 64 <= 4096);
	require(v->control_gfn == PVSTATE_GFN_NONE || v->control_offset + 72 <= 4096);
	require(v->upcall_vector == 0 || v->upcall_vector >= 16);
	for (i = 0; i < PVSTATE_QUEUES; i++)
		require(v->queue_tail[i] == 0 || v->queue_tail[i] < words);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pvstate_set set;
	const char *why = NULL;
	uint32_t i;

	if (size < 1)
		return 0;
	if (pvstate_parse(data + 1, size - 1, data[0], &set, &why)) {
		require(why != NULL);
		return 0;
	}
	for (i = 0; i < set.evtchn->nr_ports; i++) {
		const struct pvstate_port *p = &set.evtchn->port[i];

		require(p->port && p->port < PVSTATE_PORT_LIMIT && (i == 0 || p->port > p[-1].port));
		require(p->vcpu < set.nr_vcpus && p->last_vcpu < set.nr_vcpus);
		require(p->priority < PVSTATE_QUEUES && p->last_priority < PVSTATE_QUEUES);
		require(p->kind != PVSTATE_PORT_VIRQ || p->remote < 24);
	}
	for (i = 0; i < set.nr_vcpus; i++)
		use_vcpu(&set, set.vcpu[i]);
	pvstate_free(&set);
	return 0;
}
