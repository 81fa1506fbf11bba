/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A guest is moved to the other host, and watched until it is there. */
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

int move_guest(struct cli *cli, const Understudy__GuestStatus *g, bool force, bool wait)
{
	Understudy__ControlRequest request = UNDERSTUDY__CONTROL_REQUEST__INIT;
	Understudy__ControlFailover failover = UNDERSTUDY__CONTROL_FAILOVER__INIT;
	bool backup = !strcmp(g->role, "backup");
	Understudy__ControlReply *r;
	int code;

	failover.name = g->name;
	failover.force = force;
	request.request_case = UNDERSTUDY__CONTROL_REQUEST__REQUEST_FAILOVER;
	request.failover = &failover;
	r = client_ask(cli, &request, &code);
	if (!r)
		return code;
	understudy__control_reply__free_unpacked(r, NULL);
	return wait ? wait_moved(cli, g->name, g->term, backup, backup && !force) : 0;
}
