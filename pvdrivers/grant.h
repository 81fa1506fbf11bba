/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Access to the pages that one guest granted us: ring pages are mapped, data is copied by the
 * hypervisor, which marks it dirty. */
#ifndef PVDRIVERS_GRANT_H
#define PVDRIVERS_GRANT_H

#include <stddef.h>
#include <stdint.h>

struct grant;

int grant_open(uint32_t domid, struct grant **out);
void grant_close(struct grant *g);

/* Maps one granted page for reading and writing. 0 or -errno; grant_unmap() undoes it. */
int grant_map(struct grant *g, uint32_t ref, void **page);
void grant_unmap(struct grant *g, void *page);

/* The same for `nr` pages side by side. */
int grant_map_pages(struct grant *g, const uint32_t *ref, uint32_t nr, void **pages);
void grant_unmap_pages(struct grant *g, void *pages, uint32_t nr);

/*
 * Segments of a batched copy; offset + len <= 4096, checked by the caller. grant_copy() does all of
 * them with one ioctl. A segment that failed has a status other than 0 (GNTST_*) and does not keep
 * the others from being done. -errno: nothing is known to have been copied.
 */
struct grant_segment {
	void *local;
	uint32_t ref;
	uint16_t offset, len;
};
enum grant_direction { GRANT_READ, GRANT_WRITE };
enum { GRANT_SEGMENTS_MAX = 256 };

/* nr <= GRANT_SEGMENTS_MAX; status[nr] is filled in. */
int grant_copy(struct grant *g, enum grant_direction direction,
	       const struct grant_segment *segments, int16_t *status, unsigned int nr);

#endif
