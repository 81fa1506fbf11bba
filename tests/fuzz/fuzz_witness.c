// sources: replicator/etcd_json.c replicator/tags.c common/log.c common/buf.c
/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What etcd answers: the first byte says to which kind of request. */
#include "replicator/etcd_json.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct witness_answer a = {0};
	char text[WITNESS_TEXT_MAX] = "";
	enum etcd_kind kind;
	char *body;
	int rc;

	if (!size)
		return 0;
	kind = data[0] % ETCD_KINDS;
	rc = etcd_answer(kind, (const char *)data + 1, size - 1, &a, text, sizeof(text));
	if (rc && !text[0])
		abort();
	if (!rc && a.exists && (!a.revision || !memchr(a.record.host, '\0', sizeof(a.record.host))))
		abort();
	/* What was understood can be said again. */
	if (!rc && a.exists && !a.written) {
		body = etcd_request(ETCD_WRITE, a.record.holder, &a.record, a.revision);
		if (!body)
			abort();
		free(body);
	}
	etcd_error(503, (const char *)data + 1, size - 1, text, sizeof(text));
	return 0;
}
