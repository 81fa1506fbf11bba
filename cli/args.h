/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The arguments of a verb: names and long flags in any order. */
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include <stdbool.h>

enum { ARGS_FLAGS_MAX = 4, ARGS_NAMES_MAX = 2 };

struct args {
	/* given by the caller */
	const char *flag_name[ARGS_FLAGS_MAX]; /* "--json"; NULL ends */
	const char *value_option; /* an option that takes the word behind it; NULL: none */
	int names_min, names_max;
	/* filled in */
	const char *value; /* NULL: not given */
	bool flag[ARGS_FLAGS_MAX];
	const char *names[ARGS_NAMES_MAX];
	int nr_names;
};

/* 0, or EX_USAGE after a complaint. */
int args_parse(struct args *a, int argc, char **argv);

#endif
