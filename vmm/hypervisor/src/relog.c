/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Log-dirty CLEAN for a domain that is checkpointed many times a second: only the pages that were dirty are
 * write-protected again.
 *
 * Stock Xen marks the whole p2m for recalculation. After every CLEAN each page that the guest touches, reads included,
 * then costs a nested fault, and the first one in every 2 MiB rewrites 512 entries. That is right for a migration with
 * its few rounds. With log-dirty on, a page that is p2m_ram_rw has its bit set in the dirty bitmap: the fault handler
 * sets both, and so does, since our patch, p2m_add_page(). So the bits of the bitmap that was just handed out are all
 * that has to change.
 *
 * A page that is written in every epoch costs a fault in every epoch, for nothing: the toolstack copies it each time.
 * With PVSTATE_CLEAN_KEEP it names such pages: they stay writable, and keep their bits.
 */
#include <xen/guest_access.h>
#include <xen/iommu.h>
#include <xen/sched.h>
#include <asm/altp2m.h>
#include <asm/hvm/nestedhvm.h>
#include <asm/p2m.h>
#include <asm/paging.h>
#include <public/hvm/pvstate.h>

#include "mm-locks.h"

/* Gfns in one step: one table of 4 KiB entries. */
#define RELOG_GFNS L1_PAGETABLE_ENTRIES
#define RELOG_BYTES (RELOG_GFNS / 8)

/* With more dirty pages than this the stock way is cheaper, and does not hold the processor. */
#define RELOG_PAGES_MAX 16384

static bool possible(const struct domain *d)
{
    return d->pv_state && hap_enabled(d) && !altp2m_active(d) && !nestedhvm_enabled(d) && !is_iommu_enabled(d);
}

/* EPT: the generic way, whose flush waits for p2m_unlock(). */
static int relog_each(struct domain *d, unsigned long gfn, const unsigned long *dirty)
{
    unsigned int i;

    for ( i = find_first_bit(dirty, RELOG_GFNS); i < RELOG_GFNS; i = find_next_bit(dirty, RELOG_GFNS, i + 1) )
    {
        int rc = p2m_change_type_one(d, gfn + i, p2m_ram_rw, p2m_ram_logdirty);

        if ( rc && rc != -EBUSY )    /* EBUSY: it is not p2m_ram_rw, there is nothing to do */
            return rc;
    }

    return 0;
}

/* What is in both stays writable and dirty: `dirty` is left with what is to be write-protected. */
static void keep_writable(struct domain *d, unsigned long gfn, unsigned long *dirty, unsigned long *keep)
{
    unsigned int i;

    bitmap_and(keep, keep, dirty, RELOG_GFNS);
    bitmap_andnot(dirty, dirty, keep, RELOG_GFNS);
    for ( i = find_first_bit(keep, RELOG_GFNS); i < RELOG_GFNS; i = find_next_bit(keep, RELOG_GFNS, i + 1) )
        paging_mark_pfn_dirty(d, _pfn(gfn + i));
}

/*
 * The domain is paused, its bitmap has been copied to sc->dirty_bitmap and cleared. Returns false if that is not
 * enough and the caller has to use the stock way. The bits are read back from the caller's buffer: a toolstack that
 * changes them meanwhile loses track of its own guest's pages, no more.
 */
bool paging_relog(struct domain *d, const struct xen_domctl_shadow_op *sc)
{
    struct p2m_domain *p2m = p2m_get_hostp2m(d);
    unsigned long dirty[BITS_TO_LONGS(RELOG_GFNS)], keep[BITS_TO_LONGS(RELOG_GFNS)], gfn, total = 0;
    int rc = 0;

    if ( !possible(d) )
        return false;

    p2m_lock(p2m);

    /* Pages above what was asked for lost their bits as well, if they share a leaf of the bitmap with it. */
    if ( sc->pages <= p2m->max_mapped_pfn )
        rc = -ERANGE;
    /* Then the bitmap of what to keep begins behind the last whole byte of the other. */
    if ( (sc->mode & PVSTATE_CLEAN_KEEP) && sc->pages % 8 )
        rc = -EINVAL;

    for ( gfn = 0; !rc && gfn < sc->pages; gfn += RELOG_GFNS )
    {
        unsigned int bytes = min_t(unsigned long, (sc->pages - gfn + 7) / 8, RELOG_BYTES), nr;

        memset(dirty, 0, sizeof(dirty));
        if ( copy_from_guest_offset((uint8_t *)dirty, sc->dirty_bitmap, gfn / 8, bytes) )
        {
            rc = -EFAULT;
            break;
        }
        nr = bitmap_weight(dirty, RELOG_GFNS);
        if ( !nr )
            continue;
        total += nr;
        if ( sc->mode & PVSTATE_CLEAN_KEEP )
        {
            memset(keep, 0, sizeof(keep));
            if ( copy_from_guest_offset((uint8_t *)keep, sc->dirty_bitmap, sc->pages / 8 + gfn / 8, bytes) )
            {
                rc = -EFAULT;
                break;
            }
            keep_writable(d, gfn, dirty, keep);
        }
        if ( total > RELOG_PAGES_MAX )
            rc = -E2BIG;
        else
            rc = p2m->relog ? p2m->relog(p2m, gfn, dirty) : relog_each(d, gfn, dirty);
    }

    p2m_unlock(p2m);
    guest_flush_tlb_mask(d, d->dirty_cpumask);

    return !rc;
}
