/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/args.h"
#include "cli/cli.h"
#include "common/clock.h"

#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum { UNTAG_MAX_MS = 60000, POLL_MS = 100 };

static bool still_there(struct cli *cli, const char *name, int *code)
{
	Understudy__ControlReply *r = client_status(cli, NULL, code);
	bool there = false;
	size_t i;

	for (i = 0; r && i < r->n_guests; i++)
		there |= !strcmp(r->guests[i]->name, name);
	if (r)
		understudy__control_reply__free_unpacked(r, NULL);
	return there;
}

int verb_untag(struct cli *cli, int argc, char **argv)
{
	struct args a = {.names_min = 1, .names_max = 1};
	Understudy__ControlRequest request = UNDERSTUDY__CONTROL_REQUEST__INIT;
	Understudy__ControlUntag untag = UNDERSTUDY__CONTROL_UNTAG__INIT;
	Understudy__ControlReply *r;
	uint64_t end_us = clock_us() + UNTAG_MAX_MS * 1000ull;
	int code = args_parse(&a, argc, argv);

	if (code)
		return code;
	untag.name = (char *)a.names[0];
	request.request_case = UNDERSTUDY__CONTROL_REQUEST__REQUEST_UNTAG;
	request.untag = &untag;
	r = client_ask(cli, &request, &code);
	if (!r)
		return code;
	understudy__control_reply__free_unpacked(r, NULL);
	while (still_there(cli, a.names[0], &code)) {
		if (clock_us() > end_us) {
			complain("%s: still being untagged: see `understudy status`", a.names[0]);
			return EX_TEMPFAIL;
		}
		usleep(POLL_MS * 1000);
	}
	if (!code)
		printf("%s: no longer protected\n", a.names[0]);
	return code;
}
