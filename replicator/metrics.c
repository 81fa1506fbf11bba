/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/metrics.h"
#include "common/log.h"
#include "replicator/events.h"
#include "replicator/guest.h"
#include "replicator/keeper.h"
#include "replicator/status.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/http.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	REQUEST_LIMIT_S = 5,
	HEADERS_MAX_BYTES = 8192,
};

typedef const Understudy__HostStatus *host_status;
typedef const Understudy__GuestStatus *guest_status;

struct metrics {
	struct daemon *d;
	struct evhttp *http;
};

/* ---- the families: what they are called, and where their values are ---- */

/* One line of a family: a label besides the guest's name, or NULL, and its value. */
struct sample {
	const char *label, *label_value;
	double value;
};

enum { SAMPLES_MAX = 4 };

struct host_family {
	const char *name, *type, *help;
	bool (*has)(host_status h); /* NULL: always */
	double (*value)(host_status h);
};

struct guest_family {
	const char *name, *type, *help;
	/* Fills in and returns how many; 0: this guest has none now. */
	unsigned int (*samples)(guest_status g, struct sample out[SAMPLES_MAX]);
};

#define HOST_VALUE(name, expression)                      \
	static double name(host_status h)                 \
	{                                                 \
		return (double)(expression);              \
	}

HOST_VALUE(peer_up_value, h->peer_up)
HOST_VALUE(peer_heard, (double)h->peer_heard_us_ago / 1e6)
HOST_VALUE(certificate_valid, (double)h->certificate_days * 24 * 60 * 60)
HOST_VALUE(untold_value, h->n_untold)
HOST_VALUE(illegal_value, h->illegal_events)

static bool has_tls(host_status h)
{
	return h->tls;
}

static const struct host_family host_families[] = {
	{"understudy_peer_up", "gauge", "Whether there is a session with the other host.", NULL, peer_up_value},
	{"understudy_peer_heard_seconds", "gauge", "Since the other host was last heard.", NULL, peer_heard},
	{"understudy_certificate_valid_seconds", "gauge", "For how long this host's certificate still holds.", has_tls, certificate_valid},
	{"understudy_untold_untags", "gauge", "Untags that the other host has not confirmed.", NULL, untold_value},
	{"understudy_refused_transitions", "counter", "Events that the state machine refused; a defect.", NULL, illegal_value},
};

/* A family of one value per guest; `condition`: whether the guest has it. */
#define GUEST_VALUE(name, condition, expression)                                    \
	static unsigned int name(guest_status g, struct sample out[SAMPLES_MAX])    \
	{                                                                           \
		out[0] = (struct sample){.value = (double)(expression)};            \
		return (condition) ? 1 : 0;                                         \
	}

static bool runs_here(guest_status g)
{
	return !strcmp(g->role, "primary") && g->has_stats;
}

GUEST_VALUE(protected_value, true, !strcmp(g->state, "protected") || !strcmp(g->state, "standby"))
GUEST_VALUE(term_value, true, g->term)
GUEST_VALUE(epoch_age, runs_here(g), (double)g->epoch_age_us / 1e6)
GUEST_VALUE(epoch_length, runs_here(g) && g->epoch_us, (double)g->epoch_us / 1e6)
GUEST_VALUE(epochs_value, runs_here(g), g->epochs_total)
GUEST_VALUE(raw_value, runs_here(g), g->raw_bytes_total)
GUEST_VALUE(wire_value, runs_here(g), g->wire_bytes_total)
GUEST_VALUE(dirty_value, runs_here(g), g->dirty_pages_per_s * 4096)
GUEST_VALUE(held_packets_value, runs_here(g), g->held_packets)
GUEST_VALUE(held_bytes_value, runs_here(g), g->held_bytes)
GUEST_VALUE(in_flight_value, runs_here(g), g->in_flight)
GUEST_VALUE(window_value, runs_here(g), g->window)
GUEST_VALUE(pressure_value, runs_here(g), g->back_pressure)
GUEST_VALUE(stream_heard, g->heard_us_ago, (double)g->heard_us_ago / 1e6)
GUEST_VALUE(right_value, g->leased && runs_here(g) && g->right_us_left != LEASE_FOR_EVER, (double)g->right_us_left / 1e6)
GUEST_VALUE(sync_value, g->sync_pages_total, (double)g->sync_pages_sent / (double)g->sync_pages_total)

