/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/frame.h"
#include "common/wire.h"

#include <errno.h>
#include <stdio.h>

int frame_parse(const struct frame_kind *kinds, size_t nr_kinds, const void *data, size_t len,
		struct frame *out, char *why, size_t why_len)
{
	const uint8_t *p = data;
	const struct frame_kind *kind;
	const char *wrong;
	unsigned int type;
	uint32_t length;

	why[0] = '\0';
	if (len < FRAME_HEADER_BYTES)
		return 0;
	if (wire_get32(p) != FRAME_MAGIC) {
		snprintf(why, why_len, "bad magic 0x%08x at byte 0", wire_get32(p));
		return -EPROTO;
	}
	type = wire_get16(p + 4);
	if (type >= nr_kinds || !kinds[type].message) {
		snprintf(why, why_len, "unknown message type %u", type);
		return -EPROTO;
	}
	kind = &kinds[type];
	if (wire_get16(p + 6) != 0) {
		snprintf(why, why_len, "%s: reserved field is not zero", kind->name);
		return -EPROTO;
	}
	length = wire_get32(p + 8);
	if (length > kind->max_bytes) {
		snprintf(why, why_len, "%s: %u bytes, at most %u are allowed", kind->name, length,
			 kind->max_bytes);
		return -EPROTO;
	}
	if (len - FRAME_HEADER_BYTES < length)
		return 0;

	out->type = type;
	out->message =
		protobuf_c_message_unpack(kind->message, NULL, length, p + FRAME_HEADER_BYTES);
	if (!out->message) {
		snprintf(why, why_len, "%s: %u bytes that are no such message", kind->name, length);
		return -EPROTO;
	}
	wrong = kind->check ? kind->check(out->message) : NULL;
	if (wrong) {
		snprintf(why, why_len, "%s: %s", kind->name, wrong);
		protobuf_c_message_free_unpacked(out->message, NULL);
		out->message = NULL;
		return -EPROTO;
	}
	return (int)(FRAME_HEADER_BYTES + length);
}

int frame_add(const struct frame_kind *kinds, unsigned int type, const ProtobufCMessage *m,
	      struct buf *out)
{
	size_t length = protobuf_c_message_get_packed_size(m);
	uint8_t *at;

	if (length > kinds[type].max_bytes)
		return -EMSGSIZE;
	at = buf_extend(out, FRAME_HEADER_BYTES + length);
	if (!at)
		return -ENOMEM;
	wire_put32(at, FRAME_MAGIC);
	wire_put16(at + 4, (uint16_t)type);
	wire_put16(at + 6, 0);
	wire_put32(at + 8, (uint32_t)length);
	protobuf_c_message_pack(m, at + FRAME_HEADER_BYTES);
	return 0;
}
