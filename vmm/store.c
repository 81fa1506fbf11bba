/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The store blob. Little endian, nothing aligned, entries one behind the other, nodes before their children.
 *
 *        0               1               2               3
 *        +---------------+---------------+---------------+---------------+
 *    0   |           version (1)         |         reserved (0)          |
 *    4   |                             domid                             |
 *    8   |                           nr_nodes                            |
 *   12   |                          nr_watches                           |
 *        +---------------------------------------------------------------+
 *   then nr_nodes times:
 *    0   |           path_len            |           value_len           |
 *    4   |           nr_perms            |         reserved (0)          |
 *    8   |  path: relative to /local/domain/<domid>, no NUL  (path_len)  |
 *        |  value: any bytes                                 (value_len) |
 *        |  nr_perms times: domid (4), access (4: 0 none, 1 read,        |
 *        |  2 write, 3 both); the first is the owner and the default     |
 *        +---------------------------------------------------------------+
 *   then nr_watches times:
 *    0   |           path_len            |           token_len           |
 *    4   |  path, then token: as the guest gave them, percent-encoded    |
 *        |  as xenstored's `watches` command prints them                 |
 *        +---------------------------------------------------------------+
 */
#include "vmm/store.h"

#include "common/wire.h"

#include <xenstore.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	STORE_VERSION = 1,
	STORE_HEAD_BYTES = 16,
	NODE_HEAD_BYTES = 8,
	WATCH_HEAD_BYTES = 4,
	PERM_BYTES = 8,
	STORE_BYTES_MAX = 1 << 20,
	NODES_MAX = 4096,
	WATCHES_MAX = 1024,
	DEPTH_MAX = 32,
	PATH_BYTES_MAX = 1024,
	VALUE_BYTES_MAX = 4096,		/* XENSTORE_PAYLOAD_MAX */
	PERMS_MAX = 16,
	WATCH_BYTES_MAX = 4000,		/* path and token: `watch-add` must fit one message */
	NODE_DIR_MAX = 32,		/* "/local/domain/<domid>/" */
	DOMID_MAX = 0x7ff0,
};

#define ACCESS_MASK 3u
_Static_assert(XS_PERM_NONE == 0 && XS_PERM_READ == 1 && XS_PERM_WRITE == 2, "access on the wire");

struct node {
	const char *path, *value;
	const uint8_t *perms;
	unsigned int path_len, value_len, nr_perms;
};

struct watch {
	const char *path, *token;
	unsigned int path_len, token_len;
};

struct reader {
	const uint8_t *at;
	size_t left;
};

static const uint8_t *take(struct reader *r, size_t len)
{
	const uint8_t *at = r->at;

	if (len > r->left)
		return NULL;
	r->at += len;
	r->left -= len;
	return at;
}

/* A relative path as xenstored accepts it: no empty element, its characters only. */
static bool path_valid(const char *path, unsigned int len)
{
	unsigned int i;

	if (!len || len > PATH_BYTES_MAX || path[0] == '/' || path[len - 1] == '/')
		return false;
	for (i = 0; i < len; i++) {
		char c = path[i];

		if (c == '/' && path[i + 1] == '/')
			return false;
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-/_@", c)) ||
		    !c)
			return false;
	}
	return true;
}

static bool word_valid(const char *word, unsigned int len)
{
	unsigned int i;

	for (i = 0; i < len; i++)
		if (word[i] <= ' ' || word[i] >= 0x7f)
			return false;
	return len > 0;
}

static int read_node(struct reader *r, struct node *n)
{
	const uint8_t *head = take(r, NODE_HEAD_BYTES);
	unsigned int i;

	if (!head)
		return -EINVAL;
	n->path_len = wire_get16(head);
	n->value_len = wire_get16(head + 2);
	n->nr_perms = wire_get16(head + 4);
	if (wire_get16(head + 6) || n->value_len > VALUE_BYTES_MAX || !n->nr_perms || n->nr_perms > PERMS_MAX)
		return -EINVAL;
	n->path = (const char *)take(r, n->path_len);
	n->value = (const char *)take(r, n->value_len);
	n->perms = take(r, (size_t)n->nr_perms * PERM_BYTES);
	if (!n->path || !n->value || !n->perms || !path_valid(n->path, n->path_len))
		return -EINVAL;
	for (i = 0; i < n->nr_perms; i++)
		if (wire_get32(n->perms + i * PERM_BYTES) > DOMID_MAX ||
		    wire_get32(n->perms + i * PERM_BYTES + 4) & ~ACCESS_MASK)
			return -EINVAL;
	return 0;
}

