/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pvdrivers/block/block.h"
#include "common/log.h"
#include "pvdrivers/block/vbd.h"
#include "pvdrivers/evtchn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- what the toolstack makes and removes ---- */

static bool vbd_at(void *arg, unsigned int place, uint32_t *devid)
{
	const struct vbd *v = &((struct block *)arg)->vbd[place];

	*devid = v->devid;
	return v->present;
}

static bool open_vbd(void *arg, uint32_t devid)
{
	struct block *bb = arg;

	FOR_EACH_VBD(bb, v)
	{
		if (v->present)
			continue;
		vbd_open(bb, devid, v);
		return true;
	}
	return false;
}

static void look_at_vbd(void *arg, unsigned int place)
{
	vbd_look(&((struct block *)arg)->vbd[place]);
}

static void end_vbd(void *arg, unsigned int place)
{
	vbd_end(&((struct block *)arg)->vbd[place]);
}

static void forget_vbd(void *arg, unsigned int place)
{
	vbd_forget(&((struct block *)arg)->vbd[place]);
}

static const struct devices_ops vbd_ops = {
	.at = vbd_at,
	.open = open_vbd,
	.look = look_at_vbd,
	.end = end_vbd,
	.forget = forget_vbd,
};

static int open_all(struct block *bb)
{
	struct devices_config devices = {
		.base = bb->config.base,
		.guest = bb->config.guest,
		.kind = "vbd",
		.domid = bb->config.domid,
		.devid_max = UINT32_MAX,
		.places = BLOCK_DISKS_MAX,
		.ops = &vbd_ops,
		.arg = bb,
	};
	int rc;

	rc = io_engine_new(bb->config.base, bb->config.guest, false, &bb->io);
	rc = rc ?: grant_open(bb->config.domid, &bb->grant);
	rc = rc ?: evtchn_open(bb->config.base, &bb->evtchn);
	rc = rc ?: xenbus_open(bb->config.base, &bb->xenbus);
	if (!rc && bb->config.mark_path)
		rc = mark_open(bb->config.mark_path, &bb->marks);
	devices.xenbus = bb->xenbus;
	return rc ?: devices_new(&devices, &bb->devices);
}

int block_new(const struct block_config *config, struct block **out)
{
	struct block *bb;
	int rc;

	bb = calloc(1, sizeof(*bb));
	if (!bb)
		return -ENOMEM;
	bb->config = *config;
	rc = open_all(bb);
	if (rc) {
		log_err(config->guest, "disk back end: %s", strerror(-rc));
		block_free(bb);
		return rc;
	}
	devices_look(bb->devices);
	*out = bb;
	return 0;
}

static void wait_for_io(struct block *bb)
{
	while (bb->io && io_in_flight(bb->io))
		io_wait(bb->io);
}

void block_free(struct block *bb)
{
	if (!bb)
		return;
	FOR_EACH_VBD(bb, v)
	{
		if (v->present)
			vbd_release(v);
	}
	wait_for_io(bb);
	io_engine_free(bb->io);
	mark_close(bb->marks);
	devices_free(bb->devices);
	xenbus_close(bb->xenbus);
	evtchn_close(bb->evtchn);
	grant_close(bb->grant);
	free(bb);
}

void block_set_log(struct block *bb, const struct block_log_ops *ops, void *arg)
{
	bb->log = ops;
	bb->log_arg = arg;
	FOR_EACH_VBD(bb, v)
		queue_forget_reservations(v);
}

void block_pressure(struct block *bb)
{
	FOR_EACH_VBD(bb, v)
	{
		if (v->attached)
			v->wake(v);
	}
}

int block_drain(struct block *bb)
{
	int rc = 0;

	io_reap(bb->io);
	FOR_EACH_VBD(bb, v)
	{
		int r;

		if (!v->attached)
			continue;
		r = queue_run(v);
		if (r < 0) {
			vbd_fail(v, -r, "the ring makes no sense");
			rc = r;
		}
	}
	return rc;
}

void block_freeze(struct block *bb, bool frozen)
{
	if (bb->frozen == frozen)
		return;
	bb->frozen = frozen;
	devices_freeze(bb->devices, frozen);
	if (!frozen)
		block_pressure(bb);
}

int block_quiesce(struct block *bb)
{
	if (!bb->frozen)
		return -EAGAIN;
	wait_for_io(bb);
	return 0;
}

