/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What may be in a frame, how long it may be, and what a well-formed message must hold besides. */
#include "replicator/frame.h"
#include "replicator/control.pb-c.h"
#include "replicator/peer.pb-c.h"

#include <string.h>

enum {
	SMALL_BYTES = 4096,
	HELLO_BYTES = 64 << 10,
	PREPARE_BYTES = 1 << 20, /* libxl's JSON of a guest with every device there is */
	REPLY_BYTES = 16 << 20,
	NAME_BYTES_MAX = 63,
	CPU_FEATURES_MAX = 1024,
};

static const char *check_uuid(const ProtobufCBinaryData *uuid)
{
	return uuid->len == 16 ? NULL : "uuid is not 16 bytes";
}

/* Names go into log lines, paths and xenstore. */
static const char *check_name(const char *name)
{
	size_t len = strlen(name);
	size_t i;

	if (len == 0 || len > NAME_BYTES_MAX)
		return "name is empty or longer than 63 bytes";
	for (i = 0; i < len; i++)
		if (name[i] <= ' ' || name[i] > '~' || name[i] == '/')
			return "name has a character that names do not have";
	return NULL;
}

static const char *check_hello(const ProtobufCMessage *m)
{
	const Understudy__PeerHello *h = (const Understudy__PeerHello *)m;

	if (h->host_id.len != 16)
		return "host_id is not 16 bytes";
	if (h->version_min > h->version_max)
		return "version_min is above version_max";
	if (h->n_cpu_features > CPU_FEATURES_MAX)
		return "too many CPU features";
	if (h->stream_port == 0 || h->stream_port > 65535)
		return "stream_port is no port";
	return check_name(h->host);
}

static const char *check_guest(const ProtobufCMessage *m)
{
	const Understudy__PeerGuest *g = (const Understudy__PeerGuest *)m;
	const char *wrong = check_uuid(&g->uuid);

	if (!wrong)
		wrong = check_name(g->name);
	return wrong ? wrong : check_name(g->policy);
}

static const char *check_prepare(const ProtobufCMessage *m)
{
	const Understudy__PeerPrepare *p = (const Understudy__PeerPrepare *)m;
	const char *wrong = check_uuid(&p->uuid);

	if (!wrong)
		wrong = check_name(p->name);
	if (!wrong)
		wrong = check_name(p->policy);
	if (!wrong && (p->domid == 0 || p->domid >= 0x7ff0))
		wrong = "domid is not a guest's";
	if (!wrong && p->term == 0)
		wrong = "term 0";
	return wrong;
}

/* The first field of every other peer message is the uuid. */
struct peer_uuid_first {
	ProtobufCMessage base;
	ProtobufCBinaryData uuid;
};
_Static_assert(
	offsetof(Understudy__PeerUntag, uuid) == offsetof(struct peer_uuid_first, uuid) &&
		offsetof(Understudy__PeerPrepared, uuid) ==
			offsetof(struct peer_uuid_first, uuid) &&
		offsetof(Understudy__PeerRefused, uuid) == offsetof(struct peer_uuid_first, uuid) &&
		offsetof(Understudy__PeerUnprepare, uuid) ==
			offsetof(struct peer_uuid_first, uuid) &&
		offsetof(Understudy__PeerDropped, uuid) == offsetof(struct peer_uuid_first, uuid) &&
		offsetof(Understudy__PeerDroppedAck, uuid) ==
			offsetof(struct peer_uuid_first, uuid) &&
		offsetof(Understudy__PeerActivate, uuid) ==
			offsetof(struct peer_uuid_first, uuid) &&
		offsetof(Understudy__PeerActivated, uuid) ==
			offsetof(struct peer_uuid_first, uuid) &&
		offsetof(Understudy__PeerFailed, uuid) == offsetof(struct peer_uuid_first, uuid) &&
		offsetof(Understudy__PeerSwitch, uuid) == offsetof(struct peer_uuid_first, uuid) &&
		offsetof(Understudy__PeerUntagged, uuid) == offsetof(struct peer_uuid_first, uuid),
	"uuid comes first");