static int read_watch(struct reader *r, struct watch *w)
{
	const uint8_t *head = take(r, WATCH_HEAD_BYTES);

	if (!head)
		return -EINVAL;
	w->path_len = wire_get16(head);
	w->token_len = wire_get16(head + 2);
	if (w->path_len + w->token_len > WATCH_BYTES_MAX)
		return -EINVAL;
	w->path = (const char *)take(r, w->path_len);
	w->token = (const char *)take(r, w->token_len);
	if (!w->path || !w->token || !word_valid(w->path, w->path_len) ||
	    (w->token_len && !word_valid(w->token, w->token_len)))
		return -EINVAL;
	return 0;
}

struct store_head {
	uint32_t domid, nr_nodes, nr_watches;
};

static int read_head(struct reader *r, struct store_head *h)
{
	const uint8_t *head;

	if (r->left > STORE_BYTES_MAX)
		return -EINVAL;
	head = take(r, STORE_HEAD_BYTES);
	if (!head || wire_get16(head) != STORE_VERSION || wire_get16(head + 2))
		return -EINVAL;
	h->domid = wire_get32(head + 4);
	h->nr_nodes = wire_get32(head + 8);
	h->nr_watches = wire_get32(head + 12);
	if (h->domid > DOMID_MAX || h->nr_nodes > NODES_MAX || h->nr_watches > WATCHES_MAX)
		return -EINVAL;
	return 0;
}

int store_check(const void *blob, size_t len)
{
	struct reader r = {blob, len};
	struct store_head h;
	struct watch w;
	struct node n;
	uint32_t i;
	int rc;

	rc = read_head(&r, &h);
	for (i = 0; !rc && i < h.nr_nodes; i++)
		rc = read_node(&r, &n);
	for (i = 0; !rc && i < h.nr_watches; i++)
		rc = read_watch(&r, &w);
	return rc || r.left ? -EINVAL : 0;
}

/*
 * What each host's toolstack and back ends write for themselves: equal where it has to be because the shell was built from
 * the guest's configuration, or belonging to this host.
 */
static bool is_local(const char *path, size_t len)
{
	static const char *const own[] = {"name", "vm", "domid", "store", "console", "memory", "cpu", "libxl", "image",
					  "device-model", "hvmloader", "platform"};
	static const char *const device_own[] = {"backend", "backend-id", "state"};
	size_t i, element = strcspn(path, "/");
	const char *last;

	if (element > len)
		element = len;
	for (i = 0; i < sizeof(own) / sizeof(*own); i++)
		if (strlen(own[i]) == element && !memcmp(path, own[i], element))
			return true;

	if (element != strlen("device") || memcmp(path, "device", element) || element == len)
		return false;
	last = memrchr(path, '/', len) + 1;
	for (i = 0; i < sizeof(device_own) / sizeof(*device_own); i++)
		if (strlen(device_own[i]) == (size_t)(path + len - last) &&
		    !memcmp(last, device_own[i], strlen(device_own[i])))
			return true;
	return false;
}

/* snapshot */

struct walk {
	struct xs_handle *xs;
	struct buf *out;
	size_t dir_len;		/* length of "/local/domain/<domid>/" */
	uint32_t nr_nodes;
};

static int append_node(struct walk *w, const char *path, const char *value, unsigned int value_len,
		       const struct xs_permissions *perms, unsigned int nr_perms)
{
	const char *relative = path + w->dir_len;
	size_t path_len = strlen(relative);
	unsigned int i;
	uint8_t *at;

	if (!path_valid(relative, (unsigned int)path_len) || value_len > VALUE_BYTES_MAX || !nr_perms ||
	    nr_perms > PERMS_MAX || w->nr_nodes == NODES_MAX)
		return -E2BIG;
	at = buf_extend(w->out, NODE_HEAD_BYTES + path_len + value_len + (size_t)nr_perms * PERM_BYTES);
	if (!at)
		return -ENOMEM;
	wire_put16(at, (uint16_t)path_len);
	wire_put16(at + 2, (uint16_t)value_len);
	wire_put16(at + 4, (uint16_t)nr_perms);
	at += NODE_HEAD_BYTES;
	memcpy(at, relative, path_len);
	at += path_len;
	memcpy(at, value, value_len);
	at += value_len;
	for (i = 0; i < nr_perms; i++, at += PERM_BYTES) {
		wire_put32(at, perms[i].id);
		wire_put32(at + 4, perms[i].perms & ACCESS_MASK);
	}
	w->nr_nodes++;
	return 0;
}

