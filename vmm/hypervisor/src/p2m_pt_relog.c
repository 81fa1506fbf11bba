/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One table's part of paging_relog(). Included at the end of p2m-pt.c: it works on that file's encoding. `gfn` is the
 * table's first; the p2m is locked, no vCPU runs, and the caller flushes: so entries are written as they are, where
 * write_p2m_entry() would flush after each.
 */
static int cf_check p2m_pt_relog(struct p2m_domain *p2m, unsigned long gfn, const unsigned long *dirty)
{
    l1_pgentry_t *table = map_domain_page(pagetable_get_mfn(p2m_get_pagetable(p2m)));
    unsigned int level, i;
    int rc = 0;

    for ( level = 3; level; level-- )
    {
        l1_pgentry_t e = table[(gfn >> (level * PAGETABLE_ORDER)) & (L1_PAGETABLE_ENTRIES - 1)];

        /* What still has to be recalculated becomes p2m_ram_logdirty then. */
        if ( !(l1e_get_flags(e) & _PAGE_PRESENT) || needs_recalc(l1, e) )
            goto out;
        if ( l1e_get_flags(e) & _PAGE_PSE )
        {
            if ( p2m_flags_to_type(l1e_get_flags(e)) == p2m_ram_rw )
                rc = -EOPNOTSUPP;
            goto out;
        }
        unmap_domain_page(table);
        table = map_domain_page(l1e_get_mfn(e));
    }

    for ( i = find_first_bit(dirty, L1_PAGETABLE_ENTRIES); i < L1_PAGETABLE_ENTRIES;
          i = find_next_bit(dirty, L1_PAGETABLE_ENTRIES, i + 1) )
    {
        l1_pgentry_t e = table[i];
        mfn_t mfn = l1e_get_mfn(e);

        if ( !(l1e_get_flags(e) & _PAGE_PRESENT) || needs_recalc(l1, e) ||
             p2m_flags_to_type(l1e_get_flags(e)) != p2m_ram_rw )
            continue;
        e = p2m_l1e_from_pfn(mfn_x(mfn), p2m_type_to_flags(p2m, p2m_ram_logdirty, mfn, 0));
        safe_write_pte(&table[i], e);
    }

 out:
    unmap_domain_page(table);
    return rc;
}
