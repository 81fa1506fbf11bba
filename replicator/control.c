/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/control.h"
#include "common/clock.h"
#include "common/log.h"
#include "replicator/child.h"
#include "replicator/control.pb-c.h"
#include "replicator/events.h"
#include "replicator/guest.h"
#include "replicator/keeper.h"
#include "replicator/peer.h"
#include "replicator/status.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <utlist.h>

enum {
	CLIENTS_MAX = 32,
	FOLLOWER_OUTPUT_MAX = 1 << 20, /* a follower that does not read is let go */
	KIND_MAX_MS = 30000,
};

struct client {
	struct control *owner;
	struct client *next;
	uint64_t id;
	struct bufferevent *bev;
	bool follows;
};

struct control {
	struct daemon *d;
	struct evconnlistener *listener;
	struct client *list;
	uint64_t last_id;
	struct buf out;
	char path[108];
};

static void client_free(struct client *c)
{
	LL_DELETE(c->owner->list, c);
	bufferevent_free(c->bev);
	free(c);
}

static void client_send(struct client *c, const Understudy__ControlReply *r)
{
	struct control *control = c->owner;

	buf_reset(&control->out);
	if (frame_add(control_kinds, CONTROL_REPLY, &r->base, &control->out))
		log_err(NULL, "control: a reply is too long");
	else
		bufferevent_write(c->bev, control->out.data, control->out.len);
}

static void __attribute__((format(printf, 3, 4)))
answer(struct client *c, Understudy__ControlCode code, const char *fmt, ...)
{
	Understudy__ControlReply r = UNDERSTUDY__CONTROL_REPLY__INIT;
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	r.code = code;
	r.error = text;
	client_send(c, &r);
}

#define CODE(name) UNDERSTUDY__CONTROL_CODE__CONTROL_##name

static bool found_domains(struct client *c)
{
	if (c->owner->d->looked)
		return true;
	answer(c, CODE(INTERNAL),
	       "xenstore cannot be reached: is this a Xen dom0? (`understudy check`)");
	return false;
}

/* ---- tag ---- */

struct tag_run {
	struct control *control;
	uint64_t client;
	struct tag tag;
	uint32_t domid;
};

static struct client *client_by_id(struct control *control, uint64_t id)
{
	struct client *c;

	LL_FOREACH (control->list, c)
		if (c->id == id)
			return c;
	return NULL;
}

static void tag_now(struct control *control, struct client *c, const struct tag *tag)
{
	struct guest *g;

	if (!guest_new(control->d, tag, true)) {
		if (c)
			answer(c, CODE(INTERNAL), "%s: the tag cannot be written to %s", tag->name,
			       control->d->guests_dir);
		return;
	}
	events_add(control->d->events, tag->name, "tagged", tag->policy, "");
	guests_domains_changed(control->d);
	g = guest_by_name(control->d, tag->name); /* perhaps another one: its domain was made anew */
	if (g)
		g->retry_at_us = 0; /* it runs already: nothing to wait for */
	if (c)
		answer(c, CODE(OK), "%s", "");
}

/* A count in what `understudy-shell kind` prints; 0: not there. */
static int kind_count(const char *out, const char *name)
{
	const char *at = strstr(out, name);

	return at ? atoi(at + strlen(name)) : 0;
}

static void tag_kind(void *arg, int status, const char *out, const char *err)
{
	struct tag_run run = *(struct tag_run *)arg;
	struct client *c = client_by_id(run.control, run.client);
	const char *kind = strstr(out, "\"kind\": \"");
	char name[16] = "";

	free(arg);
	if (kind)
		sscanf(kind, "\"kind\": \"%15[A-Za-z]\"", name);
	if (status || !name[0]) {
		if (c)
			answer(c, CODE(INTERNAL), "%s: cannot tell what kind of guest it is: %s",
			       run.tag.name, err);
		return;
	}
	if (strcmp(name, "PVH")) {
		if (c)
			answer(c, CODE(KIND_NOT_SUPPORTED),
			       "%s is a %s guest; only PVH guests can be protected (type = \"pvh\" "
			       "in its configuration)",
			       run.tag.name, name);
		return;
	}
	if (kind_count(out, "\"passthrough\": ") > 0) {
		if (c)
			answer(c, CODE(KIND_NOT_SUPPORTED),
			       "%s has a passed-through device, whose state cannot be copied",
			       run.tag.name);
		return;
	}
	if (kind_count(out, "\"foreign_disks\": ") > 0) {
		if (c)
			answer(c, CODE(KIND_NOT_SUPPORTED),
			       "%s has a disk that QEMU serves; a file needs script=block in its disk = line",
			       run.tag.name);
		return;
	}
	if (guest_by_name(run.control->d, run.tag.name) ||
	    guest_by_uuid(run.control->d, run.tag.uuid)) {
		if (c)
			answer(c, CODE(ALREADY_TAGGED), "%s was tagged meanwhile", run.tag.name);
		return;
	}
	tag_now(run.control, c, &run.tag);
}

