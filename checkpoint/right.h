/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The right to run a guest and to let its output out (I2): the witness's lease, which the daemon renews and tells, or the backup's
 * promise, which comes with its acknowledgements. Holding is the default: who asks does so immediately before the act, so a
 * process that stood still lets nothing out before it has looked at the clock. Without a witness (not leased) it never ends.
 */
#ifndef CHECKPOINT_RIGHT_H
#define CHECKPOINT_RIGHT_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

#define RIGHT_FOR_EVER UINT64_MAX

struct right_ops {
	void (*lost)(void *arg);
	void (*regained)(void *arg);
};

struct right {
	struct event *event;
	const struct right_ops *ops;
	void *arg;
	bool leased, lost;
	uint32_t drift_ppm, margin_us;		/* taken off a promise; the daemon has taken them off the lease */
	uint64_t lease_us, promise_us;		/* clock_us() until which each lasts */
};

/* Lasts for ever until right_limit(). 0 or -ENOMEM. */
int right_begin(struct right *r, struct event_base *base, const struct right_ops *ops, void *arg);
void right_end(struct right *r);

/* From now on it lasts as long as what follows says; nothing so far. */
void right_limit(struct right *r, uint32_t drift_ppm, uint32_t margin_ms);

/* The daemon's word, which may also shorten it; and the backup's, from now on. */
void right_lease(struct right *r, uint64_t until_us);
void right_promise(struct right *r, uint64_t promise_us);

/* May the guest run and be heard, now? */
bool right_now(const struct right *r);

/* How long it lasts from now on; RIGHT_FOR_EVER. */
uint64_t right_left_us(const struct right *r);

#endif
