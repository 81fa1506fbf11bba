/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/log.h"

#include <stdarg.h>
#include <stdio.h>

static const char *const level_name[] = {
	[LOG_ERR] = "error",
	[LOG_WARN] = "warning",
	[LOG_INFO] = "info",
	[LOG_DEBUG] = "debug",
};

/* What journald takes from the start of a line on stderr (sd-daemon(3)). */
static const int level_priority[] = {
	[LOG_ERR] = 3,
	[LOG_WARN] = 4,
	[LOG_INFO] = 6,
	[LOG_DEBUG] = 7,
};

static const char *log_ident = "understudy";
static enum log_level log_max = LOG_INFO;

void log_open(const char *ident, enum log_level max)
{
	log_ident = ident;
	log_max = max;
}

void log_at(enum log_level level, const char *guest, const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	if (level > log_max)
		return;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);

	/* One write per line: several processes share the journal's pipe. */
	fprintf(stderr, "<%d>%s%s%s: %s: %s\n", level_priority[level], guest ? guest : "",
		guest ? ": " : "", log_ident, level_name[level], line);
}
