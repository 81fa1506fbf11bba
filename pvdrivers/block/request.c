/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a request says, and whether it may. `raw` is a private copy; nothing in it is trusted. */
#include "pvdrivers/block/vbd.h"

#include <stdlib.h>
#include <string.h>

enum { SECTORS_PER_PAGE = RING_PAGE_SIZE / BLOCK_SECTOR_BYTES };

static int refuse(struct request *r, int16_t status, const char *why)
{
	r->kind = REQUEST_REFUSED;
	r->status = status;
	r->why = why;
	r->bytes = 0;
	return 0;
}

bool request_indirect(const blkif_request_t *raw, uint32_t *ref, uint16_t *len)
{
	blkif_request_indirect_t in;

	if (raw->operation != BLKIF_OP_INDIRECT)
		return false;
	memcpy(&in, raw, sizeof(in));
	if (!in.nr_segments || in.nr_segments > BLOCK_SEGMENTS_MAX)
		return false; /* refused later */
	*ref = in.indirect_grefs[0];
	*len = (uint16_t)(in.nr_segments * sizeof(struct blkif_request_segment));
	return true;
}

static bool kind_of(uint8_t operation, enum request_kind *kind)
{
	static const struct {
		bool known;
		enum request_kind kind;
	} kinds[] = {
		[BLKIF_OP_READ] = {true, REQUEST_READ},
		[BLKIF_OP_WRITE] = {true, REQUEST_WRITE},
		[BLKIF_OP_WRITE_BARRIER] = {true, REQUEST_BARRIER},
		[BLKIF_OP_FLUSH_DISKCACHE] = {true, REQUEST_FLUSH},
		[BLKIF_OP_DISCARD] = {true, REQUEST_DISCARD},
	};

	if (operation >= sizeof(kinds) / sizeof(kinds[0]) || !kinds[operation].known)
		return false;
	*kind = kinds[operation].kind;
	return true;
}

/* Sectors are counted in 512 bytes whatever the disk's are. False: behind the end, or not aligned. */
static bool set_range(const struct request_limits *l, struct request *r, uint64_t sector, uint64_t sectors)
{
	uint64_t disk = l->bytes / BLOCK_SECTOR_BYTES;

	if (sector > disk || sectors > disk - sector)
		return false;
	r->offset_bytes = sector * BLOCK_SECTOR_BYTES;
	r->bytes = sectors * BLOCK_SECTOR_BYTES;
	return r->offset_bytes % l->sector_bytes == 0 && r->bytes % l->sector_bytes == 0;
}

static int parse_discard(const struct request_limits *l, const blkif_request_t *raw, struct request *r)
{
	blkif_request_discard_t d;

	memcpy(&d, raw, sizeof(d));
	r->id = d.id;
	if (!l->discard || l->readonly)
		return refuse(r, BLKIF_RSP_EOPNOTSUPP, "discard is not offered");
	if (d.flag & BLKIF_DISCARD_SECURE)
		return refuse(r, BLKIF_RSP_EOPNOTSUPP, "secure discard is not offered");
	if (!d.nr_sectors || !set_range(l, r, d.sector_number, d.nr_sectors))
		return refuse(r, BLKIF_RSP_ERROR, "discard outside of the disk");
	return 0;
}

/* Fills in r->segment from the guest's descriptors. Sectors, or 0: nonsense. */
static uint64_t read_segments(const struct request_limits *l, const struct blkif_request_segment *from, struct request *r)
{
	unsigned int align = l->sector_bytes / BLOCK_SECTOR_BYTES;
	uint64_t sectors = 0;

	for (unsigned int i = 0; i < r->nr_segments; i++) {
		unsigned int first = from[i].first_sect, last = from[i].last_sect;

		if (last >= SECTORS_PER_PAGE || first > last || first % align || (last + 1) % align)
			return 0;
		r->segment[i] = (struct grant_segment){
			.ref = from[i].gref,
			.offset = (uint16_t)(first * BLOCK_SECTOR_BYTES),
			.len = (uint16_t)((last - first + 1) * BLOCK_SECTOR_BYTES),
		};
		sectors += last - first + 1;
	}
	return sectors;
}

