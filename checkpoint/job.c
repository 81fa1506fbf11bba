/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/job.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

enum { JOB_NICE = 5 };

struct job {
	int (*work)(void *arg);
	void (*done)(void *arg, int rc);
	void *arg;
	int rc, fd;
	pthread_t thread;
	struct event *event;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t idle = PTHREAD_COND_INITIALIZER;
static unsigned int running;

static void count(int change)
{
	pthread_mutex_lock(&lock);
	running += (unsigned int)change;
	if (!running)
		pthread_cond_broadcast(&idle);
	pthread_mutex_unlock(&lock);
}

bool job_running(void)
{
	bool any;

	pthread_mutex_lock(&lock);
	any = running;
	pthread_mutex_unlock(&lock);
	return any;
}

void job_wait_all(void)
{
	pthread_mutex_lock(&lock);
	while (running)
		pthread_cond_wait(&idle, &lock);
	pthread_mutex_unlock(&lock);
}

static void *job_thread(void *arg)
{
	struct job *j = arg;

	/* It may take seconds of a processor that the daemon's heartbeats need. Failing to yield is no error. */
	(void)setpriority(PRIO_PROCESS, (id_t)gettid(), JOB_NICE);
	j->rc = j->work(j->arg);
	if (eventfd_write(j->fd, 1))
		abort();
	count(-1);
	return NULL;
}

static void job_free(struct job *j)
{
	if (j->event)
		event_free(j->event);
	if (j->fd >= 0)
		close(j->fd);
	free(j);
}

static void job_finished(evutil_socket_t fd, short what, void *arg)
{
	struct job *j = arg;

	pthread_join(j->thread, NULL);
	j->done(j->arg, j->rc);
	job_free(j);
}

int job_start(struct event_base *base, int (*work)(void *arg), void (*done)(void *arg, int rc),
	      void *arg)
{
	struct job *j = calloc(1, sizeof(*j));
	int rc;

	if (!j)
		return -ENOMEM;
	*j = (struct job){.work = work, .done = done, .arg = arg, .fd = eventfd(0, EFD_CLOEXEC)};
	if (j->fd < 0) {
		rc = -errno;
		goto out;
	}
	j->event = event_new(base, j->fd, EV_READ, job_finished, j);
	if (!j->event || event_add(j->event, NULL)) {
		rc = -ENOMEM;
		goto out;
	}
	count(1);
	rc = -pthread_create(&j->thread, NULL, job_thread, j);
	if (rc)
		count(-1);
out:
	if (rc)
		job_free(j);
	return rc;
}
