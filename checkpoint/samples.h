/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The figures of the last second: percentiles over a bounded number of samples. */
#ifndef CHECKPOINT_SAMPLES_H
#define CHECKPOINT_SAMPLES_H

#include <stdint.h>

enum { SAMPLES_MAX = 1024 };

struct samples {
	uint32_t value[SAMPLES_MAX];
	unsigned int nr;		/* further ones overwrite the oldest */
	uint64_t seen;
};

static inline void samples_add(struct samples *s, uint32_t value)
{
	s->value[s->seen++ % SAMPLES_MAX] = value;
	if (s->nr < SAMPLES_MAX)
		s->nr++;
}

/* Sorts; 0 where there are none. `percent` 100 is the greatest. */
uint32_t samples_percentile(struct samples *s, unsigned int percent);

static inline void samples_reset(struct samples *s)
{
	s->nr = 0;
	s->seen = 0;
}

#endif
