/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pvdrivers/net/netback.h"
#include "common/buf.h"
#include "common/log.h"
#include "common/wire.h"
#include "pvdrivers/evtchn.h"
#include "pvdrivers/net/announce.h"
#include "pvdrivers/net/vif.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	/* Each takes one doubling back; the pause of a connection that was silent for seconds has doubled no more often. */
	NUDGES = 5,

	/* More than a full ring of the largest frames takes. */
	DRAIN_BATCHES = 8,
};

/* ---- what the toolstack makes and removes ---- */

static bool vif_at(void *arg, unsigned int place, uint32_t *devid)
{
	const struct vif *v = &((struct netback *)arg)->vif[place];

	*devid = v->devid;
	return v->present;
}

/* A place stays with its number for good: held packets name it. */
static bool open_vif(void *arg, uint32_t devid)
{
	struct netback *nb = arg;
	struct vif *place = NULL;

	FOR_EACH_VIF(nb, v)
	{
		if (v->name[0] ? v->devid == devid : !place)
			place = v;
	}
	if (place)
		vif_open(nb, devid, place);
	return place;
}

static void look_at_vif(void *arg, unsigned int place)
{
	vif_look(&((struct netback *)arg)->vif[place]);
}

static void end_vif(void *arg, unsigned int place)
{
	vif_end(&((struct netback *)arg)->vif[place]);
}

static void forget_vif(void *arg, unsigned int place)
{
	vif_forget(&((struct netback *)arg)->vif[place]);
}

static const struct devices_ops vif_ops = {
	.at = vif_at,
	.open = open_vif,
	.look = look_at_vif,
	.end = end_vif,
	.forget = forget_vif,
};

/* A worker that died together with its guest has left its TAPs. */
static void remove_stale_taps(struct netback *nb)
{
	for (unsigned int devid = 0; devid < NETBACK_VIFS_MAX; devid++) {
		char name[IFNAMSIZ];

		snprintf(name, sizeof(name), "vif%u.%u", nb->config.domid, devid);
		if (tap_exists(name) &&
		    !xenbus_exists(nb->xenbus, "/local/domain/0/backend/vif/%u/%u",
				   nb->config.domid, devid))
			tap_remove_stale(name);
	}
}

static int open_all(struct netback *nb)
{
	struct devices_config devices = {
		.base = nb->config.base,
		.guest = nb->config.guest,
		.kind = "vif",
		.domid = nb->config.domid,
		.devid_max = UINT16_MAX,
		.places = NETBACK_VIFS_MAX,
		.ops = &vif_ops,
		.arg = nb,
	};
	int rc;

	nb->tx_batch = tx_batch_new();
	nb->rx_batch = rx_batch_new();
	rc = nb->tx_batch && nb->rx_batch ? 0 : -ENOMEM;
	rc = rc ?: grant_open(nb->config.domid, &nb->grant);
	rc = rc ?: evtchn_open(nb->config.base, &nb->evtchn);
	rc = rc ?: xenbus_open(nb->config.base, &nb->xenbus);
	devices.xenbus = nb->xenbus;
	return rc ?: devices_new(&devices, &nb->devices);
}

int netback_new(const struct netback_config *config, struct netback **out)
{
	struct netback *nb;
	int rc;

	nb = calloc(1, sizeof(*nb));
	if (!nb)
		return -ENOMEM;
	nb->config = *config;
	FOR_EACH_VIF(nb, v)
	v->tap = -1;
	rc = open_all(nb);
	if (rc) {
		log_err(config->guest, "network back end: %s", strerror(-rc));
		netback_free(nb, true);
		return rc;
	}
	remove_stale_taps(nb);
	devices_look(nb->devices);
	*out = nb;
	return 0;
}

