/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/args.h"
#include "cli/cli.h"

int verb_status(struct cli *cli, int argc, char **argv)
{
	struct args a = {.flag_name = {"--json"}, .names_max = 1};
	Understudy__ControlReply *r;
	int code = args_parse(&a, argc, argv);

	if (code)
		return code;
	r = client_status(cli, a.names[0], &code);
	if (!r)
		return code;
	if (a.flag[0])
		render_status_json(stdout, r);
	else
		render_status(stdout, r);
	code = status_exit(r);
	understudy__control_reply__free_unpacked(r, NULL);
	return code;
}