static int allocate_data(struct request *r)
{
	uint8_t *at;
	void *data;

	if (posix_memalign(&data, RING_PAGE_SIZE, r->bytes))
		return -ENOMEM;
	at = r->data = data;
	for (unsigned int i = 0; i < r->nr_segments; i++) {
		r->segment[i].local = at;
		at += r->segment[i].len;
	}
	return 0;
}

static int parse_data(const struct request_limits *l, uint64_t sector, const struct blkif_request_segment *from,
		      struct request *r)
{
	uint64_t sectors;

	if (r->kind != REQUEST_READ && l->readonly)
		return refuse(r, BLKIF_RSP_ERROR, "write to a read-only disk");
	if (r->kind == REQUEST_BARRIER && !r->nr_segments) {
		r->kind = REQUEST_FLUSH;
		return 0;
	}
	if (!r->nr_segments)
		return refuse(r, BLKIF_RSP_ERROR, "no segments");
	r->segment = calloc(r->nr_segments, sizeof(*r->segment));
	if (!r->segment)
		return -ENOMEM;
	sectors = read_segments(l, from, r);
	if (!sectors)
		return refuse(r, BLKIF_RSP_ERROR, "a segment makes no sense");
	if (!set_range(l, r, sector, sectors))
		return refuse(r, BLKIF_RSP_ERROR, "outside of the disk, or not aligned to its sectors");
	return allocate_data(r);
}

static int parse_indirect(const struct request_limits *l, const blkif_request_t *raw,
			  const struct blkif_request_segment *indirect, struct request *r)
{
	blkif_request_indirect_t in;

	memcpy(&in, raw, sizeof(in));
	r->id = in.id;
	r->operation = in.indirect_op;
	if (in.indirect_op != BLKIF_OP_READ && in.indirect_op != BLKIF_OP_WRITE)
		return refuse(r, BLKIF_RSP_ERROR, "an indirect request that is neither read nor write");
	if (!in.nr_segments || in.nr_segments > BLOCK_SEGMENTS_MAX)
		return refuse(r, BLKIF_RSP_ERROR, "a wild count of indirect segments");
	if (!indirect)
		return refuse(r, BLKIF_RSP_ERROR, "no indirect page behind its grant");
	(void)kind_of(in.indirect_op, &r->kind);
	r->nr_segments = in.nr_segments;
	return parse_data(l, in.sector_number, indirect, r);
}

int request_parse(const struct request_limits *l, const blkif_request_t *raw, const struct blkif_request_segment *indirect,
		  struct request *out)
{
	*out = (struct request){.id = raw->id, .operation = raw->operation, .status = BLKIF_RSP_OKAY};
	if (raw->operation == BLKIF_OP_INDIRECT)
		return parse_indirect(l, raw, indirect, out);
	if (!kind_of(raw->operation, &out->kind))
		return refuse(out, BLKIF_RSP_EOPNOTSUPP, "an unknown operation");
	if (out->kind == REQUEST_DISCARD)
		return parse_discard(l, raw, out);
	if (out->kind == REQUEST_FLUSH && !raw->nr_segments)
		return 0;
	if (out->kind == REQUEST_FLUSH)
		out->kind = REQUEST_BARRIER; /* with data: what it asks for and more */
	if (raw->nr_segments > BLKIF_MAX_SEGMENTS_PER_REQUEST)
		return refuse(out, BLKIF_RSP_ERROR, "a wild count of segments");
	out->nr_segments = raw->nr_segments;
	return parse_data(l, raw->sector_number, raw->seg, out);
}

void request_release(struct request *r)
{
	free(r->segment);
	free(r->data);
	r->segment = NULL;
	r->data = NULL;
}
