/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside pvdrivers/block only: one virtual disk and what all disks of a guest share.
 *
 *   block.c  the set of disks, the public functions    vbd.c     one disk's life, by xenbus states
 *   queue.c  requests from the ring to their answers    request.c what a request says, and whether it may
 *   io.c     reads and writes in flight                 device.c  what they go to
 *   mark.c   answers that a kill must not tear          state.c   what a backup has to know
 */
#ifndef PVDRIVERS_BLOCK_VBD_H
#define PVDRIVERS_BLOCK_VBD_H

#include "pvdrivers/block/block.h"
#include "pvdrivers/block/device.h"
#include "pvdrivers/block/io.h"
#include "pvdrivers/block/mark.h"
#include "pvdrivers/devices.h"
#include "pvdrivers/grant.h"
#include "pvdrivers/ring.h"
#include "pvdrivers/xenbus.h"

#include <xen/io/blkif.h>

enum {
	BLOCK_RING_SLOTS_MAX = 512, /* of BLOCK_RING_PAGES_MAX pages */
	BLOCK_RING_ORDER_MAX = 4,

	/* What Linux' back end offers; one page of indirect descriptors. */
	BLOCK_SEGMENTS_MAX = 256,
	BLOCK_REQUEST_BYTES_MAX = BLOCK_CHANGE_BYTES_MAX,

	/* In the buffers of one disk: bounds memory, and what a log that begins may get without a reservation. */
	BLOCK_IN_FLIGHT_BYTES_MAX = 32 << 20,

	BLOCK_BATCH = 32,	/* requests taken at once */
	BLOCK_TURN_BATCHES = 4, /* then others have their turn */
};

_Static_assert(BLOCK_SEGMENTS_MAX * RING_PAGE_SIZE <= (int)BLOCK_REQUEST_BYTES_MAX, "a request is one change");
_Static_assert(BLOCK_SEGMENTS_MAX <= (int)GRANT_SEGMENTS_MAX, "a request is one copy");
_Static_assert(BLOCK_SEGMENTS_MAX * sizeof(struct blkif_request_segment) <= RING_PAGE_SIZE, "one indirect page");

enum request_kind { REQUEST_READ, REQUEST_WRITE, REQUEST_BARRIER, REQUEST_FLUSH, REQUEST_DISCARD, REQUEST_REFUSED };

/* A private copy of what the guest asked. */
struct request {
	uint64_t id;
	uint8_t operation;	/* as it is answered */
	enum request_kind kind;
	int16_t status;		/* BLKIF_RSP_* */
	const char *why;	/* REQUEST_REFUSED: a word for the log */
	uint64_t offset_bytes, bytes;
	unsigned int nr_segments;
	struct grant_segment *segment;	/* [nr_segments], free() */
	uint8_t *data;			/* [bytes], page aligned, free() */
};

/* What requests to a disk may say. */
struct request_limits {
	uint64_t bytes;
	uint32_t sector_bytes;
	bool readonly, discard;
};

/*
 * Reads one request that was copied from the ring. `indirect` is what stood in the page that request_indirect() named, NULL if that
 * could not be had. What is wrong with a request makes it REQUEST_REFUSED with a status; only -ENOMEM is an error.
 */
int request_parse(const struct request_limits *l, const blkif_request_t *raw, const struct blkif_request_segment *indirect,
		  struct request *out);
void request_release(struct request *r);

/* True: the request's segments stand in another page, *len bytes of them. */
bool request_indirect(const blkif_request_t *raw, uint32_t *ref, uint16_t *len);

enum slot_stage { SLOT_WAITING, SLOT_RUNNING, SLOT_DONE };

/* A request between its consumption and its answer. */
struct slot {
	struct io io;
	struct slot_set *set;
	struct request r;
	enum slot_stage stage;
	bool reserved;	/* its bytes are, in the log */
	bool flushed;	/* a barrier's first step */
};

/* All of one attachment. It outlives that until the last I/O has ended, and the device stays open and locked as long: a disk that
 * hangs delays nobody but itself. */
