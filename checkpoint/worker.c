/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/worker.h"
#include "checkpoint/backup.h"
#include "checkpoint/job.h"
#include "checkpoint/link.h"
#include "checkpoint/part_disk.h"
#include "checkpoint/part_memory.h"
#include "checkpoint/primary.h"
#include "common/clock.h"
#include "common/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xenstore.h>

static const char *const state_name[] = {
	[UNDERSTUDY__WORKER_STATE__WORKER_SERVING] = "serving",
	[UNDERSTUDY__WORKER_STATE__WORKER_SYNCING] = "syncing",
	[UNDERSTUDY__WORKER_STATE__WORKER_PROTECTED] = "protected",
	[UNDERSTUDY__WORKER_STATE__WORKER_HOLDING] = "holding",
	[UNDERSTUDY__WORKER_STATE__WORKER_FINISHED] = "finished",
	[UNDERSTUDY__WORKER_STATE__WORKER_WAITING] = "waiting",
	[UNDERSTUDY__WORKER_STATE__WORKER_STANDBY] = "standby",
	[UNDERSTUDY__WORKER_STATE__WORKER_ACTIVATING] = "activating",
};

static const char token_release[] = "release", token_home[] = "home";

/* ---- to the daemon ---- */

void worker_set_state(struct worker *w, Understudy__WorkerState state, const char *cause)
{
	if (state != w->state)
		log_info(w->name, "%s -> %s: %s", state_name[w->state], state_name[state], cause);
	w->state = state;
	worker_send_stats(w);
}

void worker_send_failed(struct worker *w, const char *command, const char *fmt, ...)
{
	Understudy__WorkerFailed m = UNDERSTUDY__WORKER_FAILED__INIT;
	char cause[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cause, sizeof(cause), fmt, ap);
	va_end(ap);
	log_err(w->name, "%s: %s", command, cause);
	m.command = (char *)command;
	m.cause = cause;
	worker_send(w, FAILED, failed, &m);
}

void worker_send_alarm(struct worker *w, const char *fmt, ...)
{
	Understudy__WorkerAlarm m = UNDERSTUDY__WORKER_ALARM__INIT;
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_err(w->name, "alarm: %s", text);
	m.text = text;
	worker_send(w, ALARM, alarm, &m);
}

void worker_send_stats(struct worker *w)
{
	Understudy__WorkerStats m = UNDERSTUDY__WORKER_STATS__INIT;
	struct netbuf_stats held = {0};

	m.state = w->state;
	m.epoch = w->epoch;
	if (w->netbuf)
		netbuf_stats(w->netbuf, &held);
	m.held_packets = held.held_packets;
	m.held_bytes = held.held_bytes;
	if (w->primary)
		primary_stats(w->primary, &m);
	else if (w->backup)
		backup_stats(w->backup, &m);
	worker_send(w, STATS, stats, &m);
}

static void worker_send_hello(struct worker *w)
{
	Understudy__WorkerHello m = UNDERSTUDY__WORKER_HELLO__INIT;
	struct netback_stats net = {0};
	struct block_stats disk = {0};

	if (w->netback)
		netback_stats(w->netback, &net);
	if (w->block)
		block_stats(w->block, &disk);
	m.domid = w->domid;
	m.uuid.data = w->info.uuid;
	m.uuid.len = sizeof(w->info.uuid);
	m.name = w->name;
	m.role = w->role;
	m.state = w->state;
	m.epoch = w->epoch;
	m.term = w->term;
	m.kind = (char *)domain_kind_name[w->info.kind];
	m.vcpus = w->info.vcpus;
	m.memory_bytes = w->info.max_pages * DOMAIN_PAGE_SIZE;
	m.vifs = net.vifs;
	m.disks = disk.disks;
	m.passthrough_devices = w->info.passthrough_devices;
	m.pid = getpid();
	m.unpaused_at_start = w->unpaused_at_start;
	worker_send(w, HELLO, hello, &m);
}

static void daemon_connected(void *arg)
{
	worker_send_hello(arg);
	worker_send_stats(arg);
}

/* ---- commands ---- */

/* 0: none is set, or it cannot be read. */
static uint64_t balloon_target_kib(struct worker *w)
{
	char path[64], *value;
	unsigned int len;
	uint64_t kib;

	snprintf(path, sizeof(path), "/local/domain/%u/memory/target", w->domid);
	value = xs_read(w->xs, XBT_NULL, path, &len);
	kib = value ? strtoull(value, NULL, 10) : 0;
	free(value);
	return kib;
}

static int command_protect(struct worker *w, const Understudy__WorkerCommand *c, int fd)
{
	if (w->state != UNDERSTUDY__WORKER_STATE__WORKER_SERVING || w->primary)
		return -EBUSY;
	if (w->info.kind != DOMAIN_PVH || w->info.passthrough_devices || part_disk_check(w->block, w->name))
		return -EOPNOTSUPP;
	backup_settle(w);
	w->target_kib = balloon_target_kib(w);
	return primary_start(w, c->protect);
}

