/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The session with the peer's daemon: both sides listen and dial, one connection survives,
 * heartbeats go both ways. Silence, a closed connection and a refusal are reported as `down`; which
 * of them means what is the caller's affair.
 */
#ifndef REPLICATOR_PEER_H
#define REPLICATOR_PEER_H

#include "replicator/frame.h"

#include <stdbool.h>
#include <stdint.h>

struct config;
struct event_base;
struct host;
struct peer;

enum { PEER_VERSION_MIN = 1, PEER_VERSION_MAX = 1, PV_STATE_ABI = 1 };

struct peer_ops {
	/* `again`: the same session over another connection; what was last said may be lost. */
	void (*up)(void *arg, bool again);
	void (*down)(void *arg, const char *cause);
	/* A checked message of any type but hello, heartbeat and bye. */
	void (*message)(void *arg, enum peer_type type, const ProtobufCMessage *m);
};

/* What the other side said of itself; kept after the session. */
struct peer_info {
	char host[64], zone[64];
	char hypervisor[128];
	uint32_t heartbeat_ms, stream_port;
};

/* -EADDRINUSE and the like come from the listening socket. */
int peer_new(struct event_base *base, const struct config *config, const struct host *host,
	     const struct peer_ops *ops, void *arg, struct peer **out);
void peer_free(struct peer *p);

bool peer_up(const struct peer *p);
const struct peer_info *peer_info(const struct peer *p);

/* Why there is no session; "" if there is one. */
const char *peer_problem(const struct peer *p);

/* clock_us() when a byte last came over a session (the kernel's word counts, too); before the
 * first: of the start. */
uint64_t peer_heard_us(const struct peer *p);

/* The same without the kernel's word, hence never later: when the daemon last read something. No system call. */
uint64_t peer_read_us(const struct peer *p);

/* 0, -ENOTCONN, -errno. */
int peer_send(struct peer *p, enum peer_type type, const ProtobufCMessage *m);

/* How long ago the kernel last received data on a TCP socket, in ms; -1: not known. */
int64_t tcp_silent_ms(int fd);

#endif
