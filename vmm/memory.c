/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Guest memory: which gfns are populated, and one lasting mapping of all of them. */
#include "vmm/internal.h"

#include "common/log.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

struct scan {
	struct domain *d;
	uint64_t *bitmap;		/* one bit per gfn below limit */
	uint64_t limit;
	xen_pfn_t *batch;		/* hypercall buffer, SCAN_BATCH entries */
	uint64_t found;
};

enum {
	SCAN_BUFFER_PAGES = SCAN_BATCH * sizeof(xen_pfn_t) / DOMAIN_PAGE_SIZE,
	UNMAP_NICE = 15,
	UNMAP_REST_US = 2000,		/* between two batches: the event loop has its turn */
};

static void scan_mark(struct scan *s, uint64_t gfn)
{
	if (gfn < s->limit)
		s->bitmap[gfn / 64] |= 1ull << (gfn % 64);
}

/*
 * Asks Xen for the types of up to 1024 gfns without mapping them. XTAB: nothing there, or a page of Xen's own (grant
 * frames and shared_info, which the caller knows about).
 */
static int scan_batch(struct scan *s, uint64_t first)
{
	uint64_t nr = s->limit - first < SCAN_BATCH ? s->limit - first : SCAN_BATCH, i;
	struct xen_domctl *domctl = domctl_begin(s->d, XEN_DOMCTL_getpageframeinfo3);
	int rc;

	for (i = 0; i < nr; i++)
		s->batch[i] = first + i;
	domctl->u.getpageframeinfo3.num = nr;
	set_xen_guest_handle_raw(domctl->u.getpageframeinfo3.array, s->batch);
	rc = domctl_do(s->d);
	if (rc)
		return rc;

	for (i = 0; i < nr; i++) {
		uint64_t type = s->batch[i] & XEN_DOMCTL_PFINFO_LTAB_MASK;

		if (type == XEN_DOMCTL_PFINFO_XTAB || type == XEN_DOMCTL_PFINFO_BROKEN)
			continue;
		scan_mark(s, first + i);
		s->found++;
	}
	return 0;
}

/*
 * RAM starts at 0, a PVH guest's special pages end just below 4 GiB, and between them is little but holes. So scan
 * from both ends and stop when every page that the domain owns has been seen: a page has one gfn at most.
 */
static int scan_ram(struct scan *s, uint64_t pages)
{
	uint64_t low = 0, high = (s->limit + SCAN_BATCH - 1) / SCAN_BATCH;
	int rc;

	while (low < high && s->found < pages) {
		rc = scan_batch(s, low++ * SCAN_BATCH);
		if (rc)
			return rc;
		if (low == high || s->found >= pages)
			break;
		rc = scan_batch(s, --high * SCAN_BATCH);
		if (rc)
			return rc;
	}
	return 0;
}

static int scan_list(const struct scan *s, uint64_t **gfn, size_t *nr)
{
	uint64_t word, bits;
	size_t n = 0;

	for (word = 0; word < (s->limit + 63) / 64; word++)
		n += (size_t)__builtin_popcountll(s->bitmap[word]);
	*gfn = malloc((n ? n : 1) * sizeof(**gfn));
	if (!*gfn)
		return -ENOMEM;
	*nr = n;
	for (n = 0, word = 0; word < (s->limit + 63) / 64; word++)
		for (bits = s->bitmap[word]; bits; bits &= bits - 1)
			(*gfn)[n++] = word * 64 + (uint64_t)__builtin_ctzll(bits);
	return 0;
}

/* Touching a populate-on-demand gfn populates it, and kills the guest when the reserve runs out. */
static int scan_refuse_pod(struct domain *d)
{
	uint64_t entries = 0;

	if (xc_domain_get_pod_target(d->xc, d->domid, NULL, NULL, &entries))
		return -errno;
	if (!entries)
		return 0;
	log_err(d->name, "%" PRIu64 " pages are populated on demand (memory below maxmem): not supported", entries);
	return -EOPNOTSUPP;
}

