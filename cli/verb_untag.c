/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/args.h"
#include "cli/cli.h"
#include "common/clock.h"

#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum {
	UNTAG_MAX_MS = 50000,
	CONFIRM_MAX_MS = 8000, /* from then on; the other host removes its copy */
	POLL_MS = 100,
};

enum stage {
	STAGE_TAGGED,
	STAGE_UNCONFIRMED, /* done here, the peer is at it */
	STAGE_UNTOLD,	   /* done here, the peer is away */
	STAGE_DONE,
};

static enum stage stage_of(const Understudy__ControlReply *r, const char *name)
{
	const Understudy__HostStatus *h = r->host;
	size_t i;

	for (i = 0; i < r->n_guests; i++)
		if (!strcmp(r->guests[i]->name, name))
			return STAGE_TAGGED;
	for (i = 0; h && i < h->n_untold; i++)
		if (!strcmp(h->untold[i], name))
			return h->peer_up ? STAGE_UNCONFIRMED : STAGE_UNTOLD;
	return STAGE_DONE;
}

/* `zone` gets the peer's. On an error *code is what to exit with. */
static enum stage look(struct cli *cli, const char *name, char *zone, size_t len, int *code)
{
	Understudy__ControlReply *r = client_status(cli, NULL, code);
	enum stage stage;

	if (!r)
		return STAGE_DONE;
	stage = stage_of(r, name);
	snprintf(zone, len, "%s",
		 r->host && r->host->peer_zone[0] ? r->host->peer_zone : "the peer");
	understudy__control_reply__free_unpacked(r, NULL);
	return stage;
}

static int wait_untagged(struct cli *cli, const char *name)
{
	uint64_t now = clock_us(), end_us = now + UNTAG_MAX_MS * 1000ull;
	uint64_t confirm_end_us = 0;
	enum stage stage;
	char zone[64];
	int code = 0;

	for (;;) {
		stage = look(cli, name, zone, sizeof(zone), &code);
		if (code)
			return code;
		now = clock_us();
		if (stage == STAGE_UNCONFIRMED && !confirm_end_us)
			confirm_end_us = now + CONFIRM_MAX_MS * 1000ull;
		if (stage == STAGE_TAGGED ? now > end_us
					  : stage != STAGE_UNCONFIRMED || now > confirm_end_us)
			break;
		usleep(POLL_MS * 1000);
	}
	if (stage == STAGE_TAGGED) {
		complain("%s: still being untagged: see `understudy status`", name);
		return EX_TEMPFAIL;
	}
	printf("%s: no longer protected", name);
	if (stage == STAGE_UNTOLD)
		printf("; %s will be told when it is back", zone);
	else if (stage == STAGE_UNCONFIRMED)
		printf("; %s has not confirmed it yet", zone);
	putchar('\n');
	return 0;
}

int verb_untag(struct cli *cli, int argc, char **argv)
{
	struct args a = {.names_min = 1, .names_max = 1};
	Understudy__ControlRequest request = UNDERSTUDY__CONTROL_REQUEST__INIT;
	Understudy__ControlUntag untag = UNDERSTUDY__CONTROL_UNTAG__INIT;
	Understudy__ControlReply *r;
	int code = args_parse(&a, argc, argv);

	if (code)
		return code;
	untag.name = (char *)a.names[0];
	request.request_case = UNDERSTUDY__CONTROL_REQUEST__REQUEST_UNTAG;
	request.untag = &untag;
	r = client_ask(cli, &request, &code);
	if (!r)
		return code;
	understudy__control_reply__free_unpacked(r, NULL);
	return wait_untagged(cli, a.names[0]);
}
