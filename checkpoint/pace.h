/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long the next epoch is. Fixed, or adaptive: as short as it can be without the guest standing still for more than a share of its
 * time, and never longer than its output may be held.
 */
#ifndef CHECKPOINT_PACE_H
#define CHECKPOINT_PACE_H

#include <stdint.h>

struct pace {
	uint32_t min_us, max_us, pause_pct;
	uint32_t epoch_us; /* from the end of one capture to the next */
	uint32_t pause_us; /* a mean over the last few */
};

/* max_us 0: every epoch has min_us. pause_pct: of the guest's time, 1 to 90. */
void pace_begin(struct pace *p, uint32_t min_us, uint32_t max_us, uint32_t pause_pct);

/* After each capture: how long the next epoch is. */
uint32_t pace_next(struct pace *p, uint32_t pause_us);

#endif
