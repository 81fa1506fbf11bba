/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * No ballooning while memory is mapped. Three things together:
 *  - max_pages at what is allocated: Xen refuses the guest any further page. A page that the guest gives up stays
 *    allocated for as long as we map it, so it cannot come back with other content behind the same gfn either.
 *  - memory/target, which the toolstack writes and the guest's balloon driver watches, is made unreadable for the
 *    guest: `xl mem-set` is then not heard. Readable again, the driver follows what was asked meanwhile.
 *  - domain_machine_get() puts a raised limit back and fails with -ESTALE if pages were added.
 * The former limit waits in xenstore, below /libxl/<domid>, for a successor of this process; it goes with the domain.
 */
#include "vmm/internal.h"

#include "common/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void freeze_path(const struct domain *d, char path[64])
{
	snprintf(path, 64, "/libxl/%u/understudy", d->domid);
}

static int freeze_remember(struct domain *d, uint64_t max_pages)
{
	char path[64], value[24];
	unsigned int len;
	char *old;

	freeze_path(d, path);
	strcat(path, "/max-pages");
	old = xs_read(d->xs, XBT_NULL, path, &len);
	free(old);
	if (old)	/* a predecessor's: what is set now is its cap */
		return 0;
	snprintf(value, sizeof(value), "%" PRIu64, max_pages);
	return xs_write(d->xs, XBT_NULL, path, value, (unsigned int)strlen(value)) ? 0 : -errno;
}

static int freeze_recall(struct domain *d, uint64_t *max_pages)
{
	char path[64], *value;
	unsigned int len;

	freeze_path(d, path);
	strcat(path, "/max-pages");
	value = xs_read(d->xs, XBT_NULL, path, &len);
	if (!value)
		return -errno;
	*max_pages = strtoull(value, NULL, 10);
	free(value);
	return *max_pages ? 0 : -EINVAL;
}

/* The directory keeps what the toolstack gives every domain (dom0 owns, guest reads); the node has it with or without the guest. */
static int freeze_target(struct domain *d, bool on)
{
	struct xs_permissions *perms;
	char path[64];
	unsigned int nr;
	int rc = 0;

	snprintf(path, sizeof(path), "/local/domain/%u/memory", d->domid);
	perms = xs_get_permissions(d->xs, XBT_NULL, path, &nr);
	if (!perms)
		return errno == ENOENT ? 0 : -errno;
	strcat(path, "/target");
	if (!xs_set_permissions(d->xs, XBT_NULL, path, perms, on ? 1 : nr) && errno != ENOENT)
		rc = -errno;
	free(perms);
	return rc;
}

static int freeze_cap(struct domain *d, uint64_t pages)
{
	return xc_domain_setmaxmem(d->xc, d->domid, pages * (DOMAIN_PAGE_SIZE / 1024)) ? -errno : 0;
}

static int freeze_off(struct domain *d)
{
	uint64_t pages = 0;
	char path[64];
	int rc;

	rc = freeze_recall(d, &pages);
	if (rc)
		return rc == -ENOENT ? 0 : rc;
	rc = freeze_cap(d, pages);
	if (rc)
		return rc;
	d->frozen_pages = 0;
	rc = freeze_target(d, false);
	if (rc)
		return rc;
	freeze_path(d, path);
	return xs_rm(d->xs, XBT_NULL, path) ? 0 : -errno;
}

int domain_freeze_memory(struct domain *d, bool on)
{
	struct xen_domctl_getdomaininfo info;
	int rc;

	if (!on)
		return freeze_off(d);
	rc = domain_getinfo(d, &info);
	if (rc)
		return rc;
	rc = freeze_remember(d, info.max_pages);
	if (rc)
		return rc;
	rc = freeze_target(d, true);
	if (rc)
		return rc;
	rc = freeze_cap(d, info.tot_pages);
	if (rc)
		return rc;
	d->frozen_pages = info.tot_pages;
	return 0;
}