/* A node that vanished between the directory and here is no error: the ring has moved, and the caller asks again. */
static int snapshot_node(struct walk *w, const char *path)
{
	struct xs_permissions *perms = NULL;
	unsigned int value_len, nr_perms;
	char *value;
	int rc;

	value = xs_read(w->xs, XBT_NULL, path, &value_len);
	if (value)
		perms = xs_get_permissions(w->xs, XBT_NULL, path, &nr_perms);
	if (value && perms)
		rc = append_node(w, path, value, value_len, perms, nr_perms);
	else
		rc = errno == ENOENT ? -EAGAIN : -errno;
	free(perms);
	free(value);
	return rc;
}

/* Nodes below `path` (which ends in '/'), parents first. */
static int snapshot_below(struct walk *w, const char *path, unsigned int depth)
{
	char child[NODE_DIR_MAX + PATH_BYTES_MAX], **names;
	size_t path_len = strlen(path);
	unsigned int i, nr;
	int rc = 0;

	if (depth == DEPTH_MAX)
		return -E2BIG;
	memcpy(child, path, path_len);
	child[path_len - 1] = '\0';
	names = xs_directory(w->xs, XBT_NULL, child, &nr);
	if (!names)
		return errno == ENOENT && depth ? -EAGAIN : -errno;
	for (i = 0; i < nr && !rc; i++) {
		if (snprintf(child, sizeof(child) - 1, "%s%s", path, names[i]) >= (int)sizeof(child) - 1) {
			rc = -E2BIG;
			break;
		}
		if (is_local(child + w->dir_len, strlen(child + w->dir_len)))
			continue;
		rc = snapshot_node(w, child);
		if (rc)
			break;
		strcat(child, "/");
		rc = snapshot_below(w, child, depth + 1);
	}
	free(names);
	return rc;
}

static int append_watch(struct buf *out, const char *line)
{
	size_t path_len = strcspn(line, " "), token_len;
	const char *token = line + path_len + 1;
	uint8_t *at;

	if (line[path_len] != ' ')
		return -EPROTO;
	token_len = strlen(token);
	if (path_len + token_len > WATCH_BYTES_MAX)
		return -E2BIG;
	if (!word_valid(line, (unsigned int)path_len) ||
	    (token_len && !word_valid(token, (unsigned int)token_len)))
		return -EPROTO;
	at = buf_extend(out, WATCH_HEAD_BYTES + path_len + token_len);
	if (!at)
		return -ENOMEM;
	wire_put16(at, (uint16_t)path_len);
	wire_put16(at + 2, (uint16_t)token_len);
	memcpy(at + WATCH_HEAD_BYTES, line, path_len);
	memcpy(at + WATCH_HEAD_BYTES + path_len, token, token_len);
	return 0;
}

struct watches_head {
	unsigned int watches, next, transactions, partial, replies, delayed;
};

/* One message of xenstored's `watches` command: a line of numbers, then one line per watch from `first` on. */
static int snapshot_watches_from(struct xs_handle *xs, uint32_t domid, unsigned int first, struct buf *out,
				 uint32_t *nr, struct watches_head *h)
{
	char *reply, *line, *save = NULL, args[32];
	int len, rc = 0;

	len = snprintf(args, sizeof(args), "%u%c%u", domid, 0, first);
	reply = xs_control_command(xs, "watches", args, (unsigned int)len + 1);
	if (!reply)
		/* An xenstored that is not ours does not know the command. */
		return errno == EINVAL ? -ENOSYS : -errno;

	line = strtok_r(reply, "\n", &save);
	if (!line || sscanf(line, "watches=%u next=%u transactions=%u partial=%u replies=%u delayed=%u", &h->watches,
			    &h->next, &h->transactions, &h->partial, &h->replies, &h->delayed) != 6)
		rc = -EPROTO;
	else if (h->transactions || h->partial || h->replies || h->delayed)
		rc = -EAGAIN;
	else if (h->watches > WATCHES_MAX)
		rc = -E2BIG;
	while (!rc && (line = strtok_r(NULL, "\n", &save)) != NULL) {
		rc = append_watch(out, line);
		++*nr;
	}
	free(reply);
	return rc;
}

