/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pvdrivers/block/mark.h"
#include "pvdrivers/block/block.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct mark_file {
	struct answer_mark *mark; /* [BLOCK_DISKS_MAX], shared with whoever comes next */
};

enum { MARK_FILE_BYTES = BLOCK_DISKS_MAX * sizeof(struct answer_mark) };

static int map_file(const char *path, void **out)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), rc = 0;

	if (fd < 0)
		return -errno;
	/* Real blocks: a full tmpfs must not be a SIGBUS later. */
	rc = -posix_fallocate(fd, 0, MARK_FILE_BYTES);
	if (!rc) {
		*out = mmap(NULL, MARK_FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (*out == MAP_FAILED)
			rc = -errno;
	}
	close(fd);
	return rc;
}

int mark_open(const char *path, struct mark_file **out)
{
	struct mark_file *m = calloc(1, sizeof(*m));
	void *at = NULL;
	int rc;

	if (!m)
		return -ENOMEM;
	rc = map_file(path, &at);
	if (rc) {
		free(m);
		return rc;
	}
	m->mark = at;
	*out = m;
	return 0;
}

void mark_close(struct mark_file *m)
{
	if (!m)
		return;
	munmap(m->mark, MARK_FILE_BYTES);
	free(m);
}

struct answer_mark *mark_of(struct mark_file *m, uint32_t devid)
{
	for (int i = 0; i < BLOCK_DISKS_MAX; i++)
		if (m->mark[i].used && m->mark[i].devid == devid)
			return &m->mark[i];
	for (int i = 0; i < BLOCK_DISKS_MAX; i++)
		if (!m->mark[i].used) {
			m->mark[i].devid = devid;
			m->mark[i].used = 1;
			return &m->mark[i];
		}
	return NULL;
}

void mark_begin(struct answer_mark *m, uint32_t first, const blkif_response_t *answer, uint32_t nr)
{
	memcpy(m->answer, answer, nr * sizeof(*answer));
	m->first = first;
	__atomic_store_n(&m->nr, nr, __ATOMIC_SEQ_CST);
}

void mark_end(struct answer_mark *m)
{
	__atomic_store_n(&m->nr, 0, __ATOMIC_SEQ_CST);
}

uint32_t mark_unfinished(const struct answer_mark *m, uint32_t ring_ref, uint32_t port, uint32_t rsp_prod)
{
	if (m->ring_ref != ring_ref || m->port != port || m->first != rsp_prod || m->nr > MARK_ANSWERS_MAX)
		return 0;
	return m->nr;
}
