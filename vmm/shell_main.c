/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * understudy-shell: everything that needs libxl, in a process of its own because libxl forks and owns SIGCHLD. One verb
 * per run; results on stdout, one line per failure on stderr.
 */
#include "common/log.h"

#include <libxl.h>
#include <libxl_utils.h>
#include <xenstore.h>
#include <xentoollog.h>

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum exit_code { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_DOMID_TAKEN = 3, EXIT_NO_MEMORY = 4, EXIT_USAGE = 64 };

enum {
	CONFIG_BYTES_MAX = 1 << 20,
	RESTART_DELAY_S = 2,	/* what xl waits between destroying a domain and making it again */
};

#define SHELL_STUB "/usr/lib/understudy/shell.elf"
#define SHELL_SUFFIX "--shell"

/* libxl says the cause first and then every consequence: the first error is the one worth a line. */
struct first_error {
	xentoollog_logger logger;
	bool verbose;
	char text[512];
};

struct shell {
	libxl_ctx *ctx;
	struct first_error *error;
	const char *stub;
	const char *name;	/* for messages */
	uint32_t domid;
};

static void first_error_message(xentoollog_logger *logger, xentoollog_level level, int errnoval, const char *context,
				const char *format, va_list ap)
	__attribute__((format(printf, 5, 0)));

static void first_error_message(xentoollog_logger *logger, xentoollog_level level, int errnoval, const char *context,
				const char *format, va_list ap)
{
	struct first_error *e = (struct first_error *)logger;
	char text[sizeof(e->text) - 128];

	if (level < XTL_ERROR && !e->verbose)
		return;
	vsnprintf(text, sizeof(text), format, ap);
	if (e->verbose)
		fprintf(stderr, "%s: %s\n", xtl_level_to_string(level), text);
	if (level >= XTL_ERROR && !e->text[0])
		snprintf(e->text, sizeof(e->text), "%s%s%s", text, errnoval >= 0 ? ": " : "",
			 errnoval >= 0 ? strerror(errnoval) : "");
	e->text[strcspn(e->text, "\n")] = '\0';
}

static void first_error_destroy(xentoollog_logger *logger)
{
}

/* Reports a libxl failure with its cause; the exit code of a verb that failed. */
static int failed(const struct shell *s, const char *what, int r)
{
	log_err(s->name, "%s: %s", what, s->error->text[0] ? s->error->text : "libxl error");
	if (!s->error->text[0])
		log_debug(s->name, "libxl code %d", r);
	return EXIT_FAILED;
}

/* The guest's name for messages, without the suffix of a shell; "domain N" where there is none. Never freed. */
static const char *name_of(const struct shell *s)
{
	char *name = libxl_domid_to_name(s->ctx, s->domid), *end;

	if (!name) {
		if (asprintf(&name, "domain %u", s->domid) < 0)
			return "domain";
		return name;
	}
	end = strstr(name, SHELL_SUFFIX);
	if (end && !end[strlen(SHELL_SUFFIX)])
		*end = '\0';
	return name;
}

static int config_retrieve(const struct shell *s, libxl_domain_config *config)
{
	int r;

	libxl_domain_config_init(config);
	r = libxl_retrieve_domain_configuration(s->ctx, s->domid, config, NULL);
	/* Which domid it had is not part of what it is. */
	config->c_info.domid = (uint32_t)INVALID_DOMID;
	return r;
}

static int verb_config(struct shell *s, char **arg)
{
	libxl_domain_config config;
	char *json = NULL;
	int r, code = EXIT_OK;

	r = config_retrieve(s, &config);
	if (!r)
		json = libxl_domain_config_to_json(s->ctx, &config);
	if (!json || puts(json) < 0 || fflush(stdout))
		code = failed(s, "configuration", r);
	free(json);
	libxl_domain_config_dispose(&config);
	return code;
}

static char *config_read(FILE *in)
{
	char *text = malloc(CONFIG_BYTES_MAX + 1);
	size_t len;

	if (!text)
		return NULL;
	len = fread(text, 1, CONFIG_BYTES_MAX + 1, in);
	if (ferror(in) || !len || len > CONFIG_BYTES_MAX) {
		free(text);
		return NULL;
	}
	text[len] = '\0';
	return text;
}

static void replace(char **field, const char *value)
{
	free(*field);
	*field = value ? strdup(value) : NULL;
}

