/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The `understudy` command: what its verbs share. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "replicator/control.pb-c.h"

#include <stdbool.h>
#include <stdio.h>

enum cli_exit {
	CLI_PROTECTED = 0, /* or: done */
	CLI_DEGRADED = 1,
	CLI_UNPROTECTED = 2,
	/* from 64 on: sysexits.h */
};

struct cli {
	const char *config_path;
	const char *socket_path; /* NULL: as the configuration says */
};

int verb_tag(struct cli *cli, int argc, char **argv);
int verb_untag(struct cli *cli, int argc, char **argv);
int verb_list(struct cli *cli, int argc, char **argv);
int verb_status(struct cli *cli, int argc, char **argv);
int verb_failover(struct cli *cli, int argc, char **argv);
int verb_switchover(struct cli *cli, int argc, char **argv);
int verb_failback(struct cli *cli, int argc, char **argv);
int verb_events(struct cli *cli, int argc, char **argv);
int verb_check(struct cli *cli, int argc, char **argv);
int verb_pair(struct cli *cli, int argc, char **argv);
int verb_top(struct cli *cli, int argc, char **argv);
int verb_version(struct cli *cli, int argc, char **argv);

/* Prints "understudy: ..." to stderr. */
void complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Complains and names the usage of the verb; returns EX_USAGE. */
int usage_error(const char *verb, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- client.c ---- */

struct client;

/* NULL: complained already, *code is what to exit with. */
struct client *client_open(struct cli *cli, int *code);
void client_close(struct client *c);
/* 0 or -errno. */
int client_send(struct client *c, const Understudy__ControlRequest *r);
/* The next reply, freed by the caller; NULL: the connection is over or nothing came for limit_ms
 * (0: without limit). */
Understudy__ControlReply *client_receive(struct client *c, int limit_ms);

/* One request, one reply; the connection is closed. NULL: complained, *code set. A reply whose code
 * is not OK is complained about, too. */
Understudy__ControlReply *client_ask(struct cli *cli, const Understudy__ControlRequest *r,
				     int *code);

/* The status of one guest (or of all: name NULL). As client_ask(). */
Understudy__ControlReply *client_status(struct cli *cli, const char *name, int *code);

int code_to_exit(Understudy__ControlCode code);

/* Moves it out of the host that runs it; `force`: here, without asking anybody. Waits for the outcome if told to. What to exit with, after saying how it
 * went. */
int move_guest(struct cli *cli, const Understudy__GuestStatus *g, bool force, bool wait);

/* ---- render.c: text and JSON from replies; no I/O but to `out` ---- */

void render_status(FILE *out, const Understudy__ControlReply *r);
void render_status_json(FILE *out, const Understudy__ControlReply *r);
void render_list(FILE *out, const Understudy__ControlReply *r);
void render_top(FILE *out, const Understudy__ControlReply *r);
void render_event(FILE *out, const Understudy__EventRecord *e);
void render_event_json(FILE *out, const Understudy__EventRecord *e);
void render_json_string(FILE *out, const char *text);

/* "protected" 0, being decided or switched 1, everything else 2; the worst of all. */
int status_exit(const Understudy__ControlReply *r);
int guest_exit(const Understudy__GuestStatus *g);

#endif