static int command_unprotect(struct worker *w, const Understudy__WorkerCommand *c, int fd)
{
	Understudy__WorkerDropped dropped = UNDERSTUDY__WORKER_DROPPED__INIT;

	if (w->primary) {
		primary_drop(w->primary, "unprotect");
	} else {
		backup_settle(w);
		if (w->role == UNDERSTUDY__WORKER_ROLE__WORKER_PRIMARY)
			(void)part_memory_forget(w->domain, w->name);	/* logged */
		dropped.cause = "unprotect";
		worker_send(w, DROPPED, dropped, &dropped);
	}
	return 0;
}

static int command_drop(struct worker *w, const Understudy__WorkerCommand *c, int fd)
{
	if (!w->primary)
		return command_unprotect(w, c, fd);
	primary_drop(w->primary, c->drop->cause);
	return 0;
}

static int command_finish(struct worker *w, const Understudy__WorkerCommand *c, int fd)
{
	return w->primary ? primary_finish(w->primary) : -EINVAL;
}

static int command_resume(struct worker *w, const Understudy__WorkerCommand *c, int fd)
{
	if (w->primary)
		return primary_resume(w->primary);
	/* The worker that finished is gone; the guest is still where it left it. */
	if (pausemark_get(w->mark) == PAUSEMARK_FINISHED) {
		worker_set_state(w, UNDERSTUDY__WORKER_STATE__WORKER_SERVING, "resumed");
		return worker_unpause(w);
	}
	return -EINVAL;
}

static int command_right(struct worker *w, const Understudy__WorkerCommand *c, int fd)
{
	if (w->primary)
		primary_right(w->primary, c->right->until_us);
	return 0;	/* protection may have ended while it was under way */
}

static int command_stream(struct worker *w, const Understudy__WorkerCommand *c, int fd)
{
	if (w->backup)
		return backup_stream(w->backup, c->stream, fd);
	if (fd >= 0)
		close(fd);
	return -EINVAL;
}

static int command_activate(struct worker *w, const Understudy__WorkerCommand *c, int fd)
{
	return w->backup ? backup_activate(w->backup, c->activate) : -EINVAL;
}

static int command_quit(struct worker *w, const Understudy__WorkerCommand *c, int fd)
{
	worker_quit(w, true);
	return 0;
}

static const struct {
	const char *name;
	int (*run)(struct worker *w, const Understudy__WorkerCommand *c, int fd);
} commands[] = {
	[UNDERSTUDY__WORKER_COMMAND__COMMAND_PROTECT] = {"protect", command_protect},
	[UNDERSTUDY__WORKER_COMMAND__COMMAND_UNPROTECT] = {"unprotect", command_unprotect},
	[UNDERSTUDY__WORKER_COMMAND__COMMAND_DROP] = {"drop", command_drop},
	[UNDERSTUDY__WORKER_COMMAND__COMMAND_FINISH] = {"finish", command_finish},
	[UNDERSTUDY__WORKER_COMMAND__COMMAND_RESUME] = {"resume", command_resume},
	[UNDERSTUDY__WORKER_COMMAND__COMMAND_STREAM] = {"stream", command_stream},
	[UNDERSTUDY__WORKER_COMMAND__COMMAND_ACTIVATE] = {"activate", command_activate},
	[UNDERSTUDY__WORKER_COMMAND__COMMAND_QUIT] = {"quit", command_quit},
	[UNDERSTUDY__WORKER_COMMAND__COMMAND_RIGHT] = {"right", command_right},
};

static void daemon_command(void *arg, const Understudy__WorkerCommand *c, int fd)
{
	struct worker *w = arg;
	unsigned int which = c->command_case;
	int rc;

	if (which >= sizeof(commands) / sizeof(commands[0]) || !commands[which].run) {
		worker_send_failed(w, "unknown", "this worker does not know command %u", which);
		if (fd >= 0)
			close(fd);
		return;
	}
	if (fd >= 0 && which != UNDERSTUDY__WORKER_COMMAND__COMMAND_STREAM)
		close(fd);
	log_debug(w->name, "command: %s", commands[which].name);
	rc = commands[which].run(w, c, fd);
	if (rc)
		worker_send_failed(w, commands[which].name, "%s (while %s)", strerror(-rc),
				   state_name[w->state]);
}

static const struct link_ops link_ops = {
	.connected = daemon_connected,
	.command = daemon_command,
};

/* ---- the guest ---- */

int worker_pause(struct worker *w, enum pausemark_state mark)
{
	int rc;

	pausemark_set(w->mark, mark);
	rc = domain_pause(w->domain);
	if (rc)
		pausemark_set(w->mark, PAUSEMARK_RUNNING);
	return rc;
}

