/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/cli.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

enum { STATUS_SCHEMA = 1, EVENT_SCHEMA = 1, AMOUNT_TEXT = 32 };

/* A full window is how a busy guest is paced, and nothing is wrong with it. But output waits for as long as nothing is
 * committed: from here on,
 * beyond two epochs, it is a stall, which its clients notice. */
static const uint32_t EPOCH_LATE_US = 1000000;

/* ---- amounts for people ---- */

static const char *duration(uint64_t us, char out[AMOUNT_TEXT])
{
	if (us < 1000)
		snprintf(out, AMOUNT_TEXT, "%" PRIu64 " us", us);
	else if (us < 1000000)
		snprintf(out, AMOUNT_TEXT, "%.1f ms", (double)us / 1e3);
	else
		snprintf(out, AMOUNT_TEXT, "%.1f s", (double)us / 1e6);
	return out;
}

static const char *bytes(double n, char out[AMOUNT_TEXT])
{
	static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	unsigned int i = 0;

	while (n >= 1024 && i < 4) {
		n /= 1024;
		i++;
	}
	snprintf(out, AMOUNT_TEXT, i ? "%.1f %s" : "%.0f %s", n, unit[i]);
	return out;
}

static void uuid_print(FILE *out, const ProtobufCBinaryData *uuid)
{
	size_t i;

	for (i = 0; i < uuid->len; i++)
		fprintf(out, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
			uuid->data[i]);
}

/* ---- exit codes ---- */

static bool epoch_late(const Understudy__GuestStatus *g)
{
	uint64_t epoch_us = g->epoch_us > 1000ull * g->epoch_ms ? g->epoch_us : 1000ull * g->epoch_ms;
	uint64_t most_us = EPOCH_LATE_US + 2 * epoch_us;

	return !strcmp(g->role, "primary") && g->epoch_age_us > most_us;
}

int guest_exit(const Understudy__GuestStatus *g)
{
	static const char *const fine[] = {"protected", "standby", NULL};
	static const char *const degraded[] = {"degraded", "switching", "handing-over",
					       "activating", NULL};
	unsigned int i;

	for (i = 0; fine[i]; i++)
		if (!strcmp(g->state, fine[i]))
			return g->primary_dead || epoch_late(g) ? CLI_DEGRADED : CLI_PROTECTED;
	for (i = 0; degraded[i]; i++)
		if (!strcmp(g->state, degraded[i]))
			return CLI_DEGRADED;
	return CLI_UNPROTECTED;
}

int status_exit(const Understudy__ControlReply *r)
{
	int worst = CLI_PROTECTED;
	size_t i;

	for (i = 0; i < r->n_guests; i++)
		if (guest_exit(r->guests[i]) > worst)
			worst = guest_exit(r->guests[i]);
	return worst;
}

/* ---- status ---- */

static void render_host(FILE *out, const Understudy__HostStatus *h)
{
	char age[AMOUNT_TEXT];

	fprintf(out, "host %s, zone %s\n", h->host, h->zone);
	if (h->peer_up)
		fprintf(out, "peer %s, zone %s: heard %s ago, %s", h->peer_host, h->peer_zone, duration(h->peer_heard_us_ago, age),
			h->tls ? "TLS" : "not encrypted");
	else
		fprintf(out, "peer %s: %s",
			h->peer_host[0]	     ? h->peer_host
			: h->peer_address[0] ? h->peer_address
					     : "(none)",
			h->peer_problem);
	if (h->n_untold)
		fprintf(out, "; untags to be told: %zu", h->n_untold);
	fputc('\n', out);
	if (!h->xenstore)
		fprintf(out, "xenstore cannot be reached: `understudy check`\n");
}

static void render_zones(FILE *out, const Understudy__GuestStatus *g)
{
	const char *here = g->here_zone[0] ? g->here_zone : "-";
	const char *there = g->there_zone[0] ? g->there_zone : "-";
	bool backup = !strcmp(g->role, "backup");

	fprintf(out, "  role       %s here (zone %s), %s in zone %s%s\n", g->role, here,
		backup ? "primary" : "backup", there, g->peer_up ? "" : " (not heard)");
}

static void render_sync(FILE *out, const Understudy__GuestStatus *g)
{
	if (strcmp(g->state, "syncing") || !g->sync_pages_total)
		return;
	fprintf(out, "  sync       %" PRIu64 " of %" PRIu64 " pages (%.0f %%), round %u\n",
		g->sync_pages_sent, g->sync_pages_total,
		100.0 * (double)g->sync_pages_sent / (double)g->sync_pages_total, g->sync_round);
}