/* What differs between the guest and its shell. */
static void config_to_shell(const struct shell *s, libxl_domain_config *config, const char *guest)
{
	libxl_domain_build_info *b = &config->b_info;

	free(config->c_info.name);
	if (asprintf(&config->c_info.name, "%s" SHELL_SUFFIX, guest) < 0)
		config->c_info.name = NULL;
	config->c_info.domid = s->domid;
	replace(&b->kernel, s->stub);
	replace(&b->ramdisk, NULL);
	replace(&b->bootloader, NULL);
	libxl_string_list_dispose(&b->bootloader_args);
	b->bootloader_args = NULL;
	/* All of it allocated, nothing on demand: the guest's holes are made when its layout is known. */
	b->target_memkb = b->max_memkb;
}

/* Keeps what the toolstack filled in (device ids, backends), with the guest's own kernel, name and memory again. */
static int config_store(const struct shell *s, const libxl_domain_config *guest)
{
	libxl_domain_config stored;
	uint8_t *data = NULL;
	char *json = NULL;
	int r, len = 0;

	libxl_domain_config_init(&stored);
	r = libxl_userdata_retrieve(s->ctx, s->domid, "libxl-json", &data, &len);
	if (r || !len) {
		r = r ? r : ERROR_FAIL;
		goto out;
	}
	r = libxl_domain_config_from_json(s->ctx, &stored, (const char *)data);
	if (r)
		goto out;
	replace(&stored.c_info.name, guest->c_info.name);
	stored.c_info.domid = (uint32_t)INVALID_DOMID;
	replace(&stored.b_info.kernel, guest->b_info.kernel);
	replace(&stored.b_info.ramdisk, guest->b_info.ramdisk);
	replace(&stored.b_info.bootloader, guest->b_info.bootloader);
	libxl_string_list_dispose(&stored.b_info.bootloader_args);
	libxl_string_list_copy(s->ctx, &stored.b_info.bootloader_args, &guest->b_info.bootloader_args);
	stored.b_info.target_memkb = guest->b_info.target_memkb;

	json = libxl_domain_config_to_json(s->ctx, &stored);
	r = json ? libxl_userdata_store(s->ctx, s->domid, "libxl-json", (uint8_t *)json, (int)strlen(json) + 1)
		 : ERROR_NOMEM;
out:
	free(json);
	free(data);
	libxl_domain_config_dispose(&stored);
	return r;
}

/* The balloon target that the guest knows; libxl wrote the shell's. */
static int target_store(const struct shell *s, const libxl_domain_build_info *b)
{
	struct xs_handle *xs;
	char path[64], value[24];
	bool ok;

	if (b->target_memkb == LIBXL_MEMKB_DEFAULT || b->target_memkb == b->max_memkb)
		return 0;
	xs = xs_open(0);
	if (!xs)
		return ERROR_FAIL;
	snprintf(path, sizeof(path), "/local/domain/%u/memory/target", s->domid);
	snprintf(value, sizeof(value), "%" PRIu64, b->target_memkb);
	ok = xs_write(xs, XBT_NULL, path, value, (unsigned int)strlen(value));
	xs_close(xs);
	return ok ? 0 : ERROR_FAIL;
}

static int memory_fits(struct shell *s, const libxl_domain_config *config)
{
	libxl_domain_config scratch;	/* the question fills in defaults of this host, which are not to be stored */
	uint64_t need_kb, free_kb;
	int r;

	libxl_domain_config_init(&scratch);
	libxl_domain_config_copy(s->ctx, &scratch, config);
	r = libxl_domain_need_memory(s->ctx, &scratch, s->domid, &need_kb);
	libxl_domain_config_dispose(&scratch);
	if (r)
		return failed(s, "memory needed", r);
	r = libxl_get_free_memory(s->ctx, &free_kb);
	if (r)
		return failed(s, "memory free", r);
	if (need_kb <= free_kb)
		return EXIT_OK;
	log_err(s->name, "shell: needs %" PRIu64 " MiB, this host has %" PRIu64 " MiB free", need_kb / 1024,
		free_kb / 1024);
	return EXIT_NO_MEMORY;
}

static bool domid_taken(const struct shell *s)
{
	libxl_dominfo info;
	bool taken;

	libxl_dominfo_init(&info);
	taken = !libxl_domain_info(s->ctx, &info, s->domid);
	libxl_dominfo_dispose(&info);
	s->error->text[0] = '\0';	/* its absence is no error */
	return taken;
}

