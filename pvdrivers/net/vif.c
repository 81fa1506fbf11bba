/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pvdrivers/net/vif.h"
#include "common/log.h"
#include "pvdrivers/evtchn.h"
#include "pvdrivers/net/headers.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ATTACH_TRIES_MAX = 20, ATTACH_RETRY_MS = 100 };

static const char *guest_of(const struct vif *v)
{
	return v->netback->config.guest;
}

/* A timer rather than an active event: timers fire after the base has looked at everybody else. */
void vif_schedule(struct vif *v)
{
	static const struct timeval now;

	if (v->turn && !evtimer_pending(v->turn, NULL))
		evtimer_add(v->turn, &now);
}

void vif_watch_tap(struct vif *v, bool on)
{
	if (!v->tap_event || on == v->tap_armed || (on && v->tap_lost))
		return;
	if (on ? event_add(v->tap_event, NULL) : event_del(v->tap_event))
		log_err(guest_of(v), "%s: cannot watch the TAP", v->name);
	else
		v->tap_armed = on;
}

void vif_tap_failed(struct vif *v, int error)
{
	if (error == -EAGAIN || v->tap_lost)
		return;
	log_err(guest_of(v), "%s: its interface is lost: %s", v->name, strerror(-error));
	v->tap_lost = true;
	vif_watch_tap(v, false);
}

/* The guest stands still and this loop turns all the same: events of the TAP would only repeat. */
static bool is_frozen(struct vif *v)
{
	if (v->netback->frozen)
		vif_watch_tap(v, false);
	return v->netback->frozen;
}

static void serve_rx(struct vif *v)
{
	int rc = rx_run(v, RX_TURN_BATCHES);

	if (rc < 0 && rc != -EAGAIN) {
		vif_fail(v, -rc, "the receive ring makes no sense");
		return;
	}
	vif_watch_tap(v, rc != -EAGAIN);
	if (rc == 1 && v->waiting)
		vif_schedule(v);
}

static void serve(struct vif *v)
{
	int rc;

	if (!v->attached || is_frozen(v))
		return;
	rc = tx_run(v, TX_TURN_BATCHES);
	if (rc < 0) {
		vif_fail(v, -rc, "the transmit ring makes no sense");
		return;
	}
	if (rc == 1)
		vif_schedule(v);
	if (!v->tap_armed || v->waiting)
		serve_rx(v);
}

static void on_event(void *arg)
{
	serve(arg);
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
	serve(arg);
}

/* While nobody listens, input is thrown away at once: nothing stale is delivered to a guest that
 * begins to. */
static void on_tap(evutil_socket_t fd, short what, void *arg)
{
	struct vif *v = arg;

	if (is_frozen(v))
		return;
	if (v->attached)
		serve_rx(v);
	else
		vif_tap_failed(v, tap_discard(v->tap, DISCARDS_PER_TURN) ?: -EAGAIN);
}

static void read_features(struct vif *v)
{
	struct xenbus *xb = v->netback->xenbus;
	struct vif_features *f = &v->features;

	f->sg = xenbus_read_default(xb, 0, "%s/feature-sg", v->front);
	f->checksum_v4 = !xenbus_read_default(xb, 0, "%s/feature-no-csum-offload", v->front);
	f->checksum_v6 = xenbus_read_default(xb, 0, "%s/feature-ipv6-csum-offload", v->front);
	f->gso_v4 = f->sg && f->checksum_v4 &&
		    xenbus_read_default(xb, 0, "%s/feature-gso-tcpv4", v->front);
	f->gso_v6 = f->sg && f->checksum_v6 &&
		    xenbus_read_default(xb, 0, "%s/feature-gso-tcpv6", v->front);
}

