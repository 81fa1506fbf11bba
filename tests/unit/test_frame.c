/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/frame.h"
#include "common/wire.h"
#include "replicator/control.pb-c.h"
#include "replicator/peer.pb-c.h"

#include <errno.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static char why[160];

static int parse(const void *data, size_t len, struct frame *f)
{
	return frame_parse(peer_kinds, PEER_TYPES, data, len, f, why, sizeof(why));
}

static struct buf prepare_frame(Understudy__PeerPrepare *m)
{
	static uint8_t uuid[16] = {1};
	struct buf b = {0};

	understudy__peer_prepare__init(m);
	m->uuid.data = uuid;
	m->uuid.len = 16;
	m->name = "redis1";
	m->policy = "standard";
	m->domid = 5;
	m->term = 3;
	m->config = "{}";
	assert_int_equal(frame_add(peer_kinds, PEER_PREPARE, &m->base, &b), 0);
	return b;
}

static void test_round_trip(void **state)
{
	Understudy__PeerPrepare m;
	struct buf b = prepare_frame(&m);
	struct frame f;

	/* Two in a row: the first is taken, the second left. */
	assert_int_equal(frame_add(peer_kinds, PEER_PREPARE, &m.base, &b), 0);
	assert_int_equal(parse(b.data, b.len, &f), b.len / 2);
	assert_int_equal(f.type, PEER_PREPARE);
	assert_string_equal(((Understudy__PeerPrepare *)f.message)->name, "redis1");
	protobuf_c_message_free_unpacked(f.message, NULL);
	buf_free(&b);
}

static void test_torn(void **state)
{
	Understudy__PeerPrepare m;
	struct buf b = prepare_frame(&m);
	struct frame f;
	size_t i;

	for (i = 0; i < b.len; i++)
		assert_int_equal(parse(b.data, i, &f), 0);
	buf_free(&b);
}

static void test_headers(void **state)
{
	Understudy__PeerPrepare m;
	struct buf b = prepare_frame(&m);
	struct frame f;

	b.data[0] ^= 1;
	assert_int_equal(parse(b.data, FRAME_HEADER_BYTES, &f), -EPROTO);
	assert_non_null(strstr(why, "bad magic"));
	b.data[0] ^= 1;

	wire_put16(b.data + 4, 0);
	assert_int_equal(parse(b.data, FRAME_HEADER_BYTES, &f), -EPROTO);
	wire_put16(b.data + 4, PEER_TYPES);
	assert_int_equal(parse(b.data, FRAME_HEADER_BYTES, &f), -EPROTO);
	assert_string_equal(why, "unknown message type 17");
	wire_put16(b.data + 4, 65535);
	assert_int_equal(parse(b.data, FRAME_HEADER_BYTES, &f), -EPROTO);
	wire_put16(b.data + 4, PEER_PREPARE);

	wire_put16(b.data + 6, 1);
	assert_int_equal(parse(b.data, FRAME_HEADER_BYTES, &f), -EPROTO);
	assert_string_equal(why, "prepare: reserved field is not zero");
	wire_put16(b.data + 6, 0);

	/* Oversize is refused as soon as the header is there: nobody makes us wait for 4 GiB. */
	wire_put32(b.data + 8, (1 << 20) + 1);
	assert_int_equal(parse(b.data, FRAME_HEADER_BYTES, &f), -EPROTO);
	assert_string_equal(why, "prepare: 1048577 bytes, at most 1048576 are allowed");
	wire_put32(b.data + 8, UINT32_MAX);
	assert_int_equal(parse(b.data, FRAME_HEADER_BYTES, &f), -EPROTO);
	buf_free(&b);
}

static void test_bodies(void **state)
{
	Understudy__PeerPrepare m;
	struct buf b = prepare_frame(&m);
	struct frame f;

	memset(b.data + FRAME_HEADER_BYTES, 0xff, b.len - FRAME_HEADER_BYTES);
	assert_int_equal(parse(b.data, b.len, &f), -EPROTO);
	assert_non_null(strstr(why, "that are no such message"));
	buf_free(&b);
}

static void refused(Understudy__PeerPrepare *m, const char *expected)
{
	struct buf b = {0};
	struct frame f;

	assert_int_equal(frame_add(peer_kinds, PEER_PREPARE, &m->base, &b), 0);
	assert_int_equal(parse(b.data, b.len, &f), -EPROTO);
	assert_string_equal(why, expected);
	buf_free(&b);
}

static void test_checks(void **state)
{
	Understudy__PeerPrepare m;
	struct buf b = prepare_frame(&m);

	buf_free(&b);
	m.uuid.len = 15;
	refused(&m, "prepare: uuid is not 16 bytes");
	m.uuid.len = 16;
	m.name = "../../etc";
	refused(&m, "prepare: name has a character that names do not have");
	m.name = "";
	refused(&m, "prepare: name is empty or longer than 63 bytes");
	m.name = "redis1";
	m.domid = 0;
	refused(&m, "prepare: domid is not a guest's");
	m.domid = 0x7ff0;
	refused(&m, "prepare: domid is not a guest's");
	m.domid = 1;
	m.term = 0;
	refused(&m, "prepare: term 0");
}

/* Every message with a uuid refuses one of the wrong size: dispatch relies on it. */
static void test_every_uuid(void **state)
{
	unsigned int type;

	for (type = PEER_GUEST; type < PEER_TYPES; type++) {
		const ProtobufCMessageDescriptor *d = peer_kinds[type].message;
		uint8_t header[FRAME_HEADER_BYTES] = {0};
		struct frame f;

		if (type == PEER_BYE)
			continue;
		assert_non_null(d);
		assert_string_equal(d->fields[0].name, "uuid");
		wire_put32(header, FRAME_MAGIC);
		wire_put16(header + 4, (uint16_t)type);
		assert_int_equal(parse(header, sizeof(header), &f), -EPROTO); /* empty: no uuid */
	}
}

static void test_limit_out(void **state)
{
	Understudy__PeerBye bye = UNDERSTUDY__PEER_BYE__INIT;
	char *text = calloc(1, 8192);
	struct buf b = {0};

	memset(text, 'x', 8191);
	bye.reason = text;
	assert_int_equal(frame_add(peer_kinds, PEER_BYE, &bye.base, &b), -EMSGSIZE);
	assert_int_equal(b.len, 0);
	free(text);
}

static void test_control(void **state)
{
	Understudy__ControlRequest r = UNDERSTUDY__CONTROL_REQUEST__INIT;
	struct buf b = {0};
	struct frame f;

	assert_int_equal(frame_add(control_kinds, CONTROL_REQUEST, &r.base, &b), 0);
	assert_int_equal(
		frame_parse(control_kinds, CONTROL_TYPES, b.data, b.len, &f, why, sizeof(why)),
		-EPROTO);
	assert_string_equal(why, "request: no request in it");
	buf_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_torn),
		cmocka_unit_test(test_headers),	   cmocka_unit_test(test_bodies),
		cmocka_unit_test(test_checks),	   cmocka_unit_test(test_every_uuid),
		cmocka_unit_test(test_limit_out),  cmocka_unit_test(test_control),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
