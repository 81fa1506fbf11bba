/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One disk's life. Which nodes the toolstack, its hotplug script, the front end and we write: docs/disks.md. */
#include "pvdrivers/block/vbd.h"
#include "common/log.h"
#include "pvdrivers/evtchn.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	ATTACH_TRIES_MAX = 100, /* a predecessor's last I/O may take its time */
	ATTACH_RETRY_MS = 100,
	ATTACH_LATER_S = 1,
	RELOOK_MS = 10,		/* at a ring from which nothing could be taken */
};

static const char *guest_of(const struct vbd *v)
{
	return v->block->config.guest;
}

static void schedule(struct vbd *v)
{
	static const struct timeval now;

	if (v->turn && !evtimer_pending(v->turn, NULL))
		evtimer_add(v->turn, &now);
}

/* Requests that could not be taken wait for memory or for the log; either may come without an event. */
static void look_again_later(struct vbd *v)
{
	static const struct timeval later = {.tv_usec = RELOOK_MS * 1000};

	if (ring_unconsumed(&v->ring) > 0 && !evtimer_pending(v->turn, NULL))
		evtimer_add(v->turn, &later);
}

void vbd_serve(struct vbd *v)
{
	int rc;

	if (!v->attached || v->block->frozen)
		return;
	rc = queue_run(v);
	if (rc < 0)
		vbd_fail(v, -rc, "the ring makes no sense");
	else if (rc)
		schedule(v);
	else
		look_again_later(v);
}

static void on_event(void *arg)
{
	vbd_serve(arg);
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
	vbd_serve(arg);
}

/* A completion: many come at once, one turn is for all. A turn that is due later is due now. */
static void wake(struct vbd *v)
{
	static const struct timeval now;

	if (v->turn)
		evtimer_add(v->turn, &now);
}

/* ---- the device ---- */

/* A raw file is opened itself rather than through the loop device that the hotplug script made of it; a block device is the one that
 * the script found free and wrote down. */
static char *device_path(struct vbd *v)
{
	struct xenbus *xb = v->block->xenbus;
	char *params = xenbus_read(xb, "%s/params", v->back);
	struct stat st;

	if (params && params[0] == '/' && !stat(params, &st) && S_ISREG(st.st_mode))
		return params;
	free(params);
	return xenbus_read(xb, "%s/physical-device-path", v->back);
}

int vbd_open_device(struct vbd *v)
{
	char *path;
	int rc;

	if (v->device.fd >= 0)
		return 0;
	path = device_path(v);
	if (!path)
		return -ENOENT;
	rc = device_open(path, v->readonly, guest_of(v), &v->device);
	if (rc && rc != -EBUSY)
		log_err(guest_of(v), "%s: %s: %s", v->name, path, strerror(-rc));
	if (!rc && !v->discard_wanted)
		v->device.can_discard = false;
	free(path);
	return rc;
}

static int publish(struct vbd *v, const char *node, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	return xenbus_write(v->block->xenbus, text, "%s/%s", v->back, node);
}

static int publish_discard(struct vbd *v)
{
	int rc;

	rc = publish(v, "feature-discard", v->device.can_discard);
	if (rc || !v->device.can_discard)
		return rc;
	rc = publish(v, "discard-granularity", v->device.discard_granularity_bytes);
	return rc ?: publish(v, "discard-alignment", 0) ?: publish(v, "discard-secure", 0);
}

/* What the front end reads once we are connected. Sectors count 512 bytes whatever sector-size says. */
int vbd_publish(struct vbd *v)
{
	unsigned int info = v->readonly ? VDISK_READONLY : 0;
	char *type = xenbus_read(v->block->xenbus, "%s/device-type", v->back);
	int rc;

	if (type && !strcmp(type, "cdrom"))
		info |= VDISK_CDROM;
	free(type);
	if (xenbus_read_default(v->block->xenbus, 0, "%s/removable", v->back))
		info |= VDISK_REMOVABLE;
	rc = publish_discard(v);
	rc = rc ?: publish(v, "sectors", v->device.bytes / BLOCK_SECTOR_BYTES);
	rc = rc ?: publish(v, "info", info);
	rc = rc ?: publish(v, "sector-size", v->device.sector_bytes);
	return rc ?: publish(v, "physical-sector-size", v->device.physical_bytes);
}

