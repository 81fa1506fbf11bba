/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/authority.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 256, CLOCK_SLACK_S = 24 * 60 * 60, SECONDS_PER_DAY = 24 * 60 * 60 };

struct authority {
	char dir[PATH_BYTES];
	X509 *cert;
	EVP_PKEY *key;
};

/* What one file gets; NULL: nothing of the kind. */
struct parts {
	X509 *ca, *cert;
	EVP_PKEY *key;
};

static void parts_free(struct parts *p)
{
	X509_free(p->ca);
	X509_free(p->cert);
	EVP_PKEY_free(p->key);
}

static int fail(char *why, const char *path, int rc)
{
	const char *reason = ERR_reason_error_string(ERR_peek_error());

	ERR_clear_error();
	snprintf(why, AUTHORITY_WHY_BYTES, "%s: %s", path, rc == -EINVAL && reason ? reason : strerror(-rc));
	return rc;
}

static int path_of(const char *dir, const char *name, char *path, char *why)
{
	int n = snprintf(path, PATH_BYTES, "%s/%s", dir, name);

	return n < 0 || n >= PATH_BYTES ? fail(why, dir, -ENAMETOOLONG) : 0;
}

/* ---- files ---- */

static int write_parts(FILE *f, const struct parts *p)
{
	if ((p->ca && PEM_write_X509(f, p->ca) != 1) || (p->cert && PEM_write_X509(f, p->cert) != 1) ||
	    (p->key && PEM_write_PrivateKey(f, p->key, NULL, NULL, 0, NULL, NULL) != 1))
		return -EIO;
	return fflush(f) || fsync(fileno(f)) ? -errno : 0;
}

/* Under its name only when it is whole: a daemon may be reading. Only its owner reads it. */
static int save(const char *path, const struct parts *p, char *why)
{
	char fresh[PATH_BYTES + 8];
	FILE *f;
	int fd, rc;

	snprintf(fresh, sizeof(fresh), "%s.new", path);
	unlink(fresh);
	fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	f = fd < 0 ? NULL : fdopen(fd, "w");
	if (!f) {
		rc = -errno;
		if (fd >= 0)
			close(fd);
		return fail(why, fresh, rc);
	}
	rc = write_parts(f, p);
	if (fclose(f) && !rc)
		rc = -errno;
	if (!rc && rename(fresh, path))
		rc = -errno;
	if (rc)
		unlink(fresh);
	return rc ? fail(why, path, rc) : 0;
}

static int save_in(const char *dir, const char *name, const struct parts *p, char *why)
{
	char path[PATH_BYTES];
	int rc = path_of(dir, name, path, why);

	return rc ? rc : save(path, p, why);
}

/* `ca`, `cert` and `key` say what is wanted, in this order; -ENOENT, or -EINVAL for a file that has something else. */
static int load(const char *path, bool ca, bool cert, bool key, struct parts *p, char *why)
{
	FILE *f = fopen(path, "re");

	*p = (struct parts){0};
	if (!f)
		return fail(why, path, -errno);
	ERR_clear_error();
	if (ca)
		p->ca = PEM_read_X509(f, NULL, NULL, NULL);
	if (cert)
		p->cert = PEM_read_X509(f, NULL, NULL, NULL);
	if (key)
		p->key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
	fclose(f);
	if ((!ca || p->ca) && (!cert || p->cert) && (!key || p->key))
		return 0;
	parts_free(p);
	*p = (struct parts){0};
	return fail(why, path, -EINVAL);
}

/* ---- certificates ---- */

static int add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509_EXTENSION *e;
	X509V3_CTX context;
	int r;

	X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
	e = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	r = e ? X509_add_ext(cert, e, -1) : 0;
	X509_EXTENSION_free(e);
	return r == 1 ? 0 : -EINVAL;
}

/* RFC 5280, 4.1.2.2: positive, unique, 20 bytes at most. */
static int set_serial(X509 *cert)
{
	unsigned char bytes[16];
	BIGNUM *number;
	int r;

	if (RAND_bytes(bytes, sizeof(bytes)) != 1)
		return -EIO;
	bytes[0] = (unsigned char)((bytes[0] & 0x7f) | 0x40);
	number = BN_bin2bn(bytes, sizeof(bytes), NULL);
	r = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert));
	BN_free(number);
	return r ? 0 : -ENOMEM;
}

static int set_names(X509 *cert, X509 *issuer, const char *name)
{
	X509_NAME *subject = X509_get_subject_name(cert);

	if (X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0) != 1)
		return -EINVAL;
	return X509_set_issuer_name(cert, X509_get_subject_name(issuer)) == 1 ? 0 : -ENOMEM;
}

