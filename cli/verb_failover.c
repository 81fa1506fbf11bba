/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/args.h"
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

/* The operator's word that the peer is dead: its name, which nobody gives by habit. `given`: on the command line, or NULL. */
static int ask_for_peer(const Understudy__ControlReply *r, const char *given)
{
	const char *peer = r->host && r->host->peer_host[0] ? r->host->peer_host : r->host ? r->host->peer_address : "";
	char line[128] = "";

	if (!given && !isatty(STDIN_FILENO)) {
		complain("--force is your word that %s is dead: --peer-is-dead %s", peer, peer);
		return EX_USAGE;
	}
	if (!given) {
		printf("If %s is not dead for certain, the guest may run twice. Type its name if it is: ", peer);
		fflush(stdout);
		if (!fgets(line, sizeof(line), stdin))
			line[0] = '\0';
		line[strcspn(line, "\n")] = '\0';
		given = line;
	}
	if (!strcmp(given, peer))
		return 0;
	complain("the peer is called %s, not \"%s\": nothing was done", peer, given);
	return EX_USAGE;
}

int verb_failover(struct cli *cli, int argc, char **argv)
{
	struct args a = {.flag_name = {"--force", "--no-wait"}, .value_option = "--peer-is-dead", .names_min = 1, .names_max = 1};
	Understudy__ControlReply *r;
	bool force;
	int code = args_parse(&a, argc, argv);

	if (code)
		return code;
	r = client_status(cli, a.names[0], &code);
	if (!r)
		return code;
	force = a.flag[0] || a.value;
	code = force ? ask_for_peer(r, a.value) : 0;
	if (!code)
		code = move_guest(cli, r->guests[0], force, !a.flag[1]);
	understudy__control_reply__free_unpacked(r, NULL);
	return code;
}

int verb_switchover(struct cli *cli, int argc, char **argv)
{
	struct args a = {.flag_name = {"--no-wait"}, .names_min = 1, .names_max = 1};
	Understudy__ControlReply *r;
	int code = args_parse(&a, argc, argv);

	if (code)
		return code;
	r = client_status(cli, a.names[0], &code);
	if (!r)
		return code;
	code = move_guest(cli, r->guests[0], false, !a.flag[0]);
	understudy__control_reply__free_unpacked(r, NULL);
	return code;
}