void netback_free(struct netback *nb, bool keep_taps)
{
	if (!nb)
		return;
	FOR_EACH_VIF(nb, v)
	{
		if (v->present)
			vif_release(v, keep_taps || v->attached);
	}
	devices_free(nb->devices);
	xenbus_close(nb->xenbus);
	evtchn_close(nb->evtchn);
	grant_close(nb->grant);
	free(nb->tx_batch);
	free(nb->rx_batch);
	free(nb);
}

void netback_emit(struct netback *nb, struct packet *p)
{
	tx_emit(p->out, p);
}

uint32_t netback_devid(const struct packet *p)
{
	return ((const struct vif *)p->out)->devid;
}

int netback_send(struct netback *nb, uint32_t devid, const void *data, size_t len)
{
	FOR_EACH_VIF(nb, v)
	{
		if (v->tap >= 0 && v->devid == devid)
			return tap_write(v->tap, data, len);
	}
	return -ENODEV;
}

void netback_pressure(struct netback *nb, bool full)
{
	nb->full = full;
	if (full)
		return;
	FOR_EACH_VIF(nb, v)
	{
		if (v->attached)
			vif_schedule(v);
	}
}

int netback_drain(struct netback *nb)
{
	int rc = 0;

	FOR_EACH_VIF(nb, v)
	{
		int r;

		if (!v->attached)
			continue;
		r = tx_run(v, DRAIN_BATCHES);
		if (r < 0) {
			vif_fail(v, -r, "the transmit ring makes no sense");
			rc = r;
		}
	}
	return rc;
}

void netback_freeze(struct netback *nb, bool frozen)
{
	if (nb->frozen == frozen)
		return;
	nb->frozen = frozen;
	devices_freeze(nb->devices, frozen);
	if (frozen)
		return;
	FOR_EACH_VIF(nb, v)
	{
		if (v->attached)
			vif_schedule(v);
		else if (v->present)
			vif_watch_tap(v, true);
	}
}

int netback_ring_gfns(struct netback *nb, uint64_t (*gfn_of_grant)(void *arg, uint32_t ref),
		      void *arg, uint64_t *gfn, size_t max)
{
	size_t nr = 0;

	FOR_EACH_VIF(nb, v)
	{
		const uint32_t refs[] = {v->tx_ref, v->rx_ref};

		for (int i = 0; i < 2 && v->attached; i++) {
			if (nr == max)
				return -E2BIG;
			gfn[nr] = gfn_of_grant(arg, refs[i]);
			if (gfn[nr] == UINT64_MAX) {
				log_err(nb->config.guest, "%s: no page behind ring grant %u",
					v->name, refs[i]);
				return -ENOENT;
			}
			nr++;
		}
	}
	return (int)nr;
}

void netback_read_ahead(struct netback *nb)
{
	FOR_EACH_VIF(nb, v)
	{
		if (v->present && !v->attached)
			vif_read_ahead(v);
	}
}

void netback_forget_ahead(struct netback *nb)
{
	FOR_EACH_VIF(nb, v)
		v->ahead = false;
}

static int activate_vif(struct netback *nb, struct vif *v)
{
	bool front_connected = v->ahead && v->ahead_state == XenbusStateConnected;
	int rc;

	if (v->tap < 0 || !v->front) {
		log_err(nb->config.guest, "%s: cannot be activated: it was never set up", v->name);
		return -ENODEV;
	}
	if (!v->ahead && !xenbus_exists(nb->xenbus, "%s/tx-ring-ref", v->front)) {
		log_info(nb->config.guest, "%s: the guest had not connected it", v->name);
		/* It may have been, when it was looked at ahead. */
		return xenbus_set_state(nb->xenbus, v->front, XenbusStateInitialising);
	}
	rc = vif_attach(v);
	/* The copy was made between two turns of its back end: no answer in it is half written. */
	v->tx_doubtful = v->tx.req_cons;
	if (!rc && !front_connected)
		rc = xenbus_set_state(nb->xenbus, v->front, XenbusStateConnected);
	if (rc)
		log_err(nb->config.guest, "%s: cannot attach to the copied rings: %s", v->name,
			strerror(-rc));
	return rc;
}

