/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/buf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int buf_reserve(struct buf *b, size_t more)
{
	size_t want, size;
	uint8_t *data;

	if (__builtin_add_overflow(b->len, more, &want))
		return -ENOMEM;
	if (want <= b->size)
		return 0;

	size = b->size ? b->size : 256;
	while (size < want)
		size = size > SIZE_MAX / 2 ? want : size * 2;

	data = realloc(b->data, size);
	if (!data)
		return -ENOMEM;
	b->data = data;
	b->size = size;
	return 0;
}

void *buf_extend(struct buf *b, size_t len)
{
	void *at;

	if (buf_reserve(b, len))
		return NULL;
	at = b->data + b->len;
	memset(at, 0, len);
	b->len += len;
	return at;
}

int buf_add(struct buf *b, const void *data, size_t len)
{
	int rc;

	rc = buf_reserve(b, len);
	if (rc)
		return rc;
	if (len)
		memcpy(b->data + b->len, data, len);
	b->len += len;
	return 0;
}

void buf_free(struct buf *b)
{
	free(b->data);
	*b = (struct buf){0};
}