struct slot_set {
	struct vbd *vbd;	/* NULL: detached */
	struct vbd *former;	/* detached: who waits for the end of it; NULL: nobody */
	struct device device;	/* only then: to be closed with the set */
	unsigned int running;	/* I/Os with the engine */
	struct slot slot[];	/* [RING_SIZE]: in flight are rsp_prod_pvt..req_cons */
};

struct vbd {
	struct block *block;
	bool present, attached, failed;
	bool foreign; /* the kernel's, which we leave alone */
	uint32_t devid;
	char name[32];
	char *back, *front;
	bool readonly, discard_wanted;
	struct device device;
	struct xenbus_watch *watch; /* on the front end's state */
	struct event *turn;
	void (*wake)(struct vbd *v); /* a turn soon */
	unsigned int attach_tries;

	/* as the front end wrote them */
	uint32_t ring_ref[BLOCK_RING_PAGES_MAX], ring_pages, port_nr;
	struct evtchn_port *port;

	blkif_back_ring_t ring;
	struct answer_mark *mark; /* NULL: none */
	struct slot_set *set, *orphan; /* orphan: of the last attachment, its I/O in flight; NULL: none */
	uint64_t in_flight_bytes;
	bool complained; /* about a request that made no sense */
	struct block_stats stats;
};

/* One batch on its way from the ring into slots. */
struct take_batch {
	unsigned int nr;
	blkif_request_t raw[BLOCK_BATCH];
	bool has_indirect[BLOCK_BATCH];
	struct blkif_request_segment indirect[BLOCK_BATCH][BLOCK_SEGMENTS_MAX];
	struct grant_segment segment[GRANT_SEGMENTS_MAX];
	struct slot *owner[GRANT_SEGMENTS_MAX];
	int16_t status[GRANT_SEGMENTS_MAX];
};

struct block {
	struct block_config config;
	struct xenbus *xenbus;
	struct evtchn *evtchn;
	struct grant *grant;
	struct io_engine *io;
	struct mark_file *marks;
	struct devices *devices;
	bool frozen;
	const struct block_log_ops *log;
	void *log_arg;
	struct take_batch batch;
	struct vbd vbd[BLOCK_DISKS_MAX];
};

#define FOR_EACH_VBD(bb, v) for (struct vbd *v = (bb)->vbd; v < (bb)->vbd + BLOCK_DISKS_MAX; v++)

/* queue.c */
/* The ring is mapped at `page`: attaches at rsp_prod. `fresh`: no back end served this ring before. 0 or -errno. */
int queue_attach(struct vbd *v, void *page, bool fresh);
/* Unanswered requests stay in the ring. Takes over v->device if I/O is in flight. */
void queue_detach(struct vbd *v);
/* Nobody waits for the I/O of a detached ring any more. */
void queue_abandon(struct vbd *v);
/* The log changed: what is in flight reserved nothing with the new one. */
void queue_forget_reservations(struct vbd *v);
/* Answers, takes, starts. 1: more is there; 0: an event or a completion will tell; -EPROTO: the vbd must fail. */
int queue_run(struct vbd *v);

/* vbd.c */
void vbd_open(struct block *bb, uint32_t devid, struct vbd *v);
void vbd_look(struct vbd *v);
void vbd_end(struct vbd *v);
void vbd_forget(struct vbd *v);
void vbd_release(struct vbd *v);
void vbd_set_state(struct vbd *v, enum xenbus_state state);
int vbd_attach(struct vbd *v, bool fresh);
void vbd_detach(struct vbd *v);
int vbd_open_device(struct vbd *v);
/* What the front end reads once we are connected. 0 or -errno. */
int vbd_publish(struct vbd *v);
void vbd_fail(struct vbd *v, int error, const char *what);
void vbd_serve(struct vbd *v);

/* state.c: compares; -EINVAL: damaged; -ENXIO: logged. */
int block_state_match(struct block *bb, const void *blob, size_t len);

#endif
