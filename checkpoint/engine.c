/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/engine.h"
#include "common/clock.h"
#include "common/fault.h"
#include "common/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int engine_setup(struct engine *en)
{
	unsigned int i;
	int rc;

	for (i = 0; i < en->nr; i++) {
		rc = en->part[i]->ops->setup(en->part[i]);
		if (rc) {
			log_err(en->guest, "%s cannot take part: %s", en->part[i]->ops->name,
				strerror(-rc));
			while (i--)
				en->part[i]->ops->teardown(en->part[i]);
			return rc;
		}
	}
	return 0;
}

void engine_teardown(struct engine *en)
{
	unsigned int i = en->nr;

	while (i--)
		en->part[i]->ops->teardown(en->part[i]);
}

static int drain_all(struct engine *en, bool paused)
{
	unsigned int i;
	int rc;

	for (i = 0; i < en->nr; i++) {
		rc = en->part[i]->ops->drain(en->part[i], paused);
		if (rc) {
			if (rc != -EAGAIN)
				log_err(en->guest, "%s: drain: %s", en->part[i]->ops->name,
					strerror(-rc));
			return rc;
		}
	}
	return 0;
}

static int capture_all(struct engine *en, struct epoch *e)
{
	unsigned int i;
	int rc;

	for (i = 0; i < en->nr; i++) {
		rc = en->part[i]->ops->capture(en->part[i], e);
		if (rc) {
			if (rc != -EAGAIN)
				log_err(en->guest, "epoch %llu: %s: capture: %s",
					(unsigned long long)e->number, en->part[i]->ops->name,
					strerror(-rc));
			return rc;
		}
	}
	return 0;
}

static void abort_all(struct engine *en)
{
	unsigned int i;

	for (i = 0; i < en->nr; i++)
		en->part[i]->ops->abort(en->part[i]);
}

/* Between stop and go nothing may wait. The return value is the epoch's; go() has no way to fail. */
static int capture_stopped(struct engine *en, struct epoch *e)
{
	int rc;

	rc = fi_point("PAUSED");
	if (!rc)
		rc = drain_all(en, true);
	if (!rc)
		rc = capture_all(en, e);
	if (!rc)
		rc = fi_point("CAPTURED");
	return rc;
}

int engine_capture(struct engine *en, struct epoch *e)
{
	int rc, r;

	rc = fi_point("DRAIN");
	if (!rc)
		rc = drain_all(en, false);
	if (rc)
		goto abort;

	e->captured_us = clock_us();
	rc = en->quiesce->stop(en->quiesce_arg);
	if (rc) {
		log_err(en->guest, "%s: %s", en->quiesce->name, strerror(-rc));
		goto abort;
	}
	rc = capture_stopped(en, e);
	if (rc || !(e->flags & EPOCH_FINAL)) {
		r = en->quiesce->go(en->quiesce_arg);
		if (r) {
			/* I5: dying is the one thing that lets a successor try again. */
			log_err(en->guest, "cannot let the guest go: %s", strerror(-r));
			abort();
		}
	}
	e->pause_us = (uint32_t)(clock_us() - e->captured_us);
	if (!rc)
		rc = fi_point("RESUMED");
	if (!rc)
		return 0;

abort:
	abort_all(en);
	return rc;
}

int engine_commit(struct engine *en, uint64_t number)
{
	unsigned int i;
	int rc;

	rc = fi_point("COMMIT");
	for (i = 0; !rc && i < en->nr; i++) {
		rc = en->part[i]->ops->commit(en->part[i], number);
		if (rc)
			log_err(en->guest, "epoch %llu: %s: commit: %s", (unsigned long long)number,
				en->part[i]->ops->name, strerror(-rc));
	}
	return rc;
}

int engine_activate(struct engine *en, const struct epoch *last)
{
	unsigned int i;
	int rc;

	for (i = 0; i < en->nr; i++) {
		rc = en->part[i]->ops->activate(en->part[i], last);
		if (rc) {
			log_err(en->guest, "%s: activate: %s", en->part[i]->ops->name,
				strerror(-rc));
			return rc;
		}
	}
	return 0;
}