int memory_scan(struct domain *d, const struct domain_machine *m, uint64_t **gfn, size_t *nr)
{
	struct scan s = {.d = d};
	struct xen_domctl_getdomaininfo before, after;
	xen_pfn_t max;
	uint32_t i;
	int rc;

	rc = scan_refuse_pod(d);
	if (rc)
		return rc;
	rc = domain_getinfo(d, &before);
	if (rc)
		return rc;
	if (xc_domain_maximum_gpfn(d->xc, d->domid, &max))
		return -errno;
	if (max >= d->memory.bound) {
		log_err(d->name, "it has put pages as far as gfn %#" PRIx64 ": not supported", (uint64_t)max);
		return -EOPNOTSUPP;
	}
	s.limit = max + 1;
	s.bitmap = calloc((s.limit + 63) / 64, sizeof(*s.bitmap));
	s.batch = xencall_alloc_buffer_pages(d->call, SCAN_BUFFER_PAGES);
	if (!s.bitmap || !s.batch) {
		rc = -ENOMEM;
		goto out;
	}

	rc = scan_ram(&s, before.tot_pages);
	if (rc)
		goto out;
	rc = domain_getinfo(d, &after);
	if (rc)
		goto out;
	if (after.tot_pages != before.tot_pages) {
		log_err(d->name, "memory changed from %" PRIu64 " to %" PRIu64 " pages while it was listed",
			(uint64_t)before.tot_pages, (uint64_t)after.tot_pages);
		rc = -EAGAIN;
		goto out;
	}
	scan_mark(&s, m->shared_info_gfn);
	for (i = 0; i < m->nr_grant_frames; i++)
		scan_mark(&s, m->grant_gfn[i]);
	rc = scan_list(&s, gfn, nr);
out:
	if (s.batch)
		xencall_free_buffer_pages(d->call, s.batch, SCAN_BUFFER_PAGES);
	free(s.bitmap);
	return rc;
}

/* Maps `nr` gfns behind each other from `slot` on, over whatever was mapped there. */
static int memory_map_slots(struct domain *d, size_t slot, const uint64_t *gfn, size_t nr)
{
	xen_pfn_t *pfn = calloc(nr, sizeof(*pfn));
	int *err = calloc(nr, sizeof(*err)), rc = 0;
	void *at = d->memory.base + slot * DOMAIN_PAGE_SIZE;
	size_t i;

	if (!pfn || !err) {
		rc = -ENOMEM;
		goto out;
	}
	for (i = 0; i < nr; i++)
		pfn[i] = gfn[i];
	if (xenforeignmemory_map2(d->foreign, d->domid, at, d->memory.prot, MAP_FIXED, nr, pfn, err) != at) {
		rc = errno ? -errno : -EIO;
		goto out;
	}
	for (i = 0; i < nr; i++) {
		if (!err[i])
			continue;
		log_err(d->name, "gfn %#" PRIx64 " cannot be mapped: %s", gfn[i], strerror(abs(err[i])));
		rc = -EFAULT;
		goto out;
	}
out:
	free(err);
	free(pfn);
	return rc;
}

static int memory_map_all(struct domain *d, const uint64_t *gfn, size_t nr, bool writable)
{
	struct memory *m = &d->memory;
	size_t i, n;
	int rc;

	m->room = nr + MAP_SLACK_PAGES;
	m->prot = PROT_READ | (writable ? PROT_WRITE : 0);
	m->base = mmap(NULL, m->room * DOMAIN_PAGE_SIZE, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m->base == MAP_FAILED) {
		m->base = NULL;
		return -ENOMEM;
	}
	for (i = 0; i < nr; i += n) {
		n = nr - i < MAP_BATCH_PAGES ? nr - i : MAP_BATCH_PAGES;
		rc = memory_map_slots(d, i, gfn + i, n);
		if (rc)
			return rc;
	}
	m->used = m->initial = nr;
	return 0;
}

static int memory_grow_limit(struct memory *m, uint64_t limit)
{
	uint32_t *slot;
	uint64_t i;

	if (limit <= m->limit)
		return 0;
	if (limit > m->bound)
		return -E2BIG;
	slot = realloc(m->slot, limit * sizeof(*slot));
	if (!slot)
		return -ENOMEM;
	for (i = m->limit; i < limit; i++)
		slot[i] = SLOT_NONE;
	m->slot = slot;
	m->limit = limit;
	return 0;
}

int domain_map(struct domain *d, bool writable)
{
	struct memory *m = &d->memory;
	struct xen_domctl_getdomaininfo info;
	struct domain_machine machine;
	xen_pfn_t last;
	size_t i;
	int rc;

	domain_unmap(d);
	rc = domain_getinfo(d, &info);
	if (rc)
		return rc;
	if (!(info.flags & XEN_DOMINF_hvm_guest))
		return -EOPNOTSUPP;
	m->bound = domain_gfn_limit_of(info.max_pages);
	d->machine_known = false;
	rc = domain_machine_get(d, &machine);
	if (rc)
		return rc;
	rc = memory_scan(d, &machine, &m->gfn, &m->nr);
	if (rc)
		return rc;
	if (!m->nr) {
		rc = -ENODATA;
		goto out;
	}

	/* To the last page that Xen knows of, RAM or not: what the dirty log is asked for has to cover it (relog.c). */
	if (xc_domain_maximum_gpfn(d->xc, d->domid, &last)) {
		rc = -errno;
		goto out;
	}
	rc = memory_grow_limit(m, last + 1);
	if (rc)
		goto out;
	rc = memory_map_all(d, m->gfn, m->nr, writable);
	if (rc)
		goto out;
	for (i = 0; i < m->nr; i++)
		m->slot[m->gfn[i]] = (uint32_t)i;
	m->pages = info.tot_pages;
out:
	if (rc)
		domain_unmap(d);
	return rc;
}

