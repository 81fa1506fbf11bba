/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/etcd_json.h"
#include "replicator/tags.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RECORD_VERSION = 1, RECORD_BYTES_MAX = 512, KEY_MAX = 64 };

const char *const etcd_path[ETCD_KINDS] = {
	[ETCD_READ] = "/v3/kv/range",
	[ETCD_WRITE] = "/v3/kv/txn",
	[ETCD_REMOVE] = "/v3/kv/txn",
};

/* ---- the record ---- */

static void hex_put(char *out, const uint8_t *in, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		sprintf(out + 2 * i, "%02x", in[i]);
}

static bool hex_get(uint8_t *out, size_t len, const char *in)
{
	size_t i;

	if (strlen(in) != 2 * len || strspn(in, "0123456789abcdef") != 2 * len)
		return false;
	for (i = 0; i < len; i++)
		sscanf(in + 2 * i, "%2hhx", &out[i]);
	return true;
}

static char *record_put(const struct witness_record *r)
{
	char holder[2 * sizeof(r->holder) + 1];
	json_t *j;
	char *text;

	hex_put(holder, r->holder, sizeof(r->holder));
	j = json_pack("{si ss ss sI sb si sI}", "version", RECORD_VERSION, "holder", holder, "host", r->host, "term",
		      (json_int_t)r->term, "current", r->current, "ttl_ms", (int)r->ttl_ms, "serial",
		      (json_int_t)r->serial);
	text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	json_decref(j);
	return text;
}

static bool record_get(const char *text, size_t len, struct witness_record *r)
{
	const char *holder, *host;
	json_int_t term, serial, ttl_ms;
	int version, current;
	json_t *j = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	bool good;

	good = j && !json_unpack(j, "{si ss ss sI sb sI sI}", "version", &version, "holder", &holder, "host", &host,
				 "term", &term, "current", &current, "ttl_ms", &ttl_ms, "serial", &serial) &&
	       version == RECORD_VERSION && term > 0 && serial >= 0 && ttl_ms > 0 && ttl_ms <= INT32_MAX &&
	       strlen(host) < sizeof(r->host);
	memset(r, 0, sizeof(*r));
	good = good && hex_get(r->holder, sizeof(r->holder), holder);
	if (good) {
		strcpy(r->host, host);
		r->term = (uint64_t)term;
		r->serial = (uint64_t)serial;
		r->ttl_ms = (uint32_t)ttl_ms;
		r->current = current;
	}
	json_decref(j);
	return good;
}

/* ---- requests ---- */

/* Keys and values travel in base64. */
static json_t *base64(const char *text)
{
	unsigned char out[(RECORD_BYTES_MAX + 2) / 3 * 4 + 1];
	size_t len = strlen(text);

	if (len > RECORD_BYTES_MAX)
		return NULL;
	EVP_EncodeBlock(out, (const unsigned char *)text, (int)len);
	return json_string((const char *)out);
}

static json_t *key_of(const uint8_t uuid[16])
{
	char key[KEY_MAX], text[UUID_TEXT];

	uuid_format(uuid, text);
	snprintf(key, sizeof(key), "understudy/guest/%s", text);
	return base64(key);
}

static json_t *put_or_delete(enum etcd_kind kind, const uint8_t uuid[16], const struct witness_record *r)
{
	char *value;
	json_t *j;

	if (kind == ETCD_REMOVE)
		return json_pack("{s{so}}", "requestDeleteRange", "key", key_of(uuid));
	value = record_put(r);
	j = value ? json_pack("{s{soso}}", "requestPut", "key", key_of(uuid), "value", base64(value)) : NULL;
	free(value);
	return j;
}

/* Compared is the revision of the last change; 0 is that of a key which does not exist. If it differs, what is there comes back. */
static json_t *transaction(enum etcd_kind kind, const uint8_t uuid[16], const struct witness_record *r, uint64_t revision)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, revision);
	return json_pack("{s[{sossssss}] s[o] s[{s{so}}]}", "compare", "key", key_of(uuid), "target", "MOD", "result", "EQUAL",
			 "modRevision", text, "success", put_or_delete(kind, uuid, r), "failure", "requestRange", "key",
			 key_of(uuid));
}

