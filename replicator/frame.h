/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Framing of control messages, for the session between daemons and for the control socket: a fixed
 * header, then one protobuf message. docs/protocol.md has the bytes.
 */
#ifndef REPLICATOR_FRAME_H
#define REPLICATOR_FRAME_H

#include "common/buf.h"

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

/* 0 u32 magic, 4 u16 type, 6 u16 zero, 8 u32 length of what follows */
enum { FRAME_HEADER_BYTES = 12, FRAME_MAGIC = 0x4d465355 /* "USFM" */ };

/* What may come: a table indexed by type; a row without a descriptor is not a type. */
struct frame_kind {
	const char *name;
	const ProtobufCMessageDescriptor *message;
	uint32_t max_bytes;
	/* Checks what the descriptor cannot say (sizes of byte fields, ranges). NULL: nothing.
	 * Returns what is wrong, or NULL. */
	const char *(*check)(const ProtobufCMessage *m);
};

struct frame {
	unsigned int type;
	ProtobufCMessage *message; /* freed with protobuf_c_message_free_unpacked(message, NULL) */
};

/*
 * Takes one frame off the `len` bytes at `data`. Returns how many bytes it used, 0 if the frame is
 * not whole yet, or -EPROTO with the reason in `why` (always terminated). The header is judged as
 * soon as it is there.
 */
int frame_parse(const struct frame_kind *kinds, size_t nr_kinds, const void *data, size_t len,
		struct frame *out, char *why, size_t why_len);

/* Appends a frame. 0, -ENOMEM, -EMSGSIZE if it exceeds its kind's limit. */
int frame_add(const struct frame_kind *kinds, unsigned int type, const ProtobufCMessage *m,
	      struct buf *out);

/* The two tables. */
enum peer_type {
	PEER_HELLO = 1,
	PEER_HEARTBEAT,
	PEER_GUEST,
	PEER_UNTAG,
	PEER_PREPARE,
	PEER_PREPARED,
	PEER_REFUSED,
	PEER_UNPREPARE,
	PEER_DROPPED,
	PEER_DROPPED_ACK,
	PEER_ACTIVATE,
	PEER_ACTIVATED,
	PEER_FAILED,
	PEER_BYE,
	PEER_SWITCH,
	PEER_UNTAGGED,
	PEER_TYPES,
};
extern const struct frame_kind peer_kinds[PEER_TYPES];

enum control_type { CONTROL_REQUEST = 1, CONTROL_REPLY, CONTROL_TYPES };
extern const struct frame_kind control_kinds[CONTROL_TYPES];

#endif
