/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pvdrivers/block/block.h"
#include "common/log.h"
#include "pvdrivers/block/vbd.h"
#include "pvdrivers/evtchn.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The vbd's place, known or new. NULL: too many. */
static struct vbd *place_of(struct block *bb, uint32_t devid)
{
	FOR_EACH_VBD(bb, v)
	{
		if (v->present && v->devid == devid)
			return v;
	}
	FOR_EACH_VBD(bb, v)
	{
		if (!v->present)
			return v;
	}
	return NULL;
}

static bool is_listed(char **names, unsigned int nr, uint32_t devid)
{
	char name[12];

	snprintf(name, sizeof(name), "%u", devid);
	for (unsigned int i = 0; i < nr; i++)
		if (!strcmp(names[i], name))
			return true;
	return false;
}

static void open_new(struct block *bb, char **names, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		unsigned long devid;
		struct vbd *v;
		char *end;

		devid = strtoul(names[i], &end, 10);
		if (*end || end == names[i] || devid > UINT32_MAX)
			continue;
		v = place_of(bb, (uint32_t)devid);
		if (!v)
			log_err(bb->config.guest, "vbd %lu: a guest may have %d", devid, BLOCK_DISKS_MAX);
		else if (!v->present)
			vbd_open(bb, (uint32_t)devid, v);
	}
}

static void look(struct block *bb)
{
	bool alive = xenbus_domain_alive(bb->xenbus, bb->config.domid);
	unsigned int nr;
	char **names;

	if (bb->seen_alive && !alive) {
		FOR_EACH_VBD(bb, v)
		{
			if (v->present)
				vbd_end(v);
		}
	}
	bb->seen_alive |= alive;
	names = xenbus_list(bb->xenbus, &nr, "/local/domain/0/backend/vbd/%u", bb->config.domid);
	if (!names)
		nr = 0;
	FOR_EACH_VBD(bb, v)
	{
		if (v->present && !is_listed(names, nr, v->devid))
			vbd_forget(v);
	}
	if (alive || !bb->seen_alive)
		open_new(bb, names, nr);
	free(names);
	FOR_EACH_VBD(bb, v)
	{
		if (v->present)
			vbd_look(v);
	}
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
	struct block *bb = arg;

	if (bb->frozen)
		bb->missed_look = true;
	else
		look(bb);
}

void block_look_soon(void *arg)
{
	static const struct timeval now;
	struct block *bb = arg;

	evtimer_add(bb->look, &now);
}

static int open_all(struct block *bb)
{
	uint32_t domid = bb->config.domid;
	int rc;

	bb->look = evtimer_new(bb->config.base, on_look, bb);
	if (!bb->look)
		return -ENOMEM;
	rc = io_engine_new(bb->config.base, bb->config.guest, false, &bb->io);
	rc = rc ?: grant_open(domid, &bb->grant);
	rc = rc ?: evtchn_open(bb->config.base, &bb->evtchn);
	rc = rc ?: xenbus_open(bb->config.base, &bb->xenbus);
	if (!rc && bb->config.mark_path)
		rc = mark_open(bb->config.mark_path, &bb->marks);
	rc = rc ?: xenbus_watch(bb->xenbus, block_look_soon, bb, &bb->released, "@releaseDomain");
	/* The hotplug script's nodes are below as well. */
	return rc ?: xenbus_watch(bb->xenbus, block_look_soon, bb, &bb->watch, "/local/domain/0/backend/vbd/%u", domid);
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
	look(bb);
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
	xenbus_close(bb->xenbus);
	evtchn_close(bb->evtchn);
	grant_close(bb->grant);
	if (bb->look)
		event_free(bb->look);
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
	if (frozen)
		return;
	block_pressure(bb);
	if (bb->missed_look)
		block_look_soon(bb);
	bb->missed_look = false;
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