static int set_extensions(X509 *cert, X509 *issuer, const char *name)
{
	bool is_ca = cert == issuer;
	char alternative[80];
	int rc;

	snprintf(alternative, sizeof(alternative), "DNS:%s", name);
	rc = add_extension(cert, issuer, NID_basic_constraints, is_ca ? "critical,CA:TRUE,pathlen:0" : "critical,CA:FALSE");
	rc = rc ?: add_extension(cert, issuer, NID_key_usage, is_ca ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature");
	rc = rc ?: add_extension(cert, issuer, NID_subject_key_identifier, "hash");
	rc = rc ?: add_extension(cert, issuer, NID_authority_key_identifier, "keyid:always");
	if (is_ca)
		return rc;
	rc = rc ?: add_extension(cert, issuer, NID_ext_key_usage, "serverAuth,clientAuth");
	return rc ?: add_extension(cert, issuer, NID_subject_alt_name, alternative);
}

/* `issuer` NULL: its own, a CA's. The clocks of two hosts may differ: valid from yesterday on. */
static int issue(X509 *issuer, EVP_PKEY *issuer_key, const char *name, int days, X509 **cert_out, EVP_PKEY **key_out)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	int rc = key && cert ? set_serial(cert) : -ENOMEM;

	if (!rc && (X509_set_version(cert, X509_VERSION_3) != 1 || !X509_gmtime_adj(X509_getm_notBefore(cert), -CLOCK_SLACK_S) ||
		    !X509_gmtime_adj(X509_getm_notAfter(cert), (long)days * SECONDS_PER_DAY) || X509_set_pubkey(cert, key) != 1))
		rc = -ENOMEM;
	rc = rc ?: set_names(cert, issuer ? issuer : cert, name);
	rc = rc ?: set_extensions(cert, issuer ? issuer : cert, name);
	if (!rc && !X509_sign(cert, issuer ? issuer_key : key, EVP_sha256()))
		rc = -EINVAL;
	if (rc) {
		EVP_PKEY_free(key);
		X509_free(cert);
		return rc;
	}
	*cert_out = cert;
	*key_out = key;
	return 0;
}

/* ---- the authority ---- */

static int authority_create(struct authority *a, const char *cert_path, const char *key_path, char *why)
{
	struct parts key = {0}, cert = {0};
	int rc = issue(NULL, NULL, "understudy pair", AUTHORITY_DAYS, &a->cert, &a->key);

	if (rc)
		return fail(why, cert_path, rc);
	key.key = a->key;
	cert.ca = a->cert;
	rc = save(key_path, &key, why);
	return rc ? rc : save(cert_path, &cert, why);
}

static int authority_load(struct authority *a, const char *cert_path, const char *key_path, char *why)
{
	struct parts cert, key;
	int rc = load(key_path, false, false, true, &key, why);

	if (rc)
		return rc;
	a->key = key.key;
	rc = load(cert_path, true, false, false, &cert, why);
	if (rc)
		return rc == -ENOENT ? -EINVAL : rc; /* a key without its certificate is no reason to make another CA */
	a->cert = cert.ca;
	return X509_check_private_key(a->cert, a->key) == 1 ? 0 : fail(why, key_path, -EINVAL);
}

int authority_open(const char *dir, struct authority **out, char *why)
{
	char cert_path[PATH_BYTES], key_path[PATH_BYTES];
	struct authority *a;
	int rc = path_of(dir, "ca.pem", cert_path, why);

	rc = rc ?: path_of(dir, "ca.key", key_path, why);
	if (rc)
		return rc;
	if (mkdir(dir, 0700) && errno != EEXIST)
		return fail(why, dir, -errno);
	a = calloc(1, sizeof(*a));
	if (!a)
		return fail(why, dir, -ENOMEM);
	strcpy(a->dir, dir);
	rc = authority_load(a, cert_path, key_path, why);
	if (rc == -ENOENT)
		rc = authority_create(a, cert_path, key_path, why);
	if (rc)
		authority_close(a);
	else
		*out = a;
	return rc;
}

void authority_close(struct authority *a)
{
	if (!a)
		return;
	X509_free(a->cert);
	EVP_PKEY_free(a->key);
	free(a);
}

int authority_install(struct authority *a, const char *name, int days, char *why)
{
	struct parts p = {0};
	int rc = issue(a->cert, a->key, name, days, &p.cert, &p.key);

	if (rc)
		return fail(why, name, rc);
	rc = save_in(a->dir, "key.pem", &(struct parts){.key = p.key}, why);
	rc = rc ?: save_in(a->dir, "cert.pem", &(struct parts){.cert = p.cert}, why);
	parts_free(&p);
	return rc;
}

int authority_bundle(struct authority *a, const char *name, int days, const char *path, char *why)
{
	struct parts p = {0};
	int rc = issue(a->cert, a->key, name, days, &p.cert, &p.key);

	if (rc)
		return fail(why, name, rc);
	p.ca = a->cert;
	rc = save(path, &p, why);
	p.ca = NULL;
	parts_free(&p);
	return rc;
}

static int check_bundle(const struct parts *p, const char *bundle, const char *name, char *why)
{
	int rc = -EINVAL;

	if (X509_verify(p->cert, X509_get0_pubkey(p->ca)) != 1)
		snprintf(why, AUTHORITY_WHY_BYTES, "%s: its certificate is not of its CA", bundle);
	else if (X509_check_private_key(p->cert, p->key) != 1)
		snprintf(why, AUTHORITY_WHY_BYTES, "%s: its key is not its certificate's", bundle);
	else if (X509_check_host(p->cert, name, 0, X509_CHECK_FLAG_NO_WILDCARDS, NULL) != 1)
		snprintf(why, AUTHORITY_WHY_BYTES, "%s: it was not made for %s", bundle, name);
	else
		rc = 0;
	ERR_clear_error();
	return rc;
}

int authority_join(const char *bundle, const char *dir, const char *name, char *why)
{
	struct parts p;
	int rc = load(bundle, true, true, true, &p, why);

	if (rc)
		return rc;
	rc = check_bundle(&p, bundle, name, why);
	if (!rc && mkdir(dir, 0700) && errno != EEXIST)
		rc = fail(why, dir, -errno);
	rc = rc ?: save_in(dir, "ca.pem", &(struct parts){.ca = p.ca}, why);
	rc = rc ?: save_in(dir, "key.pem", &(struct parts){.key = p.key}, why);
	rc = rc ?: save_in(dir, "cert.pem", &(struct parts){.cert = p.cert}, why);
	parts_free(&p);
	return rc;
}
