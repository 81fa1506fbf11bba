/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/config.h"

#include <errno.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct config config;
static char why[512];

static int parse(const char *text)
{
	return config_parse(&config, text, strlen(text), "t.conf", why, sizeof(why));
}

static void test_defaults(void **state)
{
	const struct policy *p;

	assert_int_equal(parse(""), 0);
	p = config_policy(&config, "standard");
	assert_non_null(p);
	assert_int_equal(p->epoch_ms, 25);
	assert_int_equal(p->takeover, TAKEOVER_MANUAL);
	assert_int_equal(config.control_port, 7788);
	assert_int_equal(config.peer_control_port, 7788);
	assert_string_equal(config.peer_address, "");
	assert_null(config_policy(&config, "gold"));
}

static void test_everything(void **state)
{
	assert_int_equal(
		parse("# a comment\n"
		      "[host]\nname = host-a\nzone = a\nlisten = 10.0.0.1\ncontrol-port = 1000\n"
		      "stream-port = 1001\nstate-dir = /s\nrun-dir = /r\nworker = /w\nshell = /x\n"
		      "[peer]\naddress = fd00::2\ncontrol-port = 2000\n"
		      "[policy gold]\nepoch_ms = 10\nwindow = 4\nheartbeat_ms = 20\ntimeout_ms = "
		      "100\n"
		      "hold_max_ms = 1000\nnetbuf_mib = 8\ncache_mib = 9\n"
		      "home = b\ntakeover = automatic-without-witness\nfence = required\nepoch = adaptive\nepoch_max_ms = 300\n"
		      "[tls]\npeer = host-b\nkey = /k\n"
		      "[hooks]\nfence = /f\non-activate = /up\nlimit_ms = 5000\n"),
		0);
	assert_string_equal(config.tls_peer, "host-b");
	assert_string_equal(config.tls_key, "/k");
	assert_string_equal(config.tls_ca, "/etc/understudy/tls/ca.pem");
	assert_true(config_policy(&config, "gold")->fence_required);
	assert_string_equal(config_policy(&config, "gold")->home, "b");
	assert_true(config_policy(&config, "gold")->adaptive);
	assert_int_equal(config_policy(&config, "gold")->epoch_max_ms, 300);
	assert_int_equal(config_policy(&config, "gold")->pause_pct, 10);
	assert_string_equal(config.hook[HOOK_FENCE], "/f");
	assert_string_equal(config.hook[HOOK_ACTIVATE], "/up");
	assert_string_equal(config.hook[HOOK_DEACTIVATE], "");
	assert_int_equal(config.hook_limit_ms, 5000);
	assert_int_equal(config.watchdog_s, 30);
	assert_string_equal(config.host, "host-a");
	assert_string_equal(config.peer_address, "fd00::2");
	assert_int_equal(config.peer_control_port, 2000);
	assert_int_equal(config.nr_policies, 2);
	assert_int_equal(config_policy(&config, "gold")->takeover,
			 TAKEOVER_AUTOMATIC_WITHOUT_WITNESS);
	assert_int_equal(config_policy(&config, "gold")->cache_mib, 9);
	assert_int_equal(config_heartbeat_ms(&config), 20);
	assert_int_equal(config_timeout_ms(&config), 100);
}