static int shell_create(struct shell *s, libxl_domain_config *guest, libxl_domain_config *shell)
{
	uint32_t domid = (uint32_t)INVALID_DOMID;
	int r, code;

	if (guest->c_info.type != LIBXL_DOMAIN_TYPE_PVH || libxl_defbool_val(guest->b_info.u.pvh.pvshim)) {
		log_err(s->name, "shell: only PVH guests without a PV shim can have one");
		return EXIT_FAILED;
	}
	if (domid_taken(s)) {
		log_err(s->name, "shell: domain id %u is taken", s->domid);
		return EXIT_DOMID_TAKEN;
	}
	config_to_shell(s, shell, s->name);
	code = memory_fits(s, shell);
	if (code)
		return code;

	/* A time-out of 0 still refuses a domid that was in use within this very second. */
	r = libxl_clear_domid_history(s->ctx);
	if (!r)
		r = libxl_domain_create_new(s->ctx, shell, &domid, NULL, NULL);
	if (r)
		return failed(s, "shell", r);
	r = config_store(s, guest);
	if (!r)
		r = target_store(s, &guest->b_info);
	if (r) {
		code = failed(s, "shell: storing the configuration", r);
		libxl_domain_destroy(s->ctx, domid, NULL);
		return code;
	}
	return printf("%u\n", domid) < 0 || fflush(stdout) ? EXIT_FAILED : EXIT_OK;
}

static int verb_create(struct shell *s, char **arg)
{
	libxl_domain_config guest, shell;
	int r, code = EXIT_FAILED;
	char *json = config_read(stdin);

	s->name = arg[0];
	libxl_domain_config_init(&guest);
	libxl_domain_config_init(&shell);
	if (!json) {
		log_err(s->name, "shell: no configuration on standard input, or more than %d bytes", CONFIG_BYTES_MAX);
		goto out;
	}
	r = libxl_domain_config_from_json(s->ctx, &guest, json);
	if (!r)
		r = libxl_domain_config_from_json(s->ctx, &shell, json);
	if (r) {
		code = failed(s, "shell: configuration", r);
		goto out;
	}
	replace(&guest.c_info.name, s->name);
	libxl_defbool_setdefault(&guest.b_info.u.pvh.pvshim, false);
	code = shell_create(s, &guest, &shell);
out:
	libxl_domain_config_dispose(&shell);
	libxl_domain_config_dispose(&guest);
	free(json);
	return code;
}

static int verb_destroy(struct shell *s, char **arg)
{
	libxl_dominfo info;
	libxl_uuid uuid;
	int r;

	if (libxl_uuid_from_string(&uuid, arg[0])) {
		log_err(s->name, "destroy: %s is not a UUID", arg[0]);
		return EXIT_USAGE;
	}
	libxl_dominfo_init(&info);
	r = libxl_domain_info(s->ctx, &info, s->domid);
	if (r == ERROR_DOMAIN_NOTFOUND) {
		libxl_dominfo_dispose(&info);
		return EXIT_OK;		/* nothing left to do */
	}
	if (r || libxl_uuid_compare(&uuid, &info.uuid)) {
		libxl_dominfo_dispose(&info);
		if (r)
			return failed(s, "destroy", r);
		log_err(s->name, "destroy: domain %u has another UUID than %s", s->domid, arg[0]);
		return EXIT_FAILED;
	}
	libxl_dominfo_dispose(&info);
	r = libxl_domain_destroy(s->ctx, s->domid, NULL);
	return r ? failed(s, "destroy", r) : EXIT_OK;
}

static int verb_rename(struct shell *s, char **arg)
{
	int r = libxl_domain_rename(s->ctx, s->domid, NULL, arg[0]);

	return r ? failed(s, "rename", r) : EXIT_OK;
}

