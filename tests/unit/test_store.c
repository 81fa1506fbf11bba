/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vmm/store.c over a fake xenstore: a flat list of nodes, and the two control commands of our xenstored. */
#include "vmm/store.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <xenstore.h>

enum { NODES = 64, DOMID = 7, ADDED_MAX = 256 };

struct fake_node {
	char path[128], value[64];
	unsigned int len, nr_perms;
	struct xs_permissions perms[4];
};

static struct fake {
	struct fake_node node[NODES];
	unsigned int nr, writes, perms_set;
	const char *head;		/* of the `watches` answer, before " transactions=" */
	const char *busy;		/* the rest of it */
	const char *page[2];		/* watch lines of the messages from 0 and from 1 */
	char added[ADDED_MAX][64];	/* by `watch-add` */
	unsigned int nr_added, nr_commands;
	int control_errno;
} fake;

static struct fake_node *fake_find(const char *path)
{
	unsigned int i;

	for (i = 0; i < fake.nr; i++)
		if (!strcmp(fake.node[i].path, path))
			return &fake.node[i];
	errno = ENOENT;
	return NULL;
}

static struct fake_node *fake_set(const char *path, const void *value, unsigned int len)
{
	struct fake_node *n = fake_find(path);

	if (!n)
		n = &fake.node[fake.nr++];
	snprintf(n->path, sizeof(n->path), "%s", path);
	memcpy(n->value, value, len);
	n->len = len;
	n->nr_perms = 1;
	n->perms[0] = (struct xs_permissions){.id = 0, .perms = XS_PERM_NONE};
	return n;
}

char **xs_directory(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *num)
{
	char **list = calloc(NODES, sizeof(*list) + sizeof(fake.node[0].path)), *text = (char *)(list + NODES);
	size_t len = strlen(path);
	unsigned int i;

	*num = 0;
	for (i = 0; i < fake.nr; i++) {
		const char *p = fake.node[i].path;

		if (strncmp(p, path, len) || p[len] != '/' || strchr(p + len + 1, '/'))
			continue;
		list[(*num)++] = strcpy(text, p + len + 1);
		text += strlen(text) + 1;
	}
	return list;
}

void *xs_read(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *len)
{
	struct fake_node *n = fake_find(path);
	char *copy;

	if (!n)
		return NULL;
	copy = calloc(1, n->len + 1);
	memcpy(copy, n->value, n->len);
	*len = n->len;
	return copy;
}

struct xs_permissions *xs_get_permissions(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *num)
{
	struct fake_node *n = fake_find(path);
	struct xs_permissions *copy;

	if (!n)
		return NULL;
	copy = calloc(4, sizeof(*copy));
	memcpy(copy, n->perms, sizeof(n->perms));
	*num = n->nr_perms;
	return copy;
}

bool xs_write(struct xs_handle *h, xs_transaction_t t, const char *path, const void *data, unsigned int len)
{
	fake.writes++;
	fake_set(path, data, len);
	return true;
}

bool xs_set_permissions(struct xs_handle *h, xs_transaction_t t, const char *path, struct xs_permissions *perms,
			unsigned int num)
{
	struct fake_node *n = fake_find(path);

	assert_non_null(n);
	fake.perms_set++;
	n->nr_perms = num;
	memcpy(n->perms, perms, num * sizeof(*perms));
	return true;
}

static char *fake_watches(const char *args, unsigned int len)
{
	unsigned int first = (unsigned int)strtoul(args + strlen(args) + 1, NULL, 10);
	char *reply;

	assert_string_equal(args, "7");
	assert_int_equal(args[len - 1], '\0');
	assert_true(first < 2);
	assert_true(asprintf(&reply, "%s next=%u %s\n%s", fake.head, !first && fake.page[1] ? 1u : 0, fake.busy,
			     fake.page[first]) > 0);
	return reply;
}

char *xs_control_command(struct xs_handle *h, const char *cmd, void *data, unsigned int len)
{
	const char *domid = data, *at = domid + strlen(domid) + 1;

	if (fake.control_errno) {
		errno = fake.control_errno;
		return NULL;
	}
	if (!strcmp(cmd, "watches"))
		return fake_watches(data, len);
	assert_string_equal(cmd, "watch-add");
	assert_string_equal(domid, "7");
	assert_true(strlen(cmd) + 1 + len <= XENSTORE_PAYLOAD_MAX);
	fake.nr_commands++;
	while (at < domid + len) {
		const char *token = at + strlen(at) + 1;

		snprintf(fake.added[fake.nr_added++ % ADDED_MAX], sizeof(fake.added[0]), "%s %s", at, token);
		at = token + strlen(token) + 1;
	}
	assert_ptr_equal(at, domid + len);
	return strdup("OK");
}

