/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/args.h"
#include "cli/cli.h"

int verb_version(struct cli *cli, int argc, char **argv)
{
	struct args a = {0};
	int code = args_parse(&a, argc, argv);

	if (!code)
		puts("understudy " UNDERSTUDY_VERSION);
	return code;
}
