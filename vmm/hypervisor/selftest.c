/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * understudy-hvtest GUEST SHELL: checks PV state records on a live hypervisor. GUEST runs (it is paused for some
 * milliseconds, and goes on); SHELL is a paused domain of the same configuration that never ran (`xl create -p`).
 * Afterwards SHELL holds the guest's context without its memory: destroy it, never unpause it.
 */
#define _GNU_SOURCE
#define XC_WANT_COMPAT_MAP_FOREIGN_API 1
#include "include/pvstate_walk.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <xenctrl.h>

enum { CONTEXT_MAX = 1 << 20, PAGE_BYTES = 4096, HEAD_BYTES = 8, LOAD_LATE_MAX_MS = 60000 };

static int failures;

#define CHECK(cond, ...) do { \
	if (!(cond)) { \
		failures++; \
		printf("FAIL " __VA_ARGS__); \
		printf("\n"); \
	} \
} while (0)

struct context {
	uint8_t bytes[CONTEXT_MAX];
	size_t len;
};

struct bench {
	xc_interface *xc;
	uint32_t guest, shell, nr_vcpus;
	struct context good, bad, now;
	struct pvstate_set want;	/* of `good` */
};

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "understudy-hvtest: %s: %s\n", what, strerror(errno));
	exit(2);
}

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec * 1e-6;
}

static void capture(struct bench *b, uint32_t domid, struct context *c)
{
	int r = xc_domain_hvm_getcontext(b->xc, domid, c->bytes, sizeof(c->bytes));

	if (r < 0)
		die("get context");
	c->len = r;
}

static int load(struct bench *b, struct context *c)
{
	return xc_domain_hvm_setcontext(b->xc, b->shell, c->bytes, c->len) ? -errno : 0;
}

static void set_param(struct bench *b, uint32_t domid, uint64_t on)
{
	if (xc_hvm_param_set(b->xc, domid, HVM_PARAM_PV_STATE, on))
		die("HVM_PARAM_PV_STATE (is this Understudy's hypervisor?)");
}

/* The `nth` record of a type in a context, or NULL. */
static void *record(struct context *c, uint16_t code, unsigned int nth, uint32_t *len)
{
	struct pvstate_span span;
	size_t pos = 0;

	while (pvstate_next(c->bytes, c->len, &pos, &span) > 0)
		if (span.code == code && nth-- == 0) {
			if (len)
				*len = span.len;
			return c->bytes + ((const uint8_t *)span.at - c->bytes);
		}
	return NULL;
}

static struct pvstate_evtchn *ports_of(struct context *c) { return record(c, PVSTATE_CODE_EVTCHN, 0, NULL); }
static struct pvstate_domain *domain_of(struct context *c) { return record(c, PVSTATE_CODE_DOMAIN, 0, NULL); }
static struct pvstate_vcpu *vcpu_of(struct context *c) { return record(c, PVSTATE_CODE_VCPU, 0, NULL); }

static struct pvstate_port *port_of_kind(struct context *c, uint8_t kind, unsigned int nth)
{
	struct pvstate_evtchn *e = ports_of(c);
	uint32_t i;

	for (i = 0; i < e->nr_ports; i++)
		if (e->port[i].kind == kind && nth-- == 0)
			return &e->port[i];
	return NULL;
}

/* Each makes one thing wrong; false: this guest has nothing to spoil that way. */
#define SPOIL(name, pointer, change) \
	static bool name(struct context *c) \
	{ \
		__typeof__(pointer) p = pointer; \
		if (!p) \
			return false; \
		change; \
		return true; \
	}

