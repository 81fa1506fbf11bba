/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/part_net.h"
#include "checkpoint/output.h"

#include <errno.h>
#include <string.h>

static struct part_net *net_self(struct participant *p)
{
	return participant_self(p, struct part_net, base);
}

static int net_setup(struct participant *p)
{
	struct part_net *pn = net_self(p);

	buf_reset(&pn->sent);
	pn->released = pn->untold = 0;
	return 0;
}

static int net_drain(struct participant *p, bool paused)
{
	return netback_drain(net_self(p)->netback);
}

static void add_output(void *arg, const struct packet *p)
{
	output_add(arg, &(struct output_frame){netback_devid(p), p->len, p->data});
}

/* Nothing depends on it: where memory is short there is less of it, or none. */
static void capture_output(struct part_net *pn, struct epoch *e)
{
	struct buf *b = &e->blob[BLOB_OUTPUT];

	if (output_begin(b, pn->released))
		return;
	netbuf_look(pn->netbuf, add_output, b);
	if (output_any(b))
		pn->untold = e->number;
	else if (pn->untold && pn->released >= pn->untold)
		pn->untold = 0;
	else
		buf_reset(b);
}

static int net_capture(struct participant *p, struct epoch *e)
{
	struct part_net *pn = net_self(p);
	int rc;

	buf_reset(&pn->now);
	rc = netback_state(pn->netback, &pn->now);
	if (rc)
		return rc;
	if (pn->now.len != pn->sent.len || memcmp(pn->now.data, pn->sent.data, pn->now.len)) {
		rc = buf_add(&e->blob[BLOB_NET], pn->now.data, pn->now.len);
		buf_reset(&pn->sent);
		if (!rc)
			rc = buf_add(&pn->sent, pn->now.data, pn->now.len);
		if (rc)
			return rc;
	}

	/* Until the backup has a whole copy there is nothing that output could wait for. */
	if (e->flags & EPOCH_FIRST)
		netbuf_hold(pn->netbuf);
	/* The worker has one thread: only behind a final epoch could a back end move while the guest stands still. */
	if (e->flags & EPOCH_FINAL)
		netback_freeze(pn->netback, true);
	capture_output(pn, e);
	return netbuf_close(pn->netbuf, e->number);
}

static int net_commit(struct participant *p, uint64_t number)
{
	struct part_net *pn = net_self(p);

	pn->released = number;
	return netbuf_release(pn->netbuf, number);
}

/* Frames drained for the failed epoch stay in the open one and are closed by the next. */
static void net_abort(struct participant *p)
{
	struct part_net *pn = net_self(p);

	buf_reset(&pn->sent);
	netback_freeze(pn->netback, false);
}

static int net_activate(struct participant *p, const struct epoch *last)
{
	const struct buf *b = &last->blob[BLOB_NET];

	return netback_activate(net_self(p)->netback, b->data, b->len);
}

static void net_teardown(struct participant *p)
{
	struct part_net *pn = net_self(p);

	netback_freeze(pn->netback, false);
	netbuf_pass(pn->netbuf);
	buf_free(&pn->sent);
	buf_free(&pn->now);
}

const struct participant_ops part_net_ops = {
	.name = "net",
	.setup = net_setup,
	.drain = net_drain,
	.capture = net_capture,
	.commit = net_commit,
	.abort = net_abort,
	.activate = net_activate,
	.teardown = net_teardown,
};
