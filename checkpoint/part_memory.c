/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/part_memory.h"
#include "checkpoint/machine.h"
#include "common/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct part_memory *memory_self(struct participant *p)
{
	return participant_self(p, struct part_memory, base);
}

int part_memory_prepare(struct part_memory *pm)
{
	return domain_map(pm->domain, false);
}

int part_memory_forget(struct domain *d, const char *guest)
{
	bool on;
	int rc;

	rc = domain_pv_state_get(d, &on);
	/* While the PV state is on Xen lets nobody turn the log off. While it is off the log is not ours. */
	if (!rc && on) {
		rc = domain_pv_state(d, false);
		if (!rc)
			rc = domain_dirty_disable(d);
	}
	if (!rc)
		rc = domain_freeze_memory(d, false);
	if (rc == -ENOENT || rc == -ESRCH)
		return 0;
	if (rc)
		log_err(guest, "the domain keeps a trace of protection: %s", strerror(-rc));
	return rc;
}

static void memory_teardown(struct participant *p)
{
	struct part_memory *pm = memory_self(p);

	(void)part_memory_forget(pm->domain, pm->guest);	/* logged; nothing else can be done */
	domain_unmap(pm->domain);
	hot_free(&pm->hot);
	free(pm->carry);
	free(pm->more);
	free(pm->always);
	free(pm->always_found);
	free(pm->logged);
	pm->carry = pm->more = pm->always = pm->always_found = pm->logged = NULL;
	pm->dirty = NULL;
}

static int memory_setup(struct participant *p)
{
	struct part_memory *pm = memory_self(p);
	int rc;

	pm->words = (domain_gfn_limit(pm->domain) + 63) / 64;
	pm->carry = calloc(pm->words, sizeof(*pm->carry));
	pm->more = calloc(MEMORY_ALWAYS_MAX, sizeof(*pm->more));
	pm->always = calloc(MEMORY_ALWAYS_MAX, sizeof(*pm->always));
	pm->always_found = calloc(MEMORY_ALWAYS_MAX, sizeof(*pm->always_found));
	pm->logged = calloc(MEMORY_LOGGED_MAX, sizeof(*pm->logged));
	pm->nr_found = pm->nr_always = pm->nr_logged = 0;
	pm->read = false;
	pm->machine_sent = false;
	pm->carry_used = pm->carry_any = false;
	pm->dirty = NULL;

	rc = pm->carry && pm->more && pm->always && pm->always_found && pm->logged
		     ? hot_init(&pm->hot, domain_gfn_limit(pm->domain)) : -ENOMEM;
	/* Both may be on, from a worker that died. */
	if (!rc)
		rc = domain_pv_state(pm->domain, false);
	if (!rc)
		rc = domain_dirty_enable(pm->domain);
	if (!rc)
		rc = domain_pv_state(pm->domain, true);
	if (!rc)
		rc = domain_freeze_memory(pm->domain, true);
	if (!rc)
		rc = domain_machine_get(pm->domain, &pm->machine);
	if (rc) {
		memory_teardown(p);
		return rc;
	}
	if (!domain_dirty_keep(pm->domain))	/* asks the hypervisor now, not in a pause */
		log_info(pm->guest, "the hypervisor cannot leave hot pages writable");
	return rc;
}

/* The TSC's elapsed time moves by itself; everything else moves when the guest does something. */
static bool machine_same(const struct domain_machine *a, const struct domain_machine *b)
{
	struct domain_machine x = *a, y = *b;

	x.tsc_elapsed_ns = y.tsc_elapsed_ns = 0;
	return !memcmp(&x, &y, sizeof(x));
}

/* The shell's grant table has as many frames as the baseline found. */
static int check_grants(const struct part_memory *pm, uint32_t nr)
{
	if (nr == pm->machine.nr_grant_frames)
		return 0;
	log_warn(pm->guest, "its grant table grew from %u to %u frames",
		 pm->machine.nr_grant_frames, nr);
	return -ESTALE;
}

/* The shell was shaped around these pages: that they are elsewhere now (a boot loader's kernel, a kexec) needs a new baseline. */
static int check_places(const struct part_memory *pm, const struct domain_machine *now)
{
	if (now->shared_info_gfn == pm->machine.shared_info_gfn &&
	    !memcmp(now->grant_gfn, pm->machine.grant_gfn, sizeof(now->grant_gfn)))
		return 0;
	log_warn(pm->guest, "its shared_info or grant table is mapped elsewhere now");
	return -ESTALE;
}

