/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When a copy that is here is to be run: its primary is dead, or asks for it. */
#include "common/clock.h"
#include "common/log.h"
#include "replicator/events.h"
#include "replicator/guest.h"
#include "replicator/hook.h"
#include "replicator/keeper.h"
#include "replicator/peer.h"

#include <inttypes.h>

/* The primary stands still and waits. It hears that this was not done only if the record cannot become ours any more. */
void guest_follow_claim(struct guest *g, uint64_t now)
{
	enum claim_state claim = keeper_claim(g, g->invited);

	if (now < g->retry_at_us)
		return;
	if (claim == CLAIM_MINE) {
		guest_take_over(g, g->invited ? "switchover" : "its record is ours", g->invited);
		g->invited = false;
	} else if (now >= g->invited_until_us && keeper_clean(g)) {
		g->invited = false;
		keeper_calm(g);
		guest_event(g, GUEST_STALE, "the primary takes the switchover back");
		guest_tell_failed(g, keeper_problem(g));
	}
}

/*
 * Both the session between the daemons and this guest's stream must be silent: a killed daemon or a
 * killed worker alone is no death, and neither is a closed connection.
 */
void guest_judge(struct guest *g, uint64_t now)
{
	uint64_t limit_us = guest_policy(g)->timeout_ms * 1000ull, control, stream, heard, since;
	bool gone;

	if (g->invited || keeper_owned(g)) {
		guest_follow_claim(g, now);
		return;
	}
	/* What was read lately is answer enough, for four system calls less at every tick. */
	if (!g->declared_dead && g->peer_active &&
	    now < peer_read_us(g->d->peer) + (keeper_decides(g) ? limit_us / 2 : limit_us))
		return;
	control = peer_heard_us(g->d->peer);
	stream = heard_us(&g->heard);
	heard = control > stream ? control : stream;
	since = heard > g->d->awake_us ? heard : g->d->awake_us;
	/* Its daemon is there and says that the guest is not: the host was restarted. */
	gone = peer_up(g->d->peer) && !g->peer_active && now >= stream + limit_us;

	if (!gone && (now < since || now - since < limit_us)) {
		if (g->declared_dead) {
			events_add(g->d->events, g->tag.name, "primary-back", "it is heard again",
				   "");
			g->problem[0] = '\0';
		}
		g->declared_dead = false;
		keeper_calm(g);
		/* Its record should be known by the time it may be claimed. */
		if (keeper_decides(g) && now >= since && now - since > limit_us / 2)
			keeper_watch(g);
		return;
	}
	if (!g->declared_dead) {
		g->declared_dead = true;
		hook_forget_fence(g);
		g->declared_us = now;
		g->last_heard_us = heard;
		events_add(g->d->events, g->tag.name, "declared-dead",
			   gone ? "the primary's host no longer runs it"
				: "neither the session nor the stream was heard",
			   "last_heard_mono_us last_heard_wall_us silent_us control_silent_us "
			   "stream_silent_us timeout_ms term epoch",
			   (int64_t)heard, (int64_t)(clock_wall_us() - (now - heard)),
			   (int64_t)(now - heard), (int64_t)(now - control),
			   (int64_t)(now - stream), (int64_t)(limit_us / 1000),
			   (int64_t)g->tag.term, (int64_t)g->tag.epoch);
	}
	if (now < g->retry_at_us)
		return;
	if (!gone && !hook_fenced(g, now)) {
		if (keeper_decides(g))
			keeper_watch(g); /* its lease runs out meanwhile */
		return;
	}
	if (keeper_decides(g)) {
		if (keeper_claim(g, false) == CLAIM_MINE)
			guest_take_over(g, "the primary is dead, its lease is ours", false);
		else
			guest_problem(g, "its primary is silent: %.200s", keeper_problem(g));
	} else if (guest_policy(g)->takeover == TAKEOVER_AUTOMATIC_WITHOUT_WITNESS) {
		guest_take_over(g, "the primary is dead", false);
	} else {
		guest_problem(
			g,
			"its primary is silent; `understudy failover --force %s` runs it here "
			"from epoch %" PRIu64,
			g->tag.name, g->tag.epoch);
	}
}
