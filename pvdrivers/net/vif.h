/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside pvdrivers/net only: one virtual interface and what all interfaces of a guest share.
 *
 *   netback.c  the set of vifs, the public functions      vif.c  one vif's life, by xenbus states
 *   tx.c       guest to netbuf to TAP                      rx.c   TAP to guest
 *   state.c    what a backup has to know                   addresses.c, flows.c  learn it
 */
#ifndef PVDRIVERS_NET_VIF_H
#define PVDRIVERS_NET_VIF_H

#include "pvdrivers/devices.h"
#include "pvdrivers/grant.h"
#include "pvdrivers/net/addresses.h"
#include "pvdrivers/net/flows.h"
#include "pvdrivers/net/netback.h"
#include "pvdrivers/net/tap.h"
#include "pvdrivers/ring.h"
#include "pvdrivers/xenbus.h"

#include <linux/virtio_net.h>
#include <net/if.h>
#include <xen/io/netif.h>

enum {
	NET_RING_SLOTS = 256,
	VNET_LEN = sizeof(struct virtio_net_hdr),

	/* A TSO frame: 64 KiB of IP behind an Ethernet header with tags. */
	RX_FRAME_MAX = VNET_LEN + 22 + 65535,

	/* A batch is one ioctl. Its size bounds how far the netbuf's limit is overrun. */
	TX_BATCH_BYTES = 256 << 10,
	RX_BATCH_BYTES = 256 << 10,
	RX_BATCH_FRAMES = 64,

	/* A turn of the event loop: then the epoch's timer and the other vifs are looked at. */
	TX_TURN_BATCHES = 2,
	RX_TURN_BATCHES = 2,
	DISCARDS_PER_TURN = 64,
};

struct event;
struct evtchn;
struct evtchn_port;
struct vif;

/* What the front end said it takes. */
struct vif_features {
	bool sg, gso_v4, gso_v6, checksum_v4, checksum_v6;
};

/* A frame that the guest is to receive before anything from the TAP. */
struct replay {
	struct replay *prev, *next;
	uint32_t len;
	uint8_t data[]; /* [len] */
};

struct vif {
	struct netback *netback;
	bool present;  /* the toolstack's directory is there */
	bool attached; /* rings and event channel are ours */
	bool failed;   /* disconnected for bad conduct; the front end has to start over */
	uint32_t devid;
	char name[IFNAMSIZ];
	char *back, *front; /* directories in xenstore */
	uint8_t mac[6];
	struct xenbus_watch *watch; /* on the front end's state */

	int tap; /* -1: none */
	struct event *tap_event;
	bool tap_armed;
	bool tap_lost;		/* somebody removed the interface */
	struct event *turn; /* goes on where the last turn stopped */

	struct vif_features features;
	netif_tx_back_ring_t tx;
	netif_rx_back_ring_t rx;
	uint32_t tx_ref, rx_ref, port_nr; /* as the front end wrote them */
	bool ahead;			  /* they and the features were read ahead of activation */
	enum xenbus_state ahead_state;	  /* the front end's, then */
	unsigned int attach_tries;
	struct evtchn_port *port;

	/*
	 * Requests before this one may have been answered by a worker that died before it could say
	 * so: the answer has then taken the place of the grant reference.
	 */
	RING_IDX tx_doubtful;

	/* A frame from the TAP that waits for more room in the ring. */
	uint8_t *waiting;
	uint32_t waiting_len, waiting_slots;
	struct replay *replay; /* oldest first */

	struct addresses addresses;
	struct flows flows;
	struct netback_stats stats;
};

struct tx_batch;
struct rx_batch;

struct netback {
	struct netback_config config;
	struct xenbus *xenbus;
	struct evtchn *evtchn;
	struct grant *grant;
	struct devices *devices;
	bool full, frozen;
	netback_input *input;
	void *input_arg;
	struct tx_batch *tx_batch;
	struct rx_batch *rx_batch;
	struct vif vif[NETBACK_VIFS_MAX];
};

#define FOR_EACH_VIF(nb, v) for (struct vif *v = (nb)->vif; v < (nb)->vif + NETBACK_VIFS_MAX; v++)

/* state.c: what netback_state() gave, somewhere else. -EINVAL: damaged, and nothing was taken. */
int netback_state_take(struct netback *nb, const void *blob, size_t len);

/* vif.c */
void vif_open(struct netback *nb, uint32_t devid,
	      struct vif *v);	/* a new directory; what goes wrong is said there */
void vif_look(struct vif *v);	/* brings the vif into accord with xenstore */
void vif_end(struct vif *v);	/* the domain is gone; the directory waits for the toolstack */
void vif_forget(struct vif *v); /* the directory is gone */
void vif_release(struct vif *v, bool keep_tap);
void vif_set_state(struct vif *v, enum xenbus_state state);
int vif_attach(struct vif *v); /* rings at rsp_prod, event channel, offloads; serving starts with
				  the next turn */
void vif_read_ahead(struct vif *v); /* what vif_attach() would read; it then does not */
void vif_detach(struct vif *v);
void vif_fail(struct vif *v, int error,
	      const char *what);  /* disconnects for good, with an error node */
void vif_schedule(struct vif *v); /* a turn soon */
void vif_watch_tap(struct vif *v, bool on);
/* What a read of the TAP returned: anything but -EAGAIN means that there is no interface any more, and a poll that never rests. */
void vif_tap_failed(struct vif *v, int error);

/* tx.c. Serves at most `batches`. 1: more is there; 0: nothing more, or the netbuf is full; -errno:
 * the vif must fail. */
int tx_run(struct vif *v, unsigned int batches);
void tx_emit(struct vif *v, struct packet *p);
struct tx_batch *tx_batch_new(void);

/* rx.c. 1: more may be there; 0: the TAP is empty; -EAGAIN: no room, the guest will tell us;
 * another -errno: the vif must fail. */
int rx_run(struct vif *v, unsigned int batches);
void rx_drop_waiting(struct vif *v); /* and what was to be replayed */
struct rx_batch *rx_batch_new(void);

#endif
