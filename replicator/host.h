/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who this host is, and what the other one must have in common with it. */
#ifndef REPLICATOR_HOST_H
#define REPLICATOR_HOST_H

#include "replicator/peer.pb-c.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HOST_TEXT_MAX = 64, HOST_CPU_FEATURES_MAX = 512 };

struct host {
	uint8_t id[16];
	uint64_t instance;
	char boot_id[HOST_TEXT_MAX];
	char hypervisor[HOST_TEXT_MAX];		   /* "4.17"; empty: not on Xen */
	char hypervisor_extra[HOST_TEXT_MAX];	   /* ".5" and what the build added */
	char *cpu_text;				   /* what cpu_features points into */
	char *cpu_features[HOST_CPU_FEATURES_MAX]; /* sorted, unique */
	size_t nr_cpu_features;
};

/* Reads what sysfs and procfs say; the id is kept in `state_dir`/host-id and made if missing. 0 or
 * -errno. */
int host_probe(struct host *h, const char *state_dir);
void host_release(struct host *h);

/* Whether this was called before, with the same directory, since the host was started. */
bool host_same_boot(const struct host *h, const char *run_dir);

/* Why these two cannot work together, in `why`; 0 or -EINVAL. */
int host_match(const struct host *h, const Understudy__PeerHello *peer, char *why, size_t why_len);

#endif
