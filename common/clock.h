/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The clock that no operator can step. */
#ifndef COMMON_CLOCK_H
#define COMMON_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static inline uint64_t clock_wall_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* By how much a clock that is wrong by ppm millionths at most may misjudge a length of time; never less (R-drift of tests/model). */
static inline uint64_t clock_drift_us(uint64_t length_us, uint32_t ppm)
{
	return length_us * ppm / 1000000 + 1;
}

#endif
