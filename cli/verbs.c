/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/verbs.h"
#include "cli/cli.h"

#include <stdarg.h>
#include <string.h>
#include <sysexits.h>

const struct verb verbs[] = {
	{"tag", verb_tag, "tag NAME [ha=POLICY] [--no-wait]", "protect a running guest"},
	{"untag", verb_untag, "untag NAME", "end protection, leave no trace"},
	{"list", verb_list, "list", "the tagged guests"},
	{"status", verb_status, "status [NAME] [--json]", "how they are"},
	{"top", verb_top, "top [--once]", "how they are, every second"},
	{"switchover", verb_switchover, "switchover NAME [--no-wait]", "move it to the other host, losing nothing"},
	{"failback", verb_failback, "failback NAME | --all", "bring guests to the zone that is their home"},
	{"failover", verb_failover, "failover NAME [--force | --peer-is-dead HOST] [--no-wait]",
	 "the same; or run the copy that is here"},
	{"events", verb_events, "events [--follow] [--json]", "what happened"},
	{"check", verb_check, "check", "what this host lacks, and how to mend it"},
	{"pair", verb_pair, "pair init PEER | join FILE [--dir DIR]", "certificates for the two hosts"},
	{"version", verb_version, "version", "the version of this command"},
	{0},
};

void complain(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("understudy: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

int usage_error(const char *verb, const char *fmt, ...)
{
	unsigned int i;
	va_list ap;

	fprintf(stderr, "understudy %s: ", verb);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	for (i = 0; verbs[i].name; i++)
		if (!strcmp(verbs[i].name, verb))
			fprintf(stderr, "\nusage: understudy %s\n", verbs[i].usage);
	return EX_USAGE;
}
