/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a host needs, each with its way to mend it. Looks at files and asks the daemon; changes
 * nothing. */
#include "cli/args.h"
#include "cli/cli.h"
#include "replicator/certificate.h"
#include "replicator/config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timex.h>
#include <sysexits.h>
#include <unistd.h>

struct check {
	struct cli *cli;
	struct config config;
	Understudy__ControlReply *status;
	int failed, warned;
	char detail[512];
};

enum { SECONDS_PER_DAY = 24 * 60 * 60 };

enum verdict { GOOD, WARNING, BAD };

static void __attribute__((format(printf, 2, 3))) detail(struct check *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->detail, sizeof(c->detail), fmt, ap);
	va_end(ap);
}

static bool read_line(const char *path, char *out, size_t len)
{
	FILE *f = fopen(path, "re");
	bool ok = f && fgets(out, (int)len, f);

	if (f)
		fclose(f);
	if (!ok)
		out[0] = '\0';
	out[strcspn(out, "\n")] = '\0';
	return ok;
}

/* The first line that a command prints; false: it failed. */
static bool command_line(const char *command, char *out, size_t len)
{
	FILE *p = popen(command, "re");
	bool ok = p && fgets(out, (int)len, p);

	if (!ok)
		out[0] = '\0';
	out[strcspn(out, "\n")] = '\0';
	return p && pclose(p) == 0 && ok;
}

static enum verdict check_config(struct check *c)
{
	char why[512];
	int rc = config_load(&c->config, c->cli->config_path, why, sizeof(why));

	if (rc) {
		detail(c, "%s", why);
		config_defaults(&c->config);
		return BAD;
	}
	if (!c->config.peer_address[0]) {
		detail(c, "%s: no [peer] address", c->cli->config_path);
		return BAD;
	}
	detail(c, "host %s, zone %s, peer %s", c->config.host, c->config.zone,
	       c->config.peer_address);
	return GOOD;
}

static enum verdict check_xen(struct check *c)
{
	char type[64];

	if (!read_line("/sys/hypervisor/type", type, sizeof(type)) || strcmp(type, "xen")) {
		detail(c, "this kernel does not run on Xen");
		return BAD;
	}
	detail(c, "running");
	return GOOD;
}

static enum verdict check_extension(struct check *c)
{
	char extra[128], line[16];

	read_line("/sys/hypervisor/version/extra", extra, sizeof(extra));
	/* Our build says so in its change set or its version. */
	if (strstr(extra, "understudy") ||
	    command_line("xl info 2>/dev/null | grep -c -i understudy", line, sizeof(line))) {
		detail(c, "%s", extra);
		return GOOD;
	}
	detail(c, "Xen 4.x%s is not our build", extra);
	return BAD;
}

static enum verdict check_dom0(struct check *c)
{
	char capabilities[64];

	if (!read_line("/proc/xen/capabilities", capabilities, sizeof(capabilities)) ||
	    !strstr(capabilities, "control_d")) {
		detail(c, "/proc/xen/capabilities does not say control_d");
		return BAD;
	}
	detail(c, "control domain");
	return GOOD;
}

static enum verdict check_devices(struct check *c)
{
	static const char *const device[] = {"/dev/xen/privcmd", "/dev/xen/evtchn",
					     "/dev/xen/gntdev", "/dev/net/tun", NULL};
	unsigned int i;

	for (i = 0; device[i]; i++) {
		if (access(device[i], R_OK | W_OK)) {
			detail(c, "%s: %s", device[i], strerror(errno));
			return BAD;
		}
	}
	detail(c, "privcmd, evtchn, gntdev, tun");
	return GOOD;
}

static enum verdict check_toolstack(struct check *c)
{
	if (system("xl list >/dev/null 2>&1") != 0) {
		detail(c, "`xl list` fails");
		return BAD;
	}
	detail(c, "xl answers");
	return GOOD;
}

static enum verdict check_xenstored(struct check *c)
{
	char line[128];

	/* Only ours knows `watches`: what comes back for domain 0 does not matter. */
	if (!command_line("xenstore-control watches 0 >/dev/null 2>&1 && echo yes", line,
			  sizeof(line))) {
		detail(c, "xenstored does not know the `watches` command");
		return BAD;
	}
	detail(c, "ours");
	return GOOD;
}

/* The kernel's back end would serve `what` itself. */
static enum verdict check_kernel_backend(struct check *c, const char *name, const char *module, const char *what)
{
	if (!access(module, F_OK)) {
		detail(c, "the kernel's %s is loaded and would serve the %s itself", name, what);
		return BAD;
	}
	detail(c, "not loaded");
	return GOOD;
}

static enum verdict check_netback(struct check *c)
{
	return check_kernel_backend(c, "xen-netback", "/sys/module/xen_netback", "vifs");
}

static enum verdict check_blkback(struct check *c)
{
	return check_kernel_backend(c, "xen-blkback", "/sys/module/xen_blkback", "disks");
}

static enum verdict check_clock(struct check *c)
{
	struct timex t = {0};