static void render_right(FILE *out, const Understudy__GuestStatus *g)
{
	char a[AMOUNT_TEXT];

	if (!g->leased || strcmp(g->role, "primary"))
		return;
	if (g->right_us_left == UINT64_MAX)
		fprintf(out, "  right      no copy is current%s%s\n", g->witness_problem[0] ? "; " : "", g->witness_problem);
	else
		fprintf(out, "  right      lasts for %s%s%s\n", duration(g->right_us_left, a),
			g->witness_problem[0] ? "; " : "", g->witness_problem);
}

static void render_stats(FILE *out, const Understudy__GuestStatus *g)
{
	char a[AMOUNT_TEXT], b[AMOUNT_TEXT], c[AMOUNT_TEXT];

	if (!g->has_stats)
		return;
	if (!strcmp(g->role, "backup")) {
		fprintf(out, "  epoch      %" PRIu64 ", stream heard %s ago\n", g->epoch,
			duration(g->heard_us_ago, a));
		return;
	}
	if (strcmp(g->state, "protected") && strcmp(g->state, "degraded") &&
	    strcmp(g->state, "switching"))
		return;
	fprintf(out, "  epoch      %" PRIu64 ", age %s, %.1f/s, commit p50 %s p99 %s\n", g->epoch,
		duration(g->epoch_age_us, a), g->epochs_per_s, duration(g->commit_us_p50, b),
		duration(g->commit_us_p99, c));
	fprintf(out, "  pause      p50 %s, p99 %s, max %s\n", duration(g->pause_us_p50, a),
		duration(g->pause_us_p99, b), duration(g->pause_us_max, c));
	fprintf(out, "  dirty      %.0f pages/s, %s/s raw, %s/s on the wire\n",
		g->dirty_pages_per_s, bytes(g->raw_bytes_per_s, a), bytes(g->wire_bytes_per_s, b));
	fprintf(out, "  held       %" PRIu64 " packets, %s\n", g->held_packets,
		bytes((double)g->held_bytes, a));
	fprintf(out, "  window     %u of %u%s%s\n", g->in_flight, g->window,
		g->back_pressure ? ", back pressure" : "",
		epoch_late(g) ? ": output waits" : "");
}

void render_status(FILE *out, const Understudy__ControlReply *r)
{
	size_t i;

	if (r->host)
		render_host(out, r->host);
	for (i = 0; i < r->n_guests; i++) {
		const Understudy__GuestStatus *g = r->guests[i];

		fprintf(out, "\n%s: %s%s\n", g->name, g->state,
			g->primary_dead ? ", its primary is silent" : "");
		render_zones(out, g);
		fprintf(out, "  policy     %s: epochs of %u ms", g->policy, g->epoch_ms);
		if (g->epoch_us > 1000ull * g->epoch_ms)
			fprintf(out, " and more, now %.1f", (double)g->epoch_us / 1e3);
		fprintf(out, ", term %" PRIu64, g->term);
		if (g->domid)
			fprintf(out, ", domain %u", g->domid);
		fputc('\n', out);
		render_sync(out, g);
		render_stats(out, g);
		render_right(out, g);
		if (g->problem[0])
			fprintf(out, "  problem    %s\n", g->problem);
	}
	if (!r->n_guests)
		fprintf(out, "\nno guest is tagged: `understudy tag NAME`\n");
}

void render_list(FILE *out, const Understudy__ControlReply *r)
{
	size_t i;

	fprintf(out, "%-24s %-14s %-8s %-16s %s\n", "NAME", "STATE", "ROLE", "POLICY", "TERM");
	for (i = 0; i < r->n_guests; i++) {
		const Understudy__GuestStatus *g = r->guests[i];

		fprintf(out, "%-24s %-14s %-8s %-16s %" PRIu64 "\n", g->name, g->state, g->role,
			g->policy, g->term);
	}
}

/* ---- top ---- */

static void top_primary(FILE *out, const Understudy__GuestStatus *g)
{
	char a[AMOUNT_TEXT], b[AMOUNT_TEXT], c[AMOUNT_TEXT];

	fprintf(out, " %9s", duration(g->epoch_age_us, a));
	fprintf(out, " %9s %9s", duration(g->pause_us_p50, a), duration(g->pause_us_p99, b));
	fprintf(out, " %9s %8.0f %11s", duration(g->commit_us_p50, a), g->dirty_pages_per_s, bytes(g->wire_bytes_per_s, b));
	fprintf(out, " %5" PRIu64 " %10s %4u/%u", g->held_packets, bytes((double)g->held_bytes, c), g->in_flight, g->window);
	if (g->leased && g->right_us_left != UINT64_MAX)
		fprintf(out, "  right %s", duration(g->right_us_left, a));
	if (g->back_pressure)
		fputs("  back pressure", out);
}

