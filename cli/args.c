/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/args.h"
#include "cli/cli.h"

#include <string.h>

static bool take_flag(struct args *a, const char *word)
{
	int i;

	for (i = 0; i < ARGS_FLAGS_MAX && a->flag_name[i]; i++) {
		if (!strcmp(a->flag_name[i], word)) {
			a->flag[i] = true;
			return true;
		}
	}
	return false;
}

int args_parse(struct args *a, int argc, char **argv)
{
	int i;

	for (i = 1; i < argc; i++) {
		if (a->value_option && !strcmp(argv[i], a->value_option)) {
			if (i + 1 == argc)
				return usage_error(argv[0], "%s wants a name behind it", argv[i]);
			a->value = argv[++i];
		} else if (argv[i][0] == '-') {
			if (!take_flag(a, argv[i]))
				return usage_error(argv[0], "unknown option \"%s\"", argv[i]);
		} else if (a->nr_names == a->names_max) {
			return usage_error(argv[0], "\"%s\" is one argument too many", argv[i]);
		} else {
			a->names[a->nr_names++] = argv[i];
		}
	}
	if (a->nr_names < a->names_min)
		return usage_error(argv[0], "the guest's name is missing");
	return 0;
}
