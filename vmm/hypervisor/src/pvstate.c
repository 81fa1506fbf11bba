/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Save and restore of PV interface state: what a running guest has registered with the hypervisor outside of its own
 * memory. Load handlers only gather checked copies; pvstate_load_end() applies the whole set or nothing of it.
 */

#include <xen/domain_page.h>
#include <xen/event.h>
#include <xen/pvstate.h>
#include <xen/sched.h>
#include <xen/softirq.h>

#include <asm/hvm/hvm.h>
#include <asm/hvm/irq.h>
#include <asm/hvm/save.h>
#include <asm/p2m.h>

#include <public/hvm/params.h>
#include <public/hvm/pvstate_check.h>
#include <public/hvm/save.h>

#define EXPIRY_MAX (((s_time_t)1 << 62) - 1)

/* What the load handlers gathered. */
struct pvstate_load {
    struct pvstate_set set;
    const char *why;
};

/* A vcpu_info page that is mapped but not yet in use. */
struct vcpu_info_map {
    struct page_info *page;
    void *virt;
};

int pvstate_set_param(struct domain *d, uint64_t value)
{
    if ( value > 1 )
        return -EINVAL;

    write_atomic(&d->pv_state, (bool)value);
    if ( !value )
        evtchn_pv_thaw(d);

    return 0;
}

size_t pvstate_save_size(const struct domain *d)
{
    const size_t head = sizeof(struct hvm_save_descriptor);

    if ( !d->pv_state )
        return 0;

    return head + PVSTATE_EVTCHN_BYTES(PVSTATE_PORTS_MAX) +
           head + PVSTATE_DOMAIN_BYTES(PVSTATE_ARRAYS_MAX) +
           d->max_vcpus * (head + sizeof(struct pvstate_vcpu));
}

/* Opens a record of at most `max` bytes in place; finish_record() sets its real length. */
static void *begin_record(hvm_domain_context_t *h, unsigned int code,
                          unsigned int instance, size_t max)
{
    if ( _hvm_init_entry(h, code, instance, max) )
        return NULL;

    return &h->data[h->cur];
}

static void finish_record(hvm_domain_context_t *h, size_t len)
{
    struct hvm_save_descriptor *desc =
        (void *)&h->data[h->cur - sizeof(*desc)];

    desc->length = len;
    h->cur += len;
}

static int cf_check save_evtchn(struct vcpu *v, hvm_domain_context_t *h)
{
    struct domain *d = v->domain;
    struct pvstate_evtchn *rec;
    int rc;

    if ( !d->pv_state )
        return 0;

    /* The first record of ours: from here on this domain's memory stands still. */
    evtchn_pv_settle(d);

    rec = begin_record(h, PVSTATE_CODE_EVTCHN, 0,
                       PVSTATE_EVTCHN_BYTES(PVSTATE_PORTS_MAX));
    if ( !rec )
        return -ENOSPC;

    rc = evtchn_pv_export(d, rec);
    if ( !rc )
        finish_record(h, PVSTATE_EVTCHN_BYTES(rec->nr_ports));

    return rc;
}

static int cf_check save_domain(struct vcpu *v, hvm_domain_context_t *h)
{
    struct domain *d = v->domain;
    struct pvstate_domain *rec;

    if ( !d->pv_state )
        return 0;
    if ( d->arch.has_32bit_shinfo )
        return -EOPNOTSUPP;

    rec = begin_record(h, PVSTATE_CODE_DOMAIN, 0,
                       PVSTATE_DOMAIN_BYTES(PVSTATE_ARRAYS_MAX));
    if ( !rec )
        return -ENOSPC;

    *rec = (struct pvstate_domain){
        .version = PVSTATE_VERSION,
        .abi = d->evtchn_fifo ? PVSTATE_ABI_FIFO : PVSTATE_ABI_2L,
        .system_time = NOW() + d->time_offset.system,
        .shared_info_gfn =
            gfn_x(mfn_to_gfn(d, _mfn(virt_to_mfn(d->shared_info)))),
        .vm_assist = d->vm_assist,
    };
    rec->nr_arrays = evtchn_fifo_pv_arrays(d, rec->array_gfn);
    finish_record(h, PVSTATE_DOMAIN_BYTES(rec->nr_arrays));

    return 0;
}

static uint64_t saved_expiry(struct vcpu *v)
{
    s_time_t expires;

    if ( !timer_expires_before(&v->singleshot_timer, STIME_MAX) )
        return 0;

    expires = v->singleshot_timer.expires;
    if ( expires > EXPIRY_MAX )
        return EXPIRY_MAX;

    /* 0 says that it is not armed. */
    return max_t(s_time_t, expires + v->domain->time_offset.system, 1);
}

