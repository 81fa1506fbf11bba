/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pvdrivers/net/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* As the kernel's netback has it: highest, so that a bridge never takes its own address from it. */
static const unsigned char host_mac[6] = {0xfe, 0xff, 0xff, 0xff, 0xff, 0xff};

/* A former worker that is being killed may take a moment to let go. */
enum { BUSY_WAIT_MS = 2000, BUSY_STEP_MS = 20 };

static int set_queue(int fd, struct ifreq *r)
{
	int waited_ms = 0;

	while (ioctl(fd, TUNSETIFF, r)) {
		if (errno != EBUSY || waited_ms >= BUSY_WAIT_MS)
			return -errno;
		usleep(BUSY_STEP_MS * 1000);
		waited_ms += BUSY_STEP_MS;
	}
	return 0;
}

static int open_queue(const char *name)
{
	struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int fd, rc;

	if (strlen(name) >= sizeof(r.ifr_name))
		return -ENAMETOOLONG;
	strcpy(r.ifr_name, name);
	fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	rc = set_queue(fd, &r);
	if (rc) {
		close(fd);
		return rc;
	}
	return fd;
}

static int set_mac(int fd)
{
	struct ifreq r = {0};

	r.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	memcpy(r.ifr_hwaddr.sa_data, host_mac, sizeof(host_mac));
	return ioctl(fd, SIOCSIFHWADDR, &r) ? -errno : 0;
}

bool tap_exists(const char *name)
{
	char path[sizeof("/sys/class/net/") + IFNAMSIZ];

	snprintf(path, sizeof(path), "/sys/class/net/%s", name);
	return access(path, F_OK) == 0;
}

int tap_open(const char *name)
{
	bool existed = tap_exists(name);
	int header = sizeof(struct virtio_net_hdr), fd, rc;

	fd = open_queue(name);
	if (fd < 0)
		return fd;
	if (ioctl(fd, TUNSETVNETHDRSZ, &header) || ioctl(fd, TUNSETPERSIST, 1)) {
		rc = -errno;
		goto fail;
	}
	if (!existed) {
		rc = set_mac(fd);
		if (rc)
			goto fail;
	}
	return fd;

fail:
	tap_close(fd, !existed);
	return rc;
}

void tap_close(int fd, bool remove)
{
	if (fd < 0)
		return;
	if (remove)
		ioctl(fd, TUNSETPERSIST, 0);
	close(fd);
}

void tap_remove_stale(const char *name)
{
	int fd;

	if (!tap_exists(name))
		return;
	fd = open_queue(name);
	if (fd >= 0)
		tap_close(fd, true);
}

int tap_set_offloads(int fd, const struct tap_offloads *o)
{
	unsigned long flags = 0;

	if (o->checksum)
		flags |= TUN_F_CSUM;
	if (o->checksum && o->tso4)
		flags |= TUN_F_TSO4;
	if (o->checksum && o->tso6)
		flags |= TUN_F_TSO6;
	return ioctl(fd, TUNSETOFFLOAD, flags) ? -errno : 0;
}

ssize_t tap_read(int fd, void *frame, size_t size)
{
	ssize_t r;

	do {
		r = read(fd, frame, size);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

int tap_write(int fd, const void *frame, size_t len)
{
	ssize_t r;

	do {
		r = write(fd, frame, len);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

int tap_discard(int fd, unsigned int max)
{
	unsigned char header[sizeof(struct virtio_net_hdr) + 64];
	ssize_t len = 0;

	/* A read shorter than the frame consumes all of it. */
	for (unsigned int i = 0; i < max && len >= 0; i++)
		len = tap_read(fd, header, sizeof(header));
	return len < 0 ? (int)len : 0;
}
