/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Little-endian scalars in byte buffers: the only place that knows the byte order of docs/protocol.md.
 * Callers have checked the bounds.
 */
#ifndef COMMON_WIRE_H
#define COMMON_WIRE_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define WIRE_SCALAR(bits)                                                                          \
	static inline void wire_put##bits(void *at, uint##bits##_t value)                          \
	{                                                                                          \
		uint##bits##_t le = htole##bits(value);                                            \
                                                                                                   \
		memcpy(at, &le, sizeof(le));                                                       \
	}                                                                                          \
	static inline uint##bits##_t wire_get##bits(const void *at)                                \
	{                                                                                          \
		uint##bits##_t le;                                                                 \
                                                                                                   \
		memcpy(&le, at, sizeof(le));                                                       \
		return le##bits##toh(le);                                                          \
	}

WIRE_SCALAR(16)
WIRE_SCALAR(32)
WIRE_SCALAR(64)

#endif
