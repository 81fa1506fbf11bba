/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Certificates as `understudy pair` makes them, and an epoch stream over TLS between good and bad ones. */
#include "checkpoint/worker.pb-c.h"
#include "cli/authority.h"
#include "common/clock.h"
#include "common/tls.h"
#include "tests/unit/stream_fake.h"

#include <fcntl.h>
#include <openssl/ssl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

enum { PAGES = 128, WAIT_MS = 20000, SILENT_MS = 3000, EPOCHS = 12, DAYS = 60, DAY_S = 24 * 60 * 60, BULK_BYTES = 1 << 20 };

static char root[] = "/tmp/understudy-tls.XXXXXX";

static const char *in_root(const char *name)
{
	static char path[8][128];
	static unsigned int nr;
	char *p = path[nr++ % 8];

	snprintf(p, sizeof(path[0]), "%s/%s", root, name);
	return p;
}

/* root/WHO/A is the host `alpha`, root/WHO/B the host `beta` of a pair of its own. */
static void make_pair(const char *who, int days_b)
{
	char why[AUTHORITY_WHY_BYTES], dir[64], bundle[64];
	struct authority *a;

	assert_return_code(mkdir(in_root(who), 0700), 0);
	snprintf(dir, sizeof(dir), "%s/A", who);
	snprintf(bundle, sizeof(bundle), "%s/bundle", who);
	assert_int_equal(authority_open(in_root(dir), &a, why), 0);
	assert_int_equal(authority_install(a, "alpha", DAYS, why), 0);
	assert_int_equal(authority_bundle(a, "beta", days_b, in_root(bundle), why), 0);
	authority_close(a);
	snprintf(dir, sizeof(dir), "%s/B", who);
	assert_int_equal(authority_join(in_root(bundle), in_root(dir), "beta", why), 0);
}

static int make_all(void **state)
{
	signal(SIGPIPE, SIG_IGN);
	if (!mkdtemp(root))
		return -1;
	make_pair("good", DAYS);
	make_pair("other", DAYS);
	make_pair("old", -1);
	return 0;
}

static int remove_all(void **state)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command);
}

struct end {
	char ca[96], cert[96], key[96];
	Understudy__WorkerTls tls;
};

static const Understudy__WorkerTls *end_of(struct end *e, const char *dir, const char *peer)
{
	snprintf(e->ca, sizeof(e->ca), "%s/%s/ca.pem", root, dir);
	snprintf(e->cert, sizeof(e->cert), "%s/%s/cert.pem", root, dir);
	snprintf(e->key, sizeof(e->key), "%s/%s/key.pem", root, dir);
	understudy__worker_tls__init(&e->tls);
	e->tls.ca = e->ca;
	e->tls.cert = e->cert;
	e->tls.key = e->key;
	e->tls.peer = (char *)peer;
	return &e->tls;
}

struct outcome {
	uint64_t acked;
	unsigned int applied;
	int receiver_over, sender_error;
	char cause[320];
	bool same;
};

static void take_reports(struct sender *s, struct outcome *o)
{
	struct sender_report r;

	for (sender_poll(s, &r); r.event != SENDER_NONE; sender_poll(s, &r)) {
		if (r.event == SENDER_SENT)
			epoch_free(r.epoch);
		else if (r.event == SENDER_ACKED)
			o->acked = r.number;
		else {
			o->sender_error = r.error;
			snprintf(o->cause, sizeof(o->cause), "%s", r.cause);
		}
	}
}

static void submit_all(struct sender *s, uint8_t *memory)
{
	uint64_t seed = 42;
	struct epoch *e;

	for (uint64_t n = 1; n <= EPOCHS; n++) {
		assert_int_equal(epoch_new(PAGES, &e), 0);
		fake_capture(e, memory, PAGES, 50, n, n == 1 ? EPOCH_FIRST : 0, &seed);
		assert_int_equal(sender_submit(s, e), 0);
	}
}