/* Every error names file, line and what. */
static void test_errors(void **state)
{
	static const struct {
		const char *text, *why;
	} bad[] = {
		{"x = 1\n", "t.conf:1: \"x\" stands before any section"},
		{"[host]\n\n# c\nnmae = a\n", "t.conf:4: unknown key \"nmae\" in [host]"},
		{"[hots]\nname = a\n", "t.conf:2: unknown section [hots]"},
		{"[host]\nname = a\nname = b\n", "t.conf:3: \"name\" is set twice in [host]"},
		{"[host]\nname = a b\n",
		 "t.conf:2: name: \"a b\" has a blank or an unprintable character"},
		{"[host]\nname =\n", "t.conf:2: name: empty"},
		{"[host]\nrun-dir = run\n", "t.conf:2: run-dir: \"run\" is not an absolute path"},
		{"[host]\ncontrol-port = 0\n",
		 "t.conf:2: control-port: 0 is not between 1 and 65535"},
		{"[host]\ncontrol-port = 7o\n", "t.conf:2: control-port: \"7o\" is not a number"},
		{"[host]\ncontrol-port = -1\n", "t.conf:2: control-port: \"-1\" is not a number"},
		{"[host]\ncontrol-port = 99999999999999999999999\n",
		 "t.conf:2: control-port: \"99999999999999999999999\" is not a number"},
		{"[peer]\naddress = host-b\n",
		 "t.conf:2: address: \"host-b\" is not a numeric IPv4 or IPv6 address"},
		{"[policy gold]\ntakeover = yes\n", "t.conf:2: takeover: \"yes\" is none of "
						     "\"manual\", \"automatic-without-witness\", \"automatic\""},
		{"[policy gold]\ntakeover = automatic\n",
		 "t.conf: [policy gold]: takeover = automatic needs a [witness] with endpoints"},
		{"[witness]\nendpoints = http://a:1 ftp://b\n",
		 "t.conf:2: endpoints: \"ftp://b\" begins neither with http:// nor https://"},
		{"[witness]\nendpoints = http://a http://b http://c http://d http://e http://f\n",
		 "t.conf:2: endpoints: more than 5"},
		{"[witness]\nendpoints = http://a\nttl_ms = 1000\n",
		 "t.conf: [witness]: ttl_ms 1000 is less than three times request_ms 500 and margin_ms 50"},
		{"[tls]\nca = /ca.pem\n", "t.conf: [tls] needs the peer's name: peer = NAME"},
		{"[hooks]\nfence = fence\n", "t.conf:2: fence: \"fence\" is not an absolute path"},
		{"[policy gold]\nepoch = 25\n", "t.conf:2: epoch: \"25\" is neither \"adaptive\" nor \"fixed\""},
		{"[policy gold]\nepoch = adaptive\nepoch_max_ms = 20\n",
		 "t.conf: [policy gold]: epoch_max_ms 20 is less than epoch_ms 25"},
		{"[policy gold]\nfence = yes\n", "t.conf:2: fence: \"yes\" is neither \"required\" nor \"optional\""},
		{"[policy gold]\nfence = required\n", "t.conf: [policy gold]: fence = required needs a fence in [hooks]"},
		{"[metrics]\nport = 1\naddress = 10.0.0.1\n", "t.conf: [metrics]: address 10.0.0.1 is not this machine's loopback"},
		{"[host]\nwatchdog_s = 1\n", "t.conf:2: watchdog_s: 1 is not between 5 and 600"},
		{"[policy a/b]\nwindow = 1\n",
		 "t.conf:2: [policy a/b]: a blank, \"/\" or unprintable character in the name"},
		{"[policy gold]\nheartbeat_ms = 100\ntimeout_ms = 150\n",
		 "t.conf: [policy gold]: timeout_ms 150 is less than two heartbeats of 100 ms"},
		{"[policy gold]\nhold_max_ms = 600\n",
		 "t.conf: [policy gold]: hold_max_ms 600 is less than two times timeout_ms 500"},
		{"[host]\nname\n", "t.conf:2: neither [section] nor key = value"},
		{"[host\n", "t.conf:1: neither [section] nor key = value"},
	};
	unsigned int i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(parse(bad[i].text), -EINVAL);
		assert_string_equal(why, bad[i].why);
	}
}

static void test_hostile(void **state)
{
	static const char nul[] = "[host]\nname = a\0b\n";
	char many[8192] = "", line[600];
	unsigned int i;

	assert_int_equal(config_parse(&config, nul, sizeof(nul) - 1, "t.conf", why, sizeof(why)),
			 -EINVAL);
	assert_string_equal(why, "t.conf:2: a NUL byte");

	memset(line, 'x', sizeof(line));
	memcpy(line, "[host]\nname=", 12);
	assert_int_equal(config_parse(&config, line, sizeof(line), "t.conf", why, sizeof(why)),
			 -EINVAL);
	assert_non_null(strstr(why, "t.conf:2: line is longer than"));

	for (i = 0; i < CONFIG_POLICIES_MAX; i++)
		sprintf(many + strlen(many), "[policy p%u]\nwindow = 1\n", i);
	assert_int_equal(parse(many), -EINVAL);
	assert_non_null(strstr(why, "more than 32 policies"));
}

static void test_files(void **state)
{
	assert_int_equal(config_load(&config, "/nonexistent/x.conf", why, sizeof(why)), -ENOENT);
	assert_string_equal(why, "/nonexistent/x.conf: No such file or directory");
	assert_int_equal(config_load(&config, "deploy/understudy.conf", why, sizeof(why)), 0);
	assert_true(config_load(&config, "/", why, sizeof(why)) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults), cmocka_unit_test(test_everything),
		cmocka_unit_test(test_errors),	 cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
