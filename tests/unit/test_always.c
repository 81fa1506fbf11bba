/* SPDX-License-Identifier: GPL-2.0-or-later */
/* domain_always_gfns(): the pages that Xen writes behind log-dirty, out of a captured context. */
#include "vmm/domain.h"

#include "vmm/hypervisor/include/pvstate.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <xen/xen.h>
#include <xen/hvm/save.h>

enum { GFNS_MAX = 16 };

struct context {
	uint8_t data[2048];
	size_t len;
};

static void record(struct context *c, uint16_t type, uint16_t instance, const void *body, size_t len)
{
	struct hvm_save_descriptor d = {.typecode = type, .instance = instance, .length = (uint32_t)len};

	memcpy(c->data + c->len, &d, sizeof(d));
	if (len)
		memcpy(c->data + c->len + sizeof(d), body, len);
	c->len += sizeof(d) + len;
}

static void record_domain(struct context *c, uint64_t shared_info, const uint64_t *array, uint32_t nr)
{
	uint8_t body[PVSTATE_DOMAIN_BYTES(8)];
	struct pvstate_domain head = {.version = PVSTATE_VERSION, .nr_arrays = nr, .shared_info_gfn = shared_info};

	memcpy(body, &head, sizeof(head));
	memcpy(body + sizeof(head), array, nr * sizeof(*array));
	record(c, PVSTATE_CODE_DOMAIN, 0, body, PVSTATE_DOMAIN_BYTES(nr));
}

static void record_vcpu(struct context *c, uint16_t vcpu, uint64_t info, uint64_t control)
{
	struct pvstate_vcpu v = {.version = PVSTATE_VERSION, .vcpu_info_gfn = info, .control_gfn = control};

	record(c, PVSTATE_CODE_VCPU, vcpu, &v, sizeof(v));
}

static const struct domain_machine machine = {
	.shared_info_gfn = 0x10,
	.nr_grant_frames = 2,
	.grant_gfn = {0x9001, 0x9000},
	.store_gfn = 0xfeffc,
	.console_gfn = 0xfefff,
};

/* As the context of a guest with two vCPUs looks, with records of other kinds around. */
static void whole(struct context *c)
{
	static const uint64_t array[] = {0x30, 0x20};

	c->len = 0;
	record(c, HVM_SAVE_CODE(HEADER), 0, "abc", 3);	/* odd length: what follows is not aligned */
	record_domain(c, 0x10, array, 2);
	record_vcpu(c, 0, 0x40, 0x50);
	record_vcpu(c, 1, 0x40, PVSTATE_GFN_NONE);
	record(c, HVM_SAVE_CODE(END), 0, NULL, 0);
}

/* In exactly as many bytes as it has, for sanitizers. */
static int always(const struct context *c, size_t len, const struct domain_machine *m, uint64_t *gfn, size_t max)
{
	uint8_t *exact = malloc(len ? len : 1);
	int r;

	memcpy(exact, c->data, len);
	r = domain_always_gfns(exact, len, m, gfn, max);
	free(exact);
	return r;
}

static void test_all(void **state)
{
	static const uint64_t want[] = {0x10, 0x20, 0x30, 0x40, 0x50, 0x9000, 0x9001, 0xfeffc, 0xfefff};
	uint64_t gfn[GFNS_MAX];
	struct context c;

	whole(&c);
	assert_int_equal(always(&c, c.len, &machine, gfn, GFNS_MAX), sizeof(want) / sizeof(*want));
	assert_memory_equal(gfn, want, sizeof(want));
}

static void test_absent(void **state)
{
	struct domain_machine m = {.shared_info_gfn = UINT64_MAX, .nr_grant_frames = 1, .grant_gfn = {UINT64_MAX},
				   .store_gfn = 1, .console_gfn = 2};
	uint64_t gfn[GFNS_MAX];
	struct context c = {0};

	record_domain(&c, PVSTATE_GFN_NONE, NULL, 0);
	record(&c, HVM_SAVE_CODE(END), 0, NULL, 0);
	assert_int_equal(always(&c, c.len, &m, gfn, GFNS_MAX), 2);
	assert_int_equal(gfn[0], 1);
	assert_int_equal(gfn[1], 2);
}

