/* SPDX-License-Identifier: GPL-2.0-or-later */
/* understudyd: see understudyd(8). */
#include "common/clock.h"
#include "common/fault.h"
#include "common/log.h"
#include "replicator/certificate.h"
#include "replicator/child.h"
#include "replicator/control.h"
#include "replicator/daemon.h"
#include "replicator/events.h"
#include "replicator/guest.h"
#include "replicator/keeper.h"
#include "replicator/metrics.h"
#include "replicator/notify.h"
#include "replicator/peer.h"
#include "replicator/stream.h"
#include "replicator/watchdog.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

enum { SIGNALS = 3, TICK_MIN_MS = 5, TICK_MAX_MS = 100 };

static void usage(FILE *to)
{
	fprintf(to, "usage: understudyd [--config FILE] [--check-config] [--verbose]\n"
		    "       understudyd --version | --help\n");
}

static int make_dir(const char *path, mode_t mode)
{
	char copy[CONFIG_PATH_MAX + 32], *at;

	snprintf(copy, sizeof(copy), "%s", path);
	for (at = copy + 1; (at = strchr(at, '/')); at++) {
		*at = '\0';
		if (mkdir(copy, 0755) && errno != EEXIST)
			return -errno;
		*at = '/';
	}
	return mkdir(copy, mode) && errno != EEXIST ? -errno : 0;
}

