/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/part_verify.h"
#include "common/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { VERIFY_REPORT_MAX = 8 };

struct part_verify {
	struct participant base;
	struct part_memory *memory;
	unsigned int every;
	uint8_t *image;			/* [gfn_limit][4096]; a hole costs address space only */
	size_t image_bytes;
	uint64_t epochs, compared, differing;
};

static struct part_verify *verify_self(struct participant *p)
{
	return participant_self(p, struct part_verify, base);
}

static uint8_t *image_page(const struct part_verify *v, uint64_t gfn)
{
	return v->image + gfn * DOMAIN_PAGE_SIZE;
}

static int verify_setup(struct participant *p)
{
	struct part_verify *v = verify_self(p);

	v->image_bytes = domain_gfn_limit(v->memory->domain) * DOMAIN_PAGE_SIZE;
	v->image = mmap(NULL, v->image_bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	v->epochs = 0;
	if (v->image != MAP_FAILED)
		return 0;
	v->image = NULL;
	return -ENOMEM;
}

static int verify_drain(struct participant *p, bool paused)
{
	return 0;
}

static void take_all(struct part_verify *v)
{
	size_t nr, i;
	const uint64_t *gfn = domain_gfns(v->memory->domain, &nr);

	for (i = 0; i < nr; i++)
		memcpy(image_page(v, gfn[i]), domain_page(v->memory->domain, gfn[i]),
		       DOMAIN_PAGE_SIZE);
}

static void compare_all(struct part_verify *v, uint64_t number)
{
	size_t nr, i, differing = 0;
	const uint64_t *gfn = domain_gfns(v->memory->domain, &nr);

	for (i = 0; i < nr; i++) {
		if (!memcmp(image_page(v, gfn[i]), domain_page(v->memory->domain, gfn[i]),
			    DOMAIN_PAGE_SIZE))
			continue;
		if (differing++ < VERIFY_REPORT_MAX)
			log_err(v->memory->guest, "verify: epoch %llu: gfn %#llx differs",
				(unsigned long long)number, (unsigned long long)gfn[i]);
	}
	v->compared++;
	v->differing += differing;
	log_info(v->memory->guest,
		 "verify: epoch %llu: %zu pages compared, %zu differ (in all: %llu epochs, %llu pages)",
		 (unsigned long long)number, nr, differing, (unsigned long long)v->compared,
		 (unsigned long long)v->differing);
}

/* The first whole epoch gives the image; from then on it lives by what the epochs carry. */
static int verify_capture(struct participant *p, struct epoch *e)
{
	struct part_verify *v = verify_self(p);
	size_t i;

	if (e->flags & EPOCH_FIRST) {
		take_all(v);
		return 0;
	}
	for (i = 0; i < e->nr_pages; i++)
		memcpy(image_page(v, e->gfn[i]), e->pages + i * DOMAIN_PAGE_SIZE,
		       DOMAIN_PAGE_SIZE);
	if (++v->epochs % v->every == 0)
		compare_all(v, e->number);
	return 0;
}

static int verify_commit(struct participant *p, uint64_t number)
{
	return 0;
}

static void verify_abort(struct participant *p)
{
}

static int verify_activate(struct participant *p, const struct epoch *last)
{
	return 0;
}

static void verify_teardown(struct participant *p)
{
	struct part_verify *v = verify_self(p);

	if (v->image)
		munmap(v->image, v->image_bytes);
	v->image = NULL;
}

static const struct participant_ops part_verify_ops = {
	.name = "verify",
	.setup = verify_setup,
	.drain = verify_drain,
	.capture = verify_capture,
	.commit = verify_commit,
	.abort = verify_abort,
	.activate = verify_activate,
	.teardown = verify_teardown,
};

int part_verify_new(struct part_memory *memory, struct part_verify **out)
{
	const char *every = getenv("UNDERSTUDY_VERIFY");
	struct part_verify *v;

	*out = NULL;
	if (!every || strtoul(every, NULL, 10) == 0)
		return 0;
	v = calloc(1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	v->base.ops = &part_verify_ops;
	v->memory = memory;
	v->every = (unsigned int)strtoul(every, NULL, 10);
	*out = v;
	return 0;
}

void part_verify_free(struct part_verify *v)
{
	if (!v)
		return;
	verify_teardown(&v->base);
	free(v);
}

struct participant *part_verify_participant(struct part_verify *v)
{
	return &v->base;
}
