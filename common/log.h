/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Messages of every process of ours: one line on stderr, the guest's name first. */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

enum log_level { LOG_ERR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Names this process ("worker", "understudyd") and sets the most talkative level shown. */
void log_open(const char *ident, enum log_level max);

/* guest may be NULL: the message is about the host. */
void log_at(enum log_level level, const char *guest, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#define log_err(guest, ...)   log_at(LOG_ERR, guest, __VA_ARGS__)
#define log_warn(guest, ...)  log_at(LOG_WARN, guest, __VA_ARGS__)
#define log_info(guest, ...)  log_at(LOG_INFO, guest, __VA_ARGS__)
#define log_debug(guest, ...) log_at(LOG_DEBUG, guest, __VA_ARGS__)

#endif
