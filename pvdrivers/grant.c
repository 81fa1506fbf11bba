/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pvdrivers/grant.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <xengnttab.h>

struct grant {
	xengnttab_handle *handle;
	uint32_t domid;
	xengnttab_grant_copy_segment_t segments[GRANT_SEGMENTS_MAX];
};

int grant_open(uint32_t domid, struct grant **out)
{
	struct grant *g;

	g = calloc(1, sizeof(*g));
	if (!g)
		return -ENOMEM;
	g->domid = domid;
	g->handle = xengnttab_open(NULL, 0);
	if (!g->handle) {
		int rc = -errno;

		free(g);
		return rc;
	}
	*out = g;
	return 0;
}

void grant_close(struct grant *g)
{
	if (!g)
		return;
	xengnttab_close(g->handle);
	free(g);
}

int grant_map_pages(struct grant *g, const uint32_t *ref, uint32_t nr, void **pages)
{
	void *at;

	at = xengnttab_map_domain_grant_refs(g->handle, nr, g->domid, (uint32_t *)ref, PROT_READ | PROT_WRITE);
	if (!at)
		return errno ? -errno : -EIO;
	*pages = at;
	return 0;
}

void grant_unmap_pages(struct grant *g, void *pages, uint32_t nr)
{
	xengnttab_unmap(g->handle, pages, nr);
}

int grant_map(struct grant *g, uint32_t ref, void **page)
{
	return grant_map_pages(g, &ref, 1, page);
}

void grant_unmap(struct grant *g, void *page)
{
	grant_unmap_pages(g, page, 1);
}

static void fill_read(xengnttab_grant_copy_segment_t *to, const struct grant_segment *s,
		      uint32_t domid)
{
	to->flags = GNTCOPY_source_gref;
	to->source.foreign.ref = s->ref;
	to->source.foreign.offset = s->offset;
	to->source.foreign.domid = (uint16_t)domid;
	to->dest.virt = s->local;
}

static void fill_write(xengnttab_grant_copy_segment_t *to, const struct grant_segment *s,
		       uint32_t domid)
{
	to->flags = GNTCOPY_dest_gref;
	to->source.virt = s->local;
	to->dest.foreign.ref = s->ref;
	to->dest.foreign.offset = s->offset;
	to->dest.foreign.domid = (uint16_t)domid;
}

int grant_copy(struct grant *g, enum grant_direction direction,
	       const struct grant_segment *segments, int16_t *status, unsigned int nr)
{
	if (nr > GRANT_SEGMENTS_MAX)
		return -E2BIG;
	if (!nr)
		return 0;
	for (unsigned int i = 0; i < nr; i++) {
		xengnttab_grant_copy_segment_t *to = &g->segments[i];

		if (direction == GRANT_READ)
			fill_read(to, &segments[i], g->domid);
		else
			fill_write(to, &segments[i], g->domid);
		to->len = segments[i].len;
		to->status = GNTST_general_error;
	}
	if (xengnttab_grant_copy(g->handle, nr, g->segments))
		return errno ? -errno : -EIO;
	for (unsigned int i = 0; i < nr; i++)
		status[i] = g->segments[i].status;
	return 0;
}