static void top_guest(FILE *out, const Understudy__GuestStatus *g)
{
	char a[AMOUNT_TEXT];

	fprintf(out, "%-20s %-13s %-8s", g->name, g->state, g->role);
	if (g->has_stats && !strcmp(g->role, "primary"))
		top_primary(out, g);
	else if (g->has_stats)
		fprintf(out, " %9s", duration(g->heard_us_ago, a));
	if (g->sync_pages_total && !strcmp(g->state, "syncing"))
		fprintf(out, "  %.0f %% sent", 100.0 * (double)g->sync_pages_sent / (double)g->sync_pages_total);
	if (g->problem[0])
		fprintf(out, "  %s", g->problem);
	fputc('\n', out);
}

void render_top(FILE *out, const Understudy__ControlReply *r)
{
	size_t i;

	if (r->host)
		render_host(out, r->host);
	/* AGE of the last committed epoch; on the backup since when its stream was not heard. */
	fprintf(out, "\n%-20s %-13s %-8s %9s %9s %9s %9s %8s %11s %5s %10s %7s\n", "NAME", "STATE", "ROLE", "AGE", "PAUSE p50", "p99",
		"COMMIT", "PAGES/s", "WIRE/s", "HELD", "BYTES", "WINDOW");
	for (i = 0; i < r->n_guests; i++)
		top_guest(out, r->guests[i]);
}

/* ---- JSON ---- */

void render_json_string(FILE *out, const char *text)
{
	const unsigned char *c;

	fputc('"', out);
	for (c = (const unsigned char *)text; *c; c++) {
		if (*c == '"' || *c == '\\')
			fprintf(out, "\\%c", *c);
		else if (*c < ' ')
			fprintf(out, "\\u%04x", *c);
		else
			fputc(*c, out);
	}
	fputc('"', out);
}

static void json_text(FILE *out, const char *key, const char *text)
{
	fprintf(out, "\"%s\": ", key);
	render_json_string(out, text);
	fputs(", ", out);
}

static void json_number(FILE *out, const char *key, uint64_t n)
{
	fprintf(out, "\"%s\": %" PRIu64 ", ", key, n);
}

static void json_rate(FILE *out, const char *key, double n)
{
	fprintf(out, "\"%s\": %.3f, ", key, n);
}

static void json_bool(FILE *out, const char *key, bool b)
{
	fprintf(out, "\"%s\": %s, ", key, b ? "true" : "false");
}

static void json_host(FILE *out, const Understudy__HostStatus *h)
{
	fputs("\"host\": {", out);
	json_text(out, "name", h->host);
	json_text(out, "zone", h->zone);
	json_text(out, "version", h->version);
	json_text(out, "hypervisor", h->hypervisor);
	json_bool(out, "xenstore", h->xenstore);
	fprintf(out, "\"illegal_events\": %" PRIu64 "},\n \"peer\": {", h->illegal_events);
	json_bool(out, "up", h->peer_up);
	json_text(out, "name", h->peer_host);
	json_text(out, "zone", h->peer_zone);
	json_text(out, "address", h->peer_address);
	json_text(out, "problem", h->peer_problem);
	json_bool(out, "tls", h->tls);
	if (h->tls)
		fprintf(out, "\"certificate_days\": %" PRId32 ", ", h->certificate_days);
	if (h->n_untold)
		json_number(out, "untold", h->n_untold);
	fprintf(out, "\"heard_us_ago\": %" PRIu64 "},\n ", h->peer_heard_us_ago);
}

