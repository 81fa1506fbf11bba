/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Included at the end of xenstored_watch.c: it works on that file's internals. */

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include "xenstored_mirror.h"

/*
 * A token is any bytes but NUL, so both fields of a line are percent-encoded: printable ASCII except space and '%'
 * stands for itself.
 */
static bool is_plain(unsigned char c)
{
	return c > ' ' && c < 0x7f && c != '%';
}

static char *encode_append(char *text, const char *field)
{
	for (; text && *field; field++)
		text = talloc_asprintf_append(text, is_plain(*field) ? "%c" : "%%%02x", (unsigned char)*field);
	return text;
}

static int hex_digit(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* In place. EINVAL: an escape that encode_append() would not have made. */
static int decode(char *field)
{
	char *to = field;

	for (; *field; field++) {
		if (*field == '%') {
			int high = hex_digit(field[1]);
			int low = high < 0 ? -1 : hex_digit(field[2]);

			if (low < 0 || (high | low) == 0 || is_plain(high << 4 | low))
				return EINVAL;
			*to++ = high << 4 | low;
			field += 2;
		} else if (is_plain(*field)) {
			*to++ = *field;
		} else {
			return EINVAL;
		}
	}
	*to = '\0';
	return 0;
}

static int parse_uint(const char *text, unsigned int max, unsigned int *value)
{
	unsigned long n;
	char *end;

	if (!isdigit((unsigned char)*text))
		return EINVAL;
	errno = 0;
	n = strtoul(text, &end, 10);
	if (errno || *end || n > max)
		return EINVAL;
	*value = n;
	return 0;
}

static int get_connection(const char *text, struct connection **guest)
{
	unsigned int domid;
	int rc;

	rc = parse_uint(text, DOMID_FIRST_RESERVED - 1, &domid);
	if (rc)
		return rc;
	*guest = domain_connection(domid);
	return *guest ? 0 : ENOENT;
}

static unsigned int list_length(const struct list_head *head)
{
	const struct list_head *i;
	unsigned int n = 0;

	for (i = head->next; i != head; i = i->next)
		n++;
	return n;
}

static char *mirror_head(const void *ctx, struct connection *guest, unsigned int next)
{
	const struct buffered_data *in = guest->in;
	bool partial = in && (in->used || !in->inhdr);

	return talloc_asprintf(ctx, "watches=%u next=%u transactions=%u partial=%u replies=%u delayed=%u\n",
			       list_length(&guest->watches), next, list_length(&guest->transaction_list), partial,
			       list_length(&guest->out_list), list_length(&guest->delayed));
}

/* The longest head line: six numbers of at most ten digits. */
#define HEAD_MAX 128

int do_control_watches(const void *ctx, struct connection *conn, char **vec, int num)
{
	struct connection *guest;
	struct watch *watch;
	unsigned int first = 0, at = 0, next = 0, used = 0;
	char *lines, *reply;
	int rc;

	if (num < 1 || num > 2)
		return EINVAL;
	rc = get_connection(vec[0], &guest);
	if (!rc && num == 2)
		rc = parse_uint(vec[1], ~0u, &first);
	if (rc)
		return rc;

	lines = talloc_strdup(ctx, "");
	list_for_each_entry(watch, &guest->watches, list) {
		if (at++ < first)
			continue;
		lines = encode_append(lines, get_watch_path(watch, watch->node));
		if (lines)
			lines = talloc_asprintf_append(lines, " ");
		lines = encode_append(lines, watch->token);
		if (lines)
			lines = talloc_asprintf_append(lines, "\n");
		if (!lines)
			return ENOMEM;
		if (strlen(lines) > XENSTORE_PAYLOAD_MAX - HEAD_MAX) {
			if (!used)
				return E2BIG;	/* one watch alone */
			lines[used] = '\0';
			next = at - 1;
			break;
		}
		used = strlen(lines);
	}

	reply = lines ? mirror_head(ctx, guest, next) : NULL;
	if (reply)
		reply = talloc_asprintf_append(reply, "%s", lines);
	if (!reply)
		return ENOMEM;
	send_reply(conn, XS_CONTROL, reply, strlen(reply) + 1);
	return 0;
}

static int mirror_watch(const void *ctx, struct connection *guest, char *path, char *token)
{
	struct watch *watch;
	bool relative;
	int rc;

	rc = decode(path);
	if (!rc)
		rc = decode(token);
	if (!rc)
		rc = check_watch_path(guest, ctx, &path, &relative);
	if (rc)
		return rc;

	list_for_each_entry(watch, &guest->watches, list)
		if (streq(watch->node, path) && streq(watch->token, token))
			return 0;

	if (domain_watch(guest) > quota_nb_watch_per_domain)
		return E2BIG;
	watch = add_watch(guest, path, token, relative, false);
	if (!watch)
		return errno;
	trace_create(watch, "watch");
	return 0;
}

int do_control_watch_add(const void *ctx, struct connection *conn, char **vec, int num)
{
	struct connection *guest;
	int i, rc;

	if (num < 3 || num % 2 == 0)
		return EINVAL;
	rc = get_connection(vec[0], &guest);
	for (i = 1; !rc && i < num; i += 2)
		rc = mirror_watch(ctx, guest, vec[i], vec[i + 1]);
	if (rc)
		return rc;
	send_ack(conn, XS_CONTROL);
	return 0;
}
