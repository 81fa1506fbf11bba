/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netbuf/netbuf.h"

#include <errno.h>
#include <stdlib.h>
#include <utlist.h>

/* Packets in the order they were sent. */
struct queue {
	struct packet *first, *last;
	uint64_t packets;
};

/* What was sent in one closed epoch that has not been acknowledged. */
struct closed {
	struct closed *next;
	uint64_t epoch;
	struct queue queue;
};

struct netbuf {
	struct netbuf_ops ops;
	void *arg;
	size_t limit_bytes;
	bool holding, full;
	struct queue open;
	struct closed *closed;
	uint64_t last_closed, last_released;
	struct netbuf_stats stats;
};

struct packet *packet_new(uint32_t size)
{
	struct packet *p;

	p = malloc(sizeof(*p) + size);
	if (!p)
		return NULL;
	p->next = NULL;
	p->out = NULL;
	p->epoch = 0;
	p->len = 0;
	p->size = size;
	return p;
}

void packet_free(struct packet *p)
{
	free(p);
}

static size_t packet_bytes(const struct packet *p)
{
	return sizeof(*p) + p->size;
}

static void queue_add(struct queue *q, struct packet *p)
{
	p->next = NULL;
	if (q->last)
		q->last->next = p;
	else
		q->first = p;
	q->last = p;
	q->packets++;
}

static struct packet *queue_take(struct queue *q)
{
	struct packet *p = q->first;

	if (!p)
		return NULL;
	q->first = p->next;
	if (!q->first)
		q->last = NULL;
	q->packets--;
	p->next = NULL;
	return p;
}

/* Tells the feeder when the limit is crossed, once per crossing. */
static void update_pressure(struct netbuf *nb)
{
	bool full = nb->stats.held_bytes >= nb->limit_bytes;

	if (full == nb->full)
		return;
	nb->full = full;
	if (full)
		nb->stats.overflows++;
	nb->ops.pressure(nb->arg, full);
}

void netbuf_set_limit(struct netbuf *nb, size_t limit_bytes)
{
	nb->limit_bytes = limit_bytes;
	update_pressure(nb);
}

/* The packet's memory counts no more, whoever has it now. */
static struct packet *take(struct netbuf *nb, struct queue *q)
{
	struct packet *p = queue_take(q);

	if (p) {
		nb->stats.held_packets--;
		nb->stats.held_bytes -= packet_bytes(p);
	}
	return p;
}

static void emit_all(struct netbuf *nb, struct queue *q, uint64_t epoch)
{
	struct packet *p;

	while ((p = take(nb, q))) {
		p->epoch = epoch;
		nb->stats.released_packets++;
		nb->ops.emit(nb->arg, p);
	}
}

static void free_all(struct netbuf *nb, struct queue *q)
{
	struct packet *p;

	while ((p = take(nb, q)))
		packet_free(p);
}

static void emit_oldest(struct netbuf *nb)
{
	struct closed *c = nb->closed;

	LL_DELETE(nb->closed, c);
	emit_all(nb, &c->queue, c->epoch);
	nb->last_released = c->epoch;
	free(c);
}

static void drop_everything(struct netbuf *nb)
{
	struct closed *c;

	while ((c = nb->closed)) {
		LL_DELETE(nb->closed, c);
		free_all(nb, &c->queue);
		free(c);
	}
	free_all(nb, &nb->open);
}

int netbuf_new(size_t limit_bytes, const struct netbuf_ops *ops, void *arg, struct netbuf **out)
{
	struct netbuf *nb;

	if (!limit_bytes)
		return -EINVAL;
	nb = calloc(1, sizeof(*nb));
	if (!nb)
		return -ENOMEM;
	nb->limit_bytes = limit_bytes;
	nb->ops = *ops;
	nb->arg = arg;
	*out = nb;
	return 0;
}

void netbuf_free(struct netbuf *nb)
{
	if (!nb)
		return;
	drop_everything(nb);
	free(nb);
}

void netbuf_push(struct netbuf *nb, struct packet *p)
{
	if (!nb->holding) {
		nb->stats.passed_packets++;
		nb->ops.emit(nb->arg, p);
		return;
	}
	queue_add(&nb->open, p);
	nb->stats.held_packets++;
	nb->stats.held_bytes += packet_bytes(p);
	if (nb->stats.held_bytes > nb->stats.peak_bytes)
		nb->stats.peak_bytes = nb->stats.held_bytes;
	update_pressure(nb);
}

void netbuf_hold(struct netbuf *nb)
{
	nb->holding = true;
}

void netbuf_look(const struct netbuf *nb, void (*fn)(void *arg, const struct packet *p), void *arg)
{
	for (const struct packet *p = nb->open.first; p; p = p->next)
		fn(arg, p);
}

int netbuf_close(struct netbuf *nb, uint64_t epoch)
{
	struct closed *c;

	if (epoch <= nb->last_closed)
		return -EINVAL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->epoch = epoch;
	c->queue = nb->open;
	LL_APPEND(nb->closed, c);
	nb->open = (struct queue){0};
	nb->last_closed = epoch;
	return 0;
}

int netbuf_release(struct netbuf *nb, uint64_t epoch)
{
	struct closed *c;

	if (epoch && epoch == nb->last_released)
		return 0;
	LL_SEARCH_SCALAR(nb->closed, c, epoch, epoch);
	if (!c)
		return -EINVAL;
	while (nb->closed && nb->closed->epoch <= epoch)
		emit_oldest(nb);
	update_pressure(nb);
	return 0;
}

void netbuf_pass(struct netbuf *nb)
{
	while (nb->closed)
		emit_oldest(nb);
	emit_all(nb, &nb->open, 0);
	nb->holding = false;
	nb->last_closed = nb->last_released = 0;
	update_pressure(nb);
}

void netbuf_discard(struct netbuf *nb)
{
	drop_everything(nb);
	nb->holding = true;
	update_pressure(nb);
}

void netbuf_stats(const struct netbuf *nb, struct netbuf_stats *s)
{
	const struct closed *c;

	*s = nb->stats;
	s->oldest_epoch = 0;
	LL_FOREACH (nb->closed, c) {
		if (c->queue.packets) {
			s->oldest_epoch = c->epoch;
			break;
		}
	}
}