static unsigned int state_samples(guest_status g, struct sample out[SAMPLES_MAX])
{
	out[0] = (struct sample){"state", g->state, 1};
	return 1;
}

static unsigned int role_samples(guest_status g, struct sample out[SAMPLES_MAX])
{
	out[0] = (struct sample){"role", g->role, 1};
	return 1;
}

static unsigned int pause_samples(guest_status g, struct sample out[SAMPLES_MAX])
{
	out[0] = (struct sample){"quantile", "0.5", g->pause_us_p50 / 1e6};
	out[1] = (struct sample){"quantile", "0.99", g->pause_us_p99 / 1e6};
	out[2] = (struct sample){"quantile", "1", g->pause_us_max / 1e6};
	return runs_here(g) ? 3 : 0;
}

static unsigned int commit_samples(guest_status g, struct sample out[SAMPLES_MAX])
{
	out[0] = (struct sample){"quantile", "0.5", g->commit_us_p50 / 1e6};
	out[1] = (struct sample){"quantile", "0.99", g->commit_us_p99 / 1e6};
	return runs_here(g) ? 2 : 0;
}

static const struct guest_family guest_families[] = {
	{"understudy_guest_protected", "gauge", "Primary: protected; backup: a copy is here that could run.", protected_value},
	{"understudy_guest_state", "gauge", "The state, as in `understudy list`.", state_samples},
	{"understudy_guest_role", "gauge", "The role of this host.", role_samples},
	{"understudy_guest_term", "gauge", "Grows with every change of the active host.", term_value},
	{"understudy_guest_epoch_age_seconds", "gauge", "Since the capture of the last committed epoch.", epoch_age},
	{"understudy_guest_epoch_length_seconds", "gauge", "How long epochs are now.", epoch_length},
	{"understudy_guest_epochs", "counter", "Committed epochs of this protection.", epochs_value},
	{"understudy_guest_pause_seconds", "gauge", "How long the guest stood still, of the last second's epochs.", pause_samples},
	{"understudy_guest_commit_seconds", "gauge", "Capture to acknowledgement, of the last second's epochs.", commit_samples},
	{"understudy_guest_dirty_bytes_per_second", "gauge", "Memory that the guest changed.", dirty_value},
	{"understudy_guest_raw_bytes", "counter", "Captured, before encoding.", raw_value},
	{"understudy_guest_wire_bytes", "counter", "Sent to the other host.", wire_value},
	{"understudy_guest_held_packets", "gauge", "Frames that wait for their epoch.", held_packets_value},
	{"understudy_guest_held_bytes", "gauge", "The memory that they take.", held_bytes_value},
	{"understudy_guest_epochs_in_flight", "gauge", "Captured and not acknowledged.", in_flight_value},
	{"understudy_guest_epochs_window", "gauge", "How many may be.", window_value},
	{"understudy_guest_back_pressure", "gauge", "Whether captures wait for acknowledgements.", pressure_value},
	{"understudy_guest_stream_heard_seconds", "gauge", "Since the other end of its stream was last heard.", stream_heard},
	{"understudy_guest_right_seconds", "gauge", "For how long it may still run without hearing anything (leased).", right_value},
	{"understudy_guest_sync_ratio", "gauge", "How much of the baseline is sent.", sync_value},
};

/* ---- text ---- */

/* OpenMetrics 1.0: backslash, quotation mark and newline are escaped. */
static void add_quoted(struct evbuffer *out, const char *text)
{
	evbuffer_add(out, "\"", 1);
	for (; *text; text++) {
		if (*text == '\n')
			evbuffer_add(out, "\\n", 2);
		else if (*text == '"' || *text == '\\')
			evbuffer_add_printf(out, "\\%c", *text);
		else
			evbuffer_add(out, text, 1);
	}
	evbuffer_add(out, "\"", 1);
}

static void add_heading(struct evbuffer *out, const char *name, const char *type, const char *help)
{
	evbuffer_add_printf(out, "# TYPE %s %s\n# HELP %s %s\n", name, type, name, help);
}

static const char *suffix(const char *type)
{
	return strcmp(type, "counter") ? strcmp(type, "info") ? "" : "_info" : "_total";
}