static void do_tag(struct client *c, const Understudy__ControlTag *m)
{
	struct daemon *d = c->owner->d;
	const char *policy = m->policy[0] ? m->policy : "standard";
	const struct domain_entry *e;
	struct guest *g = guest_by_name(d, m->name);
	struct tag_run *run;
	char domid[16];
	const char *const argv[] = {d->config.shell_path, "kind", domid, NULL};

	if (!config_policy(&d->config, policy)) {
		answer(c, CODE(UNKNOWN_POLICY),
		       "unknown policy %s: it has no [policy %s] in the configuration", policy,
		       policy);
		return;
	}
	if (g) {
		answer(c, CODE(ALREADY_TAGGED), "%s is already tagged with ha=%s (%s)", m->name,
		       g->tag.policy, guest_state_name[g->state]);
		return;
	}
	if (!found_domains(c))
		return;
	e = domains_by_name(d->domains, m->name);
	if (!e) {
		answer(c, CODE(NO_SUCH_GUEST), "no such guest: no domain named %s runs on %s",
		       m->name, d->config.host);
		return;
	}
	if (!d->config.peer_address[0]) {
		answer(c, CODE(PEER_UNREACHABLE),
		       "no peer is configured: [peer] address is missing");
		return;
	}
	run = calloc(1, sizeof(*run));
	if (run) {
		run->control = c->owner;
		run->client = c->id;
		run->tag.term = 1;
		snprintf(run->tag.name, sizeof(run->tag.name), "%s", m->name);
		snprintf(run->tag.policy, sizeof(run->tag.policy), "%s", policy);
		memcpy(run->tag.uuid, e->uuid, sizeof(run->tag.uuid));
		snprintf(domid, sizeof(domid), "%u", e->domid);
	}
	if (!run || !child_run(d->children, argv, NULL, KIND_MAX_MS, tag_kind, run)) {
		free(run);
		answer(c, CODE(INTERNAL), "%s cannot be started", d->config.shell_path);
	}
}

/* ---- untag, failover ---- */

static struct guest *tagged(struct client *c, const char *name)
{
	struct guest *g = guest_by_name(c->owner->d, name);

	if (g)
		return g;
	if (domains_by_name(c->owner->d->domains, name))
		answer(c, CODE(NOT_TAGGED), "%s is not tagged", name);
	else
		answer(c, CODE(NO_SUCH_GUEST),
		       "no such guest: %s is neither tagged nor running here", name);
	return NULL;
}

static void do_untag(struct client *c, const Understudy__ControlUntag *m)
{
	struct guest *g = tagged(c, m->name);
	struct daemon *d = c->owner->d;

	if (!g || !found_domains(c)) /* or a worker that goes on with it would not be told */
		return;
	if (fsm_next(g->state, GUEST_UNTAG) < 0) {
		answer(c, CODE(NOT_NOW), "%s is %s: try again when that is over", m->name,
		       guest_state_name[g->state]);
		return;
	}
	if (fsm_has_shell(g->state) && peer_up(d->peer) && g->peer_active)
		guest_request_untag(g);
	else
		guest_event(g, GUEST_UNTAG, "the operator asks for it");
	answer(c, CODE(OK), "%s", "");
}

static void failover_here(struct client *c, struct guest *g)
{
	if (g->state == GUEST_HANDING_OVER && peer_up(c->owner->d->peer)) {
		answer(c, CODE(NOT_NOW), "%s is heard and will say whether it runs %s",
		       peer_info(c->owner->d->peer)->host, g->tag.name);
		return;
	}
	if (g->state == GUEST_HANDING_OVER) {
		keeper_override(g);
		guest_event(g, GUEST_CALLED_OFF, "the operator says that the peer does not run it");
		answer(c, CODE(OK), "%s", "");
		return;
	}
	answer(c, CODE(NOT_NOW),
	       "%s runs here already (%s); --force is for the host that holds its copy",
	       g->tag.name, guest_state_name[g->state]);
}

