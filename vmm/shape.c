/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Gives a shell the guest's physmap. */
#include "vmm/internal.h"

#include "common/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { SHAPE_BATCH = 512 };	/* gfns in one memory_op: bounds its continuation */

/* The gfns that are in `a` and not in `b`, both ascending, without those of Xen's own pages. Allocates *out. */
static int shape_missing(const uint64_t *a, size_t nr_a, const uint64_t *b, size_t nr_b, const struct domain_machine *m,
			 xen_pfn_t **out, size_t *nr)
{
	size_t i, j = 0, n = 0;
	uint32_t k;

	*out = malloc((nr_a ? nr_a : 1) * sizeof(**out));
	if (!*out)
		return -ENOMEM;
	for (i = 0; i < nr_a; i++) {
		bool special = a[i] == m->shared_info_gfn;

		while (j < nr_b && b[j] < a[i])
			j++;
		for (k = 0; k < m->nr_grant_frames; k++)
			special |= a[i] == m->grant_gfn[k];
		if (!special && (j == nr_b || b[j] != a[i]))
			(*out)[n++] = a[i];
	}
	*nr = n;
	return 0;
}

static int shape_place(struct domain *d, unsigned int space, uint32_t index, uint64_t gfn)
{
	if (gfn == GFN_NONE)
		return 0;
	if (!xc_domain_add_to_physmap(d->xc, d->domid, space, index, gfn))
		return 0;
	log_err(d->name, "shell: space %u, frame %u cannot be placed at gfn %#" PRIx64 ": %s", space, index, gfn,
		strerror(errno));
	return -errno;
}

/* Xen drops what was at the gfn before, and where the page was before. */
static int shape_special(struct domain *d, const struct domain_machine *m)
{
	uint32_t i;
	int rc;

	rc = shape_place(d, XENMAPSPACE_shared_info, 0, m->shared_info_gfn);
	if (rc)
		return rc;
	for (i = 0; i < m->nr_grant_frames; i++) {
		rc = shape_place(d, XENMAPSPACE_grant_table, i, m->grant_gfn[i]);
		if (rc)
			return rc;
	}
	return 0;
}

static int shape_remove(struct domain *d, xen_pfn_t *gfn, size_t nr)
{
	size_t i, n, ram = 0;

	for (i = 0; i < nr; i++) {
		memory_drop(d, gfn[i]);
		/* Where a frame of Xen's own was until shape_special() moved it is nothing to take away. */
		if (!d->machine_known || !domain_page_is_tail(&d->machine, gfn[i]))
			gfn[ram++] = gfn[i];
	}
	for (nr = ram, i = 0; i < nr; i += n) {
		n = nr - i < SHAPE_BATCH ? nr - i : SHAPE_BATCH;
		if (xc_domain_decrease_reservation_exact(d->xc, d->domid, n, 0, gfn + i))
			return errno ? -errno : -EIO;
	}
	return 0;
}

static int shape_populate(struct domain *d, xen_pfn_t *gfn, size_t nr)
{
	struct xen_domctl_getdomaininfo info;
	size_t i, n;
	int rc;

	rc = domain_getinfo(d, &info);
	if (rc)
		return rc;
	if (info.tot_pages + nr > info.max_pages &&
	    xc_domain_setmaxmem(d->xc, d->domid, (info.tot_pages + nr) * (DOMAIN_PAGE_SIZE / 1024)))
		return -errno;
	for (i = 0; i < nr; i += n) {
		n = nr - i < SHAPE_BATCH ? nr - i : SHAPE_BATCH;
		if (xc_domain_populate_physmap_exact(d->xc, d->domid, n, 0, 0, gfn + i))
			return -ENOMEM;
	}
	return 0;
}

static int shape_check(struct domain *d, const struct domain_machine *m)
{
	struct xen_domctl_getdomaininfo info;
	int rc;

	if (m->nr_grant_frames > DOMAIN_GRANT_FRAMES_MAX)
		return -EINVAL;
	rc = domain_getinfo(d, &info);
	if (rc)
		return rc;
	if (!(info.flags & XEN_DOMINF_paused) || info.cpu_time) {
		log_err(d->name, "domain %u is not a shell: it %s", d->domid,
			info.cpu_time ? "has run" : "is not paused");
		return -EBUSY;
	}
	return 0;
}

/* Maps what a repeated call changed; maps everything again only if the room for that is used up. */
static int shape_remap(struct domain *d, const xen_pfn_t *added, size_t nr_added, const struct domain_machine *m)
{
	struct xen_domctl_getdomaininfo info;
	struct domain_machine here;
	size_t i;
	int rc;

	rc = domain_getinfo(d, &info);
	d->memory.pages = info.tot_pages;
	for (i = 0; i < nr_added && !rc; i++)
		rc = memory_add(d, added[i]);
	if (m->shared_info_gfn != GFN_NONE && !rc)
		rc = memory_add(d, m->shared_info_gfn);
	for (i = 0; i < m->nr_grant_frames && !rc; i++)
		if (m->grant_gfn[i] != GFN_NONE)
			rc = memory_add(d, m->grant_gfn[i]);
	if (rc == -ENOSPC)
		return domain_map(d, true);
	return rc ? rc : domain_machine_get(d, &here);
}

int domain_shape(struct domain *d, const uint64_t *gfn, size_t nr, const struct domain_machine *m)
{
	static const struct domain_machine nothing = {.shared_info_gfn = GFN_NONE};
	bool mapped = d->memory.base;
	uint64_t *have = NULL;
	xen_pfn_t *extra = NULL, *missing = NULL;
	size_t nr_have, nr_extra, nr_missing;
	int rc;

	rc = shape_check(d, m);
	if (rc)
		return rc;
	if (mapped) {
		have = malloc((d->memory.nr ? d->memory.nr : 1) * sizeof(*have));
		if (!have)
			return -ENOMEM;
		nr_have = d->memory.nr;
		memcpy(have, d->memory.gfn, nr_have * sizeof(*have));
	} else {
		rc = memory_scan(d, &nothing, &have, &nr_have);
		if (rc)
			return rc;
	}

	rc = shape_special(d, m);
	if (rc)
		goto out;
	rc = shape_missing(have, nr_have, gfn, nr, m, &extra, &nr_extra);
	if (rc)
		goto out;
	rc = shape_missing(gfn, nr, have, nr_have, m, &missing, &nr_missing);
	if (rc)
		goto out;
	log_info(d->name, "shell: %zu of %zu pages to add (first %#llx), %zu to remove (first %#llx)", nr_missing, nr,
		 (unsigned long long)(nr_missing ? missing[0] : 0), nr_extra,
		 (unsigned long long)(nr_extra ? extra[0] : 0));
	rc = shape_remove(d, extra, nr_extra);
	if (rc)
		goto out;
	rc = shape_populate(d, missing, nr_missing);
	if (rc)
		goto out;
	rc = mapped ? shape_remap(d, missing, nr_missing, m) : domain_map(d, true);
out:
	free(missing);
	free(extra);
	free(have);
	return rc;
}
