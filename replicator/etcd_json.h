/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests to etcd's JSON gateway and its answers, without the network. */
#ifndef REPLICATOR_ETCD_JSON_H
#define REPLICATOR_ETCD_JSON_H

#include "replicator/witness.h"

enum etcd_kind { ETCD_READ, ETCD_WRITE, ETCD_REMOVE, ETCD_KINDS };

/* Where it is posted to, behind the endpoint. */
extern const char *const etcd_path[ETCD_KINDS];

/* The body to post (free()), or NULL: no memory. `r` for ETCD_WRITE. */
char *etcd_request(enum etcd_kind kind, const uint8_t uuid[16], const struct witness_record *r, uint64_t revision);

/* What came back with HTTP status 200: written, exists, revision, record. 0 or -EBADMSG, with the reason in `text`. */
int etcd_answer(enum etcd_kind kind, const char *body, size_t len, struct witness_answer *a, char *text, size_t text_len);

/* etcd's own word for an error, or the status. */
void etcd_error(long status, const char *body, size_t len, char *text, size_t text_len);

#endif
