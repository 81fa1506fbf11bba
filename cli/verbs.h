/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of verbs, for help and for dispatch. */
#ifndef CLI_VERBS_H
#define CLI_VERBS_H

struct cli;

struct verb {
	const char *name;
	int (*run)(struct cli *cli, int argc, char **argv);
	const char *usage, *help;
};

extern const struct verb verbs[]; /* ends with a NULL name */

#endif