void netback_deactivate(struct netback *nb)
{
	FOR_EACH_VIF(nb, v)
		vif_detach(v);
	nb->config.standby = true;
}

int netback_activate(struct netback *nb, const void *blob, size_t len)
{
	int rc;

	rc = netback_state_take(nb, blob, len);
	if (rc) {
		log_err(nb->config.guest, "the net blob is damaged");
		return rc;
	}
	nb->config.standby = false;
	FOR_EACH_VIF(nb, v)
	{
		if (!v->present || v->attached)
			continue;
		rc = activate_vif(nb, v);
		if (rc)
			return rc;
	}
	return 0;
}

/* Straight to the TAP, with an empty virtio-net header in front. */
static int send_frame(struct vif *v, const uint8_t *frame, size_t len)
{
	uint8_t out[VNET_LEN + ANNOUNCE_FRAME_MAX] = {0};
	int rc;

	memcpy(out + VNET_LEN, frame, len);
	rc = tap_write(v->tap, out, VNET_LEN + len);
	if (rc)
		log_warn(v->netback->config.guest, "%s: cannot announce: %s", v->name,
			 strerror(-rc));
	return rc;
}

static int announce_vif(struct vif *v)
{
	uint8_t frame[ANNOUNCE_FRAME_MAX];
	int rc = 0;

	if (!addresses_count(&v->addresses))
		return send_frame(v, frame, announce_mac(v->mac, frame));
	for (int i = 0; i < NETBACK_ADDRESSES_MAX; i++) {
		const struct address *a = &v->addresses.entry[i];
		int r;

		if (!a->version)
			continue;
		r = send_frame(v, frame, announce_address(a, v->mac, frame));
		if (r)
			rc = r;
	}
	return rc;
}

int netback_announce(struct netback *nb)
{
	int rc = 0;

	FOR_EACH_VIF(nb, v)
	{
		int r;

		if (v->tap < 0)
			continue;
		r = announce_vif(v);
		if (r)
			rc = r;
	}
	return rc;
}

/* Whether the last epoch's frames were let out cannot be known here: either acknowledgement may be the other end's last. */
static int nudge_flow(struct vif *v, const struct flow *f)
{
	uint8_t frame[ANNOUNCE_FRAME_MAX];
	int rc = 0;

	for (int i = 0; !rc && i < NUDGES; i++) {
		rc = send_frame(v, frame, announce_nudge(f, f->ack, v->mac, frame));
		if (!rc && f->ack_before != f->ack)
			rc = send_frame(v, frame, announce_nudge(f, f->ack_before, v->mac, frame));
	}
	return rc;
}

void netback_nudge(struct netback *nb)
{
	FOR_EACH_VIF(nb, v)
	{
		for (int i = 0; v->tap >= 0 && i < FLOWS_MAX; i++)
			if (v->flows.entry[i].version && nudge_flow(v, &v->flows.entry[i]))
				break; /* it was said why */
	}
}

void netback_connected(struct netback *nb)
{
	FOR_EACH_VIF(nb, v)
		if (v->attached)
			vif_set_state(v, XenbusStateConnected);
}

void netback_stats(const struct netback *nb, struct netback_stats *s)
{
	*s = (struct netback_stats){0};
	for (const struct vif *v = nb->vif; v < nb->vif + NETBACK_VIFS_MAX; v++) {
		s->vifs += v->present;
		s->connected += v->attached;
		s->tx_packets += v->stats.tx_packets;
		s->tx_bytes += v->stats.tx_bytes;
		s->rx_packets += v->stats.rx_packets;
		s->rx_bytes += v->stats.rx_bytes;
		s->tx_dropped += v->stats.tx_dropped;
		s->rx_dropped += v->stats.rx_dropped;
		s->ring_errors += v->stats.ring_errors;
	}
}
