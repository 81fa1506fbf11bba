/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/pausemark.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	PAUSEMARK_BYTES = 4096,
	LOCK_MAX_MS = 3000,	/* a killed predecessor unmaps the guest's memory before its files are closed */
	LOCK_POLL_MS = 10,
};

struct pausemark {
	atomic_uchar *state;
	int fd;		/* holds the lock */
};

/* A predecessor that ended removed the file while we waited for it. */
static bool is_there(int fd, const char *path)
{
	struct stat mine, named;

	return !fstat(fd, &mine) && !stat(path, &named) && mine.st_ino == named.st_ino && mine.st_dev == named.st_dev;
}

/* The file, locked. -EBUSY: another worker serves this domain. */
static int open_locked(const char *path)
{
	unsigned int waited_ms = 0;
	int fd, r;

	for (;;) {
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (fd < 0)
			return -errno;
		r = flock(fd, LOCK_EX | LOCK_NB);
		if (!r && is_there(fd, path))
			return fd;
		close(fd);
		if (waited_ms >= LOCK_MAX_MS)
			return -EBUSY;
		usleep(LOCK_POLL_MS * 1000);
		waited_ms += LOCK_POLL_MS;
	}
}

int pausemark_open(const char *path, struct pausemark **out)
{
	struct pausemark *m = calloc(1, sizeof(*m));
	void *map;
	int fd, rc;

	if (!m)
		return -ENOMEM;
	fd = open_locked(path);
	if (fd < 0) {
		rc = fd;
		goto out;
	}
	if (ftruncate(fd, PAUSEMARK_BYTES)) {
		rc = -errno;
		goto out;
	}
	map = mmap(NULL, PAUSEMARK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		rc = -errno;
		goto out;
	}
	m->state = map;
	m->fd = fd;
	*out = m;
	return 0;
out:
	if (fd >= 0)
		close(fd);
	free(m);
	return rc;
}

void pausemark_close(struct pausemark *m, const char *unlink_path)
{
	if (!m)
		return;
	munmap(m->state, PAUSEMARK_BYTES);
	if (unlink_path)
		unlink(unlink_path);
	close(m->fd);
	free(m);
}

enum pausemark_state pausemark_get(const struct pausemark *m)
{
	unsigned char state = atomic_load(m->state);

	return state <= PAUSEMARK_FINISHED ? state : PAUSEMARK_RUNNING;
}

void pausemark_set(struct pausemark *m, enum pausemark_state state)
{
	atomic_store(m->state, (unsigned char)state);
}