#define DIR "/local/domain/7/"

static int set_up(void **state)
{
	static const char *const path[] = {"name", "memory", "memory/target", "control", "control/shutdown", "device",
					   "device/vif", "device/vif/0", "device/vif/0/state", "device/vif/0/backend",
					   "device/vif/0/tx-ring-ref", "data"};
	char full[128];
	size_t i;

	fake = (struct fake){.head = "watches=2", .busy = "transactions=0 partial=0 replies=0 delayed=0",
			     .page = {"device/vif/0/state FFFF8880%20\n@releaseDomain t\n"}};
	for (i = 0; i < sizeof(path) / sizeof(*path); i++) {
		snprintf(full, sizeof(full), DIR "%s", path[i]);
		fake_set(full, path[i], (unsigned int)strlen(path[i]));
	}
	fake_set("/local/domain/71/name", "other", 5);
	fake_find(DIR "device/vif/0/tx-ring-ref")->perms[0].id = DOMID;
	fake_find(DIR "device/vif/0/tx-ring-ref")->perms[1] = (struct xs_permissions){.id = 0, .perms = XS_PERM_READ};
	fake_find(DIR "device/vif/0/tx-ring-ref")->nr_perms = 2;
	fake_set(DIR "control/shutdown", "\0\xff", 2);
	return 0;
}

static void snapshot(struct buf *b)
{
	assert_int_equal(store_snapshot(NULL, DOMID, b), 0);
	assert_int_equal(store_check(b->data, b->len), 0);
}

static void test_round_trip(void **state)
{
	struct buf b = {0};
	struct fake_node *n;

	buf_add(&b, "keep", 4);
	assert_int_equal(store_snapshot(NULL, DOMID, &b), 0);
	assert_memory_equal(b.data, "keep", 4);

	fake.nr = 0;
	fake_set(DIR "device/vif/0/state", "1", 1);
	assert_int_equal(store_apply(NULL, DOMID, b.data + 4, b.len - 4), 0);
	n = fake_find(DIR "device/vif/0/tx-ring-ref");
	assert_non_null(n);
	assert_int_equal(n->nr_perms, 2);
	assert_int_equal(n->perms[0].id, DOMID);
	assert_int_equal(n->perms[1].perms, XS_PERM_READ);
	n = fake_find(DIR "control/shutdown");
	assert_non_null(n);
	assert_int_equal(n->len, 2);
	assert_memory_equal(n->value, "\0\xff", 2);
	assert_int_equal(fake.nr_added, 2);
	assert_string_equal(fake.added[0], "device/vif/0/state FFFF8880%20");
	assert_string_equal(fake.added[1], "@releaseDomain t");
	buf_free(&b);
}

static void test_host_nodes_stay(void **state)
{
	static const char *const local[] = {"name", "memory", "memory/target", "device/vif/0/backend"};
	struct buf b = {0};
	char full[128];
	size_t i;

	snapshot(&b);
	fake.nr = 0;
	fake_set(DIR "device/vif/0/state", "1", 1);
	assert_int_equal(store_apply(NULL, DOMID, b.data, b.len), 0);
	assert_memory_equal(fake_find(DIR "device/vif/0/state")->value, "1", 1);
	for (i = 0; i < sizeof(local) / sizeof(*local); i++) {
		snprintf(full, sizeof(full), DIR "%s", local[i]);
		assert_null(fake_find(full));
	}
	buf_free(&b);
}

/* A blob from elsewhere may name what a snapshot leaves out. */
static void test_host_nodes_in_blob(void **state)
{
	struct buf b = {0};
	uint8_t *at;

	snapshot(&b);
	at = memmem(b.data, b.len, "device/vif/0/tx-ring-ref", 24);
	assert_non_null(at);
	memcpy(at, "device/aaaaaaaaaaa/state", 24);
	fake.nr = 0;
	assert_int_equal(store_apply(NULL, DOMID, b.data, b.len), 0);
	assert_null(fake_find(DIR "device/aaaaaaaaaaa/state"));
	buf_free(&b);
}