static int verb_kind(struct shell *s, char **arg)
{
	static const char *const kind[] = {
		[LIBXL_DOMAIN_TYPE_PV] = "PV",
		[LIBXL_DOMAIN_TYPE_HVM] = "HVM",
		[LIBXL_DOMAIN_TYPE_PVH] = "PVH",
	};
	int r, nr_pci = 0, nr_usb = 0, nr_disks = 0, others = 0;
	libxl_device_disk *disks;
	libxl_domain_config config;
	libxl_device_usbdev *usb;
	libxl_device_pci *pci;
	libxl_domain_type type;
	libxl_dominfo info;

	/* libxl_dominfo calls a PVH domain HVM; the configuration knows. */
	libxl_dominfo_init(&info);
	r = libxl_domain_info(s->ctx, &info, s->domid);
	if (!r) {
		r = config_retrieve(s, &config);
		type = config.c_info.type;
		libxl_domain_config_dispose(&config);
	}
	if (r || type < LIBXL_DOMAIN_TYPE_HVM || type > LIBXL_DOMAIN_TYPE_PVH) {
		libxl_dominfo_dispose(&info);
		return failed(s, "kind", r);
	}
	pci = libxl_device_pci_list(s->ctx, s->domid, &nr_pci);
	usb = libxl_device_usbdev_list(s->ctx, s->domid, &nr_usb);
	disks = libxl_device_disk_list(s->ctx, s->domid, &nr_disks);
	for (int i = 0; i < nr_disks; i++)
		others += disks[i].backend != LIBXL_DISK_BACKEND_PHY;
	r = printf("{\"domid\": %u, \"kind\": \"%s\", \"passthrough\": %d, \"foreign_disks\": %d, \"memory_kib\": %" PRIu64
		   ", \"vcpus\": %u, \"paused\": %s, \"uuid\": \"" LIBXL_UUID_FMT "\"}\n",
		   s->domid, kind[type], nr_pci + nr_usb, others, info.current_memkb + info.outstanding_memkb,
		   info.vcpu_max_id + 1, info.paused ? "true" : "false", LIBXL_UUID_BYTES(info.uuid));
	libxl_device_pci_list_free(pci, nr_pci);
	libxl_device_usbdev_list_free(usb, nr_usb);
	libxl_device_disk_list_free(disks, nr_disks);
	libxl_dominfo_dispose(&info);
	return r < 0 || fflush(stdout) ? EXIT_FAILED : EXIT_OK;
}

/* supervise: what xl's background process does for a domain that `xl create` made. */

enum supervise_next { SUPERVISE_WAIT, SUPERVISE_DONE, SUPERVISE_RESTARTED, SUPERVISE_FAILED };

static libxl_action_on_shutdown action_for(const libxl_domain_config *config, int reason)
{
	switch (reason) {
	case LIBXL_SHUTDOWN_REASON_POWEROFF:
		return config->on_poweroff;
	case LIBXL_SHUTDOWN_REASON_REBOOT:
		return config->on_reboot;
	case LIBXL_SHUTDOWN_REASON_CRASH:
		return config->on_crash;
	case LIBXL_SHUTDOWN_REASON_WATCHDOG:
		return config->on_watchdog;
	case LIBXL_SHUTDOWN_REASON_SOFT_RESET:
		return config->on_soft_reset;
	default:
		return LIBXL_ACTION_ON_SHUTDOWN_DESTROY;
	}
}

static void core_dump(const struct shell *s)
{
	char path[256];

	snprintf(path, sizeof(path), "/var/lib/xen/dump/%s", s->name);
	if (libxl_domain_core_dump(s->ctx, s->domid, path, NULL))
		log_warn(s->name, "core dump to %s failed", path);
	s->error->text[0] = '\0';
}

/* The domain is gone; makes it again with a domid that Xen chooses, and runs it. */
static enum supervise_next restart(struct shell *s, libxl_domain_config *config)
{
	uint32_t domid = (uint32_t)INVALID_DOMID;
	int r;

	sleep(RESTART_DELAY_S);
	config->c_info.domid = (uint32_t)INVALID_DOMID;
	r = libxl_domain_create_new(s->ctx, config, &domid, NULL, NULL);
	if (!r)
		r = libxl_domain_unpause(s->ctx, domid, NULL);
	if (r) {
		failed(s, "restart", r);
		return SUPERVISE_FAILED;
	}
	s->domid = domid;
	log_info(s->name, "restarted as domain %u", domid);
	return SUPERVISE_RESTARTED;
}

static enum supervise_next soft_reset(struct shell *s, libxl_domain_config *config)
{
	int r = libxl_domain_soft_reset(s->ctx, config, s->domid, NULL, NULL);

	if (!r)
		r = libxl_domain_unpause(s->ctx, s->domid, NULL);
	if (!r)
		return SUPERVISE_RESTARTED;
	failed(s, "soft reset", r);
	return SUPERVISE_FAILED;
}

