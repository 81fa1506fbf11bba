/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The FIFO ABI's pages as PV interface state. Included at the end of event_fifo.c: it works on that file's internals. */

#include <xen/pvstate.h>
#include <public/hvm/pvstate.h>
#include <public/hvm/pvstate_check.h>

static uint64_t mapped_gfn(const struct domain *d, const void *virt)
{
    return gfn_x(mfn_to_gfn(d, domain_page_map_to_mfn(
        (void *)((unsigned long)virt & PAGE_MASK))));
}

void evtchn_fifo_pv_export(struct vcpu *v, struct pvstate_vcpu *rec)
{
    const struct evtchn_fifo_vcpu *efv = v->evtchn_fifo;
    unsigned int i;

    rec->control_gfn = PVSTATE_GFN_NONE;
    if ( !efv || !efv->control_block )
        return;

    rec->control_gfn = mapped_gfn(v->domain, efv->control_block);
    rec->control_offset = PAGE_OFFSET(efv->control_block);
    for ( i = 0; i < PVSTATE_QUEUES; i++ )
        rec->queue_tail[i] = efv->queue[i].tail;
}

unsigned int evtchn_fifo_pv_arrays(const struct domain *d, uint64_t *gfn)
{
    unsigned int i, nr;

    if ( !d->evtchn_fifo )
        return 0;

    nr = d->evtchn_fifo->num_evtchns / EVTCHN_FIFO_EVENT_WORDS_PER_PAGE;
    for ( i = 0; i < nr; i++ )
        gfn[i] = mapped_gfn(d, d->evtchn_fifo->event_array[i]);

    return nr;
}

static bool is_fifo(const struct domain *d)
{
    return d->evtchn_port_ops == &evtchn_port_ops_fifo;
}

static int prepare_arrays(struct domain *d, const struct pvstate_domain *rec,
                          const char **why)
{
    struct evtchn_fifo_domain *fifo = d->evtchn_fifo;
    unsigned int i, nr = fifo->num_evtchns / EVTCHN_FIFO_EVENT_WORDS_PER_PAGE;

    for ( i = 0; i < rec->nr_arrays; i++ )
    {
        void *virt;
        int rc;

        if ( i < nr )
        {
            if ( mapped_gfn(d, fifo->event_array[i]) == rec->array_gfn[i] )
                continue;
            *why = "event array already elsewhere";
            return -EEXIST;
        }

        rc = map_guest_page(d, rec->array_gfn[i], &virt);
        if ( rc )
        {
            *why = "event array cannot be mapped";
            return rc;
        }
        fifo->event_array[i] = virt;
        smp_wmb();
        fifo->num_evtchns += EVTCHN_FIFO_EVENT_WORDS_PER_PAGE;
    }

    return 0;
}

static int prepare_control(struct vcpu *v, const struct pvstate_vcpu *rec,
                           const char **why)
{
    const void *block = v->evtchn_fifo->control_block;
    int rc;

    if ( rec->control_gfn == PVSTATE_GFN_NONE )
        return 0;

    if ( block )
    {
        if ( mapped_gfn(v->domain, block) == rec->control_gfn &&
             PAGE_OFFSET(block) == rec->control_offset )
            return 0;
        *why = "control block already elsewhere";
        return -EEXIST;
    }

    rc = map_control_block(v, rec->control_gfn, rec->control_offset);
    if ( rc )
        *why = "control block cannot be mapped";

    return rc;
}

/*
 * Until commit() the domain stays on the 2-level ABI, whose operations do not look at any of this: senders in other
 * domains may be under way, and need no stopping if it has to be undone.
 */
int evtchn_fifo_pv_prepare(struct domain *d, const struct pvstate_set *set,
                           const char **why)
{
    struct vcpu *v;
    int rc = 0;

    BUILD_BUG_ON(PVSTATE_QUEUES != EVTCHN_FIFO_MAX_QUEUES);
    BUILD_BUG_ON(PVSTATE_WORDS_PER_ARRAY != EVTCHN_FIFO_EVENT_WORDS_PER_PAGE);
    BUILD_BUG_ON(PVSTATE_ARRAYS_MAX != EVTCHN_FIFO_MAX_EVENT_ARRAY_PAGES);

    if ( set->domain->abi == PVSTATE_ABI_2L )
    {
        *why = "domain already uses the FIFO ABI";
        return is_fifo(d) ? -EEXIST : 0;
    }

    *why = "out of memory";
    if ( !d->evtchn_fifo )
    {
        for_each_vcpu ( d, v )
            if ( (rc = setup_control_block(v)) )
                return rc;
        if ( (rc = setup_event_array(d)) )
            return rc;
    }

    rc = prepare_arrays(d, set->domain, why);
    for_each_vcpu ( d, v )
        if ( !rc )
            rc = prepare_control(v, set->vcpu[v->vcpu_id], why);

    return rc;
}

/* What a load added to a domain that an earlier one had switched already stays mapped. */
void evtchn_fifo_pv_abandon(struct domain *d)
{
    if ( !is_fifo(d) )
        evtchn_fifo_destroy(d);
}

void evtchn_fifo_pv_commit(struct domain *d, const struct pvstate_set *set)
{
    struct vcpu *v;
    unsigned int i;

    if ( set->domain->abi == PVSTATE_ABI_2L )
        return;

    for_each_vcpu ( d, v )
        for ( i = 0; i < PVSTATE_QUEUES; i++ )
        {
            struct evtchn_fifo_queue *q = &v->evtchn_fifo->queue[i];
            unsigned long flags;

            spin_lock_irqsave(&q->lock, flags);
            q->tail = set->vcpu[v->vcpu_id]->queue_tail[i];
            spin_unlock_irqrestore(&q->lock, flags);
        }

    smp_wmb();
    d->evtchn_port_ops = &evtchn_port_ops_fifo;
}