/* Pages that are mapped out of the caller's way. */
struct unmapping {
	uint8_t *base;
	size_t room, initial;
};

/* Batch by batch as they were mapped, what memory_add() mapped with the last: each takes the process's memory map for itself. */
static void *unmap_work(void *arg)
{
	const struct unmapping *u = arg;
	const struct timespec rest = {.tv_nsec = UNMAP_REST_US * 1000};
	size_t i;

	setpriority(PRIO_PROCESS, (id_t)gettid(), UNMAP_NICE);
	for (i = 0; i + MAP_BATCH_PAGES < u->initial; i += MAP_BATCH_PAGES) {
		munmap(u->base + i * DOMAIN_PAGE_SIZE, (size_t)MAP_BATCH_PAGES * DOMAIN_PAGE_SIZE);
		nanosleep(&rest, NULL);
	}
	munmap(u->base + i * DOMAIN_PAGE_SIZE, (u->room - i) * DOMAIN_PAGE_SIZE);
	free(arg);
	return NULL;
}

/*
 * In a thread, which nobody waits for: unmapping takes longer than all else in an activation (1.5 s for 256 MiB, emulated), and
 * the guest's network would wait for it.
 */
static void unmap_begin(const struct memory *m)
{
	struct unmapping *u = malloc(sizeof(*u));
	pthread_t thread;

	if (u) {
		*u = (struct unmapping){m->base, m->room, m->initial};
		if (!pthread_create(&thread, NULL, unmap_work, u)) {
			pthread_detach(thread);
			return;
		}
		free(u);
	}
	munmap(m->base, m->room * DOMAIN_PAGE_SIZE);
}

void domain_unmap(struct domain *d)
{
	struct memory *m = &d->memory;

	if (m->base)
		unmap_begin(m);
	free(m->slot);
	free(m->gfn);
	*m = (struct memory){0};
	dirty_release(d);
}

static int memory_list_insert(struct memory *m, uint64_t gfn)
{
	uint64_t *list = realloc(m->gfn, (m->nr + 1) * sizeof(*list));
	size_t at = m->nr;

	if (!list)
		return -ENOMEM;
	m->gfn = list;
	while (at && list[at - 1] > gfn)
		at--;
	memmove(list + at + 1, list + at, (m->nr - at) * sizeof(*list));
	list[at] = gfn;
	m->nr++;
	return 0;
}

/*
 * Into a slot of its own even where the gfn has one: Linux refuses to replace a part of a foreign mapping. What
 * was mapped there before stays mapped, unused, until domain_unmap().
 */
int memory_add(struct domain *d, uint64_t gfn)
{
	struct memory *m = &d->memory;
	bool listed = gfn < m->limit && m->slot[gfn] != SLOT_NONE;
	int rc;

	if (listed && m->slot[gfn] >= m->initial)
		return memory_map_slots(d, m->slot[gfn], &gfn, 1);
	if (m->used == m->room)
		return -ENOSPC;
	rc = memory_grow_limit(m, gfn + 1);
	if (rc)
		return rc;
	rc = memory_map_slots(d, m->used, &gfn, 1);
	if (rc)
		return rc;
	rc = listed ? 0 : memory_list_insert(m, gfn);
	if (rc)
		return rc;
	m->slot[gfn] = (uint32_t)m->used++;
	return 0;
}

void memory_drop(struct domain *d, uint64_t gfn)
{
	struct memory *m = &d->memory;
	size_t i;

	if (gfn >= m->limit || m->slot[gfn] == SLOT_NONE)
		return;
	m->slot[gfn] = SLOT_NONE;
	for (i = 0; i < m->nr; i++) {
		if (m->gfn[i] != gfn)
			continue;
		memmove(m->gfn + i, m->gfn + i + 1, (m->nr - i - 1) * sizeof(*m->gfn));
		m->nr--;
		break;
	}
}

const uint64_t *domain_gfns(const struct domain *d, size_t *nr)
{
	*nr = d->memory.nr;
	return d->memory.gfn;
}

uint64_t domain_gfn_limit(const struct domain *d)
{
	return d->memory.limit;
}

void *domain_page(const struct domain *d, uint64_t gfn)
{
	const struct memory *m = &d->memory;

	if (gfn >= m->limit || m->slot[gfn] == SLOT_NONE)
		return NULL;
	return m->base + (size_t)m->slot[gfn] * DOMAIN_PAGE_SIZE;
}