static void test_too_many(void **state)
{
	uint64_t gfn[GFNS_MAX];
	struct context c;

	whole(&c);
	/* Eleven with the duplicates, which are found only when all are there. */
	assert_int_equal(always(&c, c.len, &machine, gfn, 10), -E2BIG);
	assert_int_equal(always(&c, c.len, &machine, gfn, 11), 9);
}

static void test_truncated(void **state)
{
	uint64_t gfn[GFNS_MAX];
	struct context c;
	size_t len;

	whole(&c);
	for (len = 0; len < c.len; len++)
		assert_int_equal(always(&c, len, &machine, gfn, GFNS_MAX), -EINVAL);
}

static void expect_invalid(const struct context *c)
{
	uint64_t gfn[GFNS_MAX];

	assert_int_equal(always(c, c->len, &machine, gfn, GFNS_MAX), -EINVAL);
}

static void test_malformed(void **state)
{
	struct domain_machine m = machine;
	uint64_t gfn[GFNS_MAX];
	struct pvstate_domain d = {.version = PVSTATE_VERSION, .nr_arrays = PVSTATE_ARRAYS_MAX + 1};
	struct pvstate_vcpu v = {.version = PVSTATE_VERSION + 1};
	struct context c = {0};

	record_vcpu(&c, 0, 1, 2);			/* a stock hypervisor's: no domain record */
	record(&c, HVM_SAVE_CODE(END), 0, NULL, 0);
	expect_invalid(&c);

	c.len = 0;
	record_domain(&c, 1, NULL, 0);
	record_domain(&c, 1, NULL, 0);			/* two of them */
	record(&c, HVM_SAVE_CODE(END), 0, NULL, 0);
	expect_invalid(&c);

	c.len = 0;
	record(&c, PVSTATE_CODE_DOMAIN, 0, &d, sizeof(d));
	record(&c, HVM_SAVE_CODE(END), 0, NULL, 0);
	expect_invalid(&c);				/* more arrays than there may be */

	d.nr_arrays = 1;
	c.len = 0;
	record(&c, PVSTATE_CODE_DOMAIN, 0, &d, sizeof(d));
	record(&c, HVM_SAVE_CODE(END), 0, NULL, 0);
	expect_invalid(&c);				/* more arrays than the record has */

	c.len = 0;
	record_domain(&c, 1, NULL, 0);
	record(&c, PVSTATE_CODE_VCPU, 0, &v, sizeof(v));
	record(&c, HVM_SAVE_CODE(END), 0, NULL, 0);
	expect_invalid(&c);				/* another version */

	c.len = 0;
	record_domain(&c, 1, NULL, 0);
	record(&c, PVSTATE_CODE_VCPU, 0, &v, sizeof(v) - 8);
	record(&c, HVM_SAVE_CODE(END), 0, NULL, 0);
	expect_invalid(&c);

	whole(&c);
	m.nr_grant_frames = DOMAIN_GRANT_FRAMES_MAX + 1;
	assert_int_equal(always(&c, c.len, &m, gfn, GFNS_MAX), -EINVAL);
}

static void test_tail(void **state)
{
	static const uint64_t tail[] = {0x10, 0x9000, 0x9001, 0xfeffc, 0xfefff};
	static const uint64_t other[] = {0, 0x11, 0x9002, 0x40};
	size_t i;

	for (i = 0; i < sizeof(tail) / sizeof(*tail); i++)
		assert_true(domain_page_is_tail(&machine, tail[i]));
	for (i = 0; i < sizeof(other) / sizeof(*other); i++)
		assert_false(domain_page_is_tail(&machine, other[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all),	  cmocka_unit_test(test_absent),    cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_truncated), cmocka_unit_test(test_malformed), cmocka_unit_test(test_tail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
