/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/args.h"
#include "cli/cli.h"
#include "common/clock.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum { FAILOVER_MAX_MS = 60000, POLL_MS = 50 };

static bool under_way(const char *state)
{
	static const char *const states[] = {"switching", "handing-over", "retiring", "activating",
					     NULL};
	unsigned int i;

	for (i = 0; states[i]; i++)
		if (!strcmp(states[i], state))
			return true;
	return false;
}

/* Done when it is on the other side, in a later term, and nothing is under way any more; called off when nothing is and it is not. A
 * later term alone is also what a move leaves that was given back. */
static int wait_moved(struct cli *cli, const char *name, uint64_t term, bool was_backup, bool forward)
{
	uint64_t end_us = clock_us() + FAILOVER_MAX_MS * 1000ull;
	uint64_t quiet_us = clock_us() + 1000000;
	int code;

	for (;;) {
		Understudy__ControlReply *r = client_status(cli, name, &code);
		const Understudy__GuestStatus *g = r && r->n_guests ? r->guests[0] : NULL;
		bool over;

		if (!g) {
			if (r)
				understudy__control_reply__free_unpacked(r, NULL);
			return code;
		}
		over = !under_way(g->state);
		if (over && g->term > term && was_backup != !strcmp(g->role, "backup")) {
			printf("%s: runs %s now, term %lu\n", name,
			       !strcmp(g->role, "backup") ? "on the other host" : "here",
			       (unsigned long)g->term);
			understudy__control_reply__free_unpacked(r, NULL);
			return 0;
		}
		if (over && clock_us() > quiet_us &&
		    (!forward || clock_us() > quiet_us + 15000000)) {
			complain("%s was not moved: %s", name,
				 g->problem[0] ? g->problem : g->state);
			understudy__control_reply__free_unpacked(r, NULL);
			return EX_TEMPFAIL;
		}
		understudy__control_reply__free_unpacked(r, NULL);
		if (clock_us() > end_us) {
			complain("%s: still under way: see `understudy status`", name);
			return EX_TEMPFAIL;
		}
		usleep(POLL_MS * 1000);
	}
}

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
	Understudy__ControlRequest request = UNDERSTUDY__CONTROL_REQUEST__INIT;
	Understudy__ControlFailover failover = UNDERSTUDY__CONTROL_FAILOVER__INIT;
	Understudy__ControlReply *r;
	uint64_t term;
	bool backup, force;
	int code = args_parse(&a, argc, argv);

	if (code)
		return code;
	r = client_status(cli, a.names[0], &code);
	if (!r)
		return code;
	term = r->n_guests ? r->guests[0]->term : 0;
	backup = r->n_guests && !strcmp(r->guests[0]->role, "backup");
	force = a.flag[0] || a.value;
	code = force ? ask_for_peer(r, a.value) : 0;
	understudy__control_reply__free_unpacked(r, NULL);
	if (code)
		return code;

	failover.name = (char *)a.names[0];
	failover.force = force;
	request.request_case = UNDERSTUDY__CONTROL_REQUEST__REQUEST_FAILOVER;
	request.failover = &failover;
	r = client_ask(cli, &request, &code);
	if (!r)
		return code;
	understudy__control_reply__free_unpacked(r, NULL);
	if (a.flag[1])
		return 0;
	return wait_moved(cli, a.names[0], term, backup, backup && !force);
}