/* What the front end has written; none of it is trusted. */
static int read_front(struct vif *v)
{
	struct xenbus *xb = v->netback->xenbus;
	int rc;

	rc = xenbus_read_u32(xb, &v->tx_ref, "%s/tx-ring-ref", v->front);
	if (!rc)
		rc = xenbus_read_u32(xb, &v->rx_ref, "%s/rx-ring-ref", v->front);
	if (!rc)
		rc = xenbus_read_u32(xb, &v->port_nr, "%s/event-channel", v->front);
	if (rc)
		return rc;
	if (!xenbus_read_default(xb, 0, "%s/request-rx-copy", v->front))
		return -EOPNOTSUPP;
	read_features(v);
	return 0;
}

static int map_rings(struct vif *v)
{
	struct grant *g = v->netback->grant;
	void *tx, *rx;
	int rc;

	rc = grant_map(g, v->tx_ref, &tx);
	if (rc)
		return rc;
	rc = grant_map(g, v->rx_ref, &rx);
	if (rc) {
		grant_unmap(g, tx);
		return rc;
	}
	rc = ring_attach(&v->tx, (netif_tx_sring_t *)tx);
	if (!rc)
		rc = ring_attach(&v->rx, (netif_rx_sring_t *)rx);
	if (!rc && (RING_SIZE(&v->tx) != NET_RING_SLOTS || RING_SIZE(&v->rx) != NET_RING_SLOTS))
		rc = -EPROTO;
	if (rc) {
		grant_unmap(g, tx);
		grant_unmap(g, rx);
		return rc;
	}
	v->tx_doubtful = v->tx.sring->req_prod;
	return 0;
}

static void unmap_rings(struct vif *v)
{
	grant_unmap(v->netback->grant, v->tx.sring);
	grant_unmap(v->netback->grant, v->rx.sring);
	memset(&v->tx, 0, sizeof(v->tx));
	memset(&v->rx, 0, sizeof(v->rx));
}

static int set_offloads(struct vif *v)
{
	struct tap_offloads o = {
		.checksum = v->features.checksum_v4,
		.tso4 = v->features.gso_v4,
		.tso6 = v->features.gso_v6,
	};

	return tap_set_offloads(v->tap, &o);
}

void vif_read_ahead(struct vif *v)
{
	v->ahead = false;
	if (!v->front)
		return;
	v->ahead = !read_front(v);
	if (!v->ahead)
		return;
	/* The node is this host's own: the guest, which had connected, will not write it again. Standby, we do not look at it. */
	v->ahead_state = xenbus_state(v->netback->xenbus, v->front);
	if (v->ahead_state != XenbusStateConnected &&
	    !xenbus_set_state(v->netback->xenbus, v->front, XenbusStateConnected))
		v->ahead_state = XenbusStateConnected;
}

int vif_attach(struct vif *v)
{
	int rc;

	rc = v->ahead ? 0 : read_front(v);
	v->ahead = false;
	if (rc)
		return rc;
	rc = set_offloads(v);
	if (rc)
		return rc;
	rc = map_rings(v);
	if (rc)
		return rc;
	rc = evtchn_bind(v->netback->evtchn, v->netback->config.domid, v->port_nr, on_event, v, &v->port);
	if (rc) {
		unmap_rings(v);
		return rc;
	}
	v->attached = true;

	/*
	 * Whatever was lost between the last back end and this one, one event makes good: the guest
	 * takes the answers it was not told of, and our turn takes the requests we were not told
	 * of.
	 */
	evtchn_notify(v->port);
	vif_watch_tap(v, false);
	vif_schedule(v);
	log_info(guest_of(v), "%s: attached: tx %u+%u, rx %u+%u%s%s%s", v->name, v->tx.req_cons,
		 v->tx_doubtful - v->tx.req_cons, v->rx.req_cons,
		 v->rx.sring->req_prod - v->rx.req_cons, v->features.sg ? ", sg" : "",
		 v->features.gso_v4 ? ", gso4" : "", v->features.gso_v6 ? ", gso6" : "");
	return 0;
}

void vif_detach(struct vif *v)
{
	if (!v->attached)
		return;
	v->attached = false;
	evtchn_unbind(v->port);
	v->port = NULL;
	unmap_rings(v);
	rx_drop_waiting(v);
	if (v->turn)
		evtimer_del(v->turn);
	vif_watch_tap(v, true);
	log_info(guest_of(v), "%s: detached", v->name);
}