/* Out of the way under another name and UUID, for somebody to look at. */
static int preserve(struct shell *s, libxl_domain_config *config)
{
	time_t now = time(NULL);
	libxl_uuid uuid;
	char suffix[32];
	struct tm tm;

	if (!gmtime_r(&now, &tm) || !strftime(suffix, sizeof(suffix), "-%Y%m%dT%H%MZ", &tm))
		return ERROR_FAIL;
	libxl_uuid_generate(&uuid);
	return libxl_domain_preserve(s->ctx, s->domid, &config->c_info, suffix, uuid);
}

static enum supervise_next act(struct shell *s, libxl_domain_config *config, libxl_action_on_shutdown action)
{
	bool again = action == LIBXL_ACTION_ON_SHUTDOWN_RESTART ||
		     action == LIBXL_ACTION_ON_SHUTDOWN_COREDUMP_RESTART;
	int r;

	switch (action) {
	case LIBXL_ACTION_ON_SHUTDOWN_PRESERVE:
		return SUPERVISE_DONE;
	case LIBXL_ACTION_ON_SHUTDOWN_SOFT_RESET:
		return soft_reset(s, config);
	case LIBXL_ACTION_ON_SHUTDOWN_RESTART_RENAME:
		r = preserve(s, config);
		if (!r)
			return restart(s, config);
		failed(s, "preserve", r);
		return SUPERVISE_FAILED;
	case LIBXL_ACTION_ON_SHUTDOWN_COREDUMP_RESTART:
	case LIBXL_ACTION_ON_SHUTDOWN_COREDUMP_DESTROY:
		core_dump(s);
		/* fall through */
	case LIBXL_ACTION_ON_SHUTDOWN_RESTART:
	case LIBXL_ACTION_ON_SHUTDOWN_DESTROY:
		break;
	}
	r = libxl_domain_destroy(s->ctx, s->domid, NULL);
	if (r) {
		failed(s, "destroy", r);
		return SUPERVISE_FAILED;
	}
	return again ? restart(s, config) : SUPERVISE_DONE;
}

static enum supervise_next on_shutdown(struct shell *s, int reason)
{
	libxl_action_on_shutdown action;
	libxl_domain_config config;
	enum supervise_next next;
	int r;

	/* Somebody saves it; what becomes of it comes as another event. */
	if (reason == LIBXL_SHUTDOWN_REASON_SUSPEND)
		return SUPERVISE_WAIT;
	r = config_retrieve(s, &config);
	if (r) {
		failed(s, "configuration", r);
		next = SUPERVISE_FAILED;
	} else {
		action = action_for(&config, reason);
		log_info(s->name, "domain %u: %s: %s", s->domid, libxl_shutdown_reason_to_string(reason),
			 libxl_action_on_shutdown_to_string(action));
		next = act(s, &config, action);
	}
	libxl_domain_config_dispose(&config);
	return next;
}

/* One life of the domain: until it is gone for good, or has another domid. */
static enum supervise_next supervise_one(struct shell *s)
{
	enum supervise_next next = SUPERVISE_WAIT;
	libxl_evgen_domain_death *watch;
	libxl_event *event;
	int r;

	r = libxl_evenable_domain_death(s->ctx, s->domid, 0, &watch);
	if (r) {
		failed(s, "supervise", r);
		return SUPERVISE_FAILED;
	}
	while (next == SUPERVISE_WAIT) {
		r = libxl_event_wait(s->ctx, &event, LIBXL_EVENTMASK_ALL, NULL, NULL);
		if (r) {
			failed(s, "supervise", r);
			next = SUPERVISE_FAILED;
			break;
		}
		if (event->type == LIBXL_EVENT_TYPE_DOMAIN_DEATH)
			next = SUPERVISE_DONE;
		else if (event->type == LIBXL_EVENT_TYPE_DOMAIN_SHUTDOWN)
			next = on_shutdown(s, (int)event->u.domain_shutdown.shutdown_reason);
		libxl_event_free(s->ctx, event);
	}
	libxl_evdisable_domain_death(s->ctx, watch);
	while (!libxl_event_check(s->ctx, &event, LIBXL_EVENTMASK_ALL, NULL, NULL))
		libxl_event_free(s->ctx, event);
	return next;
}

