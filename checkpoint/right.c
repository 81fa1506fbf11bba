/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/right.h"
#include "common/clock.h"

#include <errno.h>

static uint64_t until_us(const struct right *r)
{
	return r->lease_us > r->promise_us ? r->lease_us : r->promise_us;
}

bool right_now(const struct right *r)
{
	return !r->leased || clock_us() < until_us(r);
}

uint64_t right_left_us(const struct right *r)
{
	uint64_t now = clock_us();

	if (!r->leased || until_us(r) == RIGHT_FOR_EVER)
		return RIGHT_FOR_EVER;
	return until_us(r) > now ? until_us(r) - now : 0;
}

/* One timer that runs to the end as it was when it was set: an acknowledgement moves that by far more often than it expires. */
static void watch(struct right *r)
{
	uint64_t left_us = right_left_us(r);
	struct timeval tv = {.tv_sec = (time_t)(left_us / 1000000), .tv_usec = (suseconds_t)(left_us % 1000000)};

	if (left_us != RIGHT_FOR_EVER && !event_pending(r->event, EV_TIMEOUT, NULL))
		event_add(r->event, &tv);
}

static void look(struct right *r)
{
	if (r->lost && right_now(r)) {
		r->lost = false;
		r->ops->regained(r->arg);
	}
	if (r->leased && !r->lost)
		watch(r);
}

static void expired(evutil_socket_t fd, short what, void *arg)
{
	struct right *r = arg;

	if (right_now(r)) {
		watch(r);
		return;
	}
	r->lost = true;
	r->ops->lost(r->arg);
}

int right_begin(struct right *r, struct event_base *base, const struct right_ops *ops, void *arg)
{
	*r = (struct right){.event = evtimer_new(base, expired, r), .ops = ops, .arg = arg};
	return r->event ? 0 : -ENOMEM;
}

void right_end(struct right *r)
{
	if (r->event)
		event_free(r->event);
	*r = (struct right){0};
}

void right_limit(struct right *r, uint32_t drift_ppm, uint32_t margin_ms)
{
	r->leased = true;
	r->drift_ppm = drift_ppm;
	r->margin_us = margin_ms * 1000;
	r->lease_us = r->promise_us = 0;
	watch(r);
}

void right_lease(struct right *r, uint64_t until)
{
	r->lease_us = until;
	look(r);
}

void right_promise(struct right *r, uint64_t promise_us)
{
	uint64_t less = clock_drift_us(promise_us, r->drift_ppm) + r->margin_us;
	uint64_t until = promise_us > less ? clock_us() + promise_us - less : 0;

	if (until > r->promise_us)
		r->promise_us = until;
	look(r);
}