static int cf_check save_vcpu(struct vcpu *v, hvm_domain_context_t *h)
{
    struct pvstate_vcpu *rec;
    struct vcpu_runstate_info runstate;

    if ( !v->domain->pv_state )
        return 0;

    rec = begin_record(h, PVSTATE_CODE_VCPU, v->vcpu_id, sizeof(*rec));
    if ( !rec )
        return -ENOSPC;

    *rec = (struct pvstate_vcpu){
        .version = PVSTATE_VERSION,
        .upcall_vector = v->arch.hvm.evtchn_upcall_vector,
        .vcpu_info_gfn = PVSTATE_GFN_NONE,
        .runstate_va = (unsigned long)runstate_guest(v).p,
        .time_info_va = (unsigned long)v->arch.time_info_guest.p,
        .singleshot = saved_expiry(v),
        .periodic_period = v->periodic_period,
    };
    if ( !mfn_eq(v->vcpu_info_mfn, INVALID_MFN) )
    {
        rec->vcpu_info_gfn = gfn_x(mfn_to_gfn(v->domain, v->vcpu_info_mfn));
        rec->vcpu_info_offset = PAGE_OFFSET(v->vcpu_info);
    }
    vcpu_runstate_get(v, &runstate);
    memcpy(rec->runstate_time, runstate.time, sizeof(rec->runstate_time));
    evtchn_fifo_pv_export(v, rec);
    finish_record(h, sizeof(*rec));

    return 0;
}

static void free_load(struct domain *d)
{
    struct pvstate_load *load = d->arch.hvm.pv_load;
    unsigned int i;

    if ( !load )
        return;

    d->arch.hvm.pv_load = NULL;
    for ( i = 0; load->set.vcpu && i < load->set.nr_vcpus; i++ )
        xfree(load->set.vcpu[i]);
    xfree(load->set.vcpu);
    xfree(load->set.evtchn);
    xfree(load->set.domain);
    xfree(load);
}

static struct pvstate_load *get_load(struct domain *d)
{
    struct pvstate_load *load = d->arch.hvm.pv_load;

    if ( load )
        return load;

    load = xzalloc(struct pvstate_load);
    if ( !load )
        return NULL;
    d->arch.hvm.pv_load = load;

    load->set.nr_vcpus = d->max_vcpus;
    load->set.vcpu = xzalloc_array(struct pvstate_vcpu *, d->max_vcpus);
    if ( load->set.vcpu )
        return load;

    free_load(d);
    return NULL;
}

static int refuse(const struct domain *d, const char *why, int rc)
{
    printk(XENLOG_G_ERR "%pd: PV state refused: %s (%d)\n", d, why, rc);
    return rc;
}

/* Copies the record at the cursor, for whose type `slot` is; moves the cursor. */
static int take_record(struct domain *d, hvm_domain_context_t *h, void **slot,
                       size_t max, uint32_t *len)
{
    const struct hvm_save_descriptor *desc = (const void *)&h->data[h->cur];

    if ( h->size - h->cur - sizeof(*desc) < desc->length )
        return refuse(d, "record is cut off", -ENODATA);
    if ( desc->length == 0 || desc->length > max )
        return refuse(d, "record's length", -EINVAL);
    if ( *slot )
        return refuse(d, "record twice", -EEXIST);

    *slot = xmalloc_bytes(desc->length);
    if ( !*slot )
        return -ENOMEM;
    memcpy(*slot, desc + 1, desc->length);
    *len = desc->length;
    h->cur += sizeof(*desc) + desc->length;

    return 0;
}

static int cf_check load_evtchn(struct domain *d, hvm_domain_context_t *h)
{
    struct pvstate_load *load = get_load(d);
    void *rec;
    uint32_t len;
    int rc;

    if ( !load )
        return -ENOMEM;
    if ( hvm_load_instance(h) )
        return refuse(d, "event channels: instance", -EINVAL);

    rec = load->set.evtchn;
    rc = take_record(d, h, &rec, PVSTATE_EVTCHN_BYTES(PVSTATE_PORTS_MAX), &len);
    if ( rc )
        return rc;
    load->set.evtchn = rec;

    rc = pvstate_check_evtchn(rec, len, d->max_vcpus, &load->why);

    return rc ? refuse(d, load->why, rc) : 0;
}

