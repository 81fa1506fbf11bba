/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A live table, one line per guest, until it is interrupted. */
#include "cli/args.h"
#include "cli/cli.h"

#include <unistd.h>

enum { EVERY_S = 1 };

/* Home, and nothing below: lines are overwritten rather than erased, which does not flicker. */
static void begin_screen(void)
{
	if (isatty(STDOUT_FILENO))
		fputs("\033[H\033[J", stdout);
}

/* What to exit with if this was the last. */
static int show(struct cli *cli)
{
	int code;
	Understudy__ControlReply *r = client_status(cli, NULL, &code);

	begin_screen();
	if (!r)
		return code;
	render_top(stdout, r);
	fflush(stdout);
	code = status_exit(r);
	understudy__control_reply__free_unpacked(r, NULL);
	return code;
}

int verb_top(struct cli *cli, int argc, char **argv)
{
	struct args a = {.flag_name = {"--once"}};
	int code = args_parse(&a, argc, argv);

	if (code)
		return code;
	/* A daemon that is away is waited for, a reader that has gone is not. */
	for (code = show(cli); !a.flag[0] && !ferror(stdout); code = show(cli))
		sleep(EVERY_S);
	return code;
}
