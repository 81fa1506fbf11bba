/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pair's own small certificate authority. A folder holds ca.pem and ca.key (only where it was made), and cert.pem and key.pem, the host's
 * own. What the other host needs travels as one bundle: the CA's certificate, its certificate, its key.
 */
#ifndef CLI_AUTHORITY_H
#define CLI_AUTHORITY_H

#include <stddef.h>

enum {
	AUTHORITY_WHY_BYTES = 512,
	AUTHORITY_DAYS = 3650,
	CERTIFICATE_DAYS = 730,
};

struct authority;

/* Loads the CA of the folder, or makes folder and CA. 0 or -errno; `why` names the file. */
int authority_open(const char *dir, struct authority **out, char *why);
void authority_close(struct authority *a);

/* New key and certificate, `days` from now. 0 or -errno with `why`. */
int authority_install(struct authority *a, const char *name, int days, char *why);	   /* as this host's own, in the folder */
int authority_bundle(struct authority *a, const char *name, int days, const char *path, char *why); /* for the other host */

/* Puts a bundle's parts into the folder if it is whole, and made for `name`. 0, -EINVAL or -errno with `why`. */
int authority_join(const char *bundle, const char *dir, const char *name, char *why);

#endif
