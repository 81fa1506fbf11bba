/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The TAP interface that stands for a vif in the host: persistent, frames with a struct
 * virtio_net_hdr in front. */
#ifndef PVDRIVERS_NET_TAP_H
#define PVDRIVERS_NET_TAP_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* What the other side takes, so that the kernel need not segment or checksum. */
struct tap_offloads {
	bool checksum, tso4, tso6;
};

/* Whether there is an interface of that name, of any kind. Asks sysfs: the ioctls make the kernel
 * look for a module of that name, which takes up to seconds. */
bool tap_exists(const char *name);

/* Creates the interface, or takes over one that a former process left. Returns a non-blocking
 * descriptor or -errno. */
int tap_open(const char *name);
void tap_close(int fd, bool remove);

/* Removes an interface that nobody has open; one that is not a TAP is left alone. */
void tap_remove_stale(const char *name);

int tap_set_offloads(int fd, const struct tap_offloads *o);

/* One frame with its header. Bytes, or -errno; -EAGAIN: none there / no room. */
ssize_t tap_read(int fd, void *frame, size_t size);
int tap_write(int fd, const void *frame, size_t len);

/* Throws away what waits, at most `max` frames. 0 or -errno: something may wait still; -EAGAIN: nothing does. */
int tap_discard(int fd, unsigned int max);

#endif
