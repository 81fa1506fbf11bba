/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../include/pvstate_walk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD_BYTES = 8, CODE_END = 0 };	/* struct hvm_save_descriptor */

static uint16_t get_u16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get_u32(const uint8_t *p)
{
	return get_u16(p) | (uint32_t)get_u16(p + 2) << 16;
}

int pvstate_next(const void *context, size_t len, size_t *pos, struct pvstate_span *span)
{
	const uint8_t *head = (const uint8_t *)context + *pos;

	if (*pos > len || len - *pos < HEAD_BYTES)
		return -EINVAL;
	*span = (struct pvstate_span){ head + HEAD_BYTES, get_u32(head + 4), get_u16(head), get_u16(head + 2) };
	if (span->len > len - *pos - HEAD_BYTES)
		return -EINVAL;
	*pos += HEAD_BYTES + span->len;
	if (span->code != CODE_END)
		return 1;
	return span->len == 0 && *pos == len ? 0 : -EINVAL;
}

static int take(const struct pvstate_span *span, void **slot, const char **why)
{
	if (*slot) {
		*why = "record twice";
		return -EINVAL;
	}
	*slot = malloc(span->len ? span->len : 1);
	if (!*slot) {
		*why = "out of memory";
		return -ENOMEM;
	}
	memcpy(*slot, span->at, span->len);
	return 0;
}

static int take_evtchn(const struct pvstate_span *span, struct pvstate_set *set, const char **why)
{
	void *slot = set->evtchn;
	int rc;

	rc = take(span, &slot, why);
	if (rc)
		return rc;
	set->evtchn = slot;
	return pvstate_check_evtchn(slot, span->len, set->nr_vcpus, why);
}

static int take_domain(const struct pvstate_span *span, struct pvstate_set *set, const char **why)
{
	void *slot = set->domain;
	int rc;

	rc = take(span, &slot, why);
	if (rc)
		return rc;
	set->domain = slot;
	return pvstate_check_domain(slot, span->len, why);
}

static int take_vcpu(const struct pvstate_span *span, struct pvstate_set *set, const char **why)
{
	void *slot;
	int rc;

	if (span->instance >= set->nr_vcpus) {
		*why = "vCPU: number";
		return -EINVAL;
	}
	slot = set->vcpu[span->instance];
	rc = take(span, &slot, why);
	if (rc)
		return rc;
	set->vcpu[span->instance] = slot;
	return pvstate_check_vcpu(slot, span->len, why);
}

static int take_record(const struct pvstate_span *span, struct pvstate_set *set, const char **why)
{
	switch (span->code) {
	case PVSTATE_CODE_EVTCHN:
	case PVSTATE_CODE_DOMAIN:
		if (span->instance) {
			*why = "record's instance";
			return -EINVAL;
		}
		return span->code == PVSTATE_CODE_EVTCHN ? take_evtchn(span, set, why) : take_domain(span, set, why);
	case PVSTATE_CODE_VCPU:
		return take_vcpu(span, set, why);
	default:
		return 0;
	}
}

int pvstate_parse(const void *context, size_t len, uint32_t nr_vcpus, struct pvstate_set *set, const char **why)
{
	struct pvstate_span span;
	size_t pos = 0;
	int rc;

	*set = (struct pvstate_set){ .nr_vcpus = nr_vcpus };
	*why = "number of vCPUs";
	if (nr_vcpus == 0 || nr_vcpus > PVSTATE_VCPUS_MAX)
		return -EINVAL;
	*why = "out of memory";
	set->vcpu = calloc(nr_vcpus, sizeof(*set->vcpu));
	if (!set->vcpu)
		return -ENOMEM;

	*why = "context is cut off";
	while ((rc = pvstate_next(context, len, &pos, &span)) > 0) {
		rc = take_record(&span, set, why);
		if (rc)
			break;
		*why = "context is cut off";
	}
	if (!rc)
		rc = pvstate_check_set(set, why);
	if (rc)
		pvstate_free(set);
	return rc;
}

void pvstate_free(struct pvstate_set *set)
{
	uint32_t i;

	for (i = 0; set->vcpu && i < set->nr_vcpus; i++)
		free(set->vcpu[i]);
	free(set->vcpu);
	free(set->evtchn);
	free(set->domain);
	*set = (struct pvstate_set){ 0 };
}
