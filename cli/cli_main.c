/* SPDX-License-Identifier: GPL-2.0-or-later */
/* understudy: see understudy(8). */
#include "cli/cli.h"
#include "replicator/config.h"

#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cli/verbs.h"

static void usage(FILE *to)
{
	unsigned int i;

	fputs("usage: understudy [--config FILE] [--socket PATH] VERB [...]\n\n", to);
	for (i = 0; verbs[i].name; i++)
		fprintf(to, "  understudy %-38s %s\n", verbs[i].usage, verbs[i].help);
	fputs("\nExit status: 0 all protected, 1 degraded, 2 unprotected, 64 and above: errors "
	      "(sysexits).\n",
	      to);
}

static int run(struct cli *cli, int argc, char **argv)
{
	unsigned int i;

	for (i = 0; verbs[i].name; i++) {
		if (strcmp(verbs[i].name, argv[0]))
			continue;
		optind = 0; /* each verb reads its own options */
		return verbs[i].run(cli, argc, argv);
	}
	complain("unknown verb \"%s\" (understudy --help)", argv[0]);
	return EX_USAGE;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"socket", required_argument, NULL, 's'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	struct cli cli = {.config_path = CONFIG_PATH_DEFAULT};
	int c;

	signal(SIGPIPE, SIG_IGN);
	opterr = 0;
	while ((c = getopt_long(argc, argv, "+:c:s:h", options, NULL)) != -1) {
		switch (c) {
		case 'c':
			cli.config_path = optarg;
			break;
		case 's':
			cli.socket_path = optarg;
			break;
		case 'V':
			return verb_version(&cli, 1, (char *[]){"version", NULL});
		case 'h':
			usage(stdout);
			return EX_OK;
		default:
			complain("option \"%s\" is unknown or lacks its value (understudy --help)",
				 argv[optind - 1]);
			return EX_USAGE;
		}
	}
	if (optind == argc) {
		usage(stderr);
		return EX_USAGE;
	}
	return run(&cli, argc - optind, argv + optind);
}
