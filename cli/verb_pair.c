/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Certificates for the two hosts of a pair: made on one of them, carried to the other. Needs no daemon. */
#include "cli/args.h"
#include "cli/authority.h"
#include "cli/cli.h"
#include "replicator/config.h"

#include <string.h>
#include <sysexits.h>

enum { DIR_BYTES = 200 };

/* The folder: of --dir, or where the configuration has the certificate. */
static int folder(const struct args *a, const struct config *config, char *dir, size_t len)
{
	const char *from = a->value ? a->value : config->tls_cert;
	const char *slash = strrchr(from, '/');
	int n = a->value || !slash ? snprintf(dir, len, "%s", from) : snprintf(dir, len, "%.*s", (int)(slash - from), from);

	return n < 0 || (size_t)n >= len ? EX_USAGE : 0;
}

static int refused(const char *why)
{
	complain("%s", why);
	return EX_CANTCREAT;
}

static int pair_init(const struct config *config, const char *peer, const char *dir)
{
	char bundle[DIR_BYTES + CONFIG_NAME_MAX + 16], why[AUTHORITY_WHY_BYTES];
	struct authority *a;
	int rc;

	if (!strcmp(peer, config->host) || strlen(peer) >= CONFIG_NAME_MAX || strpbrk(peer, "/ ,:*"))
		return usage_error("pair", "%s cannot be the other host's name (this one's is %s)", peer, config->host);
	snprintf(bundle, sizeof(bundle), "%s/%s.bundle", dir, peer);
	if (authority_open(dir, &a, why))
		return refused(why);
	rc = authority_install(a, config->host, CERTIFICATE_DAYS, why);
	rc = rc ?: authority_bundle(a, peer, CERTIFICATE_DAYS, bundle, why);
	authority_close(a);
	if (rc)
		return refused(why);
	printf("%s: certificates for %s and %s, good for %d days\n"
	       "Next: scp %s %s:\n"
	       "      on %s: understudy pair join %s.bundle, and remove it in both places\n"
	       "      understudy.conf here: [tls] peer = %s; there: [tls] peer = %s\n"
	       "      on both: systemctl restart understudyd\n",
	       dir, config->host, peer, CERTIFICATE_DAYS, bundle, peer, peer, peer, peer, config->host);
	return CLI_PROTECTED;
}

static int pair_join(const struct config *config, const char *bundle, const char *dir)
{
	char why[AUTHORITY_WHY_BYTES];

	if (authority_join(bundle, dir, config->host, why))
		return refused(why);
	printf("%s: certificate for %s\n", dir, config->host);
	return CLI_PROTECTED;
}

int verb_pair(struct cli *cli, int argc, char **argv)
{
	struct args a = {.value_option = "--dir", .names_max = 2};
	char dir[DIR_BYTES], why[512];
	struct config config;
	int code = args_parse(&a, argc, argv);

	if (code)
		return code;
	if (a.nr_names < 2)
		return usage_error("pair", "init with the other host's name, or join with a file");
	if (config_load(&config, cli->config_path, why, sizeof(why))) {
		complain("%s", why);
		return EX_CONFIG;
	}
	if (folder(&a, &config, dir, sizeof(dir)))
		return usage_error("pair", "--dir is too long");
	if (!strcmp(a.names[0], "init"))
		return pair_init(&config, a.names[1], dir);
	if (!strcmp(a.names[0], "join"))
		return pair_join(&config, a.names[1], dir);
	return usage_error("pair", "%s is neither init nor join", a.names[0]);
}