/* Which pages are hot is found out while the guest runs. */
static void judge_hot(struct part_memory *pm)
{
	uint64_t *keep = pm->read ? domain_dirty_keep(pm->domain) : NULL;
	size_t i;

	pm->read = false;
	if (!keep)
		return;
	hot_epoch(&pm->hot, keep);
	for (i = 0; i < pm->nr_logged; i++)
		hot_dirty(&pm->hot, pm->logged[i], keep);
}

static int memory_drain(struct participant *p, bool paused)
{
	struct part_memory *pm = memory_self(p);
	struct domain_machine now = {0};
	int rc;

	if (paused)
		return 0;

	judge_hot(pm);
	if (pm->carry_used && pm->carry_any) {
		memset(pm->carry, 0, pm->words * sizeof(*pm->carry));
		pm->carry_any = false;
	}
	pm->carry_used = false;
	pm->dirty = NULL;	/* the last epoch's */

	rc = domain_machine_get(pm->domain, &now);
	if (!rc)
		rc = check_grants(pm, now.nr_grant_frames);
	if (!rc)
		rc = check_places(pm, &now);
	if (rc)
		return rc;
	if (!machine_same(&now, &pm->machine))
		pm->machine_sent = false;
	pm->machine = now;

	pm->nr_more = 0;
	if (pm->more_always) {
		rc = pm->more_always(pm->more_arg, pm->more, MEMORY_ALWAYS_MAX);
		if (rc < 0)
			return rc;
		pm->nr_more = (size_t)rc;
	}
	return 0;
}

