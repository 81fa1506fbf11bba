/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Renders canned replies: render status|list|events, also with -empty, -untold, -pressed, -late, -json,
 * -json-untold as far as `run` asks for them. Exits as the command would. */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

static uint8_t uuid[16] = {0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88,
			   0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 1};

static void guest(Understudy__GuestStatus *g, const char *name, const char *state, const char *role)
{
	understudy__guest_status__init(g);
	g->name = (char *)name;
	g->state = (char *)state;
	g->role = (char *)role;
	g->uuid.data = uuid;
	g->uuid.len = sizeof(uuid);
	g->policy = "standard";
	g->here_zone = "a";
	g->there_zone = "b";
	g->kind = "PVH";
	g->term = 3;
	g->domid = 7;
	g->peer_up = true;
	g->window = 2;
	g->epoch_ms = 25;
}

static void stats(Understudy__GuestStatus *g)
{
	g->has_stats = true;
	g->epoch = 12345;
	g->epoch_age_us = 31250;
	g->pause_us_p50 = 1210;
	g->pause_us_p99 = 3900;
	g->pause_us_max = 950;
	g->commit_us_p50 = 8000;
	g->commit_us_p99 = 21000;
	g->epochs_per_s = 37.25;
	g->dirty_pages_per_s = 2150.5;
	g->raw_bytes_per_s = 8808448;
	g->wire_bytes_per_s = 660000;
	g->held_packets = 14;
	g->held_bytes = 21000;
	g->in_flight = 1;
	g->heard_us_ago = 42000;
}

int main(int argc, char **argv)
{
	static Understudy__GuestStatus g[5];
	Understudy__GuestStatus *list[5];
	Understudy__HostStatus host = UNDERSTUDY__HOST_STATUS__INIT;
	Understudy__ControlReply r = UNDERSTUDY__CONTROL_REPLY__INIT;
	Understudy__EventField f[2] = {UNDERSTUDY__EVENT_FIELD__INIT,
				       UNDERSTUDY__EVENT_FIELD__INIT};
	Understudy__EventField *fields[2] = {&f[0], &f[1]};
	Understudy__EventRecord e = UNDERSTUDY__EVENT_RECORD__INIT;
	char *untold[2] = {"redis3", "web2"};
	const char *what = argc > 1 ? argv[1] : "";
	unsigned int i;

	setenv("TZ", "UTC", 1);
	host.host = "host-a";
	host.zone = "a";
	host.version = "TEST";
	host.peer_up = true;
	host.peer_host = "host-b";
	host.peer_zone = "b";
	host.peer_address = "192.0.2.2";
	host.peer_heard_us_ago = 20000;
	host.xenstore = true;
	host.hypervisor = "4.17.5";
	r.host = &host;
	guest(&g[0], "redis1", "protected", "primary");
	stats(&g[0]);
	guest(&g[1], "redis2", "standby", "backup");
	stats(&g[1]);
	guest(&g[2], "web", "syncing", "primary");
	g[2].sync_pages_sent = 8192;
	g[2].sync_pages_total = 32768;
	g[2].sync_round = 1;
	guest(&g[3], "mail", "unprotected", "primary");
	g[3].problem = "host-b refuses: domain id 7 is taken by \"other\"";
	guest(&g[4], "db", "standby", "backup");
	g[4].primary_dead = true;
	for (i = 0; i < 5; i++)
		list[i] = &g[i];
	r.guests = list;
	r.n_guests = 5;

	e.serial = 9;
	e.wall_us = 1700000000123456;
	e.mono_us = 123456789;
	e.guest = "redis1";
	e.kind = "declared-dead";
	e.text = "neither the session nor the stream was heard";
	f[0].key = "silent_us";
	f[0].value = 512000;
	f[1].key = "epoch";
	f[1].value = -1;
	e.fields = fields;
	e.n_fields = 2;

	if (!strcmp(what, "status-empty")) {
		r.n_guests = 0;
		host.peer_up = false;
		host.peer_problem = "192.0.2.2 port 7788 cannot be reached: Connection refused";
		host.xenstore = false;
	}
	if (strstr(what, "-pressed") || strstr(what, "-late")) {
		g[0].back_pressure = true;
		g[0].in_flight = 2;
		if (strstr(what, "-late"))
			g[0].epoch_age_us = 1250000;
		r.n_guests = 1;
	}
	if (strstr(what, "-untold")) {
		host.untold = untold;
		host.n_untold = 2;
		r.n_guests = 0;
	}
	if (!strncmp(what, "status-json", 11))
		render_status_json(stdout, &r);
	else if (!strncmp(what, "status", 6))
		render_status(stdout, &r);
	else if (!strcmp(what, "list"))
		render_list(stdout, &r);
	else if (!strcmp(what, "top"))
		render_top(stdout, &r);
	else if (!strcmp(what, "events"))
		render_event(stdout, &e);
	else if (!strcmp(what, "events-json"))
		render_event_json(stdout, &e);
	return what[0] == 'e' ? 0 : status_exit(&r);
}
