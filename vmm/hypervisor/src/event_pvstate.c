/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Event channels as PV interface state. Included at the end of event_channel.c: it works on that file's internals. */

#include <xen/pvstate.h>
#include <public/hvm/pvstate.h>
#include <public/hvm/pvstate_check.h>

static void deliver_deferred(struct domain *d, struct evtchn *chn)
{
    if ( xchg(&chn->deferred, false) && evtchn_usable(chn) )
        d->evtchn_port_ops->set_pending(d->vcpu[chn->notify_vcpu_id], chn);
}

/*
 * Against pause: the sender is counted before it looks at the pause count, evtchn_pv_settle() reads the counter after
 * the pause. Against unpause: whoever comes second of {note, look again} and {unpause, look at the notes} delivers.
 */
void evtchn_pv_set_pending(struct domain *d, unsigned int vcpu_id,
                           struct evtchn *chn)
{
    atomic_inc(&d->evtchn_senders);
    smp_mb();

    if ( !read_atomic(&d->controller_pause_count) )
        d->evtchn_port_ops->set_pending(d->vcpu[vcpu_id], chn);
    else
    {
        write_atomic(&chn->deferred, true);
        write_atomic(&d->evtchn_deferred, true);
        smp_mb();
        if ( !read_atomic(&d->controller_pause_count) )
            deliver_deferred(d, chn);
    }

    smp_mb();
    atomic_dec(&d->evtchn_senders);
}

void evtchn_pv_thaw(struct domain *d)
{
    unsigned int port;

    smp_mb();
    if ( !read_atomic(&d->evtchn_deferred) )
        return;

    read_lock(&d->event_lock);

    write_atomic(&d->evtchn_deferred, false);
    smp_mb();
    for ( port = 1; port_is_valid(d, port); port++ )
        deliver_deferred(d, evtchn_from_port(d, port));

    read_unlock(&d->event_lock);
}

void evtchn_pv_settle(const struct domain *d)
{
    if ( !read_atomic(&d->controller_pause_count) )
        return;

    smp_mb();
    while ( atomic_read(&d->evtchn_senders) )
        cpu_relax();
}

static int export_port(const struct domain *d, const struct evtchn *chn,
                       struct pvstate_port *p)
{
    const union {
        uint32_t raw;
        struct {
            uint8_t priority;
            uint16_t vcpu_id;
        };
    } lastq = { .raw = chn->fifo_lastq }; /* union evtchn_fifo_lastq */

    *p = (struct pvstate_port){
        .port = chn->port,
        .vcpu = chn->notify_vcpu_id,
        .last_vcpu = lastq.vcpu_id,
        .last_priority = lastq.priority,
        .priority = chn->priority,
        .kind = chn->state,
        .flags = (chn->deferred || chn->pending) ? PVSTATE_PORT_RAISED : 0,
    };

    switch ( chn->state )
    {
    case ECS_UNBOUND:
        p->remote = chn->u.unbound.remote_domid;
        return 0;

    case ECS_INTERDOMAIN:
        p->remote = chn->u.interdomain.remote_dom->domain_id;
        return chn->u.interdomain.remote_dom == d ? -EOPNOTSUPP : 0;

    case ECS_VIRQ:
        p->remote = chn->u.virq;
        return 0;

    case ECS_IPI:
        return 0;
    }

    return -EOPNOTSUPP;
}

int evtchn_pv_export(struct domain *d, struct pvstate_evtchn *rec)
{
    unsigned int port;
    int rc = 0;

    *rec = (struct pvstate_evtchn){ .version = PVSTATE_VERSION };

    read_lock(&d->event_lock);

    for ( port = 1; !rc && port_is_valid(d, port); port++ )
    {
        const struct evtchn *chn = evtchn_from_port(d, port);

        if ( chn->state == ECS_FREE || chn->state == ECS_RESERVED ||
             consumer_is_xen(chn) )
            continue;

        if ( rec->nr_ports == PVSTATE_PORTS_MAX )
            rc = -E2BIG;
        else
            rc = export_port(d, chn, &rec->port[rec->nr_ports++]);
    }

    read_unlock(&d->event_lock);

    return rc;
}

static bool is_remote_kind(unsigned int state)
{
    return state == ECS_UNBOUND || state == ECS_INTERDOMAIN;
}

/* Is this bound port what the record describes? The toolstack's own ones are, and those of an earlier load. */
static bool port_matches(const struct evtchn *chn, const struct pvstate_port *p)
{
    if ( consumer_is_xen(chn) )
        return false;

    switch ( chn->state )
    {
    case ECS_UNBOUND:
        return is_remote_kind(p->kind) &&
               chn->u.unbound.remote_domid == p->remote;

    case ECS_INTERDOMAIN:
        return is_remote_kind(p->kind) &&
               chn->u.interdomain.remote_dom->domain_id == p->remote;

    case ECS_VIRQ:
        return p->kind == PVSTATE_PORT_VIRQ && chn->u.virq == p->remote &&
               (pvstate_virq_is_global(p->remote) ||
                chn->notify_vcpu_id == p->vcpu);

    case ECS_IPI:
        return p->kind == PVSTATE_PORT_IPI && chn->notify_vcpu_id == p->vcpu;
    }

    return false;
}

static struct vcpu *virq_vcpu(const struct domain *d,
                              const struct pvstate_port *p)
{
    return d->vcpu[virq_is_global(p->remote) ? 0 : p->vcpu];
}

