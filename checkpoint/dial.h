/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CHECKPOINT_DIAL_H
#define CHECKPOINT_DIAL_H

#include <stdint.h>

/* Connects to a numeric address within timeout_ms. Blocking. A non-blocking fd, or -errno. */
int dial(const char *address, uint16_t port, int timeout_ms);

#endif
