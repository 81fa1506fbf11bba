// sources: replicator/config.c replicator/tags.c common/log.c
/* SPDX-License-Identifier: GPL-2.0-or-later */
/* understudy.conf, and the state file of a guest: the same input is tried as both. */
#include "replicator/config.h"
#include "replicator/tags.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct config config;
	char why[256], text[1024];
	char *copy = malloc(size ? size : 1);
	struct tag tag, again;
	unsigned int i;
	int rc;

	memcpy(copy, data, size);
	rc = config_parse(&config, copy, size, "fuzz", why, sizeof(why));
	if (rc && strncmp(why, "fuzz:", 5))
		abort(); /* an error without its place */
	for (i = 0; !rc && i < config.nr_policies; i++) {
		const struct policy *p = &config.policies[i];

		if (!p->epoch_ms || !p->window || p->timeout_ms < 2 * p->heartbeat_ms ||
		    p->takeover >= TAKEOVERS)
			abort();
	}
	if (!tag_parse(&tag, copy, size, why, sizeof(why))) {
		int len = tag_format(&tag, text, sizeof(text));

		if (len < 0 || tag_parse(&again, text, (size_t)len, why, sizeof(why)) ||
		    again.term != tag.term)
			abort();
	}
	free(copy);
	return 0;
}
