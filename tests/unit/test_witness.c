/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The witness's client against real etcd, on loopback, with and without TLS; and against ones that are dead, or do not answer. */
#include "common/clock.h"
#include "replicator/witness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { REQUEST_MS = 1000, STARTS_MS = 20000, RACES = 50 };

static const uint8_t guest[16] = "a guest's uuid.", other[16] = "another guest's";
static char dir[64] = "/tmp/understudy-witness-XXXXXX", url[64], tls_url[64];
static pid_t etcd, tls_etcd;
static struct event_base *base;

/* ---- etcd ---- */

static int free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_true(fd >= 0 && !bind(fd, (struct sockaddr *)&a, len) && !getsockname(fd, (struct sockaddr *)&a, &len));
	close(fd);
	return ntohs(a.sin_port);
}

static void shell(const char *fmt, ...)
{
	char command[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	if (system(command))
		fail_msg("%s", command);
}

static pid_t start(const char *name, const char *client, const char *more)
{
	char command[1024];
	pid_t pid;

	snprintf(command, sizeof(command),
		 "exec etcd --name %s --data-dir %s/%s --listen-client-urls %s --advertise-client-urls %s "
		 "--listen-peer-urls http://127.0.0.1:%d --log-level error %s >%s/%s.log 2>&1",
		 name, dir, name, client, client, free_port(), more, dir, name);
	pid = fork();
	if (!pid) {
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	assert_true(pid > 0);
	return pid;
}

/* ---- one request ---- */

static struct witness_answer got;
static char got_text[WITNESS_TEXT_MAX];
static int nr_got;

static void done(void *arg, const struct witness_answer *a)
{
	got = *a;
	snprintf(got_text, sizeof(got_text), "%s", a->text);
	nr_got++;
	*(bool *)arg = true;
}

static struct witness *client(const char *first, const char *second)
{
	struct witness_config c = {.nr_endpoints = second ? 2 : 1, .request_ms = REQUEST_MS};
	struct witness *w;

	snprintf(c.endpoints[0], sizeof(c.endpoints[0]), "%s", first);
	snprintf(c.endpoints[1], sizeof(c.endpoints[1]), "%s", second ? second : "");
	assert_int_equal(witness_new(base, &c, &w), 0);
	return w;
}

static struct witness_record record(uint64_t term, bool current)
{
	return (struct witness_record){.holder = "host-a", .host = "zone-a", .term = term, .current = current, .ttl_ms = 3000,
				       .serial = term};
}

static void await(bool *flag)
{
	while (!*flag)
		event_base_loop(base, EVLOOP_ONCE);
}

static const struct witness_answer *reads(struct witness *w, const uint8_t *uuid)
{
	bool flag = false;

	assert_non_null(witness_read(w, uuid, done, &flag));
	assert_false(flag);
	await(&flag);
	return &got;
}

static const struct witness_answer *writes(struct witness *w, uint64_t term, uint64_t revision)
{
	struct witness_record r = record(term, true);
	bool flag = false;

	assert_non_null(witness_write(w, guest, &r, revision, done, &flag));
	assert_false(flag);
	await(&flag);
	return &got;
}

static void removes(struct witness *w)
{
	bool flag = false;

	if (!reads(w, guest)->exists)
		return;
	assert_non_null(witness_remove(w, guest, got.revision, done, &flag));
	await(&flag);
	assert_true(got.written && !got.exists);
}

/* ---- tests ---- */

static void test_compare_and_swap(void **state)
{
	struct witness *w = client(url, NULL);
	uint64_t before = clock_us(), first;

	assert_false(reads(w, guest)->exists);
	assert_int_equal(got.error, 0);
	assert_true(writes(w, 1, 0)->written && got.exists);
	assert_true(got.sent_us >= before && got.sent_us <= clock_us());
	first = got.revision;
	assert_true(first > 0);

	assert_false(writes(w, 2, 0)->written);		/* it exists */
	assert_int_equal(got.error, 0);
	assert_true(got.exists && got.revision == first && got.record.term == 1);

	assert_true(writes(w, 3, first)->written);
	assert_true(got.revision > first && got.record.term == 3);
	assert_false(writes(w, 4, first)->written);	/* stale */
	assert_int_equal(got.record.term, 3);

	assert_true(reads(w, guest)->exists);
	assert_int_equal(got.record.term, 3);
	assert_int_equal(got.record.ttl_ms, 3000);
	assert_int_equal(got.record.serial, 3);
	assert_true(got.record.current);
	assert_string_equal(got.record.host, "zone-a");
	assert_memory_equal(got.record.holder, record(1, 0).holder, 16);
	assert_false(reads(w, other)->exists);
	removes(w);
	assert_false(reads(w, guest)->exists);
	witness_free(w);
}

static void test_race(void **state)
{
	struct witness *a = client(url, NULL), *b = client(url, NULL);
	int i, won_a = 0;

	for (i = 0; i < RACES; i++) {
		struct witness_record ra = record(1, true), rb = record(2, true);
		uint64_t revision = reads(a, guest)->exists ? got.revision : 0;
		bool da = false, db = false;

		witness_write(a, guest, &ra, revision, done, &da);
		witness_write(b, guest, &rb, revision, done, &db);
		await(&da);
		await(&db);
		assert_true(reads(a, guest)->exists && got.revision > revision);
		won_a += got.record.term == 1;
		/* Exactly one: the loser's comparison was with what the winner has replaced. */
		assert_int_equal(got.record.serial, got.record.term);
	}
	printf("%d of %d won by the first\n", won_a, RACES);
	removes(a);
	witness_free(a);
	witness_free(b);
}

static void test_not_ours(void **state)
{
	struct witness *w = client(url, NULL);

	/* {"version":2} under the guest's key */
	assert_true(writes(w, 1, 0)->written);
	shell("printf '{\"key\":\"%%s\",\"value\":\"eyJ2ZXJzaW9uIjoyfQ==\"}' \"$(printf "
	      "'understudy/guest/61206775-6573-7427-7320-757569642e00' | base64 -w0)\" | "
	      "curl -sf -o /dev/null -d @- %s/v3/kv/put", url);
	assert_int_equal(reads(w, guest)->error, -EBADMSG);
	assert_string_equal(got_text, "what the witness keeps for the guest is no record of ours");
	shell("printf '{\"key\":\"%%s\"}' \"$(printf 'understudy/guest/61206775-6573-7427-7320-757569642e00' | "
	      "base64 -w0)\" | curl -sf -o /dev/null -d @- %s/v3/kv/deleterange", url);
	witness_free(w);
}

static void test_nobody_there(void **state)
{
	char nobody[64];
	struct witness *w;

	snprintf(nobody, sizeof(nobody), "http://127.0.0.1:%d", free_port());
	w = client(nobody, NULL);
	assert_int_equal(reads(w, guest)->error, -ECONNREFUSED);
	assert_int_equal(writes(w, 1, 0)->error, -ECONNREFUSED);
	assert_false(got.in_doubt);
	assert_true(got_text[0]);
	witness_free(w);

	w = client(nobody, url);		/* the second one answers both */
	assert_true(writes(w, 1, 0)->written);
	assert_true(reads(w, guest)->exists);
	removes(w);
	witness_free(w);
}

static void tick(evutil_socket_t fd, short what, void *arg)
{
	uint64_t *t = arg, now = clock_us();

	if (now - t[0] > t[1])
		t[1] = now - t[0];
	t[0] = now;
}

/* A witness that stands still: a write is in doubt, each wait is bounded, and the loop does not notice. */
static void test_stands_still(void **state)
{
	static const struct timeval ms5 = {.tv_usec = 5000};
	struct witness *w = client(url, NULL);
	uint64_t began, gap[2] = {clock_us(), 0};
	struct event *event = event_new(base, -1, EV_PERSIST, tick, gap);

	event_add(event, &ms5);
	assert_true(writes(w, 1, 0)->written);
	kill(etcd, SIGSTOP);
	began = clock_us();
	assert_int_equal(writes(w, 2, got.revision)->error, -ETIMEDOUT);
	assert_true(got.in_doubt);
	assert_in_range(clock_us() - began, REQUEST_MS * 900, REQUEST_MS * 1500);
	assert_int_equal(reads(w, guest)->error, -ETIMEDOUT);
	assert_false(got.in_doubt);
	kill(etcd, SIGCONT);
	assert_true(gap[1] < REQUEST_MS * 500);
	/* It was in doubt for a reason. */
	while (reads(w, guest)->error)
		;
	printf("the write in doubt was %s; the loop's longest gap: %llu us\n", got.record.term == 2 ? "done" : "not done",
	       (unsigned long long)gap[1]);
	removes(w);
	event_free(event);
	witness_free(w);
}

static int open_files(void)
{
	DIR *d = opendir("/proc/self/fd");
	int nr = 0;

	while (readdir(d))
		nr++;
	closedir(d);
	return nr;
}

static void test_cancelled(void **state)
{
	int before = open_files(), i;
	bool flag = false;

	for (i = 0; i < 20; i++) {
		struct witness *w = client(url, NULL);
		struct witness_request *q = witness_read(w, guest, done, &flag);

		if (i % 2)
			event_base_loop(base, EVLOOP_NONBLOCK);
		if (i % 3)
			witness_cancel(q);
		witness_free(w);
	}
	assert_false(flag);
	assert_int_equal(open_files(), before);
}

static void set_files(struct witness_config *c, const char *ca, const char *who)
{
	snprintf(c->ca_file, sizeof(c->ca_file), "%s/%s.pem", dir, ca);
	if (!who)
		return;
	snprintf(c->cert_file, sizeof(c->cert_file), "%s/%s.pem", dir, who);
	snprintf(c->key_file, sizeof(c->key_file), "%s/%s.key", dir, who);
}

static int read_by_tls(const char *ca, const char *who)
{
	struct witness_config c = {.nr_endpoints = 1, .request_ms = 3 * REQUEST_MS};
	struct witness *w;
	int error;

	snprintf(c.endpoints[0], sizeof(c.endpoints[0]), "%s", tls_url);
	set_files(&c, ca, who);
	assert_int_equal(witness_new(base, &c, &w), 0);
	error = reads(w, guest)->error;
	witness_free(w);
	return error;
}

static void test_tls(void **state)
{
	assert_int_equal(read_by_tls("ca", "client"), 0);
	assert_int_not_equal(read_by_tls("ca", NULL), 0);		/* it wants a certificate */
	assert_int_not_equal(read_by_tls("ca", "stranger"), 0);		/* of its own CA */
	assert_int_equal(read_by_tls("stranger-ca", "client"), -EACCES);	/* and we want its */
}

/* ---- set-up ---- */

static void make_ca(const char *ca, const char *who)
{
	shell("cd %s && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=%s -keyout %s.key "
	      "-out %s.pem 2>/dev/null && openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=%s -keyout %s.key "
	      "-out %s.csr 2>/dev/null && printf 'subjectAltName=IP:127.0.0.1' >%s.ext && openssl x509 -req -days 2 -in %s.csr -CA %s.pem "
	      "-CAkey %s.key -CAcreateserial -extfile %s.ext -out %s.pem 2>/dev/null",
	      dir, ca, ca, ca, who, who, who, who, who, ca, ca, who, who);
}

static int set_up(void **state)
{
	struct witness *w;
	char more[512];
	uint64_t began = clock_us();

	signal(SIGPIPE, SIG_IGN);
	base = event_base_new();
	assert_non_null(mkdtemp(dir));
	make_ca("ca", "client");
	make_ca("stranger-ca", "stranger");
	snprintf(url, sizeof(url), "http://127.0.0.1:%d", free_port());
	etcd = start("plain", url, "");
	snprintf(tls_url, sizeof(tls_url), "https://127.0.0.1:%d", free_port());
	snprintf(more, sizeof(more),
		 "--client-cert-auth --trusted-ca-file %s/ca.pem --cert-file %s/client.pem --key-file %s/client.key", dir, dir, dir);
	tls_etcd = start("tls", tls_url, more);
	w = client(url, NULL);
	while (reads(w, guest)->error || read_by_tls("ca", "client")) {
		if (clock_us() - began > STARTS_MS * 1000ull)
			fail_msg("etcd does not answer: %s", got_text);
		usleep(100000);
	}
	witness_free(w);
	return 0;
}

static int tear_down(void **state)
{
	kill(etcd, SIGKILL);
	kill(tls_etcd, SIGKILL);
	waitpid(etcd, NULL, 0);
	waitpid(tls_etcd, NULL, 0);
	event_base_free(base);
	shell("rm -rf %s", dir);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_compare_and_swap),
		cmocka_unit_test(test_race),
		cmocka_unit_test(test_not_ours),
		cmocka_unit_test(test_nobody_there),
		cmocka_unit_test(test_stands_still),
		cmocka_unit_test(test_cancelled),
		cmocka_unit_test(test_tls),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