SPOIL(evtchn_version, ports_of(c), p->version++)
SPOIL(evtchn_padding, ports_of(c), p->pad = 1)
SPOIL(evtchn_count, ports_of(c), p->nr_ports++)
SPOIL(evtchn_count_huge, ports_of(c), p->nr_ports = ~0u)
SPOIL(port_zero, ports_of(c), p->port[0].port = 0)
SPOIL(port_huge, ports_of(c), p->port[p->nr_ports - 1].port = PVSTATE_PORT_LIMIT)
SPOIL(port_above_limit, ports_of(c), p->port[p->nr_ports - 1].port = PVSTATE_PORT_LIMIT - 1)
SPOIL(port_twice, ports_of(c), p->port[p->nr_ports - 1].port = p->port[p->nr_ports - 2].port)
SPOIL(port_vcpu, ports_of(c), p->port[p->nr_ports - 1].vcpu = 200)
SPOIL(port_last_vcpu, ports_of(c), p->port[p->nr_ports - 1].last_vcpu = 200)
SPOIL(port_priority, ports_of(c), p->port[p->nr_ports - 1].priority = PVSTATE_QUEUES)
SPOIL(port_last_priority, ports_of(c), p->port[p->nr_ports - 1].last_priority = 255)
SPOIL(port_flags, ports_of(c), p->port[0].flags = 0x80)
SPOIL(port_pirq, ports_of(c), p->port[p->nr_ports - 1].kind = 4)
SPOIL(port_free, ports_of(c), p->port[p->nr_ports - 1].kind = 0)
SPOIL(port_domid, port_of_kind(c, PVSTATE_PORT_INTERDOMAIN, 0), p->remote = 0x7ff0)
SPOIL(port_other_domid, port_of_kind(c, PVSTATE_PORT_INTERDOMAIN, 0), p->remote = 77)
SPOIL(port_ipi_padding, port_of_kind(c, PVSTATE_PORT_IPI, 0), p->remote = 1)
SPOIL(port_store_as_ipi, port_of_kind(c, PVSTATE_PORT_INTERDOMAIN, 0), (p->kind = PVSTATE_PORT_IPI, p->remote = 0))
SPOIL(virq_number, port_of_kind(c, PVSTATE_PORT_VIRQ, 0), p->remote = 24)
SPOIL(virq_twice, port_of_kind(c, PVSTATE_PORT_VIRQ, 1),
      (p->remote = port_of_kind(c, PVSTATE_PORT_VIRQ, 0)->remote, p->vcpu = port_of_kind(c, PVSTATE_PORT_VIRQ, 0)->vcpu))
