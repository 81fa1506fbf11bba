/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

bool tls_wanted(const struct tls_files *f)
{
	return f->peer && f->peer[0];
}

static const char *reason_of(unsigned long error)
{
	const char *reason = error ? ERR_reason_error_string(error) : NULL;

	ERR_clear_error();
	if (ERR_SYSTEM_ERROR(error))
		return strerror(ERR_GET_REASON(error));
	return reason ? reason : "unknown error";
}

/* The last error of the queue is the most general one, the first names the cause. */
static const char *first_error(void)
{
	return reason_of(ERR_get_error());
}

static int refuse(const char *path, char *why)
{
	snprintf(why, TLS_WHY_BYTES, "%s: %s", path, first_error());
	return -EINVAL;
}

static int load(SSL_CTX *context, const struct tls_files *f, char *why)
{
	if (SSL_CTX_load_verify_file(context, f->ca) != 1)
		return refuse(f->ca, why);
	if (SSL_CTX_use_certificate_chain_file(context, f->cert) != 1)
		return refuse(f->cert, why);
	if (SSL_CTX_use_PrivateKey_file(context, f->key, SSL_FILETYPE_PEM) != 1)
		return refuse(f->key, why);
	return 0;
}

/* The end of a connection without a goodbye is an end like another: what it cut off, our own framing tells. Nothing is resumed, hence no
 * tickets. */
static int set_up(SSL_CTX *context, const struct tls_files *f, char *why)
{
	ERR_clear_error();
	SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	if (SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 || SSL_CTX_set_num_tickets(context, 0) != 1) {
		snprintf(why, TLS_WHY_BYTES, "TLS: %s", first_error());
		return -EOPNOTSUPP;
	}
	return load(context, f, why);
}

static int make(SSL_CTX *context, const struct tls_files *f, bool dials, SSL **out, char *why)
{
	SSL *ssl = SSL_new(context);

	if (!ssl || SSL_set1_host(ssl, f->peer) != 1) {
		snprintf(why, TLS_WHY_BYTES, "TLS: %s", first_error());
		SSL_free(ssl);
		return -ENOMEM;
	}
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_WILDCARDS);
	if (dials)
		SSL_set_connect_state(ssl);
	else
		SSL_set_accept_state(ssl);
	*out = ssl;
	return 0;
}

int tls_new(const struct tls_files *f, bool dials, struct ssl_st **out, char *why)
{
	SSL_CTX *context = SSL_CTX_new(TLS_method());
	int rc;

	if (!context) {
		snprintf(why, TLS_WHY_BYTES, "TLS: %s", first_error());
		return -ENOMEM;
	}
	rc = set_up(context, f, why);
	if (!rc)
		rc = make(context, f, dials, out, why);
	SSL_CTX_free(context); /* the connection holds it */
	return rc;
}

void tls_explain(struct ssl_st *ssl, unsigned long error, char *why)
{
	long verdict = SSL_get_verify_result(ssl);

	if (verdict != X509_V_OK) {
		snprintf(why, TLS_WHY_BYTES, "TLS: the other end's certificate: %s", X509_verify_cert_error_string(verdict));
		ERR_clear_error();
	} else {
		snprintf(why, TLS_WHY_BYTES, "TLS: %s", error ? reason_of(error) : first_error());
	}
}

static int file_seconds_left(const char *path, int64_t *seconds, char *why)
{
	FILE *file = fopen(path, "re");
	int days, rest, rc;
	X509 *cert;

	if (!file) {
		rc = -errno;
		snprintf(why, TLS_WHY_BYTES, "%s: %s", path, strerror(-rc));
		return rc;
	}
	ERR_clear_error();
	cert = PEM_read_X509(file, NULL, NULL, NULL);
	fclose(file);
	if (!cert)
		return refuse(path, why);
	rc = ASN1_TIME_diff(&days, &rest, NULL, X509_get0_notAfter(cert)) == 1 ? 0 : refuse(path, why);
	X509_free(cert);
	if (!rc)
		*seconds = (int64_t)days * 24 * 60 * 60 + rest;
	return rc;
}

int tls_seconds_left(const struct tls_files *f, int64_t *seconds, char *why)
{
	int64_t ca_seconds;
	int rc;

	rc = file_seconds_left(f->cert, seconds, why);
	if (!rc)
		rc = file_seconds_left(f->ca, &ca_seconds, why);
	if (!rc && ca_seconds < *seconds)
		*seconds = ca_seconds;
	return rc;
}