	if (adjtimex(&t) == TIME_ERROR || t.status & STA_UNSYNC) {
		detail(c, "not synchronised: event times of two hosts cannot be compared");
		return WARNING;
	}
	detail(c, "synchronised");
	return GOOD;
}

static enum verdict check_daemon(struct check *c)
{
	int code;

	c->status = client_status(c->cli, NULL, &code);
	if (!c->status || !c->status->host) {
		detail(c, "does not answer");
		return BAD;
	}
	detail(c, "version %s", c->status->host->version);
	return GOOD;
}

static enum verdict check_peer(struct check *c)
{
	const Understudy__HostStatus *h = c->status ? c->status->host : NULL;

	if (!h || !h->peer_up) {
		detail(c, "%s", h ? h->peer_problem : "not known without the daemon");
		return BAD;
	}
	detail(c, "%s, zone %s", h->peer_host, h->peer_zone);
	return GOOD;
}

static enum verdict check_tls(struct check *c)
{
	struct tls_files files = config_tls(&c->config);
	char why[TLS_WHY_BYTES];
	int64_t seconds;
	int days;

	if (!tls_wanted(&files)) {
		detail(c, "no [tls]: the channel to the peer is neither encrypted nor authenticated");
		return WARNING;
	}
	if (tls_seconds_left(&files, &seconds, why)) {
		detail(c, "%s", why);
		return BAD;
	}
	if (seconds < 0) {
		detail(c, "the certificate has run out");
		return BAD;
	}
	days = (int)(seconds / SECONDS_PER_DAY);
	detail(c, "the certificate holds for %d days", days);
	return days < CERTIFICATE_ALARM_DAYS ? WARNING : GOOD;
}

static enum verdict check_same(struct check *c)
{
	const Understudy__HostStatus *h = c->status ? c->status->host : NULL;

	if (!h || !h->peer_up) {
		detail(c, "not known without the peer");
		return WARNING;
	}
	detail(c, "both %s", h->hypervisor); /* a session is refused otherwise */
	return GOOD;
}

static enum verdict check_memory(struct check *c)
{
	char line[64];

	if (!command_line("xl info free_memory 2>/dev/null", line, sizeof(line)) ||
	    atol(line) <= 0) {
		detail(c, "no free memory for shells, or `xl info` fails");
		return WARNING;
	}
	detail(c, "%s MiB free for shells", line);
	return GOOD;
}

static const struct {
	const char *what;
	enum verdict (*look)(struct check *c);
	const char *mend;
} checks[] = {
	{"configuration", check_config,
	 "edit /etc/understudy/understudy.conf (understudy.conf(5))"},
	{"Xen", check_xen, "boot this host with Xen"},
	{"control domain", check_dom0, "run this in dom0; mount -t xenfs xenfs /proc/xen"},
	{"our hypervisor", check_extension,
	 "install the hypervisor package of this project (make hypervisor) and reboot"},
	{"devices", check_devices,
	 "modprobe -a xen-privcmd xen-evtchn xen-gntdev tun; run this as root"},
	{"toolstack", check_toolstack, "systemctl start xen; systemctl status xen"},
	{"xenstored", check_xenstored,
	 "install the xenstored of this project (make hypervisor) and reboot"},
	{"xen-netback", check_netback,
	 "echo 'blacklist xen-netback' > /etc/modprobe.d/understudy.conf; reboot"},
	{"xen-blkback", check_blkback,
	 "echo 'blacklist xen-blkback' >> /etc/modprobe.d/understudy.conf; reboot"},
	{"clock", check_clock, "install chrony or systemd-timesyncd"},
	{"understudyd", check_daemon, "systemctl start understudyd; journalctl -u understudyd"},
	{"peer", check_peer,
	 "start understudyd there; let TCP ports 7788 and 7789 through both ways"},
	{"encryption", check_tls,
	 "understudy pair init here, join there, [tls] in understudy.conf(5)"},
	{"same hypervisor", check_same, "install the same hypervisor package on both hosts"},
	{"memory", check_memory, "give dom0 less (dom0_mem=...) or this host more"},
};

int verb_check(struct cli *cli, int argc, char **argv)
{
	static const char *const word[] = {[GOOD] = "ok", [WARNING] = "warning", [BAD] = "MISSING"};
	struct args a = {0};
	struct check c = {.cli = cli};
	unsigned int i;
	int code = args_parse(&a, argc, argv);

	if (code)
		return code;
	for (i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
		enum verdict v;

		c.detail[0] = '\0';
		v = checks[i].look(&c);
		printf("%-16s %-8s %s\n", checks[i].what, word[v], c.detail);
		if (v != GOOD)
			printf("%-16s %-8s mend: %s\n", "", "", checks[i].mend);
		c.failed += v == BAD;
		c.warned += v == WARNING;
	}
	if (c.status)
		understudy__control_reply__free_unpacked(c.status, NULL);
	return c.failed ? CLI_UNPROTECTED : c.warned ? CLI_DEGRADED : CLI_PROTECTED;
}