SPOIL(domain_version, domain_of(c), p->version = 0)
SPOIL(domain_padding, domain_of(c), p->pad = 1)
SPOIL(domain_abi, domain_of(c), p->abi = 2)
SPOIL(domain_other_abi, domain_of(c), p->abi ^= 1)
SPOIL(domain_arrays, domain_of(c), p->nr_arrays++)
SPOIL(domain_time, domain_of(c), p->system_time = ~(uint64_t)0)
SPOIL(domain_shared_info, domain_of(c), p->shared_info_gfn++)
SPOIL(domain_shared_info_none, domain_of(c), p->shared_info_gfn = PVSTATE_GFN_NONE)
SPOIL(domain_vm_assist, domain_of(c), p->vm_assist |= 1)
SPOIL(domain_array_hole, domain_of(c)->nr_arrays ? domain_of(c) : NULL, p->array_gfn[0] = (uint64_t)1 << 39)
SPOIL(domain_array_none, domain_of(c)->nr_arrays ? domain_of(c) : NULL, p->array_gfn[0] = PVSTATE_GFN_NONE)
SPOIL(vcpu_version, vcpu_of(c), p->version = 2)
SPOIL(vcpu_padding, vcpu_of(c), p->pad[4] = 1)
SPOIL(vcpu_upcall, vcpu_of(c), p->upcall_vector = 0xf)
SPOIL(vcpu_info_unaligned, vcpu_of(c), p->vcpu_info_offset |= 1)
SPOIL(vcpu_info_crossing, vcpu_of(c), p->vcpu_info_offset = PAGE_BYTES - 56)
SPOIL(vcpu_info_hole, vcpu_of(c), p->vcpu_info_gfn = (uint64_t)1 << 39)
SPOIL(vcpu_info_huge, vcpu_of(c), p->vcpu_info_gfn = (uint64_t)1 << 60)
SPOIL(vcpu_control_unaligned, vcpu_of(c), p->control_offset = 4)
SPOIL(vcpu_control_crossing, vcpu_of(c), p->control_offset = PAGE_BYTES - 64)
SPOIL(vcpu_control_hole, vcpu_of(c), p->control_gfn = (uint64_t)1 << 39)
SPOIL(vcpu_control_in_array, domain_of(c)->nr_arrays ? vcpu_of(c) : NULL, p->control_gfn = domain_of(c)->array_gfn[0])
SPOIL(vcpu_runstate_va, vcpu_of(c), p->runstate_va = (uint64_t)1 << 60)
SPOIL(vcpu_time_va, vcpu_of(c), p->time_info_va = (uint64_t)1 << 60)
SPOIL(vcpu_runstate_time, vcpu_of(c), p->runstate_time[3] = ~(uint64_t)0)
SPOIL(vcpu_singleshot, vcpu_of(c), p->singleshot = ~(uint64_t)0)
SPOIL(vcpu_periodic, vcpu_of(c), p->periodic_period = 1000)
SPOIL(vcpu_tail, vcpu_of(c), p->queue_tail[15] = PVSTATE_PORT_LIMIT - 1)
SPOIL(vcpu_number, (uint16_t *)vcpu_of(c), p[-3] = 100)
SPOIL(vcpu_cut_off, (uint32_t *)vcpu_of(c), p[-1] -= 8)
SPOIL(evtchn_instance, (uint16_t *)ports_of(c), p[-3] = 1)
SPOIL(end_missing, vcpu_of(c), c->len -= 8)
SPOIL(cut_inside, vcpu_of(c), c->len -= 40)

/* Doubles the first record of a type, or takes it out. */
static bool edit_record(struct context *c, uint16_t code, bool twice)
{
	uint32_t len;
	uint8_t *at = record(c, code, 0, &len), *start, *end;

	if (!at || c->len + len + HEAD_BYTES > sizeof(c->bytes))
		return false;
	start = at - HEAD_BYTES;
	end = at + len;
	if (twice) {
		memmove(end + (end - start), end, c->bytes + c->len - end);
		memcpy(end, start, end - start);
		c->len += end - start;
	} else {
		memmove(start, end, c->bytes + c->len - end);
		c->len -= end - start;
	}
	return true;
}

static bool evtchn_twice(struct context *c) { return edit_record(c, PVSTATE_CODE_EVTCHN, true); }
static bool evtchn_missing(struct context *c) { return edit_record(c, PVSTATE_CODE_EVTCHN, false); }
static bool domain_twice(struct context *c) { return edit_record(c, PVSTATE_CODE_DOMAIN, true); }
static bool domain_missing(struct context *c) { return edit_record(c, PVSTATE_CODE_DOMAIN, false); }
static bool vcpu_twice(struct context *c) { return edit_record(c, PVSTATE_CODE_VCPU, true); }
static bool vcpu_missing(struct context *c) { return edit_record(c, PVSTATE_CODE_VCPU, false); }