static int create_port(struct domain *d, const struct pvstate_port *p)
{
    struct evtchn *chn;
    int rc;

    if ( p->kind == PVSTATE_PORT_VIRQ &&
         read_atomic(&virq_vcpu(d, p)->virq_to_evtchn[p->remote]) )
        return -EEXIST;

    rc = evtchn_allocate_port(d, p->port);
    if ( rc )
        return rc;

    chn = evtchn_from_port(d, p->port);
    if ( is_remote_kind(p->kind) )
    {
        rc = xsm_evtchn_unbound(XSM_TARGET, d, chn, p->remote);
        if ( rc )
        {
            check_free_port(d, p->port);
            return rc;
        }
    }

    evtchn_write_lock(chn);
    chn->notify_vcpu_id = p->vcpu;
    chn->deferred = false;
    chn->pending = false;
    switch ( p->kind )
    {
    case PVSTATE_PORT_UNBOUND:
    case PVSTATE_PORT_INTERDOMAIN:
        chn->u.unbound.remote_domid = p->remote;
        chn->state = ECS_UNBOUND;
        break;

    case PVSTATE_PORT_VIRQ:
        chn->u.virq = p->remote;
        chn->state = ECS_VIRQ;
        break;

    case PVSTATE_PORT_IPI:
        chn->state = ECS_IPI;
        break;
    }
    evtchn_write_unlock(chn);

    if ( p->kind == PVSTATE_PORT_VIRQ )
        write_atomic(&virq_vcpu(d, p)->virq_to_evtchn[p->remote], p->port);

    return 0;
}

int evtchn_pv_prepare(struct domain *d, const struct pvstate_evtchn *rec,
                      unsigned long *created, const char **why)
{
    unsigned int i;

    for ( i = 0; i < rec->nr_ports; i++ )
    {
        const struct pvstate_port *p = &rec->port[i];
        const struct evtchn *chn = _evtchn_from_port(d, p->port);
        int rc;

        if ( chn && chn->state != ECS_FREE )
        {
            if ( port_matches(chn, p) )
                continue;
            *why = "port already in use";
            return -EEXIST;
        }

        rc = create_port(d, p);
        if ( rc )
        {
            *why = "port cannot be made";
            return rc;
        }
        __set_bit(i, created);
    }

    return 0;
}

/* evtchn_close() would clear the port's pending bit in guest memory, which the next attempt needs. */
void evtchn_pv_abandon(struct domain *d, const struct pvstate_evtchn *rec,
                       const unsigned long *created)
{
    unsigned int i;

    for ( i = 0; i < rec->nr_ports; i++ )
    {
        const struct pvstate_port *p = &rec->port[i];
        struct evtchn *chn;

        if ( !test_bit(i, created) )
            continue;

        if ( p->kind == PVSTATE_PORT_VIRQ )
        {
            struct vcpu *v = virq_vcpu(d, p);
            unsigned long flags;

            write_lock_irqsave(&v->virq_lock, flags);
            write_atomic(&v->virq_to_evtchn[p->remote], 0);
            write_unlock_irqrestore(&v->virq_lock, flags);
        }

        chn = evtchn_from_port(d, p->port);
        evtchn_write_lock(chn);
        chn->state = ECS_FREE;
        chn->notify_vcpu_id = 0;
        chn->deferred = false;
        chn->pending = false;
        evtchn_write_unlock(chn);
        xsm_evtchn_close_post(chn);
        write_atomic(&d->active_evtchns, d->active_evtchns - 1);
    }
}

void evtchn_pv_commit(struct domain *d, const struct pvstate_evtchn *rec)
{
    unsigned int i;

    for ( i = 0; i < rec->nr_ports; i++ )
    {
        const struct pvstate_port *p = &rec->port[i];
        struct evtchn *chn = evtchn_from_port(d, p->port);
        const union {
            struct {
                uint8_t priority;
                uint16_t vcpu_id;
            };
            uint32_t raw;
        } lastq = { .priority = p->last_priority, .vcpu_id = p->last_vcpu };

        chn->notify_vcpu_id = p->vcpu;
        chn->priority = p->priority;
        write_atomic(&chn->fifo_lastq, lastq.raw);
    }
}

/*
 * A timer that fires while the records are written may be in neither: its port is recorded first, and once it has fired
 * it is no longer armed. A tick too many does no harm, one too few stops a guest that waits for no other event.
 */
static bool may_have_fired(const struct pvstate_port *p)
{
    return p->kind == PVSTATE_PORT_VIRQ && p->remote == VIRQ_TIMER;
}

void evtchn_pv_raise(struct domain *d, const struct pvstate_evtchn *rec)
{
    unsigned int i;

    read_lock(&d->event_lock);

    for ( i = 0; i < rec->nr_ports; i++ )
    {
        const struct pvstate_port *p = &rec->port[i];
        struct evtchn *chn;

        if ( !is_remote_kind(p->kind) && !may_have_fired(p) && !(p->flags & PVSTATE_PORT_RAISED) )
            continue;

        chn = evtchn_from_port(d, p->port);
        if ( chn->state != ECS_FREE && evtchn_read_trylock(chn) )
        {
            evtchn_port_set_pending(d, chn->notify_vcpu_id, chn);
            evtchn_read_unlock(chn);
        }
    }

    read_unlock(&d->event_lock);
}
