// sources: replicator/frame.c replicator/frame_kinds.c common/buf.c
// sources: BUILD/proto/replicator/peer.pb-c.c BUILD/proto/replicator/control.pb-c.c
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What comes over the peer's session and the control socket: frames one after the other, as the
 * connections take them. The first byte chooses the table. What is accepted must be fit for
 * dispatch, and must be accepted again after being sent on; unless its length changes by that: protobuf-c keeps
 * unknown fields, even with a tag of 0 in two bytes, which it writes as one byte and then refuses.
 */
#include "replicator/control.pb-c.h"
#include "replicator/frame.h"
#include "replicator/peer.pb-c.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Dispatch takes the uuid for granted. */
static void check_uuid(const struct frame *f)
{
	const struct {
		ProtobufCMessage base;
		ProtobufCBinaryData uuid;
	} *head = (const void *)f->message;

	if (f->type >= PEER_GUEST && f->type < PEER_TYPES && f->type != PEER_BYE &&
	    head->uuid.len != 16)
		abort();
	if (f->type == PEER_PREPARE) {
		const Understudy__PeerPrepare *p = (const Understudy__PeerPrepare *)f->message;

		if (strlen(p->name) > 63 || strchr(p->name, '/') || strlen(p->policy) > 63 ||
		    !p->domid)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct frame_kind *kinds = peer_kinds;
	size_t nr = PEER_TYPES, at = 1;
	struct buf again = {0};
	char why[64];

	if (!size)
		return 0;
	if (data[0] & 1) {
		kinds = control_kinds;
		nr = CONTROL_TYPES;
	}
	while (at < size) {
		struct frame f, g;
		/* A copy of exactly the rest: reading beyond it is seen. */
		uint8_t *rest = malloc(size - at);
		int used;

		memcpy(rest, data + at, size - at);
		used = frame_parse(kinds, nr, rest, size - at, &f, why, sizeof(why));
		free(rest);
		if (used <= 0)
			break;
		if (kinds == peer_kinds)
			check_uuid(&f);
		buf_reset(&again);
		if (frame_add(kinds, f.type, f.message, &again) == 0 && again.len == (size_t)used) {
			if (frame_parse(kinds, nr, again.data, again.len, &g, why, sizeof(why)) !=
			    (int)again.len)
				abort();
			protobuf_c_message_free_unpacked(g.message, NULL);
		}
		protobuf_c_message_free_unpacked(f.message, NULL);
		at += (size_t)used;
	}
	buf_free(&again);
	return 0;
}
