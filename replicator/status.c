/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/status.h"
#include "common/clock.h"
#include "replicator/certificate.h"
#include "replicator/guest.h"
#include "replicator/keeper.h"
#include "replicator/peer.h"

#include <stdio.h>
#include <stdlib.h>

static char **untold_names(const struct untold *u, size_t *nr)
{
	char **names = calloc(untold_count(u) + 1, sizeof(*names));
	const struct tag *t = NULL;

	while (names && (t = untold_next(u, t)))
		names[(*nr)++] = (char *)t->name;
	return names;
}

Understudy__HostStatus *status_host(struct daemon *d)
{
	Understudy__HostStatus *h = malloc(sizeof(*h));
	const struct peer_info *peer = peer_info(d->peer);
	uint64_t now = clock_us(), heard = peer_heard_us(d->peer);
	char *hypervisor = NULL;

	if (!h)
		return NULL;
	understudy__host_status__init(h);
	h->host = d->config.host;
	h->zone = d->config.zone;
	h->version = (char *)UNDERSTUDY_VERSION;
	h->peer_up = peer_up(d->peer);
	h->peer_host = (char *)peer->host;
	h->peer_zone = (char *)peer->zone;
	h->peer_address = d->config.peer_address;
	h->peer_heard_us_ago = now > heard ? now - heard : 0;
	h->peer_problem = (char *)peer_problem(d->peer);
	h->peer_hypervisor = (char *)peer->hypervisor;
	h->illegal_events = d->illegal_events;
	h->untold = untold_names(d->untold, &h->n_untold);
	h->xenstore = domains_ready(d->domains);
	h->tls = d->certificate != NULL;
	h->certificate_days = d->certificate ? certificate_days_left(d->certificate) : 0;
	if (asprintf(&hypervisor, "%s%s", d->host.hypervisor, d->host.hypervisor_extra) >= 0)
		h->hypervisor = hypervisor;
	return h;
}

void status_host_free(Understudy__HostStatus *h)
{
	if (!h)
		return;
	if (h->hypervisor != (char *)protobuf_c_empty_string)
		free(h->hypervisor);
	free(h->untold);
	free(h);
}

static void add_stats(Understudy__GuestStatus *s, const struct worker_view *w)
{
	const Understudy__WorkerStats *m = &w->stats;
	uint64_t since = clock_us() - w->stats_at_us;

	s->has_stats = true;
	s->epoch = m->epoch;
	s->epoch_age_us = m->epoch_age_us;
	s->pause_us_p50 = m->pause_us_p50;
	s->pause_us_p99 = m->pause_us_p99;
	s->pause_us_max = m->pause_us_max;
	s->epochs_per_s = m->epochs_per_s;
	s->dirty_pages_per_s = m->dirty_pages_per_s;
	s->raw_bytes_per_s = m->raw_bytes_per_s;
	s->wire_bytes_per_s = m->wire_bytes_per_s;
	s->epochs_total = m->epochs_total;
	s->raw_bytes_total = m->raw_bytes_total;
	s->wire_bytes_total = m->wire_bytes_total;
	s->in_flight = m->in_flight;
	s->epoch_us = m->epoch_us;
	s->window = m->window;
	s->back_pressure = m->back_pressure;
	s->held_packets = m->held_packets;
	s->held_bytes = m->held_bytes;
	s->commit_us_p50 = m->commit_us_p50;
	s->commit_us_p99 = m->commit_us_p99;
	/* The worker knows of promises as well; at least so much, since this is of the last stats. */
	if (m->leased)
		s->right_us_left = m->right_us_left > since ? m->right_us_left - since : 0;
	/* At most: it may have been heard since. */
	s->heard_us_ago = m->heard_us_ago ? m->heard_us_ago + since : 0;
}

/* The kernel's word on a stream that this daemon has handed on: of now, not of the last stats. */
static void add_stream_heard(Understudy__GuestStatus *s, const struct guest *g)
{
	uint64_t heard = heard_live(&g->heard) ? heard_us(&g->heard) : 0;
	uint64_t now = clock_us();

	if (heard)
		s->heard_us_ago = now > heard ? now - heard : 0;
}

Understudy__GuestStatus *status_guest(struct guest *g)
{
	Understudy__GuestStatus *s = malloc(sizeof(*s));
	const struct worker_view *w = guest_worker(g);
	struct daemon *d = g->d;

	if (!s)
		return NULL;
	understudy__guest_status__init(s);
	s->name = g->tag.name;
	s->uuid.data = g->tag.uuid;
	s->uuid.len = sizeof(g->tag.uuid);
	s->state = (char *)guest_state_name[g->state];
	s->role = g->tag.backup ? "backup" : "primary";
	s->term = g->tag.term;
	s->domid = g->domid;
	s->policy = g->tag.policy;
	s->here_zone = d->config.zone;
	s->there_zone = (char *)peer_info(d->peer)->zone;
	s->peer_up = peer_up(d->peer);
	s->problem = g->problem;
	s->epoch = g->tag.epoch;
	s->window = guest_policy(g)->window;
	s->home = (char *)guest_policy(g)->home;
	s->epoch_ms = guest_policy(g)->epoch_ms;
	s->sync_pages_sent = g->sync_sent;
	s->sync_pages_total = g->sync_total;
	s->sync_round = g->sync_round;
	s->primary_dead = g->declared_dead;
	s->leased = keeper_decides(g);
	s->right_us_left = keeper_left_us(g);
	s->witness_problem = (char *)keeper_problem(g);
	if (!w)
		return s;
	s->kind = (char *)w->kind;
	s->worker_pid = (uint32_t)w->pid;
	s->memory_bytes = w->memory_bytes;
	s->vcpus = w->vcpus;
	if (w->has_stats)
		add_stats(s, w);
	add_stream_heard(s, g);
	return s;
}

void status_guest_free(Understudy__GuestStatus *s)
{
	free(s);
}