static int cf_check load_domain(struct domain *d, hvm_domain_context_t *h)
{
    struct pvstate_load *load = get_load(d);
    void *rec;
    uint32_t len;
    int rc;

    if ( !load )
        return -ENOMEM;
    if ( hvm_load_instance(h) )
        return refuse(d, "domain: instance", -EINVAL);

    rec = load->set.domain;
    rc = take_record(d, h, &rec, PVSTATE_DOMAIN_BYTES(PVSTATE_ARRAYS_MAX), &len);
    if ( rc )
        return rc;
    load->set.domain = rec;

    rc = pvstate_check_domain(rec, len, &load->why);

    return rc ? refuse(d, load->why, rc) : 0;
}

static int cf_check load_vcpu(struct domain *d, hvm_domain_context_t *h)
{
    struct pvstate_load *load = get_load(d);
    unsigned int id = hvm_load_instance(h);
    void *rec;
    uint32_t len;
    int rc;

    if ( !load )
        return -ENOMEM;
    if ( !domain_vcpu(d, id) )
        return refuse(d, "vCPU: number", -EINVAL);

    rec = load->set.vcpu[id];
    rc = take_record(d, h, &rec, sizeof(struct pvstate_vcpu), &len);
    if ( rc )
        return rc;
    load->set.vcpu[id] = rec;

    rc = pvstate_check_vcpu(rec, len, &load->why);

    return rc ? refuse(d, load->why, rc) : 0;
}

/* Size 0: pvstate_save_size() speaks for these, as they are absent by default. */
static int __init cf_check pvstate_register(void)
{
    hvm_register_savevm(PVSTATE_CODE_EVTCHN, "PV_EVTCHN", save_evtchn,
                        load_evtchn, 0, HVMSR_PER_DOM);
    hvm_register_savevm(PVSTATE_CODE_DOMAIN, "PV_DOMAIN", save_domain,
                        load_domain, 0, HVMSR_PER_DOM);
    hvm_register_savevm(PVSTATE_CODE_VCPU, "PV_VCPU", save_vcpu,
                        load_vcpu, 0, HVMSR_PER_VCPU);
    return 0;
}
__initcall(pvstate_register);

/* What the records cannot say by themselves. */
static int check_domain(const struct domain *d, const struct pvstate_set *set,
                        const char **why)
{
    *why = "domain has run, or is not paused by the controller";
    if ( d->creation_finished || !d->controller_pause_count )
        return -EBUSY;

    *why = "domain has a 32-bit shared_info";
    if ( d->arch.has_32bit_shinfo )
        return -EOPNOTSUPP;

    *why = "domain: vm_assist";
    if ( set->domain->vm_assist & ~arch_vm_assist_valid_mask(d) )
        return -EINVAL;

    *why = "shared_info is not at the record's gfn";
    if ( gfn_x(mfn_to_gfn(d, _mfn(virt_to_mfn(d->shared_info)))) !=
         set->domain->shared_info_gfn )
        return -EINVAL;

    return 0;
}

static int map_vcpu_info_page(struct vcpu *v, const struct pvstate_vcpu *rec,
                              struct vcpu_info_map *map, const char **why)
{
    BUILD_BUG_ON(sizeof(vcpu_info_t) != 64);

    if ( rec->vcpu_info_gfn == PVSTATE_GFN_NONE )
    {
        /* In shared_info; or, from vCPU 32 on, nowhere until it comes up. */
        if ( mfn_eq(v->vcpu_info_mfn, INVALID_MFN) )
            return 0;
        *why = "vcpu_info already elsewhere";
        return -EEXIST;
    }

    if ( !mfn_eq(v->vcpu_info_mfn, INVALID_MFN) )
    {
        *why = "vcpu_info already elsewhere";
        return gfn_x(mfn_to_gfn(v->domain, v->vcpu_info_mfn)) ==
                   rec->vcpu_info_gfn &&
               PAGE_OFFSET(v->vcpu_info) == rec->vcpu_info_offset ? 0 : -EEXIST;
    }

    *why = "vcpu_info cannot be mapped";
    map->page = get_page_from_gfn(v->domain, rec->vcpu_info_gfn, NULL,
                                  P2M_UNSHARE);
    if ( !map->page )
        return -EINVAL;
    if ( !get_page_type(map->page, PGT_writable_page) )
    {
        put_page(map->page);
        map->page = NULL;
        return -EINVAL;
    }
    map->virt = __map_domain_page_global(map->page);
    if ( !map->virt )
    {
        put_page_and_type(map->page);
        map->page = NULL;
        return -ENOMEM;
    }

    return 0;
}

