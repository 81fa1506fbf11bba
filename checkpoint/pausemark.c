/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/pausemark.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAUSEMARK_BYTES = 4096 };

struct pausemark {
	atomic_uchar *state;
};

int pausemark_open(const char *path, struct pausemark **out)
{
	struct pausemark *m = calloc(1, sizeof(*m));
	void *map;
	int fd, rc;

	if (!m)
		return -ENOMEM;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, PAUSEMARK_BYTES)) {
		rc = -errno;
		goto out;
	}
	map = mmap(NULL, PAUSEMARK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		rc = -errno;
		goto out;
	}
	m->state = map;
	*out = m;
	rc = 0;
out:
	if (fd >= 0)
		close(fd);
	if (rc)
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