static void failover_force(struct client *c, struct guest *g)
{
	struct daemon *d = c->owner->d;

	if (fsm_runs_here(g->state)) {
		failover_here(c, g);
	} else if (g->state != GUEST_STANDBY) {
		answer(c, CODE(NOT_NOW), "%s is %s here: there is no current copy to run",
		       g->tag.name, guest_state_name[g->state]);
	} else if (peer_up(d->peer) && g->peer_active) {
		answer(c, CODE(NOT_NOW), "%s is alive and runs %s: use failover without --force",
		       peer_info(d->peer)->host, g->tag.name);
	} else if (!g->declared_dead) {
		answer(c, CODE(NOT_NOW), "the primary of %s is not silent: its stream or its daemon was heard less than %u ms ago",
		       g->tag.name, guest_policy(g)->timeout_ms);
	} else {
		events_add(d->events, g->tag.name, "forced",
			   "the operator says that the primary is dead", "");
		g->announce_switch = false;
		if (!g->last_heard_us)
			g->last_heard_us = peer_heard_us(d->peer);
		guest_event(g, GUEST_TAKE_OVER, "forced by the operator");
		answer(c, CODE(OK), "%s", "");
	}
}

static void do_failover(struct client *c, const Understudy__ControlFailover *m)
{
	Understudy__PeerSwitch request = UNDERSTUDY__PEER_SWITCH__INIT;
	struct guest *g = tagged(c, m->name);
	struct daemon *d = c->owner->d;

	if (!g)
		return;
	if (m->force) {
		failover_force(c, g);
		return;
	}
	if (!peer_up(d->peer)) {
		answer(c, CODE(PEER_UNREACHABLE), "the peer is unreachable (%s)%s",
		       peer_problem(d->peer),
		       g->state == GUEST_STANDBY ? "; if it is dead for certain: --force" : "");
	} else if (g->state == GUEST_PROTECTED) {
		guest_event(g, GUEST_SWITCH, "the operator asks for it");
		answer(c, CODE(OK), "%s", "");
	} else if (g->state == GUEST_STANDBY) {
		request.uuid.data = g->tag.uuid;
		request.uuid.len = sizeof(g->tag.uuid);
		peer_send(d->peer, PEER_SWITCH, &request.base);
		answer(c, CODE(OK), "%s", "");
	} else {
		answer(c, CODE(NOT_NOW), "%s is %s: only a protected guest can be switched over",
		       m->name, guest_state_name[g->state]);
	}
}

/* ---- status, events ---- */

static void do_status(struct client *c, const Understudy__ControlStatus *m)
{
	struct daemon *d = c->owner->d;
	Understudy__ControlReply r = UNDERSTUDY__CONTROL_REPLY__INIT;
	struct guest *g;

	if (m->name[0] && !tagged(c, m->name))
		return;
	r.guests = calloc(HASH_COUNT(d->guests) + 1, sizeof(*r.guests));
	if (!r.guests)
		return;
	r.host = status_host(d);
	for (g = d->guests; g; g = g->hh.next)
		if (!m->name[0] || !strcmp(m->name, g->tag.name))
			r.guests[r.n_guests] = status_guest(g),
			r.n_guests += r.guests[r.n_guests] != NULL;
	client_send(c, &r);
	while (r.n_guests)
		status_guest_free(r.guests[--r.n_guests]);
	free(r.guests);
	status_host_free(r.host);
}

static void send_event(struct client *c, const struct event_record *r)
{
	Understudy__ControlReply reply = UNDERSTUDY__CONTROL_REPLY__INIT;
	Understudy__EventRecord record = UNDERSTUDY__EVENT_RECORD__INIT, *one = &record;
	Understudy__EventField fields[EVENT_FIELDS_MAX], *list[EVENT_FIELDS_MAX];
	unsigned int i;

	for (i = 0; i < r->nr_fields; i++) {
		understudy__event_field__init(&fields[i]);
		fields[i].key = (char *)r->fields[i].key;
		fields[i].value = r->fields[i].value;
		list[i] = &fields[i];
	}
	record.serial = r->serial;
	record.wall_us = r->wall_us;
	record.mono_us = r->mono_us;
	record.guest = (char *)r->guest;
	record.kind = (char *)r->kind;
	record.text = (char *)r->text;
	record.fields = list;
	record.n_fields = r->nr_fields;
	reply.events = &one;
	reply.n_events = 1;
	client_send(c, &reply);
}

static void do_events(struct client *c, const Understudy__ControlEvents *m)
{
	const struct event_record *r;
	uint64_t serial = m->since;

	while ((r = events_next(c->owner->d->events, serial))) {
		send_event(c, r);
		serial = r->serial;
	}
	c->follows = m->follow;
	if (!m->follow)
		answer(c, CODE(OK), "%s", ""); /* without events: the end */
}

