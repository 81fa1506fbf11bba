/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a back end needs on top of xen/io/ring.h. The other side of a ring is hostile: indexes are
 * read once and checked, requests are copied (RING_COPY_REQUEST) before anything in them is looked
 * at. Our back ends answer in order, the network's at once, so that between its batches req_cons ==
 * rsp_prod_pvt == rsp_prod; rsp_prod is all a successor needs.
 */
#ifndef PVDRIVERS_RING_H
#define PVDRIVERS_RING_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include <xenctrl.h> /* xen_mb() and friends, which ring.h leaves to its user */
#include <xen/io/ring.h>

enum { RING_PAGE_SIZE = 4096 };

/* Attaches a back ring of one page, or of `bytes`, where its last user stopped. Evaluates to 0, or -EPROTO
 * if the indexes cannot be. */
#define ring_attach(ring, page) ring_attach_bytes(ring, page, RING_PAGE_SIZE)
#define ring_attach_bytes(ring, page, bytes)                                                       \
	({                                                                                         \
		RING_IDX rsp__ = *(volatile RING_IDX *)&(page)->rsp_prod;                          \
		RING_IDX req__ = *(volatile RING_IDX *)&(page)->req_prod;                          \
                                                                                                   \
		BACK_RING_ATTACH(ring, page, rsp__, bytes);                                        \
		RING_REQUEST_PROD_OVERFLOW(ring, req__) ? -EPROTO : 0;                             \
	})

/*
 * How many requests the front end has published and we have not consumed; -EPROTO: more than the
 * ring has (another negative number: it took some back). Nothing may be read beyond what it answered.
 */
#define ring_unconsumed(ring)                                                                      \
	({                                                                                         \
		RING_IDX prod__ = *(volatile RING_IDX *)&(ring)->sring->req_prod;                  \
                                                                                                   \
		xen_rmb();                                                                         \
		RING_REQUEST_PROD_OVERFLOW(ring, prod__) ? -EPROTO                                 \
							 : (int)(prod__ - (ring)->req_cons);       \
	})

/* Asks for an event as soon as `nr` requests are there. The caller looks at ring_unconsumed() again
 * afterwards. */
#define ring_expect(ring, nr)                                                                      \
	do {                                                                                       \
		*(volatile RING_IDX *)&(ring)->sring->req_event = (ring)->req_cons + (nr);         \
		xen_mb();                                                                          \
	} while (0)

#endif
