/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/part_store.h"
#include "checkpoint/store_ahead.h"
#include "vmm/store.h"

#include <errno.h>
#include <string.h>

static struct part_store *store_self(struct participant *p)
{
	return participant_self(p, struct part_store, base);
}

static bool ring_quiet(const struct part_store *ps, uint64_t *stamp)
{
	return domain_store_quiet(ps->memory->domain, &ps->memory->machine, stamp);
}

static int part_setup(struct participant *p)
{
	struct part_store *ps = store_self(p);

	*ps->changed_hint = true;
	buf_reset(&ps->sent);
	return 0;
}

/*
 * While the guest runs: a snapshot if anything moved. Its round trips are also the barrier behind which xenstored has answered all
 * that the guest had asked before. Stopped: nothing may have moved since.
 */
static int part_drain(struct participant *p, bool paused)
{
	struct part_store *ps = store_self(p);
	uint64_t stamp;
	bool quiet;
	int rc;

	quiet = ring_quiet(ps, &stamp);
	if (paused)
		return quiet && stamp == ps->stamp ? 0 : -EAGAIN;
	if (!quiet)
		return -EAGAIN;
	if (!*ps->changed_hint && stamp == ps->stamp)
		return 0;

	buf_reset(&ps->snapshot);
	*ps->changed_hint = false;
	rc = store_snapshot(ps->xs, ps->domid, &ps->snapshot);
	if (rc) {
		*ps->changed_hint = true;
		return rc;
	}
	ps->stamp = stamp;
	return 0;
}

static int part_capture(struct participant *p, struct epoch *e)
{
	struct part_store *ps = store_self(p);
	uint64_t stamp;
	int rc;

	/* The ring's page is copied: if xenstored has written since drain(), it is half a message that would be copied. */
	if (!ring_quiet(ps, &stamp) || stamp != ps->stamp)
		return -EAGAIN;
	if (ps->snapshot.len == ps->sent.len &&
	    !memcmp(ps->snapshot.data, ps->sent.data, ps->sent.len))
		return 0;

	rc = buf_add(&e->blob[BLOB_STORE], ps->snapshot.data, ps->snapshot.len);
	buf_reset(&ps->sent);
	if (!rc)
		rc = buf_add(&ps->sent, ps->snapshot.data, ps->snapshot.len);
	return rc;
}

static int part_commit(struct participant *p, uint64_t number)
{
	return 0;
}

static void part_abort(struct participant *p)
{
	buf_reset(&store_self(p)->sent);
}

static int part_activate(struct participant *p, const struct epoch *last)
{
	struct part_store *ps = store_self(p);
	const struct buf *b = &last->blob[BLOB_STORE];

	int rc;

	rc = ps->ahead ? store_ahead_finish(ps->ahead, ps->xs, b)
		       : store_apply_nodes(ps->xs, ps->domid, b->data, b->len, NULL, 0);
	return rc ? rc : store_apply_watches(ps->xs, ps->domid, b->data, b->len);
}

static void part_teardown(struct participant *p)
{
	struct part_store *ps = store_self(p);

	buf_free(&ps->snapshot);
	buf_free(&ps->sent);
}

const struct participant_ops part_store_ops = {
	.name = "store",
	.setup = part_setup,
	.drain = part_drain,
	.capture = part_capture,
	.commit = part_commit,
	.abort = part_abort,
	.activate = part_activate,
	.teardown = part_teardown,
};
