/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/heard.h"
#include "common/clock.h"
#include "replicator/peer.h"

#include <sys/socket.h>
#include <unistd.h>

void heard_init(struct heard *h)
{
	*h = (struct heard){0};
	for (unsigned int i = 0; i < STREAM_LANES_MAX; i++)
		h->fd[i] = -1;
}

static void lane_close(struct heard *h, unsigned int lane)
{
	if (h->fd[lane] < 0)
		return;
	/* The duplicate must not keep a connection open that the worker has closed. */
	shutdown(h->fd[lane], SHUT_RDWR);
	close(h->fd[lane]);
	h->fd[lane] = -1;
}

void heard_add(struct heard *h, unsigned int lane, int fd)
{
	lane_close(h, lane);
	h->fd[lane] = fd;
	heard_note(h, clock_us());
}

bool heard_live(const struct heard *h)
{
	return h->fd[0] >= 0;
}

uint64_t heard_us(const struct heard *h)
{
	uint64_t last = h->at_us;

	for (unsigned int i = 0; i < STREAM_LANES_MAX; i++) {
		int64_t silent_ms = h->fd[i] < 0 ? -1 : tcp_silent_ms(h->fd[i]);
		uint64_t heard = silent_ms < 0 ? 0 : clock_us() - (uint64_t)silent_ms * 1000;

		last = heard > last ? heard : last;
	}
	return last;
}

void heard_note(struct heard *h, uint64_t at_us)
{
	if (at_us > h->at_us)
		h->at_us = at_us;
}

void heard_free(struct heard *h)
{
	for (unsigned int i = 0; i < STREAM_LANES_MAX; i++)
		if (h->fd[i] >= 0)
			close(h->fd[i]);
	heard_init(h);
}

void heard_close(struct heard *h)
{
	heard_note(h, heard_us(h));
	for (unsigned int i = 0; i < STREAM_LANES_MAX; i++)
		lane_close(h, i);
}