static int snapshot_watches(struct xs_handle *xs, uint32_t domid, struct buf *out, uint32_t *nr)
{
	struct watches_head h = {0};
	unsigned int first = 0;
	int rc;

	for (*nr = 0;;) {
		rc = snapshot_watches_from(xs, domid, first, out, nr, &h);
		if (rc)
			return rc;
		if (!h.next)
			break;
		if (h.next <= first)
			return -EPROTO;
		first = h.next;
	}
	return *nr == h.watches ? 0 : -EAGAIN;	/* it added or dropped one between two messages */
}

static void finish_head(struct buf *out, size_t start, uint32_t domid, uint32_t nr_nodes, uint32_t nr_watches)
{
	uint8_t *head = out->data + start;

	wire_put16(head, STORE_VERSION);
	wire_put32(head + 4, domid);
	wire_put32(head + 8, nr_nodes);
	wire_put32(head + 12, nr_watches);
}

static int snapshot(struct xs_handle *xs, uint32_t domid, struct buf *out, bool with_watches)
{
	struct walk w = {.xs = xs, .out = out};
	size_t start = out->len;
	uint32_t nr_watches = 0;
	char dir[NODE_DIR_MAX];
	int rc;

	if (!buf_extend(out, STORE_HEAD_BYTES))
		return -ENOMEM;
	w.dir_len = (size_t)snprintf(dir, sizeof(dir), "/local/domain/%u/", domid);
	/* Watches last: the same message tells that nothing was in flight when all nodes had been read. */
	rc = snapshot_below(&w, dir, 0);
	if (!rc && with_watches)
		rc = snapshot_watches(xs, domid, out, &nr_watches);
	if (!rc && out->len - start > STORE_BYTES_MAX)
		rc = -E2BIG;
	if (rc)
		out->len = start;
	else
		finish_head(out, start, domid, w.nr_nodes, nr_watches);
	return rc;
}

int store_snapshot(struct xs_handle *xs, uint32_t domid, struct buf *out)
{
	return snapshot(xs, domid, out, true);
}

int store_nodes(struct xs_handle *xs, uint32_t domid, struct buf *out)
{
	return snapshot(xs, domid, out, false);
}

/* apply */

/* The nodes of a checked blob, for looking one up. */
struct node_table {
	struct node *node;
	uint32_t nr;
};

static int table_read(const void *blob, size_t len, uint32_t domid, struct node_table *t)
{
	struct reader r = {blob, len};
	struct store_head h;
	uint32_t i;
	int rc;

	rc = store_check(blob, len);
	if (!rc)
		rc = read_head(&r, &h);
	if (rc || h.domid != domid)
		return -EINVAL;
	t->node = calloc(h.nr_nodes ? h.nr_nodes : 1, sizeof(*t->node));
	if (!t->node)
		return -ENOMEM;
	t->nr = h.nr_nodes;
	for (i = 0; !rc && i < h.nr_nodes; i++)
		rc = read_node(&r, &t->node[i]);
	return rc;
}

static const struct node *table_find(const struct node_table *t, uint32_t nr, const char *path, size_t len)
{
	while (nr--)
		if (t->node[nr].path_len == len && !memcmp(t->node[nr].path, path, len))
			return &t->node[nr];
	return NULL;
}

static bool perms_equal(const struct node *a, const struct node *b)
{
	return a->nr_perms == b->nr_perms && !memcmp(a->perms, b->perms, (size_t)a->nr_perms * PERM_BYTES);
}

/* A node that dom0 makes gets its parent's permissions (xenstored, construct_node()). */
static bool perms_inherited(const struct node_table *t, uint32_t i)
{
	const struct node *n = &t->node[i], *parent;
	const char *slash = memrchr(n->path, '/', n->path_len);

	parent = slash ? table_find(t, i, n->path, (size_t)(slash - n->path)) : NULL;
	return parent && perms_equal(n, parent);
}

