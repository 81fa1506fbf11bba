/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The witness: one record for each guest in etcd, read and replaced by comparison (v3 JSON gateway, through libcurl). It knows
 * nothing of time: how long a record lasts is for those who watch it not change (lease.h). Never blocks; every request ends within
 * request_ms for each endpoint that is tried.
 */
#ifndef REPLICATOR_WITNESS_H
#define REPLICATOR_WITNESS_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WITNESS_ENDPOINTS_MAX = 5, WITNESS_URL_MAX = 128, WITNESS_PATH_MAX = 90, WITNESS_HOST_MAX = 64, WITNESS_TEXT_MAX = 192 };

/* The value of key understudy/guest/UUID. */
struct witness_record {
	uint8_t holder[16];		/* host id */
	char host[WITNESS_HOST_MAX];	/* its name, for people */
	uint64_t term;
	bool current;			/* the other host's copy is */
	uint32_t ttl_ms;		/* by which the holder renews it while `current` */
	uint64_t serial;		/* of the holder's writes: each makes another value */
};

struct witness_config {
	char endpoints[WITNESS_ENDPOINTS_MAX][WITNESS_URL_MAX];	/* http://10.0.0.3:2379 */
	unsigned int nr_endpoints;
	uint32_t request_ms;
	char ca_file[WITNESS_PATH_MAX], cert_file[WITNESS_PATH_MAX], key_file[WITNESS_PATH_MAX];	/* empty: none */
};

struct witness_answer {
	int error;		/* 0, or why there is none: -errno, -EBADMSG: not a record of ours */
	bool in_doubt;		/* no answer, and the write may have been done or may be yet */
	bool written;		/* the comparison held: the record is what was to be written (or is gone: remove) */
	bool exists;		/* there is a record: as it is now, whether written here or found instead */
	uint64_t revision;
	struct witness_record record;
	uint64_t sent_us;	/* clock_us(), not after the request was sent */
	const char *text;	/* why, for people; valid during the call */
};

typedef void (*witness_done)(void *arg, const struct witness_answer *a);

struct witness;
struct witness_request;

/* `config` is copied. 0 or -errno. */
int witness_new(struct event_base *base, const struct witness_config *config, struct witness **out);

/* Also ends the requests under way, without a word. NULL: nothing. */
void witness_free(struct witness *w);

/*
 * `done` is called once, never from within these; NULL: no memory. A read is tried at every endpoint, a write at further ones only while it has
 * certainly not reached one. revision 0: there must not be a record yet.
 */
struct witness_request *witness_read(struct witness *w, const uint8_t uuid[16], witness_done done, void *arg);
struct witness_request *witness_write(struct witness *w, const uint8_t uuid[16], const struct witness_record *r,
				      uint64_t revision, witness_done done, void *arg);
struct witness_request *witness_remove(struct witness *w, const uint8_t uuid[16], uint64_t revision, witness_done done,
				       void *arg);

/* `done` will not be called. The request may arrive all the same. */
void witness_cancel(struct witness_request *q);

#endif
