/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/pace.h"

enum {
	MEAN_OVER = 4,	 /* pauses, weighted by their age */
	LONGER_BY = 4,	 /* a quarter at a time: ten times as long after ten epochs */
	SHORTER_BY = 8,	 /* an eighth at a time: a busy moment between two quiet ones is not chased */
};

void pace_begin(struct pace *p, uint32_t min_us, uint32_t max_us, uint32_t pause_pct)
{
	*p = (struct pace){
		.min_us = min_us,
		.max_us = max_us > min_us ? max_us : min_us,
		.pause_pct = pause_pct,
		.epoch_us = min_us,
	};
}

/*
 * What an epoch costs has a part for each epoch and a part for each page that was changed in it; the same page changed twice costs once. So
 * the share of pauses falls as epochs grow, and the length at which it is the wanted one is approached from either side.
 */
uint32_t pace_next(struct pace *p, uint32_t pause_us)
{
	uint64_t wanted_us, most_us, least_us;

	p->pause_us = p->pause_us ? (uint32_t)(((uint64_t)p->pause_us * (MEAN_OVER - 1) + pause_us) / MEAN_OVER) : pause_us;
	if (p->max_us == p->min_us)
		return p->epoch_us;
	wanted_us = (uint64_t)p->pause_us * (100 - p->pause_pct) / p->pause_pct;
	most_us = p->epoch_us + p->epoch_us / LONGER_BY;
	least_us = p->epoch_us - p->epoch_us / SHORTER_BY;
	if (wanted_us > most_us)
		wanted_us = most_us;
	if (wanted_us < least_us)
		wanted_us = least_us;
	if (wanted_us > p->max_us)
		wanted_us = p->max_us;
	if (wanted_us < p->min_us)
		wanted_us = p->min_us;
	p->epoch_us = (uint32_t)wanted_us;
	return p->epoch_us;
}
