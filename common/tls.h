/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TLS between the two hosts: version 1.3 only, both ends show a certificate of the pair's own CA, and each wants the other's name in it.
 * Here is what the session and the streams have in common; how bytes move is theirs (bufferevents there, checkpoint/channel.c here).
 */
#ifndef COMMON_TLS_H
#define COMMON_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ssl_st;

enum { TLS_WHY_BYTES = 320 };

struct tls_files {
	const char *ca, *cert, *key; /* PEM; cert may have the chain behind it */
	const char *peer;	     /* the other end's name; NULL or empty: no TLS is wanted */
};

bool tls_wanted(const struct tls_files *f);

/* One end of a connection, without a file descriptor yet. The files are read each time, so renewed ones hold from the next connection on.
 * 0 or -errno, and `why` (TLS_WHY_BYTES) says which file and what is wrong with it. */
int tls_new(const struct tls_files *f, bool dials, struct ssl_st **out, char *why);

/* Why a handshake, a read or a write failed, in words; a certificate that was refused comes first. `error`: OpenSSL's code, 0: what its queue
 * has; that is empty afterwards. */
void tls_explain(struct ssl_st *ssl, unsigned long error, char *why);

/* How long the certificate and the CA's still hold, whichever ends first; negative: one has run out. 0 or -errno with `why`. */
int tls_seconds_left(const struct tls_files *f, int64_t *seconds, char *why);

#endif
