/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Brings guests home: to the zone that their policy names. Either host may be asked. */
#include "cli/args.h"
#include "cli/cli.h"

#include <string.h>
#include <sysexits.h>

static const char *runs_in(const Understudy__GuestStatus *g)
{
	return !strcmp(g->role, "primary") ? g->here_zone : g->there_zone;
}

/* One after another: two moves at once would share a link and a processor. 0: it is at home now; else what to exit with. */
static int bring_home(struct cli *cli, const Understudy__GuestStatus *g, bool asked_for)
{
	if (!g->home[0]) {
		if (asked_for)
			complain("%s: policy %s has no home", g->name, g->policy);
		return asked_for ? EX_CONFIG : 0;
	}
	if (!strcmp(g->home, runs_in(g))) {
		if (asked_for)
			printf("%s: is at home, in zone %s\n", g->name, g->home);
		return 0;
	}
	return move_guest(cli, g, false, true);
}

int verb_failback(struct cli *cli, int argc, char **argv)
{
	struct args a = {.flag_name = {"--all"}, .names_max = 1};
	Understudy__ControlReply *r;
	int code = args_parse(&a, argc, argv), worst = 0;

	if (code)
		return code;
	if (a.flag[0] == (a.nr_names == 1))
		return usage_error("failback", "a guest's name, or --all");
	r = client_status(cli, a.names[0], &code);
	if (!r)
		return code;
	for (size_t i = 0; i < r->n_guests; i++) {
		code = bring_home(cli, r->guests[i], !a.flag[0]);
		if (code > worst)
			worst = code;
	}
	understudy__control_reply__free_unpacked(r, NULL);
	return worst;
}
