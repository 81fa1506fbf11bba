/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/config.h"
#include "checkpoint/record.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CONFIG_FILE_BYTES_MAX = 1 << 20 };

const char *const takeover_name[TAKEOVERS] = {
	[TAKEOVER_MANUAL] = "manual",
	[TAKEOVER_AUTOMATIC_WITHOUT_WITNESS] = "automatic-without-witness",
	[TAKEOVER_AUTOMATIC] = "automatic",
};

static const struct policy policy_standard = {
	.name = "standard",
	.epoch_ms = 25,
	.epoch_max_ms = 200,
	.pause_pct = 10,
	.streams = 1,
	.window = 2,
	.heartbeat_ms = 100,
	.timeout_ms = 500,
	.hold_max_ms = 5000,
	.netbuf_mib = 64,
	.cache_mib = 64,
	.takeover = TAKEOVER_MANUAL,
};

enum key_type { KEY_NAME, KEY_PATH, KEY_ADDRESS, KEY_NUMBER, KEY_TAKEOVER, KEY_ENDPOINTS, KEY_FENCE, KEY_EPOCH };

struct key {
	const char *name;
	enum key_type type;
	size_t at;
	uint32_t min, max;
};

#define IN_CONFIG(field) offsetof(struct config, field)
#define IN_POLICY(field) offsetof(struct policy, field)

static const struct key host_keys[] = {
	{"name", KEY_NAME, IN_CONFIG(host), 0, 0},
	{"zone", KEY_NAME, IN_CONFIG(zone), 0, 0},
	{"listen", KEY_ADDRESS, IN_CONFIG(listen_address), 0, 0},
	{"control-port", KEY_NUMBER, IN_CONFIG(control_port), 1, 65535},
	{"stream-port", KEY_NUMBER, IN_CONFIG(stream_port), 1, 65535},
	{"state-dir", KEY_PATH, IN_CONFIG(state_dir), 0, 0},
	{"run-dir", KEY_PATH, IN_CONFIG(run_dir), 0, 0},
	{"worker", KEY_PATH, IN_CONFIG(worker_path), 0, 0},
	{"shell", KEY_PATH, IN_CONFIG(shell_path), 0, 0},
	{"watchdog", KEY_PATH, IN_CONFIG(watchdog), 0, 0},
	{"watchdog_s", KEY_NUMBER, IN_CONFIG(watchdog_s), 5, 600},
	{0},
};

static const struct key peer_keys[] = {
	{"address", KEY_ADDRESS, IN_CONFIG(peer_address), 0, 0},
	{"control-port", KEY_NUMBER, IN_CONFIG(peer_control_port), 1, 65535},
	{0},
};

static const struct key tls_keys[] = {
	{"peer", KEY_NAME, IN_CONFIG(tls_peer), 0, 0},
	{"ca", KEY_PATH, IN_CONFIG(tls_ca), 0, 0},
	{"cert", KEY_PATH, IN_CONFIG(tls_cert), 0, 0},
	{"key", KEY_PATH, IN_CONFIG(tls_key), 0, 0},
	{0},
};

static const struct key witness_keys[] = {
	{"endpoints", KEY_ENDPOINTS, IN_CONFIG(witness), 0, 0},
	{"ttl_ms", KEY_NUMBER, IN_CONFIG(witness_ttl_ms), 500, 600000},
	{"request_ms", KEY_NUMBER, IN_CONFIG(witness.request_ms), 50, 60000},
	{"margin_ms", KEY_NUMBER, IN_CONFIG(witness_margin_ms), 1, 10000},
	{"drift_ppm", KEY_NUMBER, IN_CONFIG(witness_drift_ppm), 0, 100000},
	{"ca", KEY_PATH, IN_CONFIG(witness.ca_file), 0, 0},
	{"cert", KEY_PATH, IN_CONFIG(witness.cert_file), 0, 0},
	{"key", KEY_PATH, IN_CONFIG(witness.key_file), 0, 0},
	{0},
};

static const struct key metrics_keys[] = {
	{"address", KEY_ADDRESS, IN_CONFIG(metrics_address), 0, 0},
	{"port", KEY_NUMBER, IN_CONFIG(metrics_port), 1, 65535},
	{0},
};

static const struct key hooks_keys[] = {
	{"on-activate", KEY_PATH, IN_CONFIG(hook[HOOK_ACTIVATE]), 0, 0},
	{"on-deactivate", KEY_PATH, IN_CONFIG(hook[HOOK_DEACTIVATE]), 0, 0},
	{"fence", KEY_PATH, IN_CONFIG(hook[HOOK_FENCE]), 0, 0},
	{"limit_ms", KEY_NUMBER, IN_CONFIG(hook_limit_ms), 100, 600000},
	{0},
};

