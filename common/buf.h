/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A byte buffer that grows and keeps what it has grown to. Zero-initialised is empty. */
#ifndef COMMON_BUF_H
#define COMMON_BUF_H

#include <stddef.h>
#include <stdint.h>

struct buf {
	uint8_t *data;
	size_t len, size;
};

/* Makes room for `more` bytes behind the content. 0 or -ENOMEM. */
int buf_reserve(struct buf *b, size_t more);

/* Appends. 0 or -ENOMEM. */
int buf_add(struct buf *b, const void *data, size_t len);

/* Appends `len` zero bytes and returns where they start, or NULL. Valid until the next append. */
void *buf_extend(struct buf *b, size_t len);

/* Forgets the content, keeps the memory. */
static inline void buf_reset(struct buf *b)
{
	b->len = 0;
}

void buf_free(struct buf *b);

#endif
