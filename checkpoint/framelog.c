/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/framelog.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct frame {
	struct frame *next;
	uint64_t epoch;
	uint32_t devid;
	size_t len;
	uint8_t data[]; /* [len] */
};

struct framelog {
	struct frame *first, **last; /* oldest first */
	size_t bytes;
};

int framelog_new(struct framelog **out)
{
	struct framelog *log = calloc(1, sizeof(*log));

	if (!log)
		return -ENOMEM;
	log->last = &log->first;
	*out = log;
	return 0;
}

void framelog_free(struct framelog *log)
{
	if (log)
		framelog_forget(log, UINT64_MAX);
	free(log);
}

static size_t cost(size_t len)
{
	return sizeof(struct frame) + len;
}

void framelog_add(struct framelog *log, uint64_t epoch, uint32_t devid, const void *data, size_t len)
{
	struct frame *f = log->bytes + cost(len) <= FRAMELOG_BYTES_MAX ? malloc(cost(len)) : NULL;

	if (!f)
		return;
	*f = (struct frame){.epoch = epoch, .devid = devid, .len = len};
	memcpy(f->data, data, len);
	*log->last = f;
	log->last = &f->next;
	log->bytes += cost(len);
}

void framelog_forget(struct framelog *log, uint64_t number)
{
	while (log->first && log->first->epoch <= number) {
		struct frame *f = log->first;

		log->first = f->next;
		log->bytes -= cost(f->len);
		free(f);
	}
	if (!log->first)
		log->last = &log->first;
}

unsigned int framelog_give(const struct framelog *log, int (*fn)(struct netback *nb, uint32_t devid, const void *data, size_t len),
			   struct netback *nb)
{
	unsigned int taken = 0;

	for (const struct frame *f = log->first; f; f = f->next)
		taken += !fn(nb, f->devid, f->data, f->len);
	return taken;
}