static const struct key policy_keys[] = {
	{"epoch_ms", KEY_NUMBER, IN_POLICY(epoch_ms), 1, 10000},
	{"epoch", KEY_EPOCH, IN_POLICY(adaptive), 0, 0},
	{"epoch_max_ms", KEY_NUMBER, IN_POLICY(epoch_max_ms), 1, 10000},
	{"pause_pct", KEY_NUMBER, IN_POLICY(pause_pct), 1, 90},
	{"window", KEY_NUMBER, IN_POLICY(window), 1, 15},
	{"streams", KEY_NUMBER, IN_POLICY(streams), 1, STREAM_LANES_MAX},
	{"heartbeat_ms", KEY_NUMBER, IN_POLICY(heartbeat_ms), 10, 60000},
	{"timeout_ms", KEY_NUMBER, IN_POLICY(timeout_ms), 50, 600000},
	{"hold_max_ms", KEY_NUMBER, IN_POLICY(hold_max_ms), 100, 600000},
	{"netbuf_mib", KEY_NUMBER, IN_POLICY(netbuf_mib), 1, 65536},
	{"cache_mib", KEY_NUMBER, IN_POLICY(cache_mib), 1, 65536},
	{"takeover", KEY_TAKEOVER, IN_POLICY(takeover), 0, 0},
	{"home", KEY_NAME, IN_POLICY(home), 0, 0},
	{"fence", KEY_FENCE, IN_POLICY(fence_required), 0, 0},
	{0},
};

struct parse {
	struct config *config;
	const char *path;
	const char *text, *end;
	int line;
	char *why;
	size_t why_len;
	bool failed;
};

/* The first error is the one that is told. */
static void __attribute__((format(printf, 2, 3))) parse_fail(struct parse *p, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (p->failed)
		return;
	p->failed = true;
	n = snprintf(p->why, p->why_len, "%s:%d: ", p->path, p->line);
	if (n < 0 || (size_t)n >= p->why_len)
		return;
	va_start(ap, fmt);
	vsnprintf(p->why + n, p->why_len - (size_t)n, fmt, ap);
	va_end(ap);
}

/* inih's own line numbers come only at the end, so lines are counted where they are handed out. */
static char *parse_read(char *out, int num, void *arg)
{
	struct parse *p = arg;
	const char *newline;
	size_t len;

	if (p->text == p->end)
		return NULL;
	p->line++;
	newline = memchr(p->text, '\n', (size_t)(p->end - p->text));
	len = newline ? (size_t)(newline - p->text) : (size_t)(p->end - p->text);
	if (memchr(p->text, '\0', len))
		parse_fail(p, "a NUL byte");
	if (len + 2 > (size_t)num) {
		parse_fail(p, "line is longer than %d bytes", num - 2);
		out[0] = '\n';
		out[1] = '\0';
	} else {
		memcpy(out, p->text, len);
		out[len] = '\n';
		out[len + 1] = '\0';
	}
	p->text += newline ? len + 1 : len;
	return out;
}

static const struct key *key_find(const struct key *keys, const char *name, unsigned int *index)
{
	unsigned int i;

	for (i = 0; keys[i].name; i++) {
		if (!strcmp(keys[i].name, name)) {
			*index = i;
			return &keys[i];
		}
	}
	return NULL;
}

static void set_number(struct parse *p, const struct key *key, void *at, const char *value)
{
	char *end;
	unsigned long long n;

	errno = 0;
	n = strtoull(value, &end, 10);
	if (errno || end == value || *end || value[0] == '-') {
		parse_fail(p, "%s: \"%s\" is not a number", key->name, value);
		return;
	}
	if (n < key->min || n > key->max) {
		parse_fail(p, "%s: %llu is not between %u and %u", key->name, n, key->min,
			   key->max);
		return;
	}
	*(uint32_t *)at = (uint32_t)n;
}