static void json_guest(FILE *out, const Understudy__GuestStatus *g)
{
	fputc('{', out);
	json_text(out, "name", g->name);
	fputs("\"uuid\": \"", out);
	uuid_print(out, &g->uuid);
	fputs("\", ", out);
	json_text(out, "state", g->state);
	json_text(out, "role", g->role);
	json_text(out, "zone", g->here_zone);
	json_text(out, "peer_zone", g->there_zone);
	json_text(out, "policy", g->policy);
	json_text(out, "kind", g->kind);
	json_text(out, "problem", g->problem);
	json_bool(out, "peer_up", g->peer_up);
	json_bool(out, "primary_dead", g->primary_dead);
	if (g->leased)
		json_text(out, "witness_problem", g->witness_problem);
	if (g->leased && g->right_us_left != UINT64_MAX)
		json_number(out, "right_us_left", g->right_us_left);
	json_number(out, "term", g->term);
	json_number(out, "domid", g->domid);
	json_number(out, "worker_pid", g->worker_pid);
	json_number(out, "memory_bytes", g->memory_bytes);
	json_number(out, "vcpus", g->vcpus);
	json_number(out, "epoch", g->epoch);
	json_number(out, "epoch_age_us", g->epoch_age_us);
	json_number(out, "pause_us_p50", g->pause_us_p50);
	json_number(out, "pause_us_p99", g->pause_us_p99);
	json_number(out, "pause_us_max", g->pause_us_max);
	json_number(out, "commit_us_p50", g->commit_us_p50);
	json_number(out, "commit_us_p99", g->commit_us_p99);
	json_rate(out, "epochs_per_s", g->epochs_per_s);
	json_rate(out, "dirty_pages_per_s", g->dirty_pages_per_s);
	json_rate(out, "raw_bytes_per_s", g->raw_bytes_per_s);
	json_rate(out, "wire_bytes_per_s", g->wire_bytes_per_s);
	json_number(out, "epochs_total", g->epochs_total);
	json_number(out, "raw_bytes_total", g->raw_bytes_total);
	json_number(out, "wire_bytes_total", g->wire_bytes_total);
	json_number(out, "held_packets", g->held_packets);
	json_number(out, "held_bytes", g->held_bytes);
	json_number(out, "epoch_ms", g->epoch_ms);
	if (g->epoch_us)
		json_number(out, "epoch_us", g->epoch_us);
	json_number(out, "in_flight", g->in_flight);
	json_number(out, "window", g->window);
	json_bool(out, "back_pressure", g->back_pressure);
	json_number(out, "stream_heard_us_ago", g->heard_us_ago);
	json_number(out, "sync_pages_sent", g->sync_pages_sent);
	json_number(out, "sync_pages_total", g->sync_pages_total);
	fprintf(out, "\"sync_round\": %u}", g->sync_round);
}

void render_status_json(FILE *out, const Understudy__ControlReply *r)
{
	size_t i;

	fprintf(out, "{\"schema\": %d,\n ", STATUS_SCHEMA);
	if (r->host)
		json_host(out, r->host);
	fputs("\"guests\": [", out);
	for (i = 0; i < r->n_guests; i++) {
		fputs(i ? ",\n  " : "\n  ", out);
		json_guest(out, r->guests[i]);
	}
	fputs("]}\n", out);
}

/* ---- events ---- */

static void wall(uint64_t us, char *out, size_t len)
{
	time_t seconds = (time_t)(us / 1000000);
	struct tm tm;
	size_t n;

	localtime_r(&seconds, &tm);
	n = strftime(out, len, "%Y-%m-%d %H:%M:%S", &tm);
	snprintf(out + n, len - n, ".%03u", (unsigned int)(us / 1000 % 1000));
}

void render_event(FILE *out, const Understudy__EventRecord *e)
{
	char when[64];
	size_t i;

	wall(e->wall_us, when, sizeof(when));
	fprintf(out, "%s %s%s%s", when, e->guest, e->guest[0] ? ": " : "", e->kind);
	if (e->text[0])
		fprintf(out, ": %s", e->text);
	for (i = 0; i < e->n_fields; i++)
		fprintf(out, "%s%s=%" PRId64, i ? " " : " [", e->fields[i]->key,
			e->fields[i]->value);
	fputs(e->n_fields ? "]\n" : "\n", out);
}

void render_event_json(FILE *out, const Understudy__EventRecord *e)
{
	size_t i;

	fprintf(out, "{\"schema\": %d, ", EVENT_SCHEMA);
	json_number(out, "serial", e->serial);
	json_number(out, "wall_us", e->wall_us);
	json_number(out, "mono_us", e->mono_us);
	json_text(out, "guest", e->guest);
	json_text(out, "kind", e->kind);
	json_text(out, "text", e->text);
	fputs("\"fields\": {", out);
	for (i = 0; i < e->n_fields; i++)
		fprintf(out, "%s\"%s\": %" PRId64, i ? ", " : "", e->fields[i]->key,
			e->fields[i]->value);
	fputs("}}\n", out);
}
