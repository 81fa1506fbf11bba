/* SPDX-License-Identifier: GPL-2.0-or-later */
/* understudy-worker: started by understudyd, one per guest. */
#include "checkpoint/worker.h"
#include "common/fault.h"
#include "common/log.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sysexits.h>

/* A checkpoint that comes late is felt by every client; a late heartbeat of the daemon (-10) is worse. */
enum { WORKER_NICE = -5 };

static const struct option options[] = {
	{"domid", required_argument, NULL, 'd'},
	{"socket", required_argument, NULL, 's'},
	{"role", required_argument, NULL, 'r'},
	{"verbose", no_argument, NULL, 'v'},
	{"help", no_argument, NULL, 'h'},
	{0},
};

static void usage(FILE *to)
{
	fprintf(to, "usage: understudy-worker --domid N --socket PATH [--role primary|backup] "
		    "[--verbose]\n");
}

static int parse(int argc, char **argv, struct worker_options *o, enum log_level *level)
{
	int c;

	while ((c = getopt_long(argc, argv, "d:s:r:vh", options, NULL)) != -1) {
		if (c == 'd')
			o->domid = (uint32_t)strtoul(optarg, NULL, 10);
		else if (c == 's')
			o->socket_path = optarg;
		else if (c == 'r' && !strcmp(optarg, "backup"))
			o->role = UNDERSTUDY__WORKER_ROLE__WORKER_BACKUP;
		else if (c == 'r' && !strcmp(optarg, "primary"))
			o->role = UNDERSTUDY__WORKER_ROLE__WORKER_PRIMARY;
		else if (c == 'v')
			*level = LOG_DEBUG;
		else if (c == 'h') {
			usage(stdout);
			exit(0);
		} else
			return -EINVAL;
	}
	return o->domid && o->socket_path && optind == argc ? 0 : -EINVAL;
}

static void on_term(evutil_socket_t sig, short what, void *arg)
{
	worker_quit(arg, true);
}

static void on_usr2(evutil_socket_t sig, short what, void *arg)
{
	fi_load();
}

int main(int argc, char **argv)
{
	struct worker_options o = {.role = UNDERSTUDY__WORKER_ROLE__WORKER_PRIMARY};
	enum log_level level = LOG_INFO;
	struct event *term, *usr2;
	struct worker *w;
	int rc;

	if (parse(argc, argv, &o, &level)) {
		usage(stderr);
		return EX_USAGE;
	}
	log_open("worker", level);
	fi_load();
	signal(SIGPIPE, SIG_IGN);
	if (setpriority(PRIO_PROCESS, 0, WORKER_NICE))
		log_warn(NULL, "runs at ordinary priority: %s", strerror(errno));

	rc = worker_new(&o, &w);
	if (rc) {
		log_err(NULL, "domain %u: %s", o.domid, strerror(-rc));
		return EX_UNAVAILABLE;
	}
	term = evsignal_new(w->base, SIGTERM, on_term, w);
	usr2 = evsignal_new(w->base, SIGUSR2, on_usr2, w);
	if (!term || !usr2 || event_add(term, NULL) || event_add(usr2, NULL))
		return EX_OSERR;

	log_info(w->name, "domain %u, %s", o.domid,
		 o.role == UNDERSTUDY__WORKER_ROLE__WORKER_BACKUP ? "backup" : "primary");
	event_base_dispatch(w->base);
	log_info(w->name, "the worker ends");
	event_free(term);
	event_free(usr2);
	worker_free(w);
	return 0;
}
