// sources: checkpoint/output.c common/buf.c
/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The output blob, as a peer may send it; what is sound is written again, to the same bytes. */
#include "checkpoint/output.h"
#include "common/buf.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void again(void *arg, const struct output_frame *f)
{
	static volatile uint8_t sink;

	for (uint32_t i = 0; i < f->len; i++)
		sink = sink ^ f->data[i];
	output_add(arg, f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct buf copy = {0}, rest = {0};
	uint64_t released;

	if (len > OUTPUT_BLOB_MAX)
		return 0;
	if (output_begin(&copy, 0))
		abort();
	if (!output_read(data, len, &released, again, &copy)) {
		if (output_begin(&rest, released))
			abort();
		assert(copy.len == len && !memcmp(rest.data, data, rest.len));
		assert(!memcmp(copy.data + rest.len, data + rest.len, len - rest.len));
	}
	buf_free(&copy);
	buf_free(&rest);
	return 0;
}