static void add_host(struct evbuffer *out, host_status h)
{
	add_heading(out, "understudy", "info", "This host.");
	evbuffer_add_printf(out, "understudy_info{version=");
	add_quoted(out, h->version);
	evbuffer_add_printf(out, ",host=");
	add_quoted(out, h->host);
	evbuffer_add_printf(out, ",zone=");
	add_quoted(out, h->zone);
	evbuffer_add_printf(out, "} 1\n");
	for (size_t i = 0; i < sizeof(host_families) / sizeof(host_families[0]); i++) {
		const struct host_family *f = &host_families[i];

		if (f->has && !f->has(h))
			continue;
		add_heading(out, f->name, f->type, f->help);
		evbuffer_add_printf(out, "%s%s %.17g\n", f->name, suffix(f->type), f->value(h));
	}
}

static void add_guest(struct evbuffer *out, const struct guest_family *f, guest_status g)
{
	struct sample sample[SAMPLES_MAX];
	unsigned int nr = f->samples(g, sample);

	for (unsigned int i = 0; i < nr; i++) {
		evbuffer_add_printf(out, "%s%s{guest=", f->name, suffix(f->type));
		add_quoted(out, g->name);
		if (sample[i].label) {
			evbuffer_add_printf(out, ",%s=", sample[i].label);
			add_quoted(out, sample[i].label_value);
		}
		evbuffer_add_printf(out, "} %.17g\n", sample[i].value);
	}
}

/* A family's lines stand together: all guests are looked at first. -ENOMEM: nothing was added. */
static int add_guests(struct evbuffer *out, struct daemon *d)
{
	unsigned int count = HASH_COUNT(d->guests), nr = 0;
	Understudy__GuestStatus **all = calloc(count + 1, sizeof(*all));
	int rc = all ? 0 : -ENOMEM;

	for (struct guest *g = d->guests; g && !rc; g = g->hh.next) {
		all[nr] = status_guest(g);
		rc = all[nr] ? 0 : -ENOMEM;
		nr += !rc;
	}
	for (size_t i = 0; !rc && i < sizeof(guest_families) / sizeof(guest_families[0]); i++) {
		add_heading(out, guest_families[i].name, guest_families[i].type, guest_families[i].help);
		for (unsigned int n = 0; n < nr; n++)
			add_guest(out, &guest_families[i], all[n]);
	}
	while (nr)
		status_guest_free(all[--nr]);
	free(all);
	return rc;
}

/* ---- HTTP ---- */

static void answer(struct evhttp_request *request, void *arg)
{
	struct metrics *m = arg;
	struct evbuffer *out = evbuffer_new();
	Understudy__HostStatus *h = status_host(m->d);

	if (!out || !h || add_guests(out, m->d)) {
		evhttp_send_error(request, HTTP_INTERNAL, "no memory");
	} else {
		add_host(out, h);
		evbuffer_add_printf(out, "# EOF\n");
		evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type",
				  "application/openmetrics-text; version=1.0.0; charset=utf-8");
		evhttp_send_reply(request, HTTP_OK, "OK", out);
	}
	status_host_free(h);
	if (out)
		evbuffer_free(out);
}

static void not_found(struct evhttp_request *request, void *arg)
{
	evhttp_send_error(request, HTTP_NOTFOUND, "only /metrics is here");
}

int metrics_new(struct daemon *d, struct metrics **out)
{
	const struct config *c = &d->config;
	char text[EVENT_TEXT_MAX];
	struct metrics *m;

	*out = NULL;
	if (!c->metrics_port)
		return 0;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->d = d;
	m->http = evhttp_new(d->base);
	if (!m->http) {
		free(m);
		return -ENOMEM;
	}
	evhttp_set_allowed_methods(m->http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD);
	evhttp_set_timeout(m->http, REQUEST_LIMIT_S);
	evhttp_set_max_headers_size(m->http, HEADERS_MAX_BYTES);
	evhttp_set_max_body_size(m->http, 0);
	evhttp_set_cb(m->http, "/metrics", answer, m);
	evhttp_set_gencb(m->http, not_found, NULL);
	if (evhttp_bind_socket(m->http, c->metrics_address, (uint16_t)c->metrics_port)) {
		snprintf(text, sizeof(text), "no metrics: %s port %u cannot be had: %s", c->metrics_address, c->metrics_port, strerror(errno));
		events_add(d->events, NULL, "alarm", text, "");
		metrics_free(m);
		return 0;
	}
	*out = m;
	return 0;
}

void metrics_free(struct metrics *m)
{
	if (!m)
		return;
	evhttp_free(m->http);
	free(m);
}