#define ENTRY(name) { #name, name }
static const struct {
	const char *name;
	bool (*spoil)(struct context *c);
} variants[] = {
	ENTRY(evtchn_version), ENTRY(evtchn_padding), ENTRY(evtchn_count), ENTRY(evtchn_count_huge), ENTRY(port_zero),
	ENTRY(port_huge), ENTRY(port_above_limit), ENTRY(port_twice), ENTRY(port_vcpu), ENTRY(port_last_vcpu),
	ENTRY(port_priority), ENTRY(port_last_priority), ENTRY(port_flags), ENTRY(port_pirq), ENTRY(port_free),
	ENTRY(port_domid), ENTRY(port_other_domid), ENTRY(port_ipi_padding), ENTRY(port_store_as_ipi),
	ENTRY(virq_number), ENTRY(virq_twice), ENTRY(domain_version), ENTRY(domain_padding), ENTRY(domain_abi),
	ENTRY(domain_other_abi), ENTRY(domain_arrays), ENTRY(domain_time), ENTRY(domain_shared_info),
	ENTRY(domain_shared_info_none), ENTRY(domain_vm_assist), ENTRY(domain_array_hole), ENTRY(domain_array_none),
	ENTRY(vcpu_version), ENTRY(vcpu_padding), ENTRY(vcpu_upcall), ENTRY(vcpu_info_unaligned),
	ENTRY(vcpu_info_crossing), ENTRY(vcpu_info_hole), ENTRY(vcpu_info_huge), ENTRY(vcpu_control_unaligned),
	ENTRY(vcpu_control_crossing), ENTRY(vcpu_control_hole), ENTRY(vcpu_control_in_array), ENTRY(vcpu_runstate_va),
	ENTRY(vcpu_time_va), ENTRY(vcpu_runstate_time), ENTRY(vcpu_singleshot), ENTRY(vcpu_periodic), ENTRY(vcpu_tail),
	ENTRY(vcpu_number), ENTRY(vcpu_cut_off), ENTRY(evtchn_instance), ENTRY(end_missing),
	ENTRY(cut_inside), ENTRY(evtchn_twice), ENTRY(evtchn_missing), ENTRY(domain_twice), ENTRY(domain_missing),
	ENTRY(vcpu_twice), ENTRY(vcpu_missing),
};

/* What is registered, without what time changes. */
static void registrations(struct context *c, struct context *out)
{
	struct pvstate_vcpu *v;
	unsigned int i;

	out->len = 0;
	for (i = 0; i < 2 + PVSTATE_VCPUS_MAX; i++) {
		uint16_t code = i < 2 ? PVSTATE_CODE_EVTCHN + i : PVSTATE_CODE_VCPU;
		uint32_t len;
		void *at = record(c, code, i < 2 ? 0 : i - 2, &len);

		if (!at)
			continue;
		memcpy(out->bytes + out->len, at, len);
		if (code == PVSTATE_CODE_DOMAIN) {
			((struct pvstate_domain *)(out->bytes + out->len))->system_time = 0;
		} else if (code == PVSTATE_CODE_VCPU) {
			v = (struct pvstate_vcpu *)(out->bytes + out->len);
			memset(v->runstate_time, 0, sizeof(v->runstate_time));
			v->singleshot = 0;
		}
		out->len += len;
	}
}

static void test_refusals(struct bench *b)
{
	static struct context before, after;
	unsigned int i, tried = 0;

	capture(b, b->shell, &b->now);
	registrations(&b->now, &before);
	for (i = 0; i < sizeof(variants) / sizeof(*variants); i++) {
		int rc;

		b->bad = b->good;
		if (!variants[i].spoil(&b->bad)) {
			printf("skip %s\n", variants[i].name);
			continue;
		}
		tried++;
		rc = load(b, &b->bad);
		CHECK(rc < 0, "%s: accepted", variants[i].name);
		capture(b, b->shell, &b->now);
		registrations(&b->now, &after);
		CHECK(before.len == after.len && !memcmp(before.bytes, after.bytes, before.len),
		      "%s: refused (%s), but something was left behind", variants[i].name, strerror(-rc));
	}
	printf("refusals: %u variants\n", tried);
}

static void compare_ports(struct bench *b)
{
	struct pvstate_evtchn *got = ports_of(&b->now), *want = b->want.evtchn;
	uint32_t i;

	CHECK(got->nr_ports == want->nr_ports, "ports: %u, not %u", got->nr_ports, want->nr_ports);
	for (i = 0; i < got->nr_ports && i < want->nr_ports; i++) {
		struct pvstate_port g = got->port[i], w = want->port[i];

		if (w.kind == PVSTATE_PORT_INTERDOMAIN && g.kind == PVSTATE_PORT_UNBOUND)
			g.kind = w.kind;
		g.flags = w.flags = 0;
		CHECK(!memcmp(&g, &w, sizeof(g)), "port %u: differs (kind %u, vCPU %u, priority %u)", w.port, g.kind,
		      g.vcpu, g.priority);
	}
}

