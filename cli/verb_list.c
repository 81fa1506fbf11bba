/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/args.h"
#include "cli/cli.h"

int verb_list(struct cli *cli, int argc, char **argv)
{
	struct args a = {0};
	Understudy__ControlReply *r;
	int code = args_parse(&a, argc, argv);

	if (code)
		return code;
	r = client_status(cli, NULL, &code);
	if (!r)
		return code;
	render_list(stdout, r);
	code = status_exit(r);
	understudy__control_reply__free_unpacked(r, NULL);
	return code;
}