/* As many watches as a message holds go in one; none is lost or broken at its end. */
static void test_many_watches(void **state)
{
	struct buf b = {0};
	char lines[ADDED_MAX * 40], name[64];
	size_t len = 0;
	unsigned int i;

	for (i = 0; i < ADDED_MAX; i++)
		len += (size_t)snprintf(lines + len, sizeof(lines) - len, "device/vif/%u/a-long-name t%u\n", i, i);
	fake.head = "watches=256";
	fake.page[0] = lines;
	snapshot(&b);
	assert_int_equal(store_apply(NULL, DOMID, b.data, b.len), 0);
	assert_int_equal(fake.nr_added, ADDED_MAX);
	assert_in_range(fake.nr_commands, 2, 3);
	for (i = 0; i < ADDED_MAX; i++) {
		snprintf(name, sizeof(name), "device/vif/%u/a-long-name t%u", i, i);
		assert_string_equal(fake.added[i], name);
	}
	buf_free(&b);
}

static void test_two_messages(void **state)
{
	struct buf b = {0};

	fake.page[0] = "a 1\n";
	fake.page[1] = "b 2\n";
	snapshot(&b);
	assert_int_equal(store_apply(NULL, DOMID, b.data, b.len), 0);
	assert_int_equal(fake.nr_added, 2);
	assert_string_equal(fake.added[1], "b 2");
	buf_free(&b);
}

static void test_not_quiet(void **state)
{
	static const char *const busy[] = {
		"transactions=1 partial=0 replies=0 delayed=0", "transactions=0 partial=1 replies=0 delayed=0",
		"transactions=0 partial=0 replies=3 delayed=0", "transactions=0 partial=0 replies=0 delayed=1"};
	struct buf b = {0};
	size_t i;

	for (i = 0; i < sizeof(busy) / sizeof(*busy); i++) {
		fake.busy = busy[i];
		assert_int_equal(store_snapshot(NULL, DOMID, &b), -EAGAIN);
		assert_int_equal(b.len, 0);
	}
	set_up(NULL);
	fake.head = "watches=3";	/* one was dropped between two messages */
	assert_int_equal(store_snapshot(NULL, DOMID, &b), -EAGAIN);
	buf_free(&b);
}

static void test_bad_answers(void **state)
{
	struct buf b = {0};

	fake.page[0] = "no-token\n@releaseDomain t\n";
	assert_int_equal(store_snapshot(NULL, DOMID, &b), -EPROTO);
	fake.page[0] = "control character\x01\n";
	assert_int_equal(store_snapshot(NULL, DOMID, &b), -EPROTO);
	fake.head = "nonsense";
	assert_int_equal(store_snapshot(NULL, DOMID, &b), -EPROTO);
	fake.control_errno = EINVAL;
	assert_int_equal(store_snapshot(NULL, DOMID, &b), -ENOSYS);
	fake.control_errno = ENOENT;
	assert_int_equal(store_snapshot(NULL, DOMID, &b), -ENOENT);
	assert_int_equal(b.len, 0);
	buf_free(&b);
}

/* The guest wrote one value into the shell's tree and made one node that is its own. */
static void test_onto_base(void **state)
{
	struct buf base = {0}, b = {0};
	struct fake_node *n;

	assert_int_equal(store_nodes(NULL, DOMID, &base), 0);
	assert_int_equal(store_check(base.data, base.len), 0);
	fake_set(DIR "data", "x", 1);
	n = fake_set(DIR "data/own", "y", 1);
	n->perms[0].id = DOMID;
	fake_set(DIR "data/inherited", "z", 1);
	snapshot(&b);

	set_up(NULL);
	fake.writes = 0;
	assert_int_equal(store_apply_onto(NULL, DOMID, b.data, b.len, base.data, base.len), 0);
	assert_int_equal(fake.writes, 3);
	assert_int_equal(fake.perms_set, 1);
	assert_int_equal(fake_find(DIR "data/own")->perms[0].id, DOMID);
	assert_memory_equal(fake_find(DIR "data")->value, "x", 1);
	assert_int_equal(fake.nr_added, 2);

	base.data[0] ^= 2;
	assert_int_equal(store_apply_onto(NULL, DOMID, b.data, b.len, base.data, base.len), -EINVAL);
	buf_free(&base);
	buf_free(&b);
}

