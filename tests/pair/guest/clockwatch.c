/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * clockwatch: reads CLOCK_MONOTONIC and CLOCK_REALTIME every millisecond and remembers any step
 * back, and the largest step of one clock against the other.
 *
 * TCP port 7003, one command a line: "report" answers "name=value ...", "reset" starts anew.
 */
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#include "lineserver.h"

enum { PORT = 7003, PERIOD_NS = 20 * 1000 * 1000 };

struct watch {
	_Atomic int64_t readings, monotonic_back, monotonic_back_ns, realtime_back,
		realtime_back_ns, gap_max_ns, drift_max_ns;
	_Atomic int reset_asked;
};

static int64_t read_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void keep_max(_Atomic int64_t *max, int64_t value)
{
	if (value > *max)
		*max = value;
}

static void watch_reset(struct watch *watch)
{
	watch->readings = watch->gap_max_ns = watch->drift_max_ns = 0;
	watch->monotonic_back = watch->monotonic_back_ns = 0;
	watch->realtime_back = watch->realtime_back_ns = 0;
}

static void *watch_run(void *arg)
{
	const struct timespec period = {.tv_nsec = PERIOD_NS};
	struct watch *watch = arg;
	int64_t monotonic = read_ns(CLOCK_MONOTONIC), realtime = read_ns(CLOCK_REALTIME);

	for (;;) {
		int64_t monotonic_step, realtime_step;

		nanosleep(&period, NULL);
		monotonic_step = read_ns(CLOCK_MONOTONIC) - monotonic;
		realtime_step = read_ns(CLOCK_REALTIME) - realtime;
		monotonic += monotonic_step;
		realtime += realtime_step;
		if (atomic_exchange(&watch->reset_asked, 0))
			watch_reset(watch);
		watch->readings++;
		if (monotonic_step < 0) {
			watch->monotonic_back++;
			keep_max(&watch->monotonic_back_ns, -monotonic_step);
		}
		if (realtime_step < 0) {
			watch->realtime_back++;
			keep_max(&watch->realtime_back_ns, -realtime_step);
		}
		keep_max(&watch->gap_max_ns, monotonic_step);
		keep_max(&watch->drift_max_ns, llabs(realtime_step - monotonic_step));
	}
	return NULL;
}

static void answer_line(void *context, const char *line, struct line_client *client)
{
	struct watch *watch = context;
	char answer[512] = "error: report or reset\n";

	if (!strcmp(line, "reset")) {
		watch->reset_asked = 1;
		while (watch->reset_asked)
			usleep(1000);
		strcpy(answer, "ok\n");
	} else if (!strcmp(line, "report")) {
		snprintf(answer, sizeof(answer),
			 "readings=%lld monotonic_back=%lld monotonic_back_ns=%lld "
			 "realtime_back=%lld "
			 "realtime_back_ns=%lld gap_max_ns=%lld drift_max_ns=%lld\n",
			 (long long)watch->readings, (long long)watch->monotonic_back,
			 (long long)watch->monotonic_back_ns, (long long)watch->realtime_back,
			 (long long)watch->realtime_back_ns, (long long)watch->gap_max_ns,
			 (long long)watch->drift_max_ns);
	}
	line_send(client, answer, strlen(answer));
}

int main(void)
{
	static struct watch watch;
	pthread_t thread;

	if (pthread_create(&thread, NULL, watch_run, &watch)) {
		fprintf(stderr, "clockwatch: no thread\n");
		return 1;
	}
	return line_serve(PORT, answer_line, &watch);
}
