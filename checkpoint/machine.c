/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/machine.h"
#include "common/wire.h"

#include <errno.h>
#include <stdlib.h>

struct wire_machine {
	uint8_t shared_info_gfn[8], callback_irq[8], store_gfn[8], console_gfn[8];
	uint8_t store_port[4], console_port[4];
	uint8_t tsc_mode[4], tsc_khz[4], tsc_incarnation[4], nr_grant_frames[4];
	uint8_t tsc_elapsed_ns[8];
};
_Static_assert(sizeof(struct wire_machine) == 64, "machine blob");

struct wire_range {
	uint8_t first[8], count[8];
};
_Static_assert(sizeof(struct wire_range) == 16, "layout range");

int machine_encode(const struct domain_machine *m, struct buf *out)
{
	struct wire_machine *w;
	uint8_t *at;
	uint32_t i;

	if (m->nr_grant_frames > DOMAIN_GRANT_FRAMES_MAX)
		return -EINVAL;
	at = buf_extend(out, sizeof(*w) + (size_t)m->nr_grant_frames * 8);
	if (!at)
		return -ENOMEM;
	w = (struct wire_machine *)at;
	wire_put64(w->shared_info_gfn, m->shared_info_gfn);
	wire_put64(w->callback_irq, m->callback_irq);
	wire_put64(w->store_gfn, m->store_gfn);
	wire_put64(w->console_gfn, m->console_gfn);
	wire_put32(w->store_port, m->store_port);
	wire_put32(w->console_port, m->console_port);
	wire_put32(w->tsc_mode, m->tsc_mode);
	wire_put32(w->tsc_khz, m->tsc_khz);
	wire_put32(w->tsc_incarnation, m->tsc_incarnation);
	wire_put32(w->nr_grant_frames, m->nr_grant_frames);
	wire_put64(w->tsc_elapsed_ns, m->tsc_elapsed_ns);
	for (i = 0; i < m->nr_grant_frames; i++)
		wire_put64(at + sizeof(*w) + (size_t)i * 8, m->grant_gfn[i]);
	return 0;
}

int machine_decode(const void *blob, size_t len, struct domain_machine *m)
{
	const struct wire_machine *w = blob;
	const uint8_t *grants = (const uint8_t *)blob + sizeof(*w);
	uint32_t i, nr;

	if (len < sizeof(*w))
		return -EINVAL;
	nr = wire_get32(w->nr_grant_frames);
	if (nr > DOMAIN_GRANT_FRAMES_MAX || len != sizeof(*w) + (size_t)nr * 8)
		return -EINVAL;
	*m = (struct domain_machine){
		.shared_info_gfn = wire_get64(w->shared_info_gfn),
		.nr_grant_frames = nr,
		.callback_irq = wire_get64(w->callback_irq),
		.store_gfn = wire_get64(w->store_gfn),
		.console_gfn = wire_get64(w->console_gfn),
		.store_port = wire_get32(w->store_port),
		.console_port = wire_get32(w->console_port),
		.tsc_mode = wire_get32(w->tsc_mode),
		.tsc_khz = wire_get32(w->tsc_khz),
		.tsc_incarnation = wire_get32(w->tsc_incarnation),
		.tsc_elapsed_ns = wire_get64(w->tsc_elapsed_ns),
	};
	for (i = 0; i < nr; i++)
		m->grant_gfn[i] = wire_get64(grants + (size_t)i * 8);
	return 0;
}

int layout_encode(const uint64_t *gfn, size_t nr, struct buf *out)
{
	size_t i, start = out->len;
	struct wire_range *range = NULL;
	uint64_t count = 0;

	for (i = 0; i < nr; i++) {
		if (i && gfn[i] <= gfn[i - 1]) {
			out->len = start;
			return -EINVAL;
		}
		if (!i || gfn[i] != gfn[i - 1] + 1) {
			range = buf_extend(out, sizeof(*range));
			if (!range) {
				out->len = start;
				return -ENOMEM;
			}
			wire_put64(range->first, gfn[i]);
			count = 0;
		}
		wire_put64(range->count, ++count);
	}
	return 0;
}

/* Total of the counts; 0: malformed. Ranges do not touch, so that one layout has one form. */
static uint64_t layout_total(const struct wire_range *range, size_t ranges, uint64_t gfn_limit)
{
	uint64_t end = 0, total = 0;
	size_t i;

	for (i = 0; i < ranges; i++) {
		uint64_t first = wire_get64(range[i].first), count = wire_get64(range[i].count);

		if (!count || first >= gfn_limit || count > gfn_limit - first ||
		    (i && first <= end))
			return 0;
		end = first + count;
		total += count;
	}
	return total;
}

int layout_decode(const void *blob, size_t len, uint64_t gfn_limit, uint64_t **gfn, size_t *nr)
{
	const struct wire_range *range = blob;
	size_t ranges = len / sizeof(*range), i, n = 0;
	uint64_t total, *out;

	if (!len || len % sizeof(*range))
		return -EINVAL;
	total = layout_total(range, ranges, gfn_limit);
	if (!total)
		return -EINVAL;
	out = malloc(total * sizeof(*out));
	if (!out)
		return -ENOMEM;
	for (i = 0; i < ranges; i++) {
		uint64_t at = wire_get64(range[i].first), count = wire_get64(range[i].count);

		while (count--)
			out[n++] = at++;
	}
	*gfn = out;
	*nr = n;
	return 0;
}
