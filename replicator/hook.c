/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/hook.h"
#include "common/clock.h"
#include "common/log.h"
#include "replicator/child.h"
#include "replicator/events.h"
#include "replicator/guest.h"
#include "replicator/peer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	VARIABLES = 12,
	VARIABLE_BYTES = 256,
	FENCE_AGAIN_MS = 5000,
};

const char *const hook_name[HOOKS] = {
	[HOOK_ACTIVATE] = "on-activate",
	[HOOK_DEACTIVATE] = "on-deactivate",
	[HOOK_FENCE] = "fence",
};

struct hook_run {
	struct daemon *d;
	uint8_t uuid[16];
	char guest[EVENT_NAME_MAX];
	enum hook hook;
	uint64_t began_us, fence_serial;
};

static void uuid_text(const uint8_t uuid[16], char out[37])
{
	for (int i = 0, at = 0; i < 16; i++)
		at += snprintf(out + at, (size_t)(37 - at), "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", uuid[i]);
}

/* What the hook finds in its environment; documented in understudy.conf(5). */
static void variables(const struct guest *g, enum hook hook, const char *cause, char out[VARIABLES][VARIABLE_BYTES])
{
	const struct config *c = &g->d->config;
	const struct peer_info *peer = peer_info(g->d->peer);
	char uuid[37];

	uuid_text(g->tag.uuid, uuid);
	snprintf(out[0], VARIABLE_BYTES, "UNDERSTUDY_HOOK=%s", hook_name[hook]);
	snprintf(out[1], VARIABLE_BYTES, "UNDERSTUDY_GUEST=%s", g->tag.name);
	snprintf(out[2], VARIABLE_BYTES, "UNDERSTUDY_UUID=%s", uuid);
	snprintf(out[3], VARIABLE_BYTES, "UNDERSTUDY_DOMID=%u", g->domid);
	snprintf(out[4], VARIABLE_BYTES, "UNDERSTUDY_TERM=%" PRIu64, g->tag.term);
	snprintf(out[5], VARIABLE_BYTES, "UNDERSTUDY_EPOCH=%" PRIu64, g->tag.epoch);
	snprintf(out[6], VARIABLE_BYTES, "UNDERSTUDY_CAUSE=%s", cause);
	snprintf(out[7], VARIABLE_BYTES, "UNDERSTUDY_HOST=%s", c->host);
	snprintf(out[8], VARIABLE_BYTES, "UNDERSTUDY_ZONE=%s", c->zone);
	snprintf(out[9], VARIABLE_BYTES, "UNDERSTUDY_PEER_HOST=%s", peer->host);
	snprintf(out[10], VARIABLE_BYTES, "UNDERSTUDY_PEER_ZONE=%s", peer->zone);
	snprintf(out[11], VARIABLE_BYTES, "UNDERSTUDY_PEER_ADDRESS=%s", c->peer_address);
}

static void fence_ended(const struct hook_run *run, bool good)
{
	struct guest *g = guest_by_uuid(run->d, run->uuid);

	if (!g || g->fence != FENCE_RUNS || g->fence_serial != run->fence_serial)
		return; /* it was for another death */
	g->fence = good ? FENCE_DONE : FENCE_FAILED;
	g->fence_at_us = clock_us();
}

static void ended(void *arg, int status, const char *out, const char *err)
{
	struct hook_run *run = arg;
	char text[EVENT_TEXT_MAX], how[64];
	int64_t took_us = (int64_t)(clock_us() - run->began_us);

	if (status) {
		snprintf(text, sizeof(text), "%s hook: %s%s%.120s", hook_name[run->hook], child_status_text(status, how, sizeof(how)),
			 err[0] ? ": " : "", err);
		events_add(run->d->events, run->guest, "alarm", text, "took_us", took_us);
	} else {
		events_add(run->d->events, run->guest, "hook", hook_name[run->hook], "took_us", took_us);
	}
	if (run->hook == HOOK_FENCE)
		fence_ended(run, !status);
	free(run);
}

static bool begin(struct guest *g, enum hook hook, const char *cause)
{
	char variable[VARIABLES][VARIABLE_BYTES];
	const char *argv[1 + VARIABLES + 2] = {"/usr/bin/env"};
	const struct config *c = &g->d->config;
	struct hook_run *run = malloc(sizeof(*run));

	variables(g, hook, cause, variable);
	for (int i = 0; i < VARIABLES; i++)
		argv[1 + i] = variable[i];
	argv[1 + VARIABLES] = c->hook[hook];
	if (run) {
		*run = (struct hook_run){.d = g->d, .hook = hook, .began_us = clock_us(), .fence_serial = g->fence_serial};
		memcpy(run->uuid, g->tag.uuid, sizeof(run->uuid));
		snprintf(run->guest, sizeof(run->guest), "%s", g->tag.name);
	}
	if (run && child_run(g->d->children, argv, NULL, c->hook_limit_ms, ended, run))
		return true;
	free(run);
	events_add(g->d->events, g->tag.name, "alarm", "a hook cannot be started", "");
	return false;
}

void hook_run(struct guest *g, enum hook hook, const char *cause)
{
	if (g->d->config.hook[hook][0])
		begin(g, hook, cause);
}

static void begin_fence(struct guest *g, uint64_t now_us)
{
	g->fence_serial++;
	g->fence_at_us = now_us;
	g->fence = FENCE_RUNS;
	if (!begin(g, HOOK_FENCE, "the primary is dead"))
		g->fence = FENCE_FAILED;
}

bool hook_fenced(struct guest *g, uint64_t now_us)
{
	if (!g->d->config.hook[HOOK_FENCE][0])
		return true;
	if (g->fence == FENCE_NONE ||
	    (g->fence == FENCE_FAILED && guest_policy(g)->fence_required && now_us - g->fence_at_us >= FENCE_AGAIN_MS * 1000ull))
		begin_fence(g, now_us);
	if (g->fence == FENCE_RUNS)
		guest_problem(g, "its primary is silent: waits for the fence hook");
	else if (g->fence == FENCE_FAILED && guest_policy(g)->fence_required)
		guest_problem(g, "its primary is silent: the fence hook failed, is tried again");
	else
		return true;
	return false;
}

void hook_forget_fence(struct guest *g)
{
	g->fence = FENCE_NONE;
}
