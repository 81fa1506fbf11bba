/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The vifs and the held output as a participant. Last in the engine's array: its commit lets output go (I1). */
#ifndef CHECKPOINT_PART_NET_H
#define CHECKPOINT_PART_NET_H

#include "checkpoint/participant.h"
#include "netbuf/netbuf.h"
#include "pvdrivers/net/netback.h"

struct part_net {
	struct participant base;
	struct netback *netback;
	struct netbuf *netbuf;
	struct buf sent, now;		/* the net blob that the backup has; scratch */
	uint64_t released;		/* the last epoch whose output was */
	uint64_t untold;		/* the last one with output whose release the backup was not told of; 0: none */
};

extern const struct participant_ops part_net_ops;

#endif