static void set_string(struct parse *p, const struct key *key, void *at, const char *value)
{
	size_t max = key->type == KEY_PATH ? CONFIG_PATH_MAX : CONFIG_NAME_MAX;
	struct in6_addr address;
	const char *c;

	if (!value[0]) {
		parse_fail(p, "%s: empty", key->name);
		return;
	}
	if (strlen(value) >= max) {
		parse_fail(p, "%s: longer than %zu bytes", key->name, max - 1);
		return;
	}
	for (c = value; *c; c++)
		if (*c <= ' ' || *c > '~')
			parse_fail(p, "%s: \"%s\" has a blank or an unprintable character",
				   key->name, value);
	if (key->type == KEY_PATH && value[0] != '/')
		parse_fail(p, "%s: \"%s\" is not an absolute path", key->name, value);
	if (key->type == KEY_ADDRESS && inet_pton(AF_INET, value, &address) != 1 &&
	    inet_pton(AF_INET6, value, &address) != 1)
		parse_fail(p, "%s: \"%s\" is not a numeric IPv4 or IPv6 address", key->name, value);
	if (!p->failed)
		strcpy(at, value);
}

static void set_takeover(struct parse *p, void *at, const char *value)
{
	unsigned int i;

	for (i = 0; i < TAKEOVERS; i++) {
		if (!strcmp(value, takeover_name[i])) {
			*(enum takeover *)at = (enum takeover)i;
			return;
		}
	}
	parse_fail(p, "takeover: \"%s\" is none of \"%s\", \"%s\", \"%s\"", value, takeover_name[0],
		   takeover_name[1], takeover_name[2]);
}

static void set_choice(struct parse *p, const struct key *key, void *at, const char *value, const char *no, const char *yes)
{
	bool chosen = !strcmp(value, yes);

	if (!chosen && strcmp(value, no))
		parse_fail(p, "%s: \"%s\" is neither \"%s\" nor \"%s\"", key->name, value, yes, no);
	*(bool *)at = chosen;
}

/* Several, with blanks between them. */
static void set_endpoints(struct parse *p, struct witness_config *w, const char *value)
{
	char text[WITNESS_ENDPOINTS_MAX * sizeof(w->endpoints[0])], *save = NULL, *url;

	if (strlen(value) >= sizeof(text)) {
		parse_fail(p, "endpoints: longer than %zu bytes", sizeof(text) - 1);
		return;
	}
	strcpy(text, value);
	for (url = strtok_r(text, " \t", &save); url; url = strtok_r(NULL, " \t", &save)) {
		if (strncmp(url, "http://", 7) && strncmp(url, "https://", 8))
			parse_fail(p, "endpoints: \"%s\" begins neither with http:// nor https://", url);
		else if (strlen(url) >= sizeof(w->endpoints[0]))
			parse_fail(p, "endpoints: \"%s\" is longer than %zu bytes", url, sizeof(w->endpoints[0]) - 1);
		else if (w->nr_endpoints == WITNESS_ENDPOINTS_MAX)
			parse_fail(p, "endpoints: more than %d", WITNESS_ENDPOINTS_MAX);
		else
			strcpy(w->endpoints[w->nr_endpoints++], url);
		if (p->failed)
			return;
	}
	if (!w->nr_endpoints)
		parse_fail(p, "endpoints: empty");
}

static void parse_key(struct parse *p, const struct key *keys, void *base, uint64_t *set,
		      const char *section, const char *name, const char *value)
{
	unsigned int index;
	const struct key *key = key_find(keys, name, &index);
	void *at;

	if (!key) {
		parse_fail(p, "unknown key \"%s\" in [%s]", name, section);
		return;
	}
	if (*set & (1ull << index)) {
		parse_fail(p, "\"%s\" is set twice in [%s]", name, section);
		return;
	}
	*set |= 1ull << index;
	at = (char *)base + key->at;
	if (key->type == KEY_NUMBER)
		set_number(p, key, at, value);
	else if (key->type == KEY_TAKEOVER)
		set_takeover(p, at, value);
	else if (key->type == KEY_FENCE)
		set_choice(p, key, at, value, "optional", "required");
	else if (key->type == KEY_EPOCH)
		set_choice(p, key, at, value, "fixed", "adaptive");
	else if (key->type == KEY_ENDPOINTS)
		set_endpoints(p, at, value);
	else
		set_string(p, key, at, value);
}

static struct policy *parse_policy(struct parse *p, const char *name)
{
	struct config *c = p->config;
	struct policy *policy = (struct policy *)config_policy(c, name);
	const char *ch;

	if (policy)
		return policy;
	for (ch = name; *ch; ch++)
		if (*ch <= ' ' || *ch > '~' || *ch == '/')
			parse_fail(
				p,
				"[policy %s]: a blank, \"/\" or unprintable character in the name",
				name);
	if (!name[0] || strlen(name) >= CONFIG_NAME_MAX)
		parse_fail(p, "[policy %s]: the name is empty or too long", name);
	if (c->nr_policies == CONFIG_POLICIES_MAX)
		parse_fail(p, "more than %d policies", CONFIG_POLICIES_MAX);
	if (p->failed)
		return NULL;
	policy = &c->policies[c->nr_policies++];
	*policy = policy_standard;
	strcpy(policy->name, name);
	return policy;
}

