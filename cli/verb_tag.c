/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/args.h"
#include "cli/cli.h"
#include "common/clock.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

enum {
	POLL_MS = 200,
	PLAIN_LINE_MS = 2000,	    /* without a terminal: a line this often */
	PROBLEM_PATIENCE_MS = 8000, /* a problem that stays so long is an answer */
	BAR_WIDTH = 40,
};

struct progress {
	const char *name;
	bool terminal;
	bool drawn;
	uint64_t line_at_us, problem_since_us;
	char state[32];
};

static void bar(struct progress *p, const Understudy__GuestStatus *g, double share)
{
	int full = (int)(share * BAR_WIDTH), i;

	printf("\r%s: %-12s [", p->name, g->state);
	for (i = 0; i < BAR_WIDTH; i++)
		putchar(i < full ? '#' : '.');
	printf("] %3.0f %%  %" PRIu64 "/%" PRIu64 " MiB\033[K", share * 100,
	       g->sync_pages_sent >> 8, g->sync_pages_total >> 8);
	fflush(stdout);
	p->drawn = true;
}

static void show(struct progress *p, const Understudy__GuestStatus *g)
{
	bool syncing = !strcmp(g->state, "syncing") && g->sync_pages_total;
	double share = syncing ? (double)g->sync_pages_sent / (double)g->sync_pages_total : 0;
	uint64_t now = clock_us();

	if (share > 1)
		share = 1;
	if (p->terminal) {
		bar(p, g, share);
		return;
	}
	if (!strcmp(p->state, g->state) && now < p->line_at_us)
		return;
	snprintf(p->state, sizeof(p->state), "%s", g->state);
	p->line_at_us = now + PLAIN_LINE_MS * 1000;
	if (syncing)
		printf("%s: %s %.0f %%\n", p->name, g->state, share * 100);
	else
		printf("%s: %s\n", p->name, g->state);
	fflush(stdout);
}

static int wait_protected(struct cli *cli, const char *name)
{
	struct progress p = {.name = name, .terminal = isatty(STDOUT_FILENO)};
	int code;

	for (;;) {
		Understudy__ControlReply *r = client_status(cli, name, &code);
		const Understudy__GuestStatus *g = r && r->n_guests ? r->guests[0] : NULL;
		char problem[512] = "";
		bool done = false;

		if (!g) {
			if (r)
				understudy__control_reply__free_unpacked(r, NULL);
			return code;
		}
		show(&p, g);
		code = guest_exit(g);
		if (code == CLI_PROTECTED)
			done = true;
		if (g->problem[0] && !strcmp(g->state, "unprotected")) {
			if (!p.problem_since_us)
				p.problem_since_us = clock_us();
			done |= clock_us() - p.problem_since_us > PROBLEM_PATIENCE_MS * 1000ull;
			snprintf(problem, sizeof(problem), "%s", g->problem);
		} else if (strcmp(g->state, "preparing")) {
			p.problem_since_us = 0;
		}
		understudy__control_reply__free_unpacked(r, NULL);
		if (done) {
			if (p.drawn)
				printf("\r\033[K");
			if (code == CLI_PROTECTED)
				printf("%s: protected\n", name);
			else
				complain("%s is tagged but not protected yet: %s", name, problem);
			return code;
		}
		usleep(POLL_MS * 1000);
	}
}

int verb_tag(struct cli *cli, int argc, char **argv)
{
	struct args a = {.flag_name = {"--no-wait"}, .names_min = 1, .names_max = 2};
	Understudy__ControlRequest request = UNDERSTUDY__CONTROL_REQUEST__INIT;
	Understudy__ControlTag tag = UNDERSTUDY__CONTROL_TAG__INIT;
	Understudy__ControlReply *r;
	int code = args_parse(&a, argc, argv);

	if (code)
		return code;
	if (a.names[1]) {
		if (strncmp(a.names[1], "ha=", 3) || !a.names[1][3])
			return usage_error("tag", "\"%s\" is not ha=POLICY", a.names[1]);
		tag.policy = (char *)a.names[1] + 3;
	}
	tag.name = (char *)a.names[0];
	request.request_case = UNDERSTUDY__CONTROL_REQUEST__REQUEST_TAG;
	request.tag = &tag;
	r = client_ask(cli, &request, &code);
	if (!r)
		return code;
	understudy__control_reply__free_unpacked(r, NULL);
	if (a.flag[0]) {
		printf("%s: tagged\n", a.names[0]);
		return 0;
	}
	return wait_protected(cli, a.names[0]);
}
