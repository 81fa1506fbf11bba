/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/samples.h"

#include <stdlib.h>

static int order(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

uint32_t samples_percentile(struct samples *s, unsigned int percent)
{
	if (!s->nr)
		return 0;
	qsort(s->value, s->nr, sizeof(s->value[0]), order);
	return s->value[(uint64_t)(s->nr - 1) * percent / 100];
}