static void compare_domain(struct bench *b)
{
	struct pvstate_domain *got = domain_of(&b->now), *want = b->want.domain;
	uint64_t late = got->system_time - want->system_time;

	CHECK(late < (uint64_t)LOAD_LATE_MAX_MS * 1000000, "system time: %lld ns off", (long long)late);
	CHECK(got->abi == want->abi && got->nr_arrays == want->nr_arrays, "event ABI or arrays differ");
	CHECK(got->shared_info_gfn == want->shared_info_gfn, "shared_info gfn differs");
	CHECK(got->vm_assist == want->vm_assist, "vm_assist differs");
	CHECK(!memcmp(got->array_gfn, want->array_gfn, want->nr_arrays * sizeof(uint64_t)), "array gfns differ");
}

static void compare_vcpu(struct bench *b, unsigned int i)
{
	struct pvstate_vcpu got = *(struct pvstate_vcpu *)record(&b->now, PVSTATE_CODE_VCPU, i, NULL);
	struct pvstate_vcpu want = *b->want.vcpu[i];
	unsigned int j;

	for (j = 0; j < 4; j++)
		CHECK(got.runstate_time[j] >= want.runstate_time[j], "vCPU %u: runstate %u went back", i, j);
	CHECK(got.singleshot == want.singleshot ||
	      (!got.singleshot && domain_of(&b->now)->system_time >= want.singleshot),
	      "vCPU %u: timer %lld, not %lld", i, (long long)got.singleshot, (long long)want.singleshot);
	memcpy(got.runstate_time, want.runstate_time, sizeof(got.runstate_time));
	got.singleshot = want.singleshot;
	CHECK(!memcmp(&got, &want, offsetof(struct pvstate_vcpu, queue_tail)), "vCPU %u: registrations differ", i);
}

static void test_load(struct bench *b, const char *what)
{
	double t = now_ms();
	unsigned int i;
	int rc;

	rc = load(b, &b->good);
	CHECK(rc == 0, "%s: %s", what, strerror(-rc));
	printf("%s: %.2f ms\n", what, now_ms() - t);
	if (rc)
		return;
	capture(b, b->shell, &b->now);
	compare_ports(b);
	compare_domain(b);
	for (i = 0; i < b->nr_vcpus; i++)
		compare_vcpu(b, i);
}

/* After a load, registrations stay where they are. */
static void test_moved(struct bench *b)
{
	struct pvstate_vcpu *v;

	b->bad = b->good;
	v = vcpu_of(&b->bad);
	v->vcpu_info_offset ^= 64;
	CHECK(load(b, &b->bad) < 0, "a second load moved vcpu_info");
	test_load(b, "load after a refused second one");
}

static void test_off(struct bench *b)
{
	int on, off;

	set_param(b, b->guest, 1);
	on = xc_domain_hvm_getcontext(b->xc, b->guest, NULL, 0);
	set_param(b, b->guest, 0);
	off = xc_domain_hvm_getcontext(b->xc, b->guest, NULL, 0);
	capture(b, b->guest, &b->now);
	CHECK(!ports_of(&b->now) && !domain_of(&b->now) && !vcpu_of(&b->now), "records without the parameter");
	CHECK(on > 0 && off > 0 && off < on, "buffer size %d without, %d with the parameter", off, on);
	CHECK(xc_hvm_param_set(b->xc, b->guest, HVM_PARAM_PV_STATE, 2) < 0, "the parameter takes 2");
	printf("off: buffer %d bytes, on: %d\n", off, on);
}