void vif_set_state(struct vif *v, enum xenbus_state state)
{
	int rc = xenbus_set_state(v->netback->xenbus, v->back, state);

	if (rc && rc != -ENOENT)
		log_err(guest_of(v), "%s: cannot become %s: %s", v->name, xenbus_state_name(state),
			strerror(-rc));
}

static void complain(struct vif *v, int error, const char *what)
{
	v->stats.ring_errors++;
	v->failed = true;
	log_err(guest_of(v), "%s: %s: %s", v->name, what, strerror(error));
	xenbus_set_error(v->netback->xenbus, v->back, error, what);
}

void vif_fail(struct vif *v, int error, const char *what)
{
	complain(v, error, what);
	vif_detach(v);
	vif_set_state(v, XenbusStateClosing);
}

static int read_identity(struct vif *v)
{
	struct xenbus *xb = v->netback->xenbus;
	unsigned int mac[6];
	char *text;
	int nr;

	v->front = xenbus_read(xb, "%s/frontend", v->back);
	if (!v->front)
		return -errno;
	text = xenbus_read(xb, "%s/mac", v->back);
	if (!text)
		return -errno;
	nr = sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4],
		    &mac[5]);
	free(text);
	if (nr != MAC_LEN)
		return -EINVAL;
	for (int i = 0; i < MAC_LEN; i++)
		v->mac[i] = (uint8_t)mac[i];
	return 0;
}

/* The toolstack's hotplug script renames the interface if the configuration gives it a name. */
static void find_name(struct vif *v)
{
	char *given = xenbus_read(v->netback->xenbus, "%s/vifname", v->back);

	snprintf(v->name, sizeof(v->name), "vif%u.%u", v->netback->config.domid, v->devid);
	if (given && strlen(given) < sizeof(v->name) && tap_exists(given))
		snprintf(v->name, sizeof(v->name), "%s", given);
	free(given);
}

static int open_tap(struct vif *v)
{
	struct event_base *base = v->netback->config.base;

	v->tap_lost = false;
	v->tap = tap_open(v->name);
	if (v->tap < 0)
		return v->tap;
	v->tap_event = event_new(base, v->tap, EV_READ | EV_PERSIST, on_tap, v);
	v->turn = evtimer_new(base, on_turn, v);
	if (!v->tap_event || !v->turn)
		return -ENOMEM;
	vif_watch_tap(v, true);
	return 0;
}

static void close_tap(struct vif *v, bool keep)
{
	if (v->tap_event)
		event_free(v->tap_event);
	if (v->turn)
		event_free(v->turn);
	v->tap_event = v->turn = NULL;
	v->tap_armed = false;
	tap_close(v->tap, !keep);
	v->tap = -1;
}

static int offer_features(struct vif *v)
{
	static const char *const features[] = {"feature-sg", "feature-gso-tcpv4",
					       "feature-gso-tcpv6", "feature-ipv6-csum-offload",
					       "feature-rx-copy"};

	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
		int rc = xenbus_write(v->netback->xenbus, "1", "%s/%s", v->back, features[i]);

		if (rc)
			return rc;
	}
	return 0;
}

void vif_open(struct netback *nb, uint32_t devid, struct vif *v)
{
	const char *what = "no front end or MAC";
	int rc;

	*v = (struct vif){.netback = nb,
			  .present = true,
			  .devid = devid,
			  .tap = -1,
			  .addresses = v->addresses,
			  .stats = v->stats};
	if (asprintf(&v->back, "/local/domain/0/backend/vif/%u/%u", nb->config.domid, devid) < 0) {
		v->back = NULL;
		v->present = false;
		return;
	}
	find_name(v);
	rc = read_identity(v);
	if (rc)
		goto out;
	what = "cannot create the TAP";
	rc = open_tap(v);
	if (rc)
		goto out;
	what = "cannot watch the front end";
	rc = xenbus_watch(nb->xenbus, devices_look_soon, nb->devices, &v->watch, "%s/state", v->front);
out:
	/* The states stay: if another process serves the vif, it goes on; if none does, the
	 * toolstack's patience ends. */
	if (rc)
		complain(v, -rc, what);
}