int worker_unpause(struct worker *w)
{
	int rc;

	rc = domain_unpause(w->domain);
	if (!rc)
		pausemark_set(w->mark, PAUSEMARK_RUNNING);
	return rc;
}

/* A predecessor that died between letting the shell run and saying so: the guest needs its devices (I5). */
static void find_activated(struct worker *w)
{
	if (w->role != UNDERSTUDY__WORKER_ROLE__WORKER_BACKUP || w->info.paused)
		return;
	log_warn(w->name, "the shell runs: the worker before this one activated it");
	w->role = UNDERSTUDY__WORKER_ROLE__WORKER_PRIMARY;
	w->state = UNDERSTUDY__WORKER_STATE__WORKER_SERVING;
}

/* A predecessor that died inside an epoch left the guest paused (I5). */
static int guest_let_go(struct worker *w)
{
	int rc;

	switch (pausemark_get(w->mark)) {
	case PAUSEMARK_RUNNING:
		return 0;
	case PAUSEMARK_FINISHED:
		w->state = UNDERSTUDY__WORKER_STATE__WORKER_FINISHED;
		log_warn(w->name, "stands behind a final epoch; the daemon decides");
		return 0;
	case PAUSEMARK_PAUSED:
		break;
	}
	rc = domain_info(w->domain, &w->info);
	if (!rc && w->info.paused)
		rc = domain_unpause(w->domain);
	if (rc)
		return rc;
	pausemark_set(w->mark, PAUSEMARK_RUNNING);
	w->unpaused_at_start = true;
	log_warn(w->name, "goes on: the worker before this one died while it stood still");
	return 0;
}

static void guest_gone(struct worker *w)
{
	log_info(w->name, "the domain is gone");
	if (w->primary && !job_running())
		domain_unmap(w->domain);	/* or it stays a zombie while we hold its pages */
	worker_quit(w, false);
}

/* Who asks a protected guest to balloon is not heard (vmm/freeze.c), and should know. */
static void balloon_look(struct worker *w, const char *path)
{
	static const char tail[] = "/memory/target";
	size_t len = strlen(path), tail_len = sizeof(tail) - 1;
	uint64_t kib;

	if (!w->primary || len < tail_len || strcmp(path + len - tail_len, tail))
		return;
	kib = balloon_target_kib(w);
	if (kib && kib != w->target_kib)
		worker_send_alarm(w,
				  "a memory target of %llu KiB is refused while the guest is protected; it "
				  "applies when protection ends",
				  (unsigned long long)kib);
	w->target_kib = kib;
}

static void xs_readable(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;
	struct domain_info info;
	char **v;
	int rc;

	while ((v = xs_check_watch(w->xs))) {
		if (!strcmp(v[XS_WATCH_TOKEN], token_home)) {
			w->store_changed = true;
			balloon_look(w, v[XS_WATCH_PATH]);
		} else {
			rc = domain_info(w->observer, &info);
			if (rc == -ENOENT || (!rc && info.dying))
				guest_gone(w);
		}
		free(v);
	}
}

static void stats_due(evutil_socket_t fd, short what, void *arg)
{
	worker_send_stats(arg);
}

void worker_quit(struct worker *w, bool keep_devices)
{
	w->keep_devices = keep_devices;
	event_base_loopbreak(w->base);	/* events that are due as well would find things half gone */
}

/* ---- devices ---- */

static void emit(void *arg, struct packet *p)
{
	netback_emit(((struct worker *)arg)->netback, p);
}

static void pressure(void *arg, bool full)
{
	struct worker *w = arg;

	netback_pressure(w->netback, full);
	if (full)
		worker_send_alarm(w, "the buffer of held output is full; its output stalls");
}

static const struct netbuf_ops netbuf_ops = {
	.emit = emit,
	.pressure = pressure,
};

static int disks_new(struct worker *w)
{
	struct block_config c = {
		.base = w->base,
		.domid = w->domid,
		.guest = w->name,
		.mark_path = w->block_mark_path,
		.standby = w->role == UNDERSTUDY__WORKER_ROLE__WORKER_BACKUP,
	};

	return block_new(&c, &w->block);
}

static int devices_new(struct worker *w)
{
	struct netback_config c = {
		.base = w->base,
		.domid = w->domid,
		.guest = w->name,
		.standby = w->role == UNDERSTUDY__WORKER_ROLE__WORKER_BACKUP,
	};
	int rc;

	rc = netbuf_new(WORKER_NETBUF_BYTES, &netbuf_ops, w, &w->netbuf);
	if (rc)
		return rc;
	c.netbuf = w->netbuf;
	rc = netback_new(&c, &w->netback);
	return rc ?: disks_new(w);
}