static void copy_page(struct bench *b, uint64_t gfn)
{
	void *from = xc_map_foreign_range(b->xc, b->guest, PAGE_BYTES, PROT_READ, gfn);
	void *to = xc_map_foreign_range(b->xc, b->shell, PAGE_BYTES, PROT_READ | PROT_WRITE, gfn);

	if (!from || !to)
		die("map a page (is SHELL of GUEST's configuration?)");
	memcpy(to, from, PAGE_BYTES);
	munmap(from, PAGE_BYTES);
	munmap(to, PAGE_BYTES);
}

/* With the guest paused: its context, and the pages that a load reads. */
static void prepare(struct bench *b)
{
	const struct pvstate_set *w = &b->want;
	const char *why;
	double t;
	uint32_t i;

	if (xc_domain_pause(b->xc, b->guest))
		die("pause");
	t = now_ms();
	capture(b, b->guest, &b->good);
	t = now_ms() - t;
	if (pvstate_parse(b->good.bytes, b->good.len, b->nr_vcpus, &b->want, &why)) {
		xc_domain_unpause(b->xc, b->guest);
		printf("FAIL captured context: %s\n", why);
		exit(1);
	}
	printf("capture: %zu bytes, %u ports, %u arrays, ABI %u, %.2f ms\n", b->good.len, w->evtchn->nr_ports,
	       w->domain->nr_arrays, w->domain->abi, t);
	if (xc_domain_add_to_physmap(b->xc, b->shell, XENMAPSPACE_shared_info, 0, w->domain->shared_info_gfn))
		die("place shared_info");
	copy_page(b, w->domain->shared_info_gfn);
	for (i = 0; i < w->domain->nr_arrays; i++)
		copy_page(b, w->domain->array_gfn[i]);
	for (i = 0; i < b->nr_vcpus; i++) {
		if (w->vcpu[i]->vcpu_info_gfn != PVSTATE_GFN_NONE)
			copy_page(b, w->vcpu[i]->vcpu_info_gfn);
		if (w->vcpu[i]->control_gfn != PVSTATE_GFN_NONE)
			copy_page(b, w->vcpu[i]->control_gfn);
	}
	xc_domain_unpause(b->xc, b->guest);
}

static void open_bench(struct bench *b)
{
	xc_domaininfo_t guest, shell;

	b->xc = xc_interface_open(NULL, NULL, 0);
	if (!b->xc)
		die("open the hypervisor");
	if (xc_domain_getinfolist(b->xc, b->guest, 1, &guest) != 1 || guest.domain != b->guest)
		die("GUEST");
	if (xc_domain_getinfolist(b->xc, b->shell, 1, &shell) != 1 || shell.domain != b->shell)
		die("SHELL");
	b->nr_vcpus = guest.max_vcpu_id + 1;
	if (shell.max_vcpu_id != guest.max_vcpu_id || !(shell.flags & XEN_DOMINF_paused) || shell.cpu_time) {
		fprintf(stderr, "understudy-hvtest: SHELL must be paused, never have run, and have GUEST's vCPUs\n");
		exit(2);
	}
}

int main(int argc, char **argv)
{
	static struct bench b;

	if (argc != 3) {
		fprintf(stderr, "usage: understudy-hvtest GUEST SHELL   (domids; SHELL: xl create -p, destroy it after)\n");
		return 2;
	}
	b.guest = strtoul(argv[1], NULL, 10);
	b.shell = strtoul(argv[2], NULL, 10);
	open_bench(&b);
	test_off(&b);
	set_param(&b, b.guest, 1);
	set_param(&b, b.shell, 1);
	prepare(&b);
	test_refusals(&b);
	test_load(&b, "load");
	test_load(&b, "load again");
	test_moved(&b);
	set_param(&b, b.guest, 0);
	pvstate_free(&b.want);
	xc_interface_close(b.xc);
	printf(failures ? "FAILED: %d\n" : "ok\n", failures);
	return failures != 0;
}
