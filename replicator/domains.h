/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which domains are on this host, as xenstore tells it. No hypercalls. */
#ifndef REPLICATOR_DOMAINS_H
#define REPLICATOR_DOMAINS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event_base;
struct domains;

enum { DOMAIN_NAME_MAX = 64 };

struct domain_entry {
	uint32_t domid;
	uint8_t uuid[16];
	bool known; /* name and uuid are there; false: only its vifs are */
	char name[DOMAIN_NAME_MAX];
	bool has_vifs; /* backend/vif/<domid> is in dom0's part */
};

/* `changed` is called after the first look and whenever something may have changed. Without a
 * xenstored (yet) it is tried again every second. */
int domains_new(struct event_base *base, void (*changed)(void *arg), void *arg,
		struct domains **out);
void domains_free(struct domains *ds);

bool domains_ready(const struct domains *ds);

/* Valid until the next `changed`. */
const struct domain_entry *domains_list(const struct domains *ds, size_t *nr);
const struct domain_entry *domains_by_id(const struct domains *ds, uint32_t domid);
const struct domain_entry *domains_by_name(const struct domains *ds, const char *name);
const struct domain_entry *domains_by_uuid(const struct domains *ds, const uint8_t uuid[16]);

#endif
