/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/fault.h"
#include "common/log.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FI_MAX = 8, FI_NAME_MAX = 32 };

enum fi_action { FI_KILL, FI_STOP, FI_FAIL, FI_SLEEP };

static struct fi {
	char name[FI_NAME_MAX];
	enum fi_action action;
	unsigned int sleep_ms, skip;
	bool done;
} faults[FI_MAX];
static unsigned int nr_faults;
/* Points are passed in every thread of a process. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

atomic_bool fi_armed;

static int fault_parse(char *word, struct fi *f)
{
	char *save = NULL;
	const char *name = strtok_r(word, ":", &save);
	const char *action = strtok_r(NULL, ":", &save);
	const char *skip = strtok_r(NULL, ":", &save);

	if (!name || !action || strlen(name) >= FI_NAME_MAX)
		return -EINVAL;

	*f = (struct fi){.skip = skip ? (unsigned int)strtoul(skip, NULL, 10) : 0};
	snprintf(f->name, sizeof(f->name), "%s", name);
	if (!strcmp(action, "kill"))
		f->action = FI_KILL;
	else if (!strcmp(action, "stop"))
		f->action = FI_STOP;
	else if (!strcmp(action, "fail"))
		f->action = FI_FAIL;
	else if (sscanf(action, "sleep=%u", &f->sleep_ms) == 1)
		f->action = FI_SLEEP;
	else
		return -EINVAL;
	return 0;
}

void fi_load(void)
{
	const char *env = getenv("UNDERSTUDY_FAULT"), *file = getenv("UNDERSTUDY_FAULT_FILE");
	char line[512] = "", *save = NULL, *word;
	FILE *f = file ? fopen(file, "re") : NULL;

	if (f) {
		if (!fgets(line, sizeof(line), f))
			line[0] = '\0';
		fclose(f);
	} else if (env) {
		snprintf(line, sizeof(line), "%s", env);
	}
	line[strcspn(line, "\n")] = '\0';

	pthread_mutex_lock(&lock);
	nr_faults = 0;
	for (word = strtok_r(line, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		if (nr_faults == FI_MAX || fault_parse(word, &faults[nr_faults]))
			log_err(NULL, "fault point not understood: %s", word);
		else
			nr_faults++;
	}
	atomic_store(&fi_armed, nr_faults > 0);
	pthread_mutex_unlock(&lock);
}

static int fault_act(const struct fi *f)
{
	log_warn(NULL, "fault point %s acts", f->name);
	switch (f->action) {
	case FI_KILL:
		kill(getpid(), SIGKILL);
		return 0;
	case FI_STOP:
		kill(getpid(), SIGSTOP);
		return 0;
	case FI_SLEEP:
		usleep(f->sleep_ms * 1000);
		return 0;
	case FI_FAIL:
		break;
	}
	return -EIO;
}

/* Whether `name` is due now; if so, what was armed, which then is spent. */
static bool fault_take(const char *name, struct fi *taken)
{
	bool due = false;
	unsigned int i;

	pthread_mutex_lock(&lock);
	for (i = 0; !due && i < nr_faults; i++) {
		struct fi *f = &faults[i];

		if (f->done || strcmp(f->name, name))
			continue;
		if (f->skip) {
			f->skip--;
			continue;
		}
		f->done = due = true;
		*taken = *f;
	}
	pthread_mutex_unlock(&lock);
	return due;
}

int fi_point_slow(const char *name)
{
	struct fi taken;

	return fault_take(name, &taken) ? fault_act(&taken) : 0;
}
