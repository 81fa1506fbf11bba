/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A response overwrites the request that it answers, and rsp_prod follows by a second store. A worker that is killed in between
 * leaves slots that are neither. So the answers are written down first, in memory that survives the process.
 */
#ifndef PVDRIVERS_BLOCK_MARK_H
#define PVDRIVERS_BLOCK_MARK_H

#include <stdint.h>
#include <xenctrl.h>
#include <xen/io/blkif.h>

enum { MARK_ANSWERS_MAX = 64 };

struct answer_mark {
	uint32_t used;	/* the disk has a place here */
	uint32_t devid;
	uint32_t ring_ref, port; /* which ring */
	uint32_t first;		 /* ring index of answer[0] */
	uint32_t nr;		 /* written last; 0: nothing is being answered */
	blkif_response_t answer[MARK_ANSWERS_MAX];
};

struct mark_file;

/* Maps the file, creates it if there is none. 0 or -errno. */
int mark_open(const char *path, struct mark_file **out);
void mark_close(struct mark_file *m);

/* The disk's place, as a predecessor left it or new; NULL: none left. */
struct answer_mark *mark_of(struct mark_file *m, uint32_t devid);

void mark_begin(struct answer_mark *m, uint32_t first, const blkif_response_t *answer, uint32_t nr);
void mark_end(struct answer_mark *m);

/* How many answers from m->answer are to be written anew at rsp_prod; 0: none. */
uint32_t mark_unfinished(const struct answer_mark *m, uint32_t ring_ref, uint32_t port, uint32_t rsp_prod);

#endif
