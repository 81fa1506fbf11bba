/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The floor: what an epoch costs at least on this host. Pause, one context, dirty log CLEAN, copy of the dirty pages, unpause; nothing is encoded or
 * sent, no device takes part. Usage: floor DOMID EPOCH_MS SECONDS; prints JSON, and "floor: begins" on stderr when the first epoch does.
 */
#include "common/clock.h"
#include "checkpoint/samples.h"
#include "vmm/domain.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { STAGING_PAGES = 65536 };

struct floor {
	struct domain *d;
	uint8_t *staging;
	uint64_t pages, epochs, pause_total_us;
	struct samples pause;
};

static int copy_dirty(struct floor *f)
{
	const uint64_t *bits;
	size_t words = (domain_gfn_limit(f->d) + 63) / 64, w, n = 0;
	int rc;

	rc = domain_dirty_clean(f->d, &bits);
	if (rc)
		return rc;
	for (w = 0; w < words; w++) {
		uint64_t word = bits[w];

		for (; word && n < STAGING_PAGES; word &= word - 1) {
			const void *page = domain_page(f->d, w * 64 + (unsigned int)__builtin_ctzll(word));

			if (page)
				memcpy(f->staging + n++ * DOMAIN_PAGE_SIZE, page, DOMAIN_PAGE_SIZE);
		}
	}
	f->pages += n;
	return 0;
}

static int one_epoch(struct floor *f)
{
	uint64_t began = clock_us(), took;
	const void *context;
	size_t len;
	int rc, r;

	rc = domain_pause(f->d);
	if (rc)
		return rc;
	rc = domain_context_get(f->d, &context, &len);
	if (!rc)
		rc = copy_dirty(f);
	r = domain_unpause(f->d);
	took = clock_us() - began;
	f->pause_total_us += took;
	f->epochs++;
	samples_add(&f->pause, (uint32_t)took);
	return rc ? rc : r;
}

static int begin(struct floor *f, uint32_t domid)
{
	int rc;

	f->staging = malloc((size_t)STAGING_PAGES * DOMAIN_PAGE_SIZE);
	if (!f->staging)
		return -ENOMEM;
	rc = domain_open(domid, "floor", &f->d);
	if (!rc)
		rc = domain_map(f->d, false);
	if (!rc)
		rc = domain_dirty_enable(f->d);
	if (!rc)
		rc = domain_pv_state(f->d, true);
	return rc;
}

int main(int argc, char **argv)
{
	struct floor f = {0};
	unsigned int epoch_ms, seconds;
	struct timespec sleep;
	uint64_t start, end;
	int rc;

	if (argc != 4) {
		fprintf(stderr, "usage: floor DOMID EPOCH_MS SECONDS\n");
		return 64;
	}
	epoch_ms = (unsigned int)strtoul(argv[2], NULL, 10);
	seconds = (unsigned int)strtoul(argv[3], NULL, 10);
	sleep = (struct timespec){.tv_sec = epoch_ms / 1000, .tv_nsec = epoch_ms % 1000 * 1000000L};
	rc = begin(&f, (uint32_t)strtoul(argv[1], NULL, 10));
	if (!rc)
		fprintf(stderr, "floor: begins\n");
	start = clock_us();
	for (end = start; !rc && end - start < seconds * 1000000ull; end = clock_us()) {
		nanosleep(&sleep, NULL);
		rc = one_epoch(&f);
	}
	if (f.d) {
		domain_pv_state(f.d, false);
		domain_dirty_disable(f.d);
		domain_close(f.d);
	}
	free(f.staging);
	if (rc || !f.epochs) {
		fprintf(stderr, "floor: %s\n", strerror(-rc));
		return 1;
	}
	printf("{\"epochs_per_s\": %.2f, \"pause_us_p50\": %u, \"pause_us_p99\": %u, \"pause_us_max\": %u, "
	       "\"dirty_pages_per_epoch\": %.1f}\n",
	       (double)f.epochs * 1e6 / (double)(end - start), samples_percentile(&f.pause, 50),
	       samples_percentile(&f.pause, 99), samples_percentile(&f.pause, 100),
	       (double)f.pages / (double)f.epochs);
	return 0;
}