static void test_other_domid(void **state)
{
	struct buf b = {0};

	snapshot(&b);
	fake.writes = 0;
	assert_int_equal(store_apply(NULL, DOMID + 1, b.data, b.len), -EINVAL);
	assert_int_equal(fake.writes, 0);
	buf_free(&b);
}

static void test_truncated(void **state)
{
	struct buf b = {0};
	size_t len;

	snapshot(&b);
	fake.writes = 0;
	for (len = 0; len < b.len; len++) {
		uint8_t *exact = malloc(len ? len : 1);	/* so that a sanitizer sees one byte too many */

		memcpy(exact, b.data, len);
		assert_int_equal(store_check(exact, len), -EINVAL);
		assert_int_equal(store_apply(NULL, DOMID, exact, len), -EINVAL);
		free(exact);
	}
	buf_add(&b, "", 1);
	assert_int_equal(store_check(b.data, b.len), -EINVAL);
	assert_int_equal(fake.writes, 0);
	buf_free(&b);
}

static void check_corrupt(struct buf *b, size_t at, uint8_t value)
{
	uint8_t old = b->data[at];

	b->data[at] = value;
	assert_int_equal(store_check(b->data, b->len), -EINVAL);
	b->data[at] = old;
	assert_int_equal(store_check(b->data, b->len), 0);
}

static void test_corrupt(void **state)
{
	struct buf b = {0};
	size_t path, watch;

	snapshot(&b);
	path = (size_t)((uint8_t *)memmem(b.data, b.len, "control", 7) - b.data);
	watch = (size_t)((uint8_t *)memmem(b.data, b.len, "FFFF8880", 8) - b.data);
	check_corrupt(&b, 0, 2);		/* version */
	check_corrupt(&b, 2, 1);		/* reserved */
	check_corrupt(&b, 7, 1);		/* domid */
	check_corrupt(&b, 8, 0xff);		/* nr_nodes */
	check_corrupt(&b, 11, 0xff);
	check_corrupt(&b, 12, 0xff);		/* nr_watches */
	check_corrupt(&b, 15, 0xff);
	check_corrupt(&b, path - 8, 0);		/* path_len */
	check_corrupt(&b, path - 7, 0xff);
	check_corrupt(&b, path - 5, 0xff);	/* value_len */
	check_corrupt(&b, path - 4, 0);		/* nr_perms */
	check_corrupt(&b, path - 4, 0xff);
	check_corrupt(&b, path - 2, 1);		/* reserved */
	check_corrupt(&b, path, '/');		/* path */
	check_corrupt(&b, path, '.');
	check_corrupt(&b, path + 1, 0);
	check_corrupt(&b, path + 2, 0xc3);
	check_corrupt(&b, path + 6, '/');
	check_corrupt(&b, path + 17, 0xff);	/* perms: "control" is its value, too */
	check_corrupt(&b, path + 18, 4);
	check_corrupt(&b, watch, ' ');		/* token */
	check_corrupt(&b, watch, 0);
	buf_free(&b);
}

/* Any single byte: never a crash, and what the check accepts can be applied. */
static void test_any_byte(void **state)
{
	struct buf b = {0};
	size_t at;
	unsigned int bit;

	snapshot(&b);
	for (at = 0; at < b.len; at++)
		for (bit = 0; bit < 8; bit++) {
			b.data[at] ^= (uint8_t)(1u << bit);
			fake.nr = fake.nr_added = 0;
			if (!store_check(b.data, b.len))
				store_apply(NULL, DOMID, b.data, b.len);
			b.data[at] ^= (uint8_t)(1u << bit);
		}
	assert_int_equal(store_check(b.data, b.len), 0);
	buf_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_round_trip, set_up),
		cmocka_unit_test_setup(test_host_nodes_stay, set_up),
		cmocka_unit_test_setup(test_host_nodes_in_blob, set_up),
		cmocka_unit_test_setup(test_two_messages, set_up),
		cmocka_unit_test_setup(test_many_watches, set_up),
		cmocka_unit_test_setup(test_not_quiet, set_up),
		cmocka_unit_test_setup(test_bad_answers, set_up),
		cmocka_unit_test_setup(test_onto_base, set_up),
		cmocka_unit_test_setup(test_other_domid, set_up),
		cmocka_unit_test_setup(test_truncated, set_up),
		cmocka_unit_test_setup(test_corrupt, set_up),
		cmocka_unit_test_setup(test_any_byte, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
