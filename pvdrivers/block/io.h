/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads and writes in flight: by io_uring where the kernel has it, by a few threads where not. Discards, which have no form in
 * io_uring for block devices, always use the threads. Completions arrive on the caller's libevent base.
 */
#ifndef PVDRIVERS_BLOCK_IO_H
#define PVDRIVERS_BLOCK_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event_base;
struct io_engine;

enum io_op { IO_READ, IO_WRITE, IO_WRITE_DURABLE, IO_FLUSH, IO_DISCARD };

struct io {
	enum io_op op;
	int fd;
	bool is_device; /* a block device: how to discard */
	uint8_t *data;	/* aligned as the file wants it; stays until done() */
	uint64_t offset, bytes;

	/* On the base. rc: 0, all bytes were moved; or -errno. */
	void (*done)(struct io *io, int rc);

	/* the engine's own */
	uint64_t moved;
	int rc;
	struct io *next;
};

/* `threads_only` leaves io_uring out. */
int io_engine_new(struct event_base *base, const char *guest, bool threads_only, struct io_engine **out);

/* Nothing is in flight. */
void io_engine_free(struct io_engine *e);

/* Queues; io_kick() sends what is queued to the kernel. */
void io_submit(struct io_engine *e, struct io *io);
void io_kick(struct io_engine *e);

/* Waits until something is complete and calls done() for all that is; at once if nothing is in flight. */
void io_wait(struct io_engine *e);

/* done() for what is complete, without waiting. */
void io_reap(struct io_engine *e);

unsigned int io_in_flight(const struct io_engine *e);
bool io_has_uring(const struct io_engine *e);

#endif
