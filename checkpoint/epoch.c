/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/epoch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { EPOCH_PAGE_SIZE = 4096 };

const char *const epoch_blob_name[EPOCH_BLOBS] = {
	[BLOB_CONTEXT] = "context", [BLOB_MACHINE] = "machine", [BLOB_LAYOUT] = "layout",
	[BLOB_NET] = "net",	    [BLOB_STORE] = "store",	[BLOB_DISKS] = "disks",
	[BLOB_OUTPUT] = "output",
};

/* The page area is mapped, not allocated: aligned, moved by the kernel without a copy, and not
 * touched before it is used. */
static int epoch_resize(struct epoch *e, size_t max_pages)
{
	size_t old_bytes = e->max_pages * EPOCH_PAGE_SIZE, bytes;
	uint64_t *gfn;
	void *pages;

	if (__builtin_mul_overflow(max_pages, (size_t)EPOCH_PAGE_SIZE, &bytes))
		return -ENOMEM;
	gfn = realloc(e->gfn, max_pages * sizeof(*gfn));
	if (!gfn)
		return -ENOMEM;
	e->gfn = gfn;

	if (e->pages)
		pages = mremap(e->pages, old_bytes, bytes, MREMAP_MAYMOVE);
	else
		pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			     0);
	if (pages == MAP_FAILED)
		return -ENOMEM;
	e->pages = pages;
	e->max_pages = max_pages;
	return 0;
}

int epoch_new(size_t max_pages, struct epoch **out)
{
	struct epoch *e = calloc(1, sizeof(*e));
	int rc;

	if (!e)
		return -ENOMEM;
	rc = epoch_resize(e, max_pages ? max_pages : 1);
	if (rc) {
		epoch_free(e);
		return rc;
	}
	*out = e;
	return 0;
}

static void drop_changes(struct epoch *e)
{
	size_t i;

	for (i = 0; e->owns_data && i < e->nr_changes; i++)
		free(e->change[i].data);
	e->nr_changes = 0;
}

void epoch_free(struct epoch *e)
{
	unsigned int i;

	if (!e)
		return;
	drop_changes(e);
	free(e->change);
	free(e->baseline);
	for (i = 0; i < EPOCH_BLOBS; i++)
		buf_free(&e->blob[i]);
	if (e->pages)
		munmap(e->pages, e->max_pages * EPOCH_PAGE_SIZE);
	free(e->gfn);
	free(e);
}

void epoch_reset(struct epoch *e)
{
	unsigned int i;

	e->number = 0;
	e->term = 0;
	e->flags = 0;
	e->captured_us = 0;
	e->pause_us = 0;
	e->nr_pages = 0;
	drop_changes(e);
	for (i = 0; i < EPOCH_BLOBS; i++)
		buf_reset(&e->blob[i]);
}

int epoch_reserve(struct epoch *e, size_t nr)
{
	size_t want, more;

	if (__builtin_add_overflow(e->nr_pages, nr, &want))
		return -ENOMEM;
	if (want <= e->max_pages)
		return 0;
	more = e->max_pages + e->max_pages / 2;
	return epoch_resize(e, want > more ? want : more);
}

void epoch_add_page(struct epoch *e, uint64_t gfn, const void *page)
{
	e->gfn[e->nr_pages] = gfn;
	memcpy(e->pages + e->nr_pages * EPOCH_PAGE_SIZE, page, EPOCH_PAGE_SIZE);
	e->nr_pages++;
}

int epoch_add_change(struct epoch *e, const struct block_change *c)
{
	if (e->nr_changes == e->max_changes) {
		size_t max = e->max_changes ? 2 * e->max_changes : 64;
		struct block_change *change = reallocarray(e->change, max, sizeof(*change));

		if (!change)
			return -ENOMEM;
		e->change = change;
		e->max_changes = max;
	}
	e->change[e->nr_changes++] = *c;
	return 0;
}

uint8_t *epoch_baseline(struct epoch *e)
{
	void *area;

	if (!e->baseline && !posix_memalign(&area, EPOCH_PAGE_SIZE, EPOCH_BASELINE_BYTES))
		e->baseline = area;
	return e->baseline;
}

uint8_t *epoch_page(const struct epoch *e, uint64_t gfn)
{
	size_t i;

	for (i = 0; i < e->nr_pages; i++)
		if (e->gfn[i] == gfn)
			return e->pages + i * EPOCH_PAGE_SIZE;
	return NULL;
}