/* What it reads before it makes its ring. */
static int offer_features(struct vbd *v)
{
	static const struct {
		const char *node;
		unsigned int value;
	} features[] = {
		{"feature-flush-cache", 1},
		{"feature-barrier", 1},
		{"feature-persistent", 0},
		{"feature-max-indirect-segments", BLOCK_SEGMENTS_MAX},
		{"max-ring-page-order", BLOCK_RING_ORDER_MAX},
		{"multi-queue-max-queues", 1},
	};
	int rc = 0;

	for (size_t i = 0; !rc && i < sizeof(features) / sizeof(features[0]); i++)
		rc = publish(v, features[i].node, features[i].value);
	return rc;
}

/* ---- the ring ---- */

static int read_ring_refs(struct vbd *v)
{
	struct xenbus *xb = v->block->xenbus;
	uint32_t order;
	int rc;

	rc = xenbus_read_u32(xb, &order, "%s/ring-page-order", v->front);
	if (rc == -ENOENT) {
		v->ring_pages = 1;
		return xenbus_read_u32(xb, &v->ring_ref[0], "%s/ring-ref", v->front);
	}
	if (rc)
		return rc;
	if (order > BLOCK_RING_ORDER_MAX)
		return -EINVAL;
	v->ring_pages = 1u << order;
	for (uint32_t i = 0; !rc && i < v->ring_pages; i++)
		rc = xenbus_read_u32(xb, &v->ring_ref[i], "%s/ring-ref%u", v->front, i);
	/* Front ends differ in what they call the only page. */
	if (rc == -ENOENT && v->ring_pages == 1)
		rc = xenbus_read_u32(xb, &v->ring_ref[0], "%s/ring-ref", v->front);
	return rc;
}

/* What the front end has written; none of it is trusted. */
static int read_front(struct vbd *v)
{
	struct xenbus *xb = v->block->xenbus;
	char *protocol;
	bool native;
	int rc;

	if (xenbus_read_default(xb, 1, "%s/multi-queue-num-queues", v->front) != 1)
		return -EINVAL;
	protocol = xenbus_read(xb, "%s/protocol", v->front);
	native = !protocol || !strcmp(protocol, "x86_64-abi");
	free(protocol);
	if (!native) {
		log_err(guest_of(v), "%s: the front end of a 32-bit guest, whose requests have another form", v->name);
		return -EOPNOTSUPP;
	}
	rc = xenbus_read_u32(xb, &v->port_nr, "%s/event-channel", v->front);
	return rc ?: read_ring_refs(v);
}

static int attach_ring(struct vbd *v, bool fresh)
{
	struct block *bb = v->block;
	void *page;
	int rc;

	rc = grant_map_pages(bb->grant, v->ring_ref, v->ring_pages, &page);
	if (rc)
		return rc;
	rc = evtchn_bind(bb->evtchn, bb->config.domid, v->port_nr, on_event, v, &v->port);
	if (rc)
		goto unmap;
	rc = queue_attach(v, page, fresh);
	if (rc)
		goto unbind;
	return 0;
unbind:
	evtchn_unbind(v->port);
	v->port = NULL;
unmap:
	grant_unmap_pages(bb->grant, page, v->ring_pages);
	return rc;
}

int vbd_attach(struct vbd *v, bool fresh)
{
	int rc;

	rc = vbd_open_device(v);
	if (rc)
		return rc;
	rc = read_front(v);
	rc = rc ?: attach_ring(v, fresh);
	if (rc) {
		device_close(&v->device);
		return rc;
	}
	v->attached = true;
	/* One event makes good what was lost between the last back end and this one. */
	evtchn_notify(v->port);
	schedule(v);
	log_info(guest_of(v), "%s: attached: ring %u+%u of %u, %llu MiB, sectors of %u%s%s%s", v->name, v->ring.req_cons,
		 v->ring.sring->req_prod - v->ring.req_cons, (unsigned int)RING_SIZE(&v->ring),
		 (unsigned long long)(v->device.bytes >> 20), v->device.sector_bytes, v->readonly ? ", read-only" : "",
		 v->device.can_discard ? ", discard" : "", v->device.direct ? "" : ", page cache");
	return 0;
}