static int apply_perms(struct xs_handle *xs, const char *path, const struct node *n)
{
	struct xs_permissions perms[PERMS_MAX];
	unsigned int i;

	for (i = 0; i < n->nr_perms; i++)
		perms[i] = (struct xs_permissions){
			.id = wire_get32(n->perms + i * PERM_BYTES),
			.perms = wire_get32(n->perms + i * PERM_BYTES + 4),
		};
	return xs_set_permissions(xs, XBT_NULL, path, perms, n->nr_perms) ? 0 : -errno;
}

/* `base` is NULL if nothing is known of what is there. */
static int apply_node(struct xs_handle *xs, const char *dir, const struct node_table *t, uint32_t i,
		      const struct node_table *base)
{
	const struct node *n = &t->node[i], *old = NULL;
	char path[NODE_DIR_MAX + PATH_BYTES_MAX];

	if (is_local(n->path, n->path_len))
		return 0;
	snprintf(path, sizeof(path), "%s%.*s", dir, (int)n->path_len, n->path);
	if (base)
		old = table_find(base, base->nr, n->path, n->path_len);
	if (!old || old->value_len != n->value_len || memcmp(old->value, n->value, n->value_len))
		if (!xs_write(xs, XBT_NULL, path, n->value, n->value_len))
			return -errno;
	if (old ? perms_equal(old, n) : base && perms_inherited(t, i))
		return 0;
	return apply_perms(xs, path, n);
}

/* A `watch-add` that is being written: "DOMID\0PATH\0TOKEN\0PATH\0TOKEN\0...". */
struct watch_batch {
	char args[16 + WATCH_BYTES_MAX];
	size_t head_len, len;
};

static int flush_watches(struct xs_handle *xs, struct watch_batch *b)
{
	char *reply;

	if (b->len == b->head_len)
		return 0;
	reply = xs_control_command(xs, "watch-add", b->args, (unsigned int)b->len);
	b->len = b->head_len;
	if (!reply)
		return errno == EINVAL ? -ENOSYS : -errno;
	free(reply);
	return 0;
}

static int apply_watch(struct xs_handle *xs, struct watch_batch *b, const struct watch *w)
{
	size_t need = (size_t)w->path_len + w->token_len + 2;
	int rc = 0;

	if (b->len + need > sizeof(b->args))
		rc = flush_watches(xs, b);
	if (!rc)
		b->len += (size_t)snprintf(b->args + b->len, need, "%.*s%c%.*s", (int)w->path_len, w->path, 0,
					   (int)w->token_len, w->token) + 1;
	return rc;
}

int store_apply_watches(struct xs_handle *xs, uint32_t domid, const void *blob, size_t len)
{
	struct reader r = {blob, len};
	struct watch_batch b;
	struct store_head h;
	struct watch w;
	struct node n;
	uint32_t i;
	int rc;

	b.head_len = b.len = (size_t)snprintf(b.args, sizeof(b.args), "%u", domid) + 1;
	rc = read_head(&r, &h);
	for (i = 0; !rc && i < h.nr_nodes; i++)
		rc = read_node(&r, &n);
	for (i = 0; !rc && i < h.nr_watches; i++) {
		rc = read_watch(&r, &w);
		if (!rc)
			rc = apply_watch(xs, &b, &w);
	}
	return rc ? rc : flush_watches(xs, &b);
}

int store_apply_nodes(struct xs_handle *xs, uint32_t domid, const void *blob, size_t len, const void *base, size_t base_len)
{
	struct node_table t = {0}, b = {0};
	char dir[NODE_DIR_MAX];
	uint32_t i;
	int rc;

	rc = table_read(blob, len, domid, &t);
	if (!rc && base)
		rc = table_read(base, base_len, domid, &b);

	snprintf(dir, sizeof(dir), "/local/domain/%u/", domid);
	for (i = 0; !rc && i < t.nr; i++)
		rc = apply_node(xs, dir, &t, i, base ? &b : NULL);
	free(b.node);
	free(t.node);
	return rc;
}

/* Nodes first: the guest has seen their values already, a watch must not tell it again. */
int store_apply_onto(struct xs_handle *xs, uint32_t domid, const void *blob, size_t len, const void *base, size_t base_len)
{
	int rc;

	rc = store_apply_nodes(xs, domid, blob, len, base, base_len);
	return rc ? rc : store_apply_watches(xs, domid, blob, len);
}

int store_apply(struct xs_handle *xs, uint32_t domid, const void *blob, size_t len)
{
	return store_apply_onto(xs, domid, blob, len, NULL, 0);
}