static int parse_handler(void *arg, const char *section, const char *name, const char *value)
{
	struct parse *p = arg;
	struct config *c = p->config;

	if (p->failed)
		return 1;
	if (!strcmp(section, "host")) {
		parse_key(p, host_keys, c, &c->host_set, section, name, value);
	} else if (!strcmp(section, "peer")) {
		parse_key(p, peer_keys, c, &c->peer_set, section, name, value);
	} else if (!strcmp(section, "tls")) {
		parse_key(p, tls_keys, c, &c->tls_set, section, name, value);
	} else if (!strcmp(section, "metrics")) {
		parse_key(p, metrics_keys, c, &c->metrics_set, section, name, value);
	} else if (!strcmp(section, "hooks")) {
		parse_key(p, hooks_keys, c, &c->hooks_set, section, name, value);
	} else if (!strcmp(section, "witness")) {
		parse_key(p, witness_keys, c, &c->witness_set, section, name, value);
	} else if (!strncmp(section, "policy ", 7)) {
		struct policy *policy = parse_policy(p, section + 7);

		if (policy)
			parse_key(p, policy_keys, policy, &policy->set, section, name, value);
	} else if (!section[0]) {
		parse_fail(p, "\"%s\" stands before any section", name);
	} else {
		parse_fail(p, "unknown section [%s]", section);
	}
	return 1;
}

/* A lease is renewed three times in its time to live, and each time may take a request to every endpoint. */
static int config_check_witness(const struct config *c, const char *path, char *why, size_t why_len)
{
	uint32_t needed = 3 * c->witness.request_ms + c->witness_margin_ms;
	unsigned int i;

	for (i = 0; i < c->nr_policies; i++) {
		if (c->policies[i].takeover != TAKEOVER_AUTOMATIC || c->witness.nr_endpoints)
			continue;
		snprintf(why, why_len, "%s: [policy %s]: takeover = automatic needs a [witness] with endpoints", path,
			 c->policies[i].name);
		return -EINVAL;
	}
	if (c->witness.nr_endpoints && c->witness_ttl_ms < needed) {
		snprintf(why, why_len, "%s: [witness]: ttl_ms %u is less than three times request_ms %u and margin_ms %u", path,
			 c->witness_ttl_ms, c->witness.request_ms, c->witness_margin_ms);
		return -EINVAL;
	}
	return 0;
}

static int config_check_policies(const struct config *c, const char *path, char *why, size_t why_len)
{
	unsigned int i;

	for (i = 0; i < c->nr_policies; i++) {
		const struct policy *p = &c->policies[i];

		if (p->timeout_ms < 2 * p->heartbeat_ms) {
			snprintf(why, why_len,
				 "%s: [policy %s]: timeout_ms %u is less than two heartbeats of %u "
				 "ms",
				 path, p->name, p->timeout_ms, p->heartbeat_ms);
			return -EINVAL;
		}
		if (p->hold_max_ms < 2 * p->timeout_ms) {
			snprintf(why, why_len,
				 "%s: [policy %s]: hold_max_ms %u is less than two times "
				 "timeout_ms %u",
				 path, p->name, p->hold_max_ms, p->timeout_ms);
			return -EINVAL;
		}
		if (p->adaptive && p->epoch_max_ms < p->epoch_ms) {
			snprintf(why, why_len, "%s: [policy %s]: epoch_max_ms %u is less than epoch_ms %u", path, p->name,
				 p->epoch_max_ms, p->epoch_ms);
			return -EINVAL;
		}
		if (p->fence_required && !c->hook[HOOK_FENCE][0]) {
			snprintf(why, why_len, "%s: [policy %s]: fence = required needs a fence in [hooks]", path, p->name);
			return -EINVAL;
		}
	}
	return config_check_witness(c, path, why, why_len);
}

/* What only holds for the whole. */
static int config_check(struct config *c, const char *path, char *why, size_t why_len)
{
	int rc = config_check_policies(c, path, why, why_len);

	if (rc)
		return rc;
	if (c->tls_set && !c->tls_peer[0]) {
		snprintf(why, why_len, "%s: [tls] needs the peer's name: peer = NAME", path);
		return -EINVAL;
	}
	if (strncmp(c->metrics_address, "127.", 4) && strcmp(c->metrics_address, "::1")) {
		snprintf(why, why_len, "%s: [metrics]: address %s is not this machine's loopback", path, c->metrics_address);
		return -EINVAL;
	}
	if (!c->peer_control_port)
		c->peer_control_port = c->control_port;
	return 0;
}