static const char *check_uuid_first(const ProtobufCMessage *m)
{
	return check_uuid(&((const struct peer_uuid_first *)m)->uuid);
}

static const char *check_prepared(const ProtobufCMessage *m)
{
	const Understudy__PeerPrepared *p = (const Understudy__PeerPrepared *)m;

	if (p->stream_port == 0 || p->stream_port > 65535)
		return "stream_port is no port";
	return check_uuid(&p->uuid);
}

static const char *check_request(const ProtobufCMessage *m)
{
	const Understudy__ControlRequest *r = (const Understudy__ControlRequest *)m;

	switch (r->request_case) {
	case UNDERSTUDY__CONTROL_REQUEST__REQUEST_TAG:
		if (r->tag->policy[0] && check_name(r->tag->policy))
			return "no policy has such a name";
		return check_name(r->tag->name);
	case UNDERSTUDY__CONTROL_REQUEST__REQUEST_UNTAG:
		return check_name(r->untag->name);
	case UNDERSTUDY__CONTROL_REQUEST__REQUEST_FAILOVER:
		return check_name(r->failover->name);
	case UNDERSTUDY__CONTROL_REQUEST__REQUEST_STATUS:
		return r->status->name[0] ? check_name(r->status->name) : NULL;
	case UNDERSTUDY__CONTROL_REQUEST__REQUEST_EVENTS:
		return NULL;
	default:
		return "no request in it";
	}
}

#define PEER(descriptor) &understudy__peer_##descriptor##__descriptor

const struct frame_kind peer_kinds[PEER_TYPES] = {
	[PEER_HELLO] = {"hello", PEER(hello), HELLO_BYTES, check_hello},
	[PEER_HEARTBEAT] = {"heartbeat", PEER(heartbeat), SMALL_BYTES, NULL},
	[PEER_GUEST] = {"guest", PEER(guest), SMALL_BYTES, check_guest},
	[PEER_UNTAG] = {"untag", PEER(untag), SMALL_BYTES, check_uuid_first},
	[PEER_PREPARE] = {"prepare", PEER(prepare), PREPARE_BYTES, check_prepare},
	[PEER_PREPARED] = {"prepared", PEER(prepared), SMALL_BYTES, check_prepared},
	[PEER_REFUSED] = {"refused", PEER(refused), SMALL_BYTES, check_uuid_first},
	[PEER_UNPREPARE] = {"unprepare", PEER(unprepare), SMALL_BYTES, check_uuid_first},
	[PEER_DROPPED] = {"dropped", PEER(dropped), SMALL_BYTES, check_uuid_first},
	[PEER_DROPPED_ACK] = {"dropped-ack", PEER(dropped_ack), SMALL_BYTES, check_uuid_first},
	[PEER_ACTIVATE] = {"activate", PEER(activate), SMALL_BYTES, check_uuid_first},
	[PEER_ACTIVATED] = {"activated", PEER(activated), SMALL_BYTES, check_uuid_first},
	[PEER_FAILED] = {"failed", PEER(failed), SMALL_BYTES, check_uuid_first},
	[PEER_BYE] = {"bye", PEER(bye), SMALL_BYTES, NULL},
	[PEER_SWITCH] = {"switch", PEER(switch), SMALL_BYTES, check_uuid_first},
	[PEER_UNTAGGED] = {"untagged", PEER(untagged), SMALL_BYTES, check_uuid_first},
};

const struct frame_kind control_kinds[CONTROL_TYPES] = {
	[CONTROL_REQUEST] = {"request", &understudy__control_request__descriptor, SMALL_BYTES,
			     check_request},
	[CONTROL_REPLY] = {"reply", &understudy__control_reply__descriptor, REPLY_BYTES, NULL},
};