void control_event(struct control *control, const struct event_record *r)
{
	struct client *c, *next;

	if (!control)
		return;
	LL_FOREACH_SAFE(control->list, c, next)
	{
		if (!c->follows)
			continue;
		if (evbuffer_get_length(bufferevent_get_output(c->bev)) > FOLLOWER_OUTPUT_MAX) {
			c->follows = false;
			shutdown(bufferevent_getfd(c->bev), SHUT_RDWR);
			continue;
		}
		send_event(c, r);
	}
}

/* ---- connections ---- */

static void dispatch(struct client *c, const Understudy__ControlRequest *r)
{
	switch (r->request_case) {
	case UNDERSTUDY__CONTROL_REQUEST__REQUEST_TAG:
		do_tag(c, r->tag);
		break;
	case UNDERSTUDY__CONTROL_REQUEST__REQUEST_UNTAG:
		do_untag(c, r->untag);
		break;
	case UNDERSTUDY__CONTROL_REQUEST__REQUEST_STATUS:
		do_status(c, r->status);
		break;
	case UNDERSTUDY__CONTROL_REQUEST__REQUEST_FAILOVER:
		do_failover(c, r->failover);
		break;
	case UNDERSTUDY__CONTROL_REQUEST__REQUEST_EVENTS:
		do_events(c, r->events);
		break;
	default:
		break;
	}
}

static void client_read(struct bufferevent *bev, void *arg)
{
	struct client *c = arg;
	struct evbuffer *in = bufferevent_get_input(bev);

	for (;;) {
		char why[160];
		struct frame f;
		int used = frame_parse(control_kinds, CONTROL_TYPES, evbuffer_pullup(in, -1),
				       evbuffer_get_length(in), &f, why, sizeof(why));

		if (!used)
			return;
		if (used > 0 && f.type == CONTROL_REQUEST) {
			evbuffer_drain(in, (size_t)used);
			dispatch(c, (const Understudy__ControlRequest *)f.message);
			protobuf_c_message_free_unpacked(f.message, NULL);
			continue;
		}
		if (used > 0) {
			protobuf_c_message_free_unpacked(f.message, NULL);
			snprintf(why, sizeof(why), "that is no request");
		}
		log_warn(NULL, "control: %s", why);
		answer(c, CODE(BAD_REQUEST), "%s", why);
		bufferevent_disable(bev, EV_READ);
		evbuffer_write(bufferevent_get_output(bev), bufferevent_getfd(bev));
		client_free(c);
		return;
	}
}

static void client_event(struct bufferevent *bev, short what, void *arg)
{
	if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
		client_free(arg);
}

static void accepted(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *from, int len,
		     void *arg)
{
	struct control *control = arg;
	struct client *c, *other;
	unsigned int nr = 0;

	LL_COUNT(control->list, other, nr);
	c = nr < CLIENTS_MAX ? calloc(1, sizeof(*c)) : NULL;
	if (c)
		c->bev = bufferevent_socket_new(control->d->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!c || !c->bev) {
		free(c);
		close(fd);
		return;
	}
	c->owner = control;
	c->id = ++control->last_id;
	LL_PREPEND(control->list, c);
	bufferevent_setcb(c->bev, client_read, NULL, client_event, c);
	bufferevent_enable(c->bev, EV_READ | EV_WRITE);
}

int control_new(struct daemon *d, struct control **out)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct control *c = calloc(1, sizeof(*c));
	mode_t mask;
	int fd = -1, r;
	int rc;

	if (!c)
		return -ENOMEM;
	c->d = d;
	rc = config_run_path(&d->config, "control.sock", c->path, sizeof(c->path));
	if (rc)
		goto out;
	memcpy(address.sun_path, c->path, strlen(c->path) + 1);
	unlink(c->path);
	rc = -EIO;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		goto out;
	mask = umask(0177);
	r = bind(fd, (struct sockaddr *)&address, sizeof(address));
	umask(mask);
	if (r || listen(fd, 16)) {
		rc = -errno;
		log_err(NULL, "%s: %s", c->path, strerror(errno));
		goto out;
	}
	c->listener = evconnlistener_new(d->base, accepted, c,
					 LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
	rc = c->listener ? 0 : -ENOMEM;
out:
	if (rc) {
		if (fd >= 0)
			close(fd);
		free(c);
	} else {
		*out = c;
	}
	return rc;
}

void control_free(struct control *c)
{
	if (!c)
		return;
	while (c->list)
		client_free(c->list);
	evconnlistener_free(c->listener);
	unlink(c->path);
	buf_free(&c->out);
	free(c);
}
