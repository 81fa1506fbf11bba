/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An epoch stream over several connections: in order whatever comes when, and only over those that belong to it. */
#include "common/clock.h"
#include "tests/unit/stream_fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>
#include <cmocka.h>

enum { PAGES = 256, EPOCHS = 30, BULK_BYTES = 5 << 20, WAIT_MS = 20000, SILENT_MS = 2000 };

struct outcome {
	uint64_t acked;
	int receiver_over, sender_error;
	bool same;
};

/* What befalls the lanes behind the first. */
enum fate { IN_ORDER, LATE, FOREIGN, DEAD };

static void lanes_between(struct lanes *a, struct lanes *b, unsigned int nr, int fd[][2])
{
	assert_int_equal(lanes_open(a, nr, NULL, true, "fake1"), 0);
	assert_int_equal(lanes_open(b, nr, NULL, false, "fake1"), 0);
	for (unsigned int i = 0; i < nr; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd[i]), 0);
		assert_int_equal(lanes_attach(a, i, fd[i][0]), 0);
	}
}

static struct stream_hello fake_hello(void)
{
	struct stream_hello hello = {.version = STREAM_VERSION, .term = FAKE_TERM, .token = FAKE_TOKEN};

	memcpy(hello.uuid, fake_uuid, sizeof(hello.uuid));
	return hello;
}

/* Bytes behind a hello, in pieces of any length, through any number of lanes. */
static void test_bytes(void **state)
{
	static uint8_t out[STREAM_HELLO_SIZE + BULK_BYTES], in[sizeof(out)];
	const struct stream_hello hello = fake_hello();
	uint64_t seed = 5;

	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)fake_random(&seed);
	for (unsigned int nr = 1; nr <= STREAM_LANES_MAX; nr++) {
		int fd[STREAM_LANES_MAX][2];
		size_t sent = 0, got = 0, used = 0;
		struct lanes a, b;

		lanes_between(&a, &b, nr, fd);
		assert_int_equal(lanes_announce(&a, &hello), 0);
		for (unsigned int i = 0; i < nr; i++) {
			assert_int_equal(lanes_attach(&b, i, fd[i][1]), 0);
			assert_int_equal(lanes_expect(&b, i, &hello), 0);
		}
		for (unsigned int turns = 0; got < sizeof(in) && turns < 1000000; turns++) {
			size_t some = 1 + fake_random(&seed) % 100000;
			ssize_t n = -EAGAIN;

			if (sent < sizeof(out))
				n = lanes_send(&a, out + sent, some < sizeof(out) - sent ? some : sizeof(out) - sent);
			assert_true(n > 0 || n == -EAGAIN);
			sent += n > 0 ? (size_t)n : 0;
			used |= 1u << b.at;
			n = lanes_receive(&b, in + got, sizeof(in) - got);
			assert_true(n > 0 || n == -EAGAIN);
			got += n > 0 ? (size_t)n : 0;
		}
		assert_int_equal(got, sizeof(in));
		assert_memory_equal(in, out, sizeof(in));
		assert_int_equal(used, (1u << nr) - 1);
		lanes_close(&a);
		lanes_close(&b);
	}
}

static void take_reports(struct sender *s, struct outcome *o)
{
	struct sender_report r;

	for (sender_poll(s, &r); r.event != SENDER_NONE; sender_poll(s, &r)) {
		if (r.event == SENDER_SENT)
			epoch_free(r.epoch);
		else if (r.event == SENDER_ACKED)
			o->acked = r.number;
		else
			o->sender_error = r.error;
	}
}

static void submit_all(struct sender *s, uint8_t *memory)
{
	uint64_t seed = 42;
	struct epoch *e;

	for (uint64_t n = 1; n <= EPOCHS; n++) {
		assert_int_equal(epoch_new(PAGES, &e), 0);
		fake_capture(e, memory, PAGES, 100, n, n == 1 ? EPOCH_FIRST : 0, &seed);
		assert_int_equal(sender_submit(s, e), 0);
	}
}

/* A further lane's arrival; the last one first. */
static void arrive(struct receiver *r, unsigned int lane, int fd[2], enum fate fate)
{
	uint8_t hello[STREAM_HELLO_SIZE];

	if (fate == FOREIGN && lane == 1) {
		int other[2];
		struct stream_hello h = fake_hello();

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, other), 0);
		h.token++;
		h.lane = 1;
		h.further = 3;
		stream_hello_put(hello, &h);
		assert_int_equal(write(other[0], hello, sizeof(hello)), sizeof(hello));
		close(other[0]);
		close(fd[1]);
		fd[1] = other[1];
	}
	if (fate == DEAD && lane == 1)
		shutdown(fd[1], SHUT_RDWR);
	assert_int_equal(receiver_add_lane(r, lane, fd[1]), 0);
	assert_int_equal(receiver_add_lane(r, lane, fd[1]), -EEXIST);
}