/* Two daemons on one state directory would tear each other's guests apart. */
static int lock(const struct daemon *d)
{
	char path[CONFIG_PATH_MAX + 16];
	int fd;

	snprintf(path, sizeof(path), "%s/lock", d->config.state_dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	return 0; /* held until we end */
}

static int prepare_dirs(struct daemon *d)
{
	int rc;

	snprintf(d->guests_dir, sizeof(d->guests_dir), "%s/guests", d->config.state_dir);
	snprintf(d->untold_dir, sizeof(d->untold_dir), "%s/untold", d->config.state_dir);
	rc = make_dir(d->config.state_dir, 0700);
	if (!rc)
		rc = make_dir(d->guests_dir, 0700);
	if (!rc)
		rc = make_dir(d->untold_dir, 0700);
	if (rc) {
		log_err(NULL, "%s: %s", d->config.state_dir, strerror(-rc));
		return rc;
	}
	rc = make_dir(d->config.run_dir, 0700);
	if (rc) {
		log_err(NULL, "%s: %s", d->config.run_dir, strerror(-rc));
		return rc;
	}
	rc = lock(d);
	if (rc)
		log_err(NULL, "%s/lock: %s", d->config.state_dir,
			rc == -EWOULDBLOCK ? "another understudyd runs" : strerror(-rc));
	return rc;
}

static void on_event(void *arg, const struct event_record *r)
{
	control_event(((struct daemon *)arg)->control, r);
}

static void tick(evutil_socket_t fd, short what, void *arg)
{
	struct daemon *d = arg;
	uint64_t now = clock_us();

	/* A daemon that slept has unread bytes before it: nobody is judged before they are read. */
	if (now - d->tick_at_us > config_timeout_ms(&d->config) * 500ull) {
		log_warn(NULL, "this daemon stood still for %u ms",
			 (unsigned int)((now - d->tick_at_us) / 1000));
		d->awake_us = now;
	}
	d->tick_at_us = now;
	guests_tick(d, now);
}

static void tell_manager(evutil_socket_t fd, short what, void *arg)
{
	notify_send("WATCHDOG=1");
}

static void on_signal(evutil_socket_t signo, short what, void *arg)
{
	struct daemon *d = arg;

	if (signo == SIGUSR2) {
		fi_load();
		return;
	}
	log_info(NULL, "signal %d: the daemon ends, its workers go on", (int)signo);
	event_base_loopbreak(d->base);
}

static int daemon_start(struct daemon *d)
{
	static const struct peer_ops peer_ops = {
		.up = guests_peer_up,
		.down = guests_peer_down,
		.message = guests_peer_message,
	};
	int rc;

	d->base = event_base_new();
	d->events = events_new(on_event, d);
	if (!d->base || !d->events)
		return -ENOMEM;
	rc = children_new(d->base, &d->children);
	if (!rc)
		rc = keeper_setup(d);
	if (!rc)
		rc = guests_load(d);
	if (!rc)
		rc = workers_new(d->base, d->children, &d->config, &guests_workers_ops, d,
				 &d->workers);
	if (!rc)
		rc = domains_new(d->base, guests_domains_changed, d, &d->domains);
	if (!rc)
		rc = certificate_new(d->base, &d->config, d->events, &d->certificate);
	if (!rc)
		rc = peer_new(d->base, &d->config, &d->host, &peer_ops, d, &d->peer);
	if (!rc)
		rc = stream_new(d->base, &d->config, guests_stream_arrived, d, &d->stream);
	if (!rc)
		rc = control_new(d, &d->control);
	if (!rc)
		rc = metrics_new(d, &d->metrics);
	if (!rc)
		rc = watchdog_new(d, &d->watchdog);
	if (!rc)
		workers_adopt(d->workers);
	return rc;
}

static int daemon_timers(struct daemon *d, struct event **timer)
{
	unsigned int ms = config_heartbeat_ms(&d->config) / 4;
	struct timeval tv = {0}, dog = {0};
	uint64_t dog_us = notify_watchdog_us();

	ms = ms < TICK_MIN_MS ? TICK_MIN_MS : ms > TICK_MAX_MS ? TICK_MAX_MS : ms;
	tv.tv_usec = ms * 1000;
	dog.tv_sec = (time_t)(dog_us / 1000000);
	dog.tv_usec = (suseconds_t)(dog_us % 1000000);
	d->tick_at_us = clock_us();
	d->tick = event_new(d->base, -1, EV_PERSIST, tick, d);
	*timer = event_new(d->base, -1, EV_PERSIST, tell_manager, d);
	if (!d->tick || !*timer || event_add(d->tick, &tv) || (dog_us && event_add(*timer, &dog)))
		return -ENOMEM;
	return 0;
}

static void daemon_stop(struct daemon *d)
{
	watchdog_free(d->watchdog);
	metrics_free(d->metrics);
	control_free(d->control);
	d->control = NULL;
	guests_free(d);
	witness_free(d->witness);
	stream_free(d->stream);
	peer_free(d->peer);
	certificate_free(d->certificate);
	domains_free(d->domains);
	workers_free(d->workers);
	children_free(d->children);
	if (d->tick)
		event_free(d->tick);
	events_free(d->events);
	if (d->base)
		event_base_free(d->base);
	host_release(&d->host);
}

static int daemon_run(struct daemon *d)
{
	static const int signals[SIGNALS] = {SIGTERM, SIGINT, SIGUSR2};
	struct event *event[SIGNALS] = {NULL}, *dog = NULL;
	unsigned int i;
	int rc;

	rc = prepare_dirs(d);
	if (!rc)
		rc = host_probe(&d->host, d->config.state_dir);
	if (!rc) {
		d->same_boot = host_same_boot(&d->host, d->config.run_dir);
		rc = daemon_start(d);
	}
	if (!rc)
		rc = daemon_timers(d, &dog);
	for (i = 0; !rc && i < SIGNALS; i++) {
		event[i] = evsignal_new(d->base, signals[i], on_signal, d);
		if (!event[i] || event_add(event[i], NULL))
			rc = -ENOMEM;
	}
	if (rc) {
		log_err(NULL, "cannot start: %s", strerror(-rc));
	} else {
		log_info(NULL, "understudyd " UNDERSTUDY_VERSION " on %s, zone %s, peer %s",
			 d->config.host, d->config.zone,
			 d->config.peer_address[0] ? d->config.peer_address : "(none)");
		notify_send("READY=1");
		event_base_dispatch(d->base);
		notify_send("STOPPING=1");
	}
	for (i = 0; i < SIGNALS; i++)
		if (event[i])
			event_free(event[i]);
	if (dog)
		event_free(dog);
	daemon_stop(d);
	return rc ? EX_OSERR : EX_OK;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'}, {"check-config", no_argument, NULL, 'C'},
		{"verbose", no_argument, NULL, 'v'},	  {"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},	  {0},
	};
	const char *path = CONFIG_PATH_DEFAULT;
	enum log_level level = LOG_INFO;
	struct daemon *d;
	bool check = false;
	char why[512];
	int c, rc;

	while ((c = getopt_long(argc, argv, "c:vh", options, NULL)) != -1) {
		switch (c) {
		case 'c':
			path = optarg;
			break;
		case 'C':
			check = true;
			break;
		case 'v':
			level = LOG_DEBUG;
			break;
		case 'V':
			puts("understudyd " UNDERSTUDY_VERSION);
			return EX_OK;
		case 'h':
			usage(stdout);
			return EX_OK;
		default:
			usage(stderr);
			return EX_USAGE;
		}
	}
	if (optind != argc) {
		usage(stderr);
		return EX_USAGE;
	}
	log_open("understudyd", level);
	d = calloc(1, sizeof(*d));
	if (!d)
		return EX_OSERR;
	rc = config_load(&d->config, path, why, sizeof(why));
	if (rc) {
		log_err(NULL, "%s", why);
		free(d);
		return EX_CONFIG;
	}
	fi_load();
	signal(SIGPIPE, SIG_IGN);
	rc = check ? EX_OK : daemon_run(d);
	free(d);
	return rc;
}
