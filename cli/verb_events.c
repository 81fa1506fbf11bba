/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/args.h"
#include "cli/cli.h"

#include <sysexits.h>

enum { REPLY_MAX_MS = 10000 };

int verb_events(struct cli *cli, int argc, char **argv)
{
	struct args a = {.flag_name = {"--follow", "--json"}};
	Understudy__ControlRequest request = UNDERSTUDY__CONTROL_REQUEST__INIT;
	Understudy__ControlEvents events = UNDERSTUDY__CONTROL_EVENTS__INIT;
	Understudy__ControlReply *r;
	struct client *c;
	bool end = false;
	int code = args_parse(&a, argc, argv);

	if (code)
		return code;
	c = client_open(cli, &code);
	if (!c)
		return code;
	events.follow = a.flag[0];
	request.request_case = UNDERSTUDY__CONTROL_REQUEST__REQUEST_EVENTS;
	request.events = &events;
	code = client_send(c, &request) ? EX_UNAVAILABLE : 0;
	while (!code && !end) {
		size_t i;

		r = client_receive(c, a.flag[0] ? 0 : REPLY_MAX_MS);
		if (!r) {
			complain("understudyd closed the connection");
			code = EX_UNAVAILABLE;
			break;
		}
		code = code_to_exit(r->code);
		if (code)
			complain("%s", r->error);
		for (i = 0; i < r->n_events; i++) {
			if (a.flag[1])
				render_event_json(stdout, r->events[i]);
			else
				render_event(stdout, r->events[i]);
		}
		end = !r->n_events;
		understudy__control_reply__free_unpacked(r, NULL);
		if (fflush(stdout))
			end = true; /* nobody reads us any more */
	}
	client_close(c);
	return code;
}