/* A primary with `a` and a backup with `b` (NULL: without TLS) until either gives up or all is acknowledged. */
static void stream_between(const Understudy__WorkerTls *a, const Understudy__WorkerTls *b, unsigned int lanes, struct outcome *o)
{
	struct sender_config sc = fake_sender_config(-1);
	struct receiver_config rc = fake_receiver_config(-1, PAGES);
	uint8_t *memory = calloc(PAGES, FAKE_PAGE);
	struct shell shell;
	struct sender *s;
	struct receiver *r;
	int fd[STREAM_LANES_MAX][2];

	*o = (struct outcome){0};
	sc.timeout_ms = SILENT_MS;
	shell_init(&shell, PAGES);
	assert_int_equal(lanes_open(&sc.lanes, lanes, a, true, "fake1"), 0);
	assert_int_equal(lanes_open(&rc.lanes, lanes, b, false, "fake1"), 0);
	for (unsigned int i = 0; i < lanes; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd[i]), 0);
		assert_int_equal(lanes_attach(&sc.lanes, i, fd[i][0]), 0);
	}
	assert_int_equal(lanes_attach(&rc.lanes, 0, fd[0][1]), 0);
	assert_int_equal(sender_new(&sc, &s), 0);
	submit_all(s, memory);
	assert_int_equal(receiver_new(&rc, &shell_ops, &shell, &r), 0);
	for (unsigned int i = 1; i < lanes; i++)
		assert_int_equal(receiver_add_lane(r, i, fd[i][1]), 0);
	for (uint64_t end = clock_us() + WAIT_MS * 1000; o->acked < EPOCHS && !o->sender_error && clock_us() < end;) {
		struct pollfd fds[] = {{.fd = o->receiver_over ? -1 : receiver_fd(r), .events = POLLIN}, {.fd = sender_fd(s), .events = POLLIN}};
		int left = 1;

		poll(fds, 2, 20);
		while (!o->receiver_over && left > 0)
			left = receiver_read(r);
		if (!o->receiver_over && left < 0) {
			o->receiver_over = left;
			shutdown(receiver_fd(r), SHUT_RDWR); /* as its owner does */
		}
		take_reports(s, o);
	}
	o->applied = shell.epochs;
	o->same = !memcmp(memory, shell.memory, PAGES * FAKE_PAGE);
	sender_stop(s);
	take_reports(s, o);
	sender_free(s);
	receiver_free(r);
	shell_free(&shell);
	free(memory);
}

static void test_epochs_arrive(void **state)
{
	struct end a, b;
	struct outcome o;

	for (unsigned int lanes = 1; lanes <= 3; lanes++) {
		stream_between(end_of(&a, "good/A", "beta"), end_of(&b, "good/B", "alpha"), lanes, &o);
		assert_string_equal(o.cause, "");
		assert_int_equal(o.acked, EPOCHS);
		assert_true(o.same);
	}
}

/* Neither side gets anything from the wrong other, and the log says what is wrong with it. */
static void refused(const Understudy__WorkerTls *a, const Understudy__WorkerTls *b, const char *why)
{
	struct outcome o;

	stream_between(a, b, 1, &o);
	assert_int_equal(o.acked, 0);
	assert_int_equal(o.applied, 0);
	assert_int_not_equal(o.sender_error, 0);
	if (why && !strstr(o.cause, why))
		fail_msg("\"%s\" does not say \"%s\"", o.cause, why);
}

static void test_refusals(void **state)
{
	struct end a, b;

	refused(end_of(&a, "good/A", "beta"), end_of(&b, "other/B", "alpha"), "certificate");
	refused(end_of(&a, "other/A", "beta"), end_of(&b, "good/B", "alpha"), "certificate");
	refused(end_of(&a, "good/A", "gamma"), end_of(&b, "good/B", "alpha"), "hostname mismatch");
	refused(end_of(&a, "good/A", "beta"), end_of(&b, "good/B", "gamma"), NULL);
	refused(end_of(&a, "good/A", "alpha"), end_of(&b, "good/A", "beta"), NULL); /* its own certificate comes back */
	refused(end_of(&a, "old/A", "beta"), end_of(&b, "old/B", "alpha"), "expired");
	refused(end_of(&b, "old/B", "alpha"), end_of(&a, "old/A", "beta"), NULL);
}

static void test_one_without(void **state)
{
	struct end a;

	refused(end_of(&a, "good/A", "beta"), NULL, NULL);
	refused(NULL, end_of(&a, "good/B", "alpha"), NULL);
}

static void test_unreadable(void **state)
{
	struct channel c;
	struct end a;

	assert_int_equal(channel_open(&c, end_of(&a, "nowhere", "beta"), true, "fake1"), -EINVAL);
	channel_close(&c);
}

/* What `from` sends `to` gets, through as many turns as it takes. */
static void bulk(struct channel *from, struct channel *to)
{
	static uint8_t out[BULK_BYTES], in[BULK_BYTES];
	size_t sent = 0, got = 0;
	uint64_t seed = 5;

	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)fake_random(&seed);
	for (unsigned int turns = 0; got < sizeof(in) && turns < 100000; turns++) {
		ssize_t n = sent < sizeof(out) ? channel_send(from, out + sent, sizeof(out) - sent) : -EAGAIN;

		assert_true(n > 0 || n == -EAGAIN);
		sent += n > 0 ? (size_t)n : 0;
		n = channel_receive(to, in + got, sizeof(in) - got);
		assert_true(n > 0 || n == -EAGAIN);
		got += n > 0 ? (size_t)n : 0;
	}
	assert_int_equal(got, sizeof(in));
	assert_memory_equal(in, out, sizeof(in));
}