void vbd_detach(struct vbd *v)
{
	if (!v->attached)
		return;
	v->attached = false;
	if (v->turn)
		evtimer_del(v->turn);
	queue_detach(v);
	device_close(&v->device);
	evtchn_unbind(v->port);
	v->port = NULL;
	grant_unmap_pages(v->block->grant, v->ring.sring, v->ring_pages);
	memset(&v->ring, 0, sizeof(v->ring));
	log_info(guest_of(v), "%s: detached", v->name);
}

/* ---- xenbus ---- */

void vbd_set_state(struct vbd *v, enum xenbus_state state)
{
	int rc = xenbus_set_state(v->block->xenbus, v->back, state);

	if (rc && rc != -ENOENT)
		log_err(guest_of(v), "%s: cannot become %s: %s", v->name, xenbus_state_name(state), strerror(-rc));
}

static void complain(struct vbd *v, int error, const char *what)
{
	v->stats.ring_errors++;
	v->failed = true;
	log_err(guest_of(v), "%s: %s: %s", v->name, what, strerror(error));
	xenbus_set_error(v->block->xenbus, v->back, error, what);
}

void vbd_fail(struct vbd *v, int error, const char *what)
{
	complain(v, error, what);
	vbd_detach(v);
	vbd_set_state(v, XenbusStateClosing);
}

/* xen-blkback takes every vbd for itself, and two back ends on one ring are the end of the guest's data. */
static bool kernel_serves(void)
{
	return !access("/sys/bus/xen-backend/drivers/vbd", F_OK);
}

static int read_identity(struct vbd *v)
{
	struct xenbus *xb = v->block->xenbus;
	char *mode, *dev;

	v->front = xenbus_read(xb, "%s/frontend", v->back);
	mode = xenbus_read(xb, "%s/mode", v->back);
	if (!v->front || !mode) {
		free(mode);
		return -ENOENT;
	}
	v->readonly = !strchr(mode, 'w');
	free(mode);
	v->discard_wanted = xenbus_read_default(xb, 1, "%s/discard-enable", v->back);
	dev = xenbus_read(xb, "%s/dev", v->back);
	snprintf(v->name, sizeof(v->name), "%.12s", dev ? dev : "vbd");
	free(dev);
	return 0;
}

void vbd_open(struct block *bb, uint32_t devid, struct vbd *v)
{
	const char *what = "no front end or mode";
	int rc;

	*v = (struct vbd){.block = bb, .present = true, .devid = devid, .wake = wake, .stats = v->stats};
	v->device.fd = -1;
	if (asprintf(&v->back, "/local/domain/0/backend/vbd/%u/%u", bb->config.domid, devid) < 0) {
		v->back = NULL;
		v->present = false;
		return;
	}
	snprintf(v->name, sizeof(v->name), "vbd %u", devid);
	v->mark = bb->marks ? mark_of(bb->marks, devid) : NULL;
	rc = read_identity(v);
	if (rc)
		goto out;
	what = "xen-blkback is loaded and serves disks itself: rmmod xen-blkback, and blacklist it";
	v->foreign = kernel_serves();
	rc = v->foreign ? -EBUSY : 0;
	if (rc)
		goto out;
	what = "cannot watch the front end";
	v->turn = evtimer_new(bb->config.base, on_turn, v);
	rc = v->turn ? xenbus_watch(bb->xenbus, devices_look_soon, bb->devices, &v->watch, "%s/state", v->front) : -ENOMEM;
out:
	/* As with vifs: the state stays, and the toolstack's patience ends. */
	if (rc)
		complain(v, -rc, what);
}

void vbd_release(struct vbd *v)
{
	vbd_detach(v);
	queue_abandon(v);
	device_close(&v->device);
	xenbus_unwatch(v->watch);
	if (v->turn)
		event_free(v->turn);
	v->turn = NULL;
	free(v->back);
	free(v->front);
	v->watch = NULL;
	v->back = v->front = NULL;
	v->present = false;
}

void vbd_forget(struct vbd *v)
{
	log_info(guest_of(v), "%s: removed", v->name);
	xenbus_clear_error(v->block->xenbus, v->back);
	vbd_release(v);
}