/* ---- life ---- */

static int name_find(struct worker *w)
{
	static const char suffix[] = "--shell";
	char path[64], *name;
	unsigned int len;
	size_t n;

	snprintf(path, sizeof(path), "/local/domain/%u/name", w->domid);
	name = xs_read(w->xs, XBT_NULL, path, &len);
	snprintf(w->name, sizeof(w->name), "%s", name ? name : "?");
	free(name);
	n = strlen(w->name);
	if (n > strlen(suffix) && !strcmp(w->name + n - strlen(suffix), suffix))
		w->name[n - strlen(suffix)] = '\0';
	return 0;
}

static int xs_begin(struct worker *w)
{
	char home[64];

	w->xs = xs_open(0);
	if (!w->xs)
		return -errno;
	snprintf(home, sizeof(home), "/local/domain/%u", w->domid);
	if (!xs_watch(w->xs, home, token_home) || !xs_watch(w->xs, "@releaseDomain", token_release))
		return -errno;
	w->xs_event = event_new(w->base, xs_fileno(w->xs), EV_READ | EV_PERSIST, xs_readable, w);
	return w->xs_event && !event_add(w->xs_event, NULL) ? 0 : -ENOMEM;
}

static int loop_new(struct worker *w)
{
	struct event_config *config = event_config_new();

	if (!config)
		return -ENOMEM;
	event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER);
	w->base = event_base_new_with_config(config);
	event_config_free(config);
	return w->base ? 0 : -ENOMEM;
}

static int worker_begin(struct worker *w, const struct worker_options *o)
{
	struct timeval tv = {.tv_sec = WORKER_STATS_MS / 1000};
	int rc;

	rc = loop_new(w);
	if (!rc)
		rc = xs_begin(w);
	if (!rc)
		rc = name_find(w);
	if (!rc)
		rc = domain_open(w->domid, w->name, &w->domain);
	if (!rc)
		rc = domain_open(w->domid, w->name, &w->observer);
	if (!rc)
		rc = domain_info(w->domain, &w->info);
	if (rc)
		return rc;

	find_activated(w);
	snprintf(w->mark_path, sizeof(w->mark_path), "%s.pause", o->socket_path);
	snprintf(w->block_mark_path, sizeof(w->block_mark_path), "%s.disks", o->socket_path);
	rc = pausemark_open(w->mark_path, &w->mark);
	if (!rc && w->role == UNDERSTUDY__WORKER_ROLE__WORKER_PRIMARY)
		rc = guest_let_go(w);
	/* A failure is logged, and no reason to leave the guest without its devices. */
	if (!rc && w->role == UNDERSTUDY__WORKER_ROLE__WORKER_PRIMARY)
		(void)part_memory_forget(w->domain, w->name);
	if (!rc)
		rc = devices_new(w);
	if (!rc && w->role == UNDERSTUDY__WORKER_ROLE__WORKER_BACKUP)
		rc = backup_new(w, &w->backup);
	if (!rc)
		rc = link_new(w->base, o->socket_path, &link_ops, w, &w->link);
	if (rc)
		return rc;
	w->stats_event = event_new(w->base, -1, EV_PERSIST, stats_due, w);
	return w->stats_event && !event_add(w->stats_event, &tv) ? 0 : -ENOMEM;
}

int worker_new(const struct worker_options *o, struct worker **out)
{
	struct worker *w = calloc(1, sizeof(*w));
	int rc;

	if (!w)
		return -ENOMEM;
	w->domid = o->domid;
	w->role = o->role;
	w->state = o->role == UNDERSTUDY__WORKER_ROLE__WORKER_BACKUP
			   ? UNDERSTUDY__WORKER_STATE__WORKER_WAITING
			   : UNDERSTUDY__WORKER_STATE__WORKER_SERVING;
	rc = worker_begin(w, o);
	if (rc)
		worker_free(w);
	else
		*out = w;
	return rc;
}

void worker_free(struct worker *w)
{
	job_wait_all();		/* they use what is freed here */
	backup_settle(w);
	primary_free(w->primary);
	backup_free(w->backup);
	block_free(w->block);
	if (w->block && !w->keep_devices)
		unlink(w->block_mark_path);
	if (w->netback)
		netback_free(w->netback, w->keep_devices);
	if (w->netbuf)
		netbuf_free(w->netbuf);
	link_free(w->link);
	pausemark_close(w->mark, w->keep_devices ? NULL : w->mark_path);
	if (w->stats_event)
		event_free(w->stats_event);
	if (w->xs_event)
		event_free(w->xs_event);
	if (w->xs)
		xs_close(w->xs);
	if (w->observer)
		domain_close(w->observer);
	if (w->domain)
		domain_close(w->domain);
	if (w->base)
		event_base_free(w->base);
	free(w);
}
