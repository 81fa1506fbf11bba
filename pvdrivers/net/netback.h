/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The back end of xen/include/public/io/netif.h in user space, in the guest's worker: TAP `vif<domid>.<devid>` with a vnet
 * header on one side, the guest's rings on the other. Grant copies by xengnttab, rings mapped by grant. Requests
 * are completed strictly in order and answered at once, so rsp_prod describes the back end fully: a new
 * worker, here or on the backup, attaches to a live ring there. Everything runs on the caller's libevent base.
 */
#ifndef PVDRIVERS_NET_NETBACK_H
#define PVDRIVERS_NET_NETBACK_H

#include "netbuf/netbuf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event_base;
struct xs_handle;
struct netback;

/* What one frame may have to be told to an input function, with its header: no segments to come, and no more than most are. */
enum { NETBACK_INPUT_BYTES_MIN = 24, NETBACK_INPUT_BYTES_MAX = 2048 };

enum { NETBACK_VIFS_MAX = 8, NETBACK_RING_PAGES_MAX = 2 * NETBACK_VIFS_MAX, NETBACK_ADDRESSES_MAX = 16 };

struct netback_config {
	struct event_base *base;
	uint32_t domid;
	const char *guest;		/* for messages; outlives the netback */
	struct netbuf *netbuf;		/* what the guest sends goes through here */
	bool standby;			/* a shell's: TAPs exist (so that hotplug scripts run), input is thrown away, no ring yet */
};

/*
 * All vifs of one domain: watches backend/vif/<domid> in xenstore, creates the TAPs (persistent: a restarted worker
 * finds them in their bridges), follows the xenbus states, attaches to a connected ring at rsp_prod. A vif that misbehaves is
 * disconnected with an error in xenstore, the others go on.
 */
int netback_new(const struct netback_config *config, struct netback **out);

/* Detaches. keep_taps: another worker will take over (crash-free restart); otherwise the TAPs of closed vifs go. */
void netback_free(struct netback *nb, bool keep_taps);

/* The emit side of the netbuf: writes to the TAP named by p->out. Frees p. A full TAP queue drops like a wire does, counted. */
void netback_emit(struct netback *nb, struct packet *p);

/* The vif that a packet leaves by. */
uint32_t netback_devid(const struct packet *p);

/* The netbuf is full / has room: stop or go on consuming tx rings. */
void netback_pressure(struct netback *nb, bool full);

/* Consumes every tx request published so far (as far as the netbuf takes them) and answers it. Called before
 * and again right after the guest was paused. -errno: a ring that cannot be served (the vif was disconnected). */
int netback_drain(struct netback *nb);

/* While the guest stands still: nothing is read from the TAPs, nothing written to the rings. */
void netback_freeze(struct netback *nb, bool frozen);

/* The gfns of the pages that hold rings (log-dirty does not see what is written through grant mappings). They come from the guest's
 * grant table through `gfn_of_grant(arg, ref)` (UINT64_MAX: none). Returns how many, or -errno. */
int netback_ring_gfns(struct netback *nb, uint64_t (*gfn_of_grant)(void *arg, uint32_t ref), void *arg,
		      uint64_t *gfn, size_t max);

/* What activation needs besides rings and xenstore: addresses and connections seen in what the guest sent. Form: docs/protocol.md
 * ("net blob"). Called once an epoch. */
struct buf;
int netback_state(struct netback *nb, struct buf *out);
int netback_state_check(const void *blob, size_t len);

/* Standby, the front ends' nodes are in place: reads them and sets the states, so that activation need not. Forget: they are about to
 * change. */
void netback_read_ahead(struct netback *nb);
void netback_forget_ahead(struct netback *nb);

/*
 * Activation: takes the learned addresses, then attaches every vif to its live ring and makes sure that its front end's xenbus state is connected.
 * The front end's nodes and memory are in place. -errno: which vif is logged.
 */
int netback_activate(struct netback *nb, const void *blob, size_t len);

/* An activation failed behind netback_activate(), or in it: lets go of the shell's rings, which are only a copy again. */
void netback_deactivate(struct netback *nb);

/* `fn` is told of each frame when the guest has received it: `data` is a virtio-net header and the frame, `len` bytes within the limits
 * above; others are not told. fn NULL: nobody is. */
typedef void netback_input(void *arg, uint32_t devid, const void *data, size_t len);
void netback_set_input(struct netback *nb, netback_input *fn, void *arg);

/* Behind netback_activate(): the guest receives this (copied), in the order of the calls, before anything from the TAP. -ENODEV: that vif
 * is not attached; -EINVAL: too short or too long; -ENOMEM. */
int netback_replay(struct netback *nb, uint32_t devid, const void *data, size_t len);

/* Behind netback_activate(): sends a frame in the guest's name, `data` as above. -ENODEV: no such vif; other -errno: it is lost. */
int netback_send(struct netback *nb, uint32_t devid, const void *data, size_t len);

/* Gratuitous ARP and unsolicited neighbour advertisements (RARP where no address is known) for all vifs, straight to the TAPs. */
int netback_announce(struct netback *nb);

/* Then: the other ends of the guest's TCP connections are asked to retransmit now (announce_nudge()). A matter of a client's
 * stall only: what fails is logged. */
void netback_nudge(struct netback *nb);

/* After activation: the back ends' xenbus states become connected. Nobody waits for that, and each costs four round trips. */
void netback_connected(struct netback *nb);

struct netback_stats {
	unsigned int vifs, connected;
	uint64_t tx_packets, tx_bytes, rx_packets, rx_bytes, tx_dropped, rx_dropped, ring_errors;
};
void netback_stats(const struct netback *nb, struct netback_stats *s);

#endif