static void stream_over_four(enum fate fate, struct outcome *o)
{
	struct sender_config sc = fake_sender_config(-1);
	struct receiver_config rc = fake_receiver_config(-1, PAGES);
	uint8_t *memory = calloc(PAGES, FAKE_PAGE);
	struct shell shell;
	struct sender *s;
	struct receiver *r;
	unsigned int missing = 4;
	int fd[4][2];

	*o = (struct outcome){0};
	sc.timeout_ms = SILENT_MS;
	shell_init(&shell, PAGES);
	lanes_between(&sc.lanes, &rc.lanes, 4, fd);
	assert_int_equal(lanes_attach(&rc.lanes, 0, fd[0][1]), 0);
	assert_int_equal(sender_new(&sc, &s), 0);
	submit_all(s, memory);
	assert_int_equal(receiver_new(&rc, &shell_ops, &shell, &r), 0);
	assert_int_equal(receiver_add_lane(r, 4, fd[3][1]), -EINVAL);
	for (uint64_t end = clock_us() + WAIT_MS * 1000; o->acked < EPOCHS && !o->sender_error && clock_us() < end;) {
		struct pollfd fds[] = {{.fd = o->receiver_over ? -1 : receiver_fd(r), .events = POLLIN}, {.fd = sender_fd(s), .events = POLLIN}};
		int left = 1;

		if (poll(fds, 2, fate == LATE ? 50 : 0) <= 0 || fate != LATE)
			while (missing > 1 && missing-- > (fate == LATE ? 0 : 1))
				arrive(r, missing, fd[missing], fate);
		while (!o->receiver_over && left > 0)
			left = receiver_read(r);
		if (!o->receiver_over && left < 0)
			o->receiver_over = left;
		take_reports(s, o);
	}
	o->same = !memcmp(memory, shell.memory, PAGES * FAKE_PAGE);
	sender_stop(s);
	take_reports(s, o);
	sender_free(s);
	receiver_free(r);
	shell_free(&shell);
	free(memory);
}

static void test_streams(void **state)
{
	struct outcome o;

	for (enum fate fate = IN_ORDER; fate <= LATE; fate++) {
		stream_over_four(fate, &o);
		assert_int_equal(o.receiver_over, 0);
		assert_int_equal(o.acked, EPOCHS);
		assert_true(o.same);
	}
}

/* A connection that is not the stream's, or that breaks, ends the stream: nothing is taken from it, nothing goes on without it. */
static void test_refusals(void **state)
{
	struct outcome o;

	stream_over_four(FOREIGN, &o);
	assert_int_equal(o.receiver_over, -EACCES);
	assert_true(o.acked < EPOCHS);
	stream_over_four(DEAD, &o);
	assert_true(o.acked < EPOCHS);
	assert_int_not_equal(o.sender_error, 0);
}

/* More or fewer than the hello says: the daemon was told another number in the clear. */
static void test_other_number(void **state)
{
	struct sender_config sc = fake_sender_config(-1);
	struct receiver_config rc = fake_receiver_config(-1, PAGES);
	struct shell shell;
	struct sender *s;
	struct receiver *r;
	int fd[2], left;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	shell_init(&shell, PAGES);
	sc.lanes = lanes_plain(fd[0]);
	assert_int_equal(lanes_open(&rc.lanes, 2, NULL, false, "fake1"), 0);
	assert_int_equal(lanes_attach(&rc.lanes, 0, fd[1]), 0);
	assert_int_equal(sender_new(&sc, &s), 0);
	assert_int_equal(receiver_new(&rc, &shell_ops, &shell, &r), 0);
	do {
		struct pollfd p = {.fd = receiver_fd(r), .events = POLLIN};

		assert_int_equal(poll(&p, 1, WAIT_MS), 1);
		left = receiver_read(r);
	} while (left >= 0);
	assert_int_equal(left, -EPROTO);
	sender_free(s);
	receiver_free(r);
	shell_free(&shell);
}

static void test_numbers(void **state)
{
	struct lanes l;

	assert_int_equal(lanes_open(&l, 0, NULL, true, "fake1"), -EINVAL);
	assert_int_equal(lanes_open(&l, STREAM_LANES_MAX + 1, NULL, true, "fake1"), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_streams),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_other_number),
		cmocka_unit_test(test_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