/* The hotplug script, which the toolstack runs when it sees InitWait, has found the device free to use. */
static bool is_plugged(struct vbd *v)
{
	char *status = xenbus_read(v->block->xenbus, "%s/hotplug-status", v->back);
	bool plugged = status && !strcmp(status, "connected");

	free(status);
	return plugged;
}

static void look_starting(struct vbd *v, enum xenbus_state back)
{
	int rc;

	vbd_detach(v); /* a front end that starts over has given up its ring (kexec, crash kernel) */
	if (back == XenbusStateInitWait)
		return;
	v->failed = false;
	v->attach_tries = 0;
	xenbus_clear_error(v->block->xenbus, v->back);
	rc = offer_features(v);
	if (rc)
		log_err(guest_of(v), "%s: cannot offer features: %s", v->name, strerror(-rc));
	else
		vbd_set_state(v, XenbusStateInitWait);
}

/*
 * A predecessor that is still dying holds the event channel, its last I/O the device. A guest that runs with this disk must not lose
 * it for that, nor because what holds it is away for a while: only nonsense of its own ends that.
 */
static bool try_again(struct vbd *v, bool live, int rc)
{
	static const struct timeval soon = {.tv_usec = ATTACH_RETRY_MS * 1000}, later = {.tv_sec = ATTACH_LATER_S};
	bool patient = v->attach_tries < ATTACH_TRIES_MAX;

	if (live ? rc == -EPROTO || rc == -EINVAL || rc == -EOPNOTSUPP : rc != -EBUSY || !patient)
		return false;
	if (++v->attach_tries == ATTACH_TRIES_MAX && live)
		log_err(guest_of(v), "%s: its requests wait: it cannot be served again yet: %s", v->name, strerror(-rc));
	devices_look_in(v->block->devices, patient ? &soon : &later);
	return true;
}

/* A front end is Connected only after a back end was: here, in a worker before this one, or on the host that the guest came from. */
static void look_connected(struct vbd *v, enum xenbus_state back, enum xenbus_state front)
{
	bool live = back == XenbusStateConnected || front == XenbusStateConnected;
	int rc;

	if (v->attached || v->failed || back == XenbusStateClosing)
		return;
	if (!live && !is_plugged(v))
		return;
	rc = vbd_attach(v, !live);
	if (rc && try_again(v, live, rc))
		return;
	v->attach_tries = 0;
	if (!rc && back != XenbusStateConnected)
		rc = vbd_publish(v);
	if (rc)
		vbd_fail(v, -rc, "cannot attach to the front end");
	else
		vbd_set_state(v, XenbusStateConnected);
}

static bool is_online(struct vbd *v)
{
	return xenbus_read_default(v->block->xenbus, 1, "%s/online", v->back);
}

/* Whoever waits for Closed may use the device for something else next: not while the kernel still writes to it. The end of the last
 * I/O brings us here again. */
static void look_closed(struct vbd *v)
{
	vbd_detach(v);
	if (!v->orphan)
		vbd_set_state(v, XenbusStateClosed);
}

void vbd_end(struct vbd *v)
{
	if (!v->foreign)
		look_closed(v);
}

void vbd_look(struct vbd *v)
{
	struct xenbus *xb = v->block->xenbus;
	enum xenbus_state back = xenbus_state(xb, v->back);
	enum xenbus_state front = v->front ? xenbus_state(xb, v->front) : XenbusStateUnknown;

	if (v->foreign)
		return;
	switch (front) {
	case XenbusStateInitialising:
	case XenbusStateInitWait:
		if (back >= XenbusStateClosing && !is_online(v))
			look_closed(v);
		else if (v->watch)
			look_starting(v, back);
		break;
	case XenbusStateInitialised:
	case XenbusStateConnected:
		if (v->watch && !v->block->config.standby)
			look_connected(v, back, front);
		break;
	case XenbusStateClosing:
		vbd_detach(v);
		vbd_set_state(v, XenbusStateClosing);
		break;
	case XenbusStateUnknown:
	case XenbusStateClosed:
		look_closed(v);
		break;
	default:
		break;
	}
}
