/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/child.h"
#include "common/log.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utlist.h>

enum { CHILD_OUTPUT_MAX = 1 << 20 };

extern char **environ;

struct child {
	struct children *owner;
	struct child *next;
	pid_t pid;
	char name[64];
	int out_fd, err_fd; /* memory files; -1: not captured */
	struct event *limit;
	child_done *done;
	void *arg;
};

struct children {
	struct event_base *base;
	struct event *sigchld;
	struct child *list;
};

static void child_free(struct child *child)
{
	if (child->limit)
		event_free(child->limit);
	if (child->out_fd >= 0)
		close(child->out_fd);
	if (child->err_fd >= 0)
		close(child->err_fd);
	free(child);
}

static char *read_all(int fd)
{
	off_t len = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
	char *text;
	ssize_t n;

	if (len < 0 || len > CHILD_OUTPUT_MAX)
		len = CHILD_OUTPUT_MAX;
	text = malloc((size_t)len + 1);
	if (!text)
		return NULL;
	n = len ? pread(fd, text, (size_t)len, 0) : 0;
	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void child_ended(struct child *child, int status)
{
	char *out = read_all(child->out_fd), *err = read_all(child->err_fd);
	size_t len = err ? strlen(err) : 0;

	while (len && err[len - 1] == '\n')
		err[--len] = '\0';
	if (child->done)
		child->done(child->arg, status, out ? out : "", err ? err : "");
	free(out);
	free(err);
	child_free(child);
}

static void reap(evutil_socket_t signo, short what, void *arg)
{
	struct children *c = arg;
	struct child *child, *next;
	int status;

	/* A callback may start children: they come in front and are not visited. */
	LL_FOREACH_SAFE(c->list, child, next)
	{
		if (waitpid(child->pid, &status, WNOHANG) != child->pid)
			continue;
		LL_DELETE(c->list, child);
		child_ended(child, status);
	}
}

int children_new(struct event_base *base, struct children **out)
{
	struct children *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->base = base;
	c->sigchld = evsignal_new(base, SIGCHLD, reap, c);
	if (!c->sigchld || event_add(c->sigchld, NULL)) {
		children_free(c);
		return -ENOMEM;
	}
	*out = c;
	return 0;
}

void children_free(struct children *c)
{
	struct child *child, *next;

	if (!c)
		return;
	LL_FOREACH_SAFE(c->list, child, next)
	child_free(child);
	if (c->sigchld)
		event_free(c->sigchld);
	free(c);
}

static void child_overdue(evutil_socket_t fd, short what, void *arg)
{
	struct child *child = arg;

	log_err(NULL, "%s: takes too long, killed", child->name);
	kill(child->pid, SIGKILL);
}

static pid_t spawn(const char *const *argv, int in, int out, int err, bool own_session)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, ours;
	pid_t pid;
	int r;

	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attr);
	sigemptyset(&none);
	sigemptyset(&ours);
	sigaddset(&ours, SIGPIPE);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &ours);
	posix_spawnattr_setflags(&attr, (short)(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
						(own_session ? POSIX_SPAWN_SETSID : 0)));
	if (in >= 0)
		posix_spawn_file_actions_adddup2(&files, in, STDIN_FILENO);
	else
		posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	if (out >= 0)
		posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
	if (err >= 0)
		posix_spawn_file_actions_adddup2(&files, err, STDERR_FILENO);
	r = posix_spawn(&pid, argv[0], &files, &attr, (char *const *)argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	if (r) {
		log_err(NULL, "%s: cannot be started: %s", argv[0], strerror(r));
		return -r;
	}
	return pid;
}

static struct child *child_new(struct children *c, const char *const *argv, child_done *done,
			       void *arg)
{
	struct child *child = calloc(1, sizeof(*child));
	const char *base = strrchr(argv[0], '/');

	if (!child)
		return NULL;
	child->owner = c;
	child->out_fd = child->err_fd = -1;
	child->done = done;
	child->arg = arg;
	snprintf(child->name, sizeof(child->name), "%s %s", base ? base + 1 : argv[0],
		 argv[1] ? argv[1] : "");
	return child;
}

/* Standard input as a file in memory: nobody has to wait for the child to read. */
static int input_file(const char *input)
{
	size_t len = strlen(input);
	int fd = memfd_create("input", MFD_CLOEXEC);

	if (fd < 0)
		return -1;
	if (write(fd, input, len) != (ssize_t)len || lseek(fd, 0, SEEK_SET) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

struct child *child_run(struct children *c, const char *const *argv, const char *input,
			unsigned int limit_ms, child_done *done, void *arg)
{
	struct child *child = child_new(c, argv, done, arg);
	int in = -1;

	if (!child)
		return NULL;
	child->out_fd = memfd_create("output", MFD_CLOEXEC);
	child->err_fd = memfd_create("errors", MFD_CLOEXEC);
	if (input)
		in = input_file(input);
	if (child->out_fd < 0 || child->err_fd < 0 || (input && in < 0)) {
		log_err(NULL, "%s: %s", child->name, strerror(errno));
		child_free(child);
		return NULL;
	}
	child->pid = spawn(argv, in, child->out_fd, child->err_fd, false);
	if (in >= 0)
		close(in);
	if (child->pid < 0) {
		child_free(child);
		return NULL;
	}
	if (limit_ms) {
		struct timeval tv = {.tv_sec = limit_ms / 1000,
				     .tv_usec = (limit_ms % 1000) * 1000};

		child->limit = evtimer_new(c->base, child_overdue, child);
		if (child->limit)
			event_add(child->limit, &tv);
	}
	LL_PREPEND(c->list, child);
	return child;
}

pid_t child_start(struct children *c, const char *const *argv, child_done *exited, void *arg)
{
	struct child *child = child_new(c, argv, exited, arg);
	pid_t pid;

	if (!child)
		return -ENOMEM;
	pid = child->pid = spawn(argv, -1, -1, -1, true);
	if (pid < 0) {
		child_free(child);
		return pid;
	}
	LL_PREPEND(c->list, child);
	return pid;
}

const char *child_status_text(int status, char *out, size_t len)
{
	if (WIFSIGNALED(status))
		snprintf(out, len, "killed by signal %d", WTERMSIG(status));
	else
		snprintf(out, len, "exit status %d", WEXITSTATUS(status));
	return out;
}