int block_ring_gfns(struct block *bb, uint64_t (*gfn_of_grant)(void *arg, uint32_t ref), void *arg, uint64_t *gfn,
		    size_t max)
{
	size_t nr = 0;

	FOR_EACH_VBD(bb, v)
	{
		for (uint32_t i = 0; v->attached && i < v->ring_pages; i++) {
			if (nr == max)
				return -E2BIG;
			gfn[nr] = gfn_of_grant(arg, v->ring_ref[i]);
			if (gfn[nr] == UINT64_MAX) {
				log_err(bb->config.guest, "%s: no page behind ring grant %u", v->name, v->ring_ref[i]);
				return -ENOENT;
			}
			nr++;
		}
	}
	return (int)nr;
}

static int activate_vbd(struct block *bb, struct vbd *v)
{
	int rc;

	if (!v->front || !v->watch) {
		log_err(bb->config.guest, "%s: cannot be activated: it was never set up", v->name);
		return -ENODEV;
	}
	if (!xenbus_exists(bb->xenbus, "%s/event-channel", v->front)) {
		log_info(bb->config.guest, "%s: the guest had not connected it", v->name);
		return 0;
	}
	/* The copy was made between two turns of its back end: no answer in it is half written. What the mark here says is of another. */
	rc = vbd_attach(v, true);
	rc = rc ?: xenbus_set_state(bb->xenbus, v->front, XenbusStateConnected);
	if (rc)
		log_err(bb->config.guest, "%s: cannot attach to the copied ring: %s", v->name, strerror(-rc));
	return rc;
}

unsigned int block_disks(struct block *bb, struct block_disk *disk)
{
	unsigned int nr = 0;

	FOR_EACH_VBD(bb, v)
	{
		if (v->present && v->device.fd >= 0)
			disk[nr++] = (struct block_disk){
				.devid = v->devid,
				.fd = v->device.fd,
				.readonly = v->readonly,
				.is_device = v->device.is_device,
				.bytes = v->device.bytes,
			};
	}
	return nr;
}

int block_open_disks(struct block *bb, const void *blob, size_t len)
{
	int rc = 0;

	FOR_EACH_VBD(bb, v)
	{
		if (!v->present || rc)
			continue;
		rc = vbd_open_device(v);
		if (rc)
			log_err(bb->config.guest, "%s: cannot be opened: %s", v->name, strerror(-rc));
	}
	return rc ?: block_state_match(bb, blob, len);
}

int block_activate(struct block *bb, const void *blob, size_t len)
{
	int rc;

	rc = block_open_disks(bb, blob, len);
	if (rc) {
		log_err(bb->config.guest, "the disks cannot be activated: %s", strerror(-rc));
		return rc;
	}
	bb->config.standby = false;
	FOR_EACH_VBD(bb, v)
	{
		if (!v->present || v->attached)
			continue;
		rc = activate_vbd(bb, v);
		if (rc)
			return rc;
	}
	return 0;
}

void block_deactivate(struct block *bb)
{
	FOR_EACH_VBD(bb, v)
	{
		vbd_detach(v);
		if (v->present)
			device_close(&v->device);
	}
	bb->config.standby = true;
}

void block_connected(struct block *bb)
{
	FOR_EACH_VBD(bb, v)
	{
		int rc;

		if (!v->attached)
			continue;
		rc = vbd_publish(v);
		if (rc)
			log_err(bb->config.guest, "%s: cannot be described in xenstore: %s", v->name, strerror(-rc));
		vbd_set_state(v, XenbusStateConnected);
	}
}

void block_stats(const struct block *bb, struct block_stats *s)
{
	*s = (struct block_stats){.in_flight = io_in_flight(bb->io), .io_uring = io_has_uring(bb->io)};
	for (const struct vbd *v = bb->vbd; v < bb->vbd + BLOCK_DISKS_MAX; v++) {
		s->disks += v->present;
		s->connected += v->attached;
		s->reads += v->stats.reads;
		s->read_bytes += v->stats.read_bytes;
		s->writes += v->stats.writes;
		s->write_bytes += v->stats.write_bytes;
		s->flushes += v->stats.flushes;
		s->discards += v->stats.discards;
		s->errors += v->stats.errors;
		s->bad_requests += v->stats.bad_requests;
		s->ring_errors += v->stats.ring_errors;
		s->served_again += v->stats.served_again;
	}
}