static int verb_supervise(struct shell *s, char **arg)
{
	enum supervise_next next;

	prctl(PR_SET_NAME, "us-supervise");
	do
		next = supervise_one(s);
	while (next == SUPERVISE_RESTARTED);
	return next == SUPERVISE_DONE ? EXIT_OK : EXIT_FAILED;
}

static const struct verb {
	const char *name;
	int nr_args;	/* behind DOMID */
	int (*run)(struct shell *s, char **arg);
	const char *usage;
} verbs[] = {
	{"config", 0, verb_config, "config DOMID                  print the domain's configuration as JSON"},
	{"create", 1, verb_create, "create DOMID NAME < JSON      make a paused shell for NAME, print its domid"},
	{"destroy", 1, verb_destroy, "destroy DOMID UUID            destroy the domain, if it has this UUID"},
	{"rename", 1, verb_rename, "rename DOMID NAME             give the domain another name"},
	{"supervise", 0, verb_supervise, "supervise DOMID               wait for its end, do what on_poweroff etc. say"},
	{"kind", 0, verb_kind, "kind DOMID                    print kind, memory, vcpus, passed-through devices"},
};

static int usage(FILE *to, int code)
{
	size_t i;

	fputs("usage: understudy-shell [OPTION...] VERB DOMID [ARGUMENT]\n\n", to);
	for (i = 0; i < sizeof(verbs) / sizeof(*verbs); i++)
		fprintf(to, "  %s\n", verbs[i].usage);
	fputs("\n  -k, --kernel=FILE   what a shell is built from (" SHELL_STUB ")\n"
	      "  -v, --verbose       everything that libxl says, on stderr\n"
	      "      --version\n"
	      "  -h, --help\n\n"
	      "Exit status: 0 done, 1 failed, 3 the domain id is taken, 4 not enough memory, 64 usage.\n", to);
	return code;
}

static int parse_domid(const char *text, uint32_t *domid)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno || *end || end == text || *text == '-' || !libxl_domid_valid_guest((uint32_t)value) ||
	    value > UINT32_MAX || value == 0)
		return -EINVAL;
	*domid = (uint32_t)value;
	return 0;
}

static int run(struct shell *s, const struct verb *v, char **arg)
{
	int r, code;

	/* Read by libxl itself: a guest's domid may be used again at once, for the same guest only. */
	if (setenv("LIBXL_DOMID_REUSE_TIMEOUT", "0", 1)) {
		log_err(NULL, "setenv: %s", strerror(errno));
		return EXIT_FAILED;
	}
	r = libxl_ctx_alloc(&s->ctx, LIBXL_VERSION, 0, &s->error->logger);
	if (r) {
		log_err(NULL, "libxl: %s", s->error->text[0] ? s->error->text : "cannot start (is this a Xen dom0?)");
		return EXIT_FAILED;
	}
	s->name = name_of(s);
	s->error->text[0] = '\0';
	code = v->run(s, arg);
	libxl_ctx_free(s->ctx);
	return code;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"kernel", required_argument, NULL, 'k'}, {"verbose", no_argument, NULL, 'v'},
		{"version", no_argument, NULL, 'V'},	  {"help", no_argument, NULL, 'h'},
		{0},
	};
	struct first_error error = {.logger = {.vmessage = first_error_message, .destroy = first_error_destroy}};
	struct shell s = {.error = &error, .stub = SHELL_STUB};
	size_t i;
	int c;

	log_open("understudy-shell", LOG_INFO);
	while ((c = getopt_long(argc, argv, "+k:vh", options, NULL)) != -1) {
		switch (c) {
		case 'k':
			s.stub = optarg;
			break;
		case 'v':
			error.verbose = true;
			break;
		case 'V':
			puts("understudy-shell " UNDERSTUDY_VERSION);
			return EXIT_OK;
		case 'h':
			return usage(stdout, EXIT_OK);
		default:
			return usage(stderr, EXIT_USAGE);
		}
	}
	argc -= optind;
	argv += optind;
	for (i = 0; argc && i < sizeof(verbs) / sizeof(*verbs); i++) {
		if (strcmp(argv[0], verbs[i].name) || argc != 2 + verbs[i].nr_args)
			continue;
		if (!parse_domid(argv[1], &s.domid))
			return run(&s, &verbs[i], argv + 2);
		log_err(NULL, "%s: %s is not a domain id", argv[0], argv[1]);
		return EXIT_USAGE;
	}
	return usage(stderr, EXIT_USAGE);
}