static void unmap_vcpu_info_pages(struct vcpu_info_map *map, unsigned int nr)
{
    unsigned int i;

    for ( i = 0; i < nr; i++ )
        if ( map[i].page )
        {
            unmap_domain_page_global(map[i].virt);
            put_page_and_type(map[i].page);
        }
}

/* The guest's own contents stay as they are, unlike in map_vcpu_info(). */
static void adopt_vcpu_info(struct vcpu *v, const struct pvstate_vcpu *rec,
                            const struct vcpu_info_map *map)
{
    if ( !map->page )
        return;

    v->vcpu_info = map->virt + rec->vcpu_info_offset;
    v->vcpu_info_mfn = page_to_mfn(map->page);
}

static void restore_domain(struct domain *d, const struct pvstate_domain *rec)
{
    d->time_offset.system = rec->system_time - NOW();
    d->vm_assist = rec->vm_assist;
    update_domain_wallclock_time(d);
}

/*
 * vcpu_info's time is left as captured: it differs from what Xen would write, so the vCPU finds both of its time
 * areas updated when it is first scheduled. (A forced update here would write to time_info_va in dom0.)
 */
static void restore_vcpu(struct vcpu *v, const struct pvstate_vcpu *rec)
{
    runstate_guest(v).p = (void *)rec->runstate_va;
    v->arch.time_info_guest.p = (void *)rec->time_info_va;
    vcpu_runstate_restore(v, rec->runstate_time);

    v->arch.hvm.evtchn_upcall_vector = rec->upcall_vector;
    if ( vcpu_info(v, evtchn_upcall_pending) )
        hvm_assert_evtchn_irq(v);

    vcpu_restore_periodic_timer(v, rec->periodic_period);
    if ( rec->singleshot )
        set_timer(&v->singleshot_timer,
                  rec->singleshot - v->domain->time_offset.system);
    else
        stop_timer(&v->singleshot_timer);
}

static int apply_locked(struct domain *d, const struct pvstate_set *set,
                        struct vcpu_info_map *map, unsigned long *created,
                        const char **why)
{
    struct vcpu *v;
    int rc = 0;

    for_each_vcpu ( d, v )
        if ( !rc )
            rc = map_vcpu_info_page(v, set->vcpu[v->vcpu_id],
                                    &map[v->vcpu_id], why);
    if ( rc )
        goto err;

    /* Before the ports: the FIFO ABI has higher port numbers. */
    rc = evtchn_fifo_pv_prepare(d, set, why);
    if ( !rc )
        rc = evtchn_pv_prepare(d, set->evtchn, created, why);
    if ( rc )
    {
        evtchn_pv_abandon(d, set->evtchn, created);
        evtchn_fifo_pv_abandon(d);
        goto err;
    }

    /* Nothing fails from here on. */
    for_each_vcpu ( d, v )
        adopt_vcpu_info(v, set->vcpu[v->vcpu_id], &map[v->vcpu_id]);
    evtchn_pv_commit(d, set->evtchn);
    evtchn_fifo_pv_commit(d, set);

    return 0;

 err:
    unmap_vcpu_info_pages(map, d->max_vcpus);
    return rc;
}

static int apply(struct domain *d, const struct pvstate_set *set,
                 const char **why)
{
    struct vcpu_info_map *map = xzalloc_array(struct vcpu_info_map,
                                              d->max_vcpus);
    unsigned long *created = xzalloc_array(unsigned long,
                                           BITS_TO_LONGS(PVSTATE_PORTS_MAX));
    struct vcpu *v;
    int rc = -ENOMEM;

    *why = "out of memory";
    if ( map && created )
    {
        domain_lock(d);
        write_lock(&d->event_lock);
        rc = apply_locked(d, set, map, created, why);
        write_unlock(&d->event_lock);
        domain_unlock(d);
    }
    xfree(created);
    xfree(map);
    if ( rc )
        return rc;

    restore_domain(d, set->domain);
    for_each_vcpu ( d, v )
        restore_vcpu(v, set->vcpu[v->vcpu_id]);
    evtchn_pv_raise(d, set->evtchn);

    return 0;
}

int pvstate_load_end(struct domain *d, int rc)
{
    struct pvstate_load *load = d->arch.hvm.pv_load;

    if ( !load )
        return rc;

    if ( !rc )
    {
        rc = pvstate_check_set(&load->set, &load->why);
        if ( !rc )
            rc = check_domain(d, &load->set, &load->why);
        if ( !rc )
            rc = apply(d, &load->set, &load->why);
        if ( rc )
            refuse(d, load->why, rc);
    }
    free_load(d);

    return rc;
}
