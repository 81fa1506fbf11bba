/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pvdrivers/net/flows.h"
#include "common/buf.h"
#include "common/wire.h"
#include "pvdrivers/net/headers.h"

#include <errno.h>

enum { TCP_ACK_AT = 8, TCP_FLAGS_AT = 13, TCP_RST = 0x04, TCP_ACK = 0x10 };

static bool same(const struct flow *a, const struct flow *b)
{
	return a->remote_port == b->remote_port && a->local_port == b->local_port &&
	       a->version == b->version && !memcmp(a->remote, b->remote, sizeof(a->remote)) &&
	       !memcmp(a->local, b->local, sizeof(a->local));
}

static struct flow *find(struct flows *f, const struct flow *like)
{
	for (int i = 0; i < FLOWS_MAX; i++)
		if (same(&f->entry[i], like))
			return &f->entry[i];
	return NULL;
}

static struct flow *least_recent(struct flows *f)
{
	struct flow *oldest = &f->entry[0];

	for (int i = 1; i < FLOWS_MAX; i++)
		if (f->entry[i].used < oldest->used)
			oldest = &f->entry[i];
	return oldest;
}

/* -EPROTO: no TCP packet without tags from this MAC to a single host. */
static int read_flow(const uint8_t mac[6], const uint8_t *frame, size_t len, struct flow *like,
		     const uint8_t **tcp)
{
	const uint8_t *addresses;
	struct frame_l4 l4;
	size_t bytes;
	int rc;

	rc = frame_l4(frame, len, &l4);
	if (rc)
		return rc;
	if (l4.proto != IP_PROTO_TCP || l4.l3 != ETHER_LEN || (frame[0] & 1) ||
	    memcmp(frame + MAC_LEN, mac, MAC_LEN))
		return -EPROTO;
	*like = (struct flow){.version = (uint8_t)l4.version};
	bytes = l4.version == 4 ? 4 : 16;
	addresses = frame + l4.l3 + (l4.version == 4 ? 12 : 8);
	memcpy(like->local, addresses, bytes);
	memcpy(like->remote, addresses + bytes, bytes);
	memcpy(like->next_hop, frame, MAC_LEN);
	*tcp = frame + l4.l4;
	like->local_port = get_be16(*tcp);
	like->remote_port = get_be16(*tcp + 2);
	return 0;
}

void flows_learn(struct flows *f, const uint8_t mac[6], const uint8_t *frame, size_t len)
{
	const uint8_t *tcp;
	struct flow like, *e;
	uint32_t ack;

	if (read_flow(mac, frame, len, &like, &tcp))
		return;
	e = find(f, &like);
	if (tcp[TCP_FLAGS_AT] & TCP_RST) {
		if (e)
			*e = (struct flow){0};
		return;
	}
	if (!(tcp[TCP_FLAGS_AT] & TCP_ACK))
		return;
	ack = (uint32_t)get_be16(tcp + TCP_ACK_AT) << 16 | get_be16(tcp + TCP_ACK_AT + 2);
	if (!e) {
		e = least_recent(f);
		*e = like;
		e->ack_before = ack;
	}
	memcpy(e->next_hop, like.next_hop, MAC_LEN);
	e->ack = ack;
	e->used = ++f->ticks;
}

void flows_close_epoch(struct flows *f)
{
	for (int i = 0; i < FLOWS_MAX; i++)
		f->entry[i].ack_before = f->entry[i].ack;
}

unsigned int flows_count(const struct flows *f)
{
	unsigned int nr = 0;

	for (int i = 0; i < FLOWS_MAX; i++)
		nr += f->entry[i].version != 0;
	return nr;
}

int flows_encode(const struct flows *f, struct buf *out)
{
	for (int i = 0; i < FLOWS_MAX; i++) {
		const struct flow *e = &f->entry[i];
		uint8_t *at;

		if (!e->version)
			continue;
		at = buf_extend(out, FLOWS_ENTRY_BYTES);
		if (!at)
			return -ENOMEM;
		wire_put16(at, e->version);
		memcpy(at + 2, e->next_hop, MAC_LEN);
		wire_put32(at + 8, e->ack);
		wire_put32(at + 12, e->ack_before);
		wire_put16(at + 16, e->local_port);
		wire_put16(at + 18, e->remote_port);
		memcpy(at + 20, e->local, sizeof(e->local));
		memcpy(at + 36, e->remote, sizeof(e->remote));
	}
	return 0;
}

static int decode_entry(struct flow *e, const uint8_t *at)
{
	static const uint8_t zero[12];
	uint16_t version = wire_get16(at);

	if ((version != 4 && version != 6) || (at[2] & 1))
		return -EINVAL;
	if (version == 4 &&
	    (memcmp(at + 24, zero, sizeof(zero)) || memcmp(at + 40, zero, sizeof(zero))))
		return -EINVAL;
	*e = (struct flow){
		.version = (uint8_t)version,
		.ack = wire_get32(at + 8),
		.ack_before = wire_get32(at + 12),
		.local_port = wire_get16(at + 16),
		.remote_port = wire_get16(at + 18),
	};
	memcpy(e->next_hop, at + 2, MAC_LEN);
	memcpy(e->local, at + 20, sizeof(e->local));
	memcpy(e->remote, at + 36, sizeof(e->remote));
	return 0;
}

int flows_decode(struct flows *f, unsigned int nr, const uint8_t *blob)
{
	struct flows got = {0};

	if (nr > FLOWS_MAX)
		return -EINVAL;
	for (unsigned int i = 0; i < nr; i++) {
		int rc = decode_entry(&got.entry[i], blob + (size_t)i * FLOWS_ENTRY_BYTES);

		if (rc)
			return rc;
		got.entry[i].used = ++got.ticks;
	}
	if (f)
		*f = got;
	return 0;
}
