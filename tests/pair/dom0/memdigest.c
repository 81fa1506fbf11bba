/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * memdigest DOMID OUT: maps the domain's memory, says "mapped", and at SIGUSR1 (within LIMIT_S) reads all of it, says "hashed", and writes one
 * line for each page to OUT: its gfn and the hashes of its eight parts, all in hexadecimal. Who compares two of them makes sure that neither domain
 * ran until "hashed".
 */
#include "vmm/domain.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

enum { PARTS = 8, PART_BYTES = DOMAIN_PAGE_SIZE / PARTS, LIMIT_S = 300 };

static void hash(const struct domain *d, const uint64_t *gfn, size_t nr, uint32_t (*hashes)[PARTS])
{
	for (size_t i = 0; i < nr; i++) {
		const uint8_t *page = domain_page(d, gfn[i]);

		for (int part = 0; page && part < PARTS; part++)
			hashes[i][part] = XXH32(page + part * PART_BYTES, PART_BYTES, 0);
	}
}

static int print(const uint64_t *gfn, size_t nr, uint32_t (*hashes)[PARTS], const char *path)
{
	FILE *out = fopen(path, "we");

	if (!out)
		return -errno;
	for (size_t i = 0; i < nr; i++) {
		fprintf(out, "%" PRIx64, gfn[i]);
		for (int part = 0; part < PARTS; part++)
			fprintf(out, " %08x", hashes[i][part]);
		fputc('\n', out);
	}
	return fclose(out) ? -errno : 0;
}

static void say(const char *what)
{
	puts(what);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	static const struct timespec limit = {.tv_sec = LIMIT_S};
	uint32_t (*hashes)[PARTS];
	const uint64_t *gfn;
	struct domain *d;
	sigset_t wanted;
	size_t nr;
	int rc;

	if (argc != 3) {
		fprintf(stderr, "usage: memdigest DOMID OUT\n");
		return 64;
	}
	sigemptyset(&wanted);
	sigaddset(&wanted, SIGUSR1);
	sigprocmask(SIG_BLOCK, &wanted, NULL);
	rc = domain_open((uint32_t)strtoul(argv[1], NULL, 10), "memdigest", &d);
	if (!rc)
		rc = domain_map(d, false);
	if (rc) {
		fprintf(stderr, "memdigest: %s\n", strerror(-rc));
		return 1;
	}
	gfn = domain_gfns(d, &nr);
	hashes = calloc(nr, sizeof(*hashes));
	if (!hashes)
		return 1;
	memset(hashes, 0xff, nr * sizeof(*hashes)); /* no page fault counts against the time */
	say("mapped");
	if (sigtimedwait(&wanted, NULL, &limit) != SIGUSR1)
		return 1;
	hash(d, gfn, nr, hashes);
	say("hashed");
	rc = print(gfn, nr, hashes, argv[2]);
	if (!rc)
		say("done");
	free(hashes);
	domain_close(d);
	return rc ? 1 : 0;
}