static void test_new_key(void **state)
{
	struct channel c[2];
	struct end a, b;
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	assert_int_equal(channel_open(&c[0], end_of(&a, "good/A", "beta"), true, "fake1"), 0);
	assert_int_equal(channel_open(&c[1], end_of(&b, "good/B", "alpha"), false, "fake1"), 0);
	channel_attach(&c[0], fd[0]);
	channel_attach(&c[1], fd[1]);
	bulk(&c[0], &c[1]);
	assert_int_equal(c[0].key_bytes, BULK_BYTES);
	c[0].key_bytes = UINT64_MAX / 2;
	bulk(&c[0], &c[1]);
	assert_int_equal(c[0].key_bytes, BULK_BYTES); /* counted from the new key on */
	bulk(&c[1], &c[0]);
	channel_close(&c[0]);
	channel_close(&c[1]);
}

static void test_expiry(void **state)
{
	struct end a;
	const Understudy__WorkerTls *t = end_of(&a, "good/B", "alpha");
	struct tls_files files = {.ca = t->ca, .cert = t->cert, .key = t->key, .peer = t->peer};
	char why[TLS_WHY_BYTES];
	int64_t seconds;

	assert_int_equal(tls_seconds_left(&files, &seconds, why), 0);
	assert_in_range(seconds, DAYS * DAY_S - 120, DAYS * DAY_S);
	t = end_of(&a, "old/B", "alpha");
	assert_int_equal(tls_seconds_left(&files, &seconds, why), 0);
	assert_true(seconds < 0);
	files.cert = in_root("none.pem");
	assert_int_equal(tls_seconds_left(&files, &seconds, why), -ENOENT);
	assert_non_null(strstr(why, "none.pem"));
}

static void test_join(void **state)
{
	char why[AUTHORITY_WHY_BYTES], text[4096];
	const char *bundle = in_root("good/bundle"), *bad = in_root("bad"), *dir = in_root("joined");
	ssize_t len;
	int fd;

	assert_int_equal(authority_join(bundle, dir, "alpha", why), -EINVAL);
	assert_non_null(strstr(why, "not made for alpha"));
	assert_int_equal(authority_join(in_root("none"), dir, "beta", why), -ENOENT);
	assert_int_not_equal(access(dir, F_OK), 0);

	/* Without its last quarter there is no key. */
	fd = open(bundle, O_RDONLY | O_CLOEXEC);
	len = read(fd, text, sizeof(text));
	close(fd);
	fd = open(bad, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, text, (size_t)len * 3 / 4), len * 3 / 4);
	close(fd);
	assert_int_equal(authority_join(bad, dir, "beta", why), -EINVAL);
	assert_int_equal(authority_join(bundle, dir, "beta", why), 0);
	assert_int_equal(access(in_root("joined/key.pem"), F_OK), 0);
}

/* Certificates are renewed by the same CA: the other host's old one stays good. */
static void test_renewal(void **state)
{
	char why[AUTHORITY_WHY_BYTES];
	struct authority *au;
	struct end a, b;
	struct outcome o;
	struct stat st;

	assert_int_equal(authority_open(in_root("good/A"), &au, why), 0);
	assert_int_equal(authority_install(au, "alpha", DAYS, why), 0);
	authority_close(au);
	stream_between(end_of(&a, "good/A", "beta"), end_of(&b, "good/B", "alpha"), 1, &o);
	assert_int_equal(o.acked, EPOCHS);
	assert_int_equal(stat(in_root("good/A/ca.key"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);

	/* Half a CA is not made whole by another one. */
	assert_int_equal(unlink(in_root("other/A/ca.pem")), 0);
	assert_int_equal(authority_open(in_root("other/A"), &au, why), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_epochs_arrive), cmocka_unit_test(test_refusals), cmocka_unit_test(test_one_without),
		cmocka_unit_test(test_unreadable),    cmocka_unit_test(test_new_key),  cmocka_unit_test(test_expiry),
		cmocka_unit_test(test_join),	      cmocka_unit_test(test_renewal),
	};

	return cmocka_run_group_tests(tests, make_all, remove_all);
}