char *etcd_request(enum etcd_kind kind, const uint8_t uuid[16], const struct witness_record *r, uint64_t revision)
{
	json_t *j = kind == ETCD_READ ? json_pack("{so}", "key", key_of(uuid)) : transaction(kind, uuid, r, revision);
	char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;

	json_decref(j);
	return text;
}

/* ---- answers ---- */

static int __attribute__((format(printf, 3, 4))) bad(char *text, size_t len, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, len, fmt, ap);
	va_end(ap);
	return -EBADMSG;
}

/* The gateway sends 64-bit numbers as strings. */
static bool number_get(const json_t *j, uint64_t *out)
{
	const char *text = json_string_value(j);
	char *end;

	if (!text || strspn(text, "0123456789") != strlen(text) || !*text)
		return false;
	errno = 0;
	*out = strtoull(text, &end, 10);
	return !errno && !*end && *out <= INT64_MAX;
}

static bool value_get(const char *text, struct witness_record *r)
{
	unsigned char out[RECORD_BYTES_MAX + 4];
	size_t len = text ? strlen(text) : 0;
	int n;

	if (!len || len % 4 || len / 4 * 3 > RECORD_BYTES_MAX)
		return false;
	n = EVP_DecodeBlock(out, (const unsigned char *)text, (int)len);
	if (n < 0)
		return false;
	n -= text[len - 1] == '=';
	n -= text[len - 2] == '=';
	return record_get((const char *)out, (size_t)n, r);
}

/* An answer to a range of one key: no `kvs` if there is none. */
static int range_get(const json_t *range, struct witness_answer *a, char *text, size_t len)
{
	const json_t *kv = json_array_get(json_object_get(range, "kvs"), 0);

	if (!json_object_get(range, "header"))
		return bad(text, len, "the witness's answer has no header");
	a->exists = kv;
	if (!kv)
		return 0;
	if (!number_get(json_object_get(kv, "mod_revision"), &a->revision) || !a->revision)
		return bad(text, len, "the witness's answer has no revision");
	if (!value_get(json_string_value(json_object_get(kv, "value")), &a->record))
		return bad(text, len, "what the witness keeps for the guest is no record of ours");
	return 0;
}

static int transaction_get(const json_t *j, struct witness_answer *a, char *text, size_t len)
{
	const json_t *first = json_array_get(json_object_get(j, "responses"), 0);

	if (!json_object_get(j, "header") || !first)
		return bad(text, len, "the witness's answer to a write has no header or no response");
	if (!json_is_true(json_object_get(j, "succeeded")))
		return range_get(json_object_get(first, "response_range"), a, text, len);
	if (!number_get(json_object_get(json_object_get(j, "header"), "revision"), &a->revision) || !a->revision)
		return bad(text, len, "the witness's answer to a write has no revision");
	a->written = true;
	return 0;
}

int etcd_answer(enum etcd_kind kind, const char *body, size_t body_len, struct witness_answer *a, char *text, size_t len)
{
	json_error_t error;
	json_t *j = json_loadb(body, body_len, JSON_REJECT_DUPLICATES, &error);
	int rc;

	if (!j)
		rc = bad(text, len, "the witness's answer is no JSON: %s", error.text);
	else
		rc = kind == ETCD_READ ? range_get(j, a, text, len) : transaction_get(j, a, text, len);
	json_decref(j);
	return rc;
}

void etcd_error(long status, const char *body, size_t body_len, char *text, size_t len)
{
	json_t *j = json_loadb(body, body_len, 0, NULL);
	const char *message = json_string_value(json_object_get(j, "message"));

	snprintf(text, len, "HTTP status %ld%s%.120s", status, message ? ": " : "", message ? message : "");
	json_decref(j);
}