void config_defaults(struct config *c)
{
	char name[CONFIG_NAME_MAX] = "";

	memset(c, 0, sizeof(*c));
	if (gethostname(name, sizeof(name) - 1) || !name[0])
		strcpy(name, "host");
	strcpy(c->host, name);
	strcpy(c->zone, "-");
	strcpy(c->listen_address, "::");
	strcpy(c->state_dir, "/var/lib/understudy");
	strcpy(c->run_dir, "/run/understudy");
	strcpy(c->worker_path, "/usr/lib/understudy/understudy-worker");
	strcpy(c->shell_path, "/usr/lib/understudy/understudy-shell");
	strcpy(c->tls_ca, "/etc/understudy/tls/ca.pem");
	strcpy(c->tls_cert, "/etc/understudy/tls/cert.pem");
	strcpy(c->tls_key, "/etc/understudy/tls/key.pem");
	strcpy(c->metrics_address, "127.0.0.1");
	c->hook_limit_ms = 30000;
	c->watchdog_s = 30;
	c->control_port = 7788;
	c->stream_port = 7789;
	c->witness_ttl_ms = 3000;
	c->witness_margin_ms = 50;
	c->witness_drift_ppm = 500;
	c->witness.request_ms = 500;
	c->policies[0] = policy_standard;
	c->nr_policies = 1;
}

int config_parse(struct config *c, const char *text, size_t len, const char *path, char *why,
		 size_t why_len)
{
	struct parse p = {.config = c,
			  .path = path,
			  .text = text,
			  .end = text + len,
			  .why = why,
			  .why_len = why_len};
	int r;

	config_defaults(c);
	why[0] = '\0';
	r = ini_parse_stream(parse_read, &p, parse_handler, &p);
	if (p.failed)
		return -EINVAL;
	if (r != 0) {
		snprintf(why, why_len, "%s:%d: neither [section] nor key = value", path,
			 r > 0 ? r : 1);
		return -EINVAL;
	}
	return config_check(c, path, why, why_len);
}

int config_load(struct config *c, const char *path, char *why, size_t why_len)
{
	FILE *f = fopen(path, "re");
	char *text;
	size_t len;
	int rc;

	if (!f) {
		rc = -errno;
		snprintf(why, why_len, "%s: %s", path, strerror(-rc));
		return rc;
	}
	text = malloc(CONFIG_FILE_BYTES_MAX);
	len = text ? fread(text, 1, CONFIG_FILE_BYTES_MAX, f) : 0;
	if (!text) {
		rc = -ENOMEM;
		snprintf(why, why_len, "%s: %s", path, strerror(ENOMEM));
	} else if (ferror(f)) {
		rc = -EIO;
		snprintf(why, why_len, "%s: cannot be read", path);
	} else if (len == CONFIG_FILE_BYTES_MAX) {
		rc = -EFBIG;
		snprintf(why, why_len, "%s: longer than %d bytes", path, CONFIG_FILE_BYTES_MAX - 1);
	} else {
		rc = config_parse(c, text, len, path, why, why_len);
	}
	free(text);
	fclose(f);
	return rc;
}

const struct policy *config_policy(const struct config *c, const char *name)
{
	unsigned int i;

	for (i = 0; i < c->nr_policies; i++)
		if (!strcmp(c->policies[i].name, name))
			return &c->policies[i];
	return NULL;
}

uint32_t config_heartbeat_ms(const struct config *c)
{
	uint32_t ms = c->policies[0].heartbeat_ms;
	unsigned int i;

	for (i = 1; i < c->nr_policies; i++)
		if (c->policies[i].heartbeat_ms < ms)
			ms = c->policies[i].heartbeat_ms;
	return ms;
}

uint32_t config_timeout_ms(const struct config *c)
{
	uint32_t ms = c->policies[0].timeout_ms;
	unsigned int i;

	for (i = 1; i < c->nr_policies; i++)
		if (c->policies[i].timeout_ms < ms)
			ms = c->policies[i].timeout_ms;
	return ms;
}

struct tls_files config_tls(const struct config *c)
{
	return (struct tls_files){.ca = c->tls_ca, .cert = c->tls_cert, .key = c->tls_key, .peer = c->tls_peer};
}

int config_run_path(const struct config *c, const char *name, char *out, size_t len)
{
	int n = snprintf(out, len, "%s/%s", c->run_dir, name);

	return n < 0 || (size_t)n >= len ? -ENAMETOOLONG : 0;
}
