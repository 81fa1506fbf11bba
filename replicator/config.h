/* SPDX-License-Identifier: GPL-2.0-or-later */
/* understudy.conf(5): the host, the peer, the policies. */
#ifndef REPLICATOR_CONFIG_H
#define REPLICATOR_CONFIG_H

#include "common/tls.h"
#include "replicator/hook.h"
#include "replicator/witness.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CONFIG_POLICIES_MAX = 32, CONFIG_NAME_MAX = 64, CONFIG_PATH_MAX = 90 };

enum takeover {
	TAKEOVER_MANUAL,
	TAKEOVER_AUTOMATIC_WITHOUT_WITNESS,
	TAKEOVER_AUTOMATIC, /* with the witness's lease */
	TAKEOVERS,
};
extern const char *const takeover_name[TAKEOVERS];

struct policy {
	char name[CONFIG_NAME_MAX];
	uint32_t epoch_ms, window;
	bool adaptive; /* epochs of epoch_ms to epoch_max_ms */
	uint32_t epoch_max_ms, pause_pct;
	uint32_t streams; /* connections of an epoch stream */
	uint32_t heartbeat_ms, timeout_ms, hold_max_ms;
	uint32_t netbuf_mib, cache_mib;
	enum takeover takeover;
	char home[CONFIG_NAME_MAX]; /* zone; empty: none */
	bool fence_required; /* no takeover unless the fence hook has succeeded */
	uint64_t set; /* which keys were given */
};

struct config {
	char host[CONFIG_NAME_MAX], zone[CONFIG_NAME_MAX];
	char listen_address[CONFIG_NAME_MAX];
	char state_dir[CONFIG_PATH_MAX], run_dir[CONFIG_PATH_MAX];
	char worker_path[CONFIG_PATH_MAX], shell_path[CONFIG_PATH_MAX];
	char metrics_address[CONFIG_NAME_MAX];	     /* of this machine only */
	uint32_t metrics_port;			     /* 0: none */
	char watchdog[CONFIG_PATH_MAX]; /* empty: none */
	uint32_t watchdog_s;
	char peer_address[CONFIG_NAME_MAX];	     /* numeric; empty: no peer */
	uint32_t control_port, stream_port;	     /* here */
	uint32_t peer_control_port;		     /* the peer's, if it differs */
	char tls_peer[CONFIG_NAME_MAX];		     /* the name in the peer's certificate; empty: no TLS */
	char tls_ca[CONFIG_PATH_MAX], tls_cert[CONFIG_PATH_MAX], tls_key[CONFIG_PATH_MAX];
	struct witness_config witness; /* no endpoints: no witness */
	uint32_t witness_ttl_ms, witness_margin_ms, witness_drift_ppm;
	struct policy policies[CONFIG_POLICIES_MAX]; /* [0] is `standard` */
	unsigned int nr_policies;
	char hook[HOOKS][CONFIG_PATH_MAX]; /* empty: none */
	uint32_t hook_limit_ms;
	uint64_t host_set, peer_set, tls_set, witness_set, hooks_set, metrics_set;
};

#define CONFIG_PATH_DEFAULT "/etc/understudy/understudy.conf"

/* The built-in values; `host` is the machine's name. */
void config_defaults(struct config *c);

/*
 * Reads `path` over the defaults. 0, -ENOENT (no such file), -errno, or -EINVAL; `why` names file,
 * line and what is wrong with it.
 */
int config_load(struct config *c, const char *path, char *why, size_t why_len);

/* The same from memory; `path` is for messages. */
int config_parse(struct config *c, const char *text, size_t len, const char *path, char *why,
		 size_t why_len);

const struct policy *config_policy(const struct config *c, const char *name);

/* The shortest heartbeat and time-out of any policy: the session between daemons keeps these. */
uint32_t config_heartbeat_ms(const struct config *c);
uint32_t config_timeout_ms(const struct config *c);

/* What [tls] says, as pointers into `c`. */
struct tls_files config_tls(const struct config *c);

/* Joins run_dir and `name` into `out`. 0 or -ENAMETOOLONG. */
int config_run_path(const struct config *c, const char *name, char *out, size_t len);

#endif