void vif_release(struct vif *v, bool keep_tap)
{
	vif_detach(v);
	xenbus_unwatch(v->watch);
	close_tap(v, keep_tap);
	free(v->back);
	free(v->front);
	v->watch = NULL;
	v->back = v->front = NULL;
	v->present = false;
}

void vif_forget(struct vif *v)
{
	log_info(guest_of(v), "%s: removed", v->name);
	xenbus_clear_error(v->netback->xenbus, v->back);
	vif_release(v, false);
}

/* The hotplug script has put the TAP where it belongs. The toolstack waits to see state InitWait
 * until then. */
static bool is_plugged(struct vif *v)
{
	char *status = xenbus_read(v->netback->xenbus, "%s/hotplug-status", v->back);
	bool plugged = status && !strcmp(status, "connected");

	free(status);
	return plugged;
}

static void look_starting(struct vif *v, enum xenbus_state back)
{
	int rc;

	vif_detach(
		v); /* a front end that starts over has given up its rings (kexec, crash kernel) */
	if (back == XenbusStateInitWait)
		return;
	v->failed = false;
	xenbus_clear_error(v->netback->xenbus, v->back);
	rc = offer_features(v);
	if (rc)
		log_err(guest_of(v), "%s: cannot offer features: %s", v->name, strerror(-rc));
	else
		vif_set_state(v, XenbusStateInitWait);
}

/* A predecessor that is still dying holds the event channel: the guest must not lose its interface
 * for that. */
static bool try_again(struct vif *v, enum xenbus_state back)
{
	static const struct timeval later = {.tv_usec = ATTACH_RETRY_MS * 1000};

	if (back != XenbusStateConnected || ++v->attach_tries >= ATTACH_TRIES_MAX)
		return false;
	devices_look_in(v->netback->devices, &later);
	return true;
}

static void look_connected(struct vif *v, enum xenbus_state back)
{
	int rc;

	if (v->attached || v->failed || back == XenbusStateClosing)
		return;
	if (back != XenbusStateConnected && !is_plugged(v))
		return;
	rc = vif_attach(v);
	if (rc && try_again(v, back))
		return;
	v->attach_tries = 0;
	if (rc)
		vif_fail(v, -rc, "cannot attach to the front end");
	else
		vif_set_state(v, XenbusStateConnected);
}

static bool is_online(struct vif *v)
{
	return xenbus_read_default(v->netback->xenbus, 1, "%s/online", v->back);
}

/* Closed, or its nodes are gone, or the toolstack unplugs what was never connected. */
static void look_closed(struct vif *v)
{
	vif_detach(v);
	if (!is_online(v))
		close_tap(v, false);
	vif_set_state(v, XenbusStateClosed);
}

void vif_end(struct vif *v)
{
	vif_detach(v);
	close_tap(v, false);
	vif_set_state(v, XenbusStateClosed);
}

void vif_look(struct vif *v)
{
	struct xenbus *xb = v->netback->xenbus;
	enum xenbus_state back = xenbus_state(xb, v->back);
	enum xenbus_state front = v->front ? xenbus_state(xb, v->front) : XenbusStateUnknown;

	switch (front) {
	case XenbusStateInitialising:
	case XenbusStateInitWait:
		if (back >= XenbusStateClosing && !is_online(v))
			look_closed(v);
		else if (v->tap >= 0)
			look_starting(v, back);
		break;
	case XenbusStateInitialised:
	case XenbusStateConnected:
		if (v->tap >= 0 && !v->netback->config.standby)
			look_connected(v, back);
		break;
	case XenbusStateClosing:
		vif_detach(v);
		vif_set_state(v, XenbusStateClosing);
		break;
	case XenbusStateUnknown:
	case XenbusStateClosed:
		look_closed(v);
		break;
	default:
		break;
	}
}