static int gfn_order(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* They are the same in nearly every epoch: sorted only when they are not. */
static int always_collect(struct part_memory *pm, const void *context, size_t len)
{
	uint64_t gfn[MEMORY_ALWAYS_MAX];
	size_t nr, i;
	int rc;

	rc = domain_always_gfns(context, len, &pm->machine, gfn, MEMORY_ALWAYS_MAX);
	if (rc < 0)
		return rc;
	nr = (size_t)rc;
	if (nr + pm->nr_more > MEMORY_ALWAYS_MAX)
		return -E2BIG;
	memcpy(gfn + nr, pm->more, pm->nr_more * sizeof(*gfn));
	nr += pm->nr_more;
	if (nr == pm->nr_found && !memcmp(gfn, pm->always_found, nr * sizeof(*gfn)))
		return 0;

	memcpy(pm->always_found, gfn, nr * sizeof(*gfn));
	pm->nr_found = nr;
	qsort(gfn, nr, sizeof(*gfn), gfn_order);
	pm->nr_always = 0;
	for (i = 0; i < nr; i++)
		if (!pm->nr_always || pm->always[pm->nr_always - 1] != gfn[i])
			pm->always[pm->nr_always++] = gfn[i];
	return 0;
}

static int add_page(struct part_memory *pm, struct epoch *e, uint64_t gfn)
{
	const void *page = domain_page(pm->domain, gfn);
	int rc;

	if (!page) {
		log_err(pm->guest, "gfn %#llx was populated while the guest was protected",
			(unsigned long long)gfn);
		return -ESTALE;
	}
	rc = epoch_reserve(e, 1);
	if (!rc)
		epoch_add_page(e, gfn, page);
	return rc;
}

/* The bits of a PVH guest reach to 4 GiB, and few are set: the guest stands still while they are read. */
static bool none_of(const uint64_t *bits, size_t w)
{
	return !(bits[w] | bits[w + 1] | bits[w + 2] | bits[w + 3] | bits[w + 4] | bits[w + 5] | bits[w + 6] | bits[w + 7]);
}

static bool run_is_clean(const struct part_memory *pm, size_t w)
{
	return w + 8 <= pm->words && none_of(pm->dirty, w) && (!pm->carry_any || none_of(pm->carry, w));
}

/* Those that are copied always are in `e` already. Both lists ascend. */
static int add_dirty(struct part_memory *pm, struct epoch *e)
{
	size_t w, skip = 0;
	int rc;

	pm->read = true;
	pm->nr_logged = 0;
	for (w = 0; w < pm->words; w++) {
		uint64_t word;

		if (w % 8 == 0 && run_is_clean(pm, w)) {
			w += 7;
			continue;
		}
		word = pm->dirty[w] | pm->carry[w];

		while (word) {
			uint64_t gfn = w * 64 + (unsigned int)__builtin_ctzll(word);

			word &= word - 1;
			if (pm->nr_logged < MEMORY_LOGGED_MAX && pm->dirty[w] >> gfn % 64 & 1)
				pm->logged[pm->nr_logged++] = gfn;
			while (skip < pm->nr_always && pm->always[skip] < gfn)
				skip++;
			if (skip < pm->nr_always && pm->always[skip] == gfn)
				continue;
			rc = add_page(pm, e, gfn);
			if (rc)
				return rc;
		}
	}
	pm->carry_used = true;
	return 0;
}

/*
 * Ring pages are copied before the dirty log is read, so that a response in the copied ring implies that its
 * data is in the copy as well.
 */
static int memory_capture(struct participant *p, struct epoch *e)
{
	struct part_memory *pm = memory_self(p);
	const void *context;
	size_t len, i;
	uint32_t frames;
	int rc;

	/* It may have grown since drain() looked. */
	rc = domain_grant_frames(pm->domain, &frames);
	if (!rc)
		rc = check_grants(pm, frames);
	if (rc)
		return rc;
	rc = domain_context_get(pm->domain, &context, &len);
	if (!rc)
		rc = buf_add(&e->blob[BLOB_CONTEXT], context, len);
	if (rc)
		return rc;

	rc = always_collect(pm, context, len);
	if (rc)
		return rc;
	for (i = 0; i < pm->nr_always; i++) {
		rc = add_page(pm, e, pm->always[i]);
		if (rc)
			return rc;
	}

	rc = domain_dirty_clean(pm->domain, &pm->dirty);
	if (!rc)
		rc = add_dirty(pm, e);
	if (!rc && !pm->machine_sent) {
		rc = machine_encode(&pm->machine, &e->blob[BLOB_MACHINE]);
		pm->machine_sent = !rc;
	}
	return rc;
}

static int memory_commit(struct participant *p, uint64_t number)
{
	return 0;
}

static void memory_abort(struct participant *p)
{
	struct part_memory *pm = memory_self(p);
	size_t w;

	pm->carry_used = false;
	pm->machine_sent = false;
	if (!pm->dirty)
		return;
	for (w = 0; w < pm->words; w++)
		pm->carry[w] |= pm->dirty[w];
	pm->carry_any = true;
}

static const void *last_page(void *arg, uint64_t gfn)
{
	return epoch_page(arg, gfn);
}

/* Loading the context starts the guest's clock: nothing slow may follow. */
static int memory_activate(struct participant *p, const struct epoch *last)
{
	struct part_memory *pm = memory_self(p);
	const struct buf *context = &last->blob[BLOB_CONTEXT];
	int rc;

	rc = domain_pv_state(pm->domain, true);
	if (!rc)
		rc = domain_tail_set(pm->domain, &pm->machine, last_page, (void *)last);
	if (!rc)
		rc = domain_machine_set(pm->domain, &pm->machine);
	if (!rc)
		rc = domain_context_set(pm->domain, context->data, context->len);
	return rc;
}

const struct participant_ops part_memory_ops = {
	.name = "memory",
	.setup = memory_setup,
	.drain = memory_drain,
	.capture = memory_capture,
	.commit = memory_commit,
	.abort = memory_abort,
	.activate = memory_activate,
	.teardown = memory_teardown,
};

int part_memory_sync_all(struct part_memory *pm, size_t *from, size_t max, struct epoch *e)
{
	const uint64_t *gfn;
	size_t nr;
	int rc;

	gfn = domain_gfns(pm->domain, &nr);
	for (; *from < nr && e->nr_pages < max; (*from)++) {
		rc = add_page(pm, e, gfn[*from]);
		if (rc)
			return rc;
	}
	return *from == nr;
}

long part_memory_sync_mark(struct part_memory *pm)
{
	long nr = 0;
	size_t w;
	int rc;

	rc = domain_dirty_clean(pm->domain, &pm->dirty);
	if (rc)
		return rc;
	for (w = 0; w < pm->words; w++) {
		pm->carry[w] |= pm->dirty[w];
		nr += __builtin_popcountll(pm->carry[w]);
	}
	/* All of it is in carry now: an abort before the next capture has nothing to add. */
	pm->dirty = NULL;
	pm->carry_used = false;
	pm->carry_any = true;
	return nr;
}

int part_memory_sync_marked(struct part_memory *pm, size_t *from, size_t max, struct epoch *e)
{
	int rc;

	while (*from < pm->words) {
		uint64_t word = pm->carry[*from];

		if (!word) {
			(*from)++;
			continue;
		}
		if (e->nr_pages >= max)
			return 0;
		pm->carry[*from] = word & (word - 1);
		rc = add_page(pm, e, *from * 64 + (unsigned int)__builtin_ctzll(word));
		if (rc)
			return rc;
	}
	return 1;
}

int part_memory_sync_layout(struct part_memory *pm, struct epoch *e)
{
	const uint64_t *gfn;
	size_t nr;
	int rc;

	gfn = domain_gfns(pm->domain, &nr);
	rc = layout_encode(gfn, nr, &e->blob[BLOB_LAYOUT]);
	if (!rc)
		rc = machine_encode(&pm->machine, &e->blob[BLOB_MACHINE]);
	return rc;
}
