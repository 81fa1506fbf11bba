/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between a guest and its record at the witness (lease.h): asks what is due, tells the worker until when the guest may run, and
 * the guest what the answers mean. What the record shall say follows from the guest's state. Without a witness, or where the
 * guest's policy does not take it over by itself, nothing here does anything.
 */
#ifndef REPLICATOR_KEEPER_H
#define REPLICATOR_KEEPER_H

#include "replicator/lease.h"

#include <stdbool.h>
#include <stdint.h>

struct daemon;
struct guest;
struct keeper;

/* Makes d->witness if the configuration names one. 0 or -errno. */
int keeper_setup(struct daemon *d);

/* Does the witness decide about this guest? */
bool keeper_decides(const struct guest *g);

void keeper_tick(struct guest *g, uint64_t now);

/* It is untagged: its record goes, if the witness can be reached now. One that stays calls no copy current and does no harm. */
void keeper_forget(struct guest *g);
void keeper_free(struct guest *g);

/* ---- while the guest runs here ---- */

/* Output may pass freely: no copy is current, nor can one become so. True without a witness. */
bool keeper_alone(const struct guest *g);

/* ... and the record itself says so: a new copy may be begun. True without a witness. */
bool keeper_settled(const struct guest *g);

/* Nothing that this host has asked for can change the record any more. */
bool keeper_quiet(const struct guest *g);

/* A switchover that got no answer. Claimed: by the peer, so it may run the guest. Unclaimed: the record was written here since, and what the
 * peer may still have on its way does not fit it any more. */
bool keeper_claimed_by_other(const struct guest *g);
bool keeper_unclaimed(const struct guest *g);

/* The operator says that the peer, which has claimed it, does not run it: it goes on here, in a term of its own. */
void keeper_override(struct guest *g);

/* The other host has renounced its copy. */
void keeper_renounced(struct guest *g);

/* ---- while a copy of it is here ---- */

/* Watch the record: it may have to be claimed soon. */
void keeper_watch(struct guest *g);

/* The primary is dead, or (invited) stands still and asks for it: claim the record. */
enum claim_state keeper_claim(struct guest *g, bool invited);

/* It is claimed: the guest is ours to run. */
bool keeper_owned(const struct guest *g);

/* The primary is heard again. */
void keeper_calm(struct guest *g);

/* The claim was ours and the guest could not be run: gives it back. True when that is done. */
bool keeper_returned(struct guest *g);

/* Nothing is claimed, in flight or in doubt: this host may say that it will not run the guest. */
bool keeper_clean(const struct guest *g);

/* Why the witness has not allowed it yet, for the operator; "" if it has. */
const char *keeper_problem(const struct guest *g);

/* How long the lease lasts; LEASE_FOR_EVER. For the status. */
uint64_t keeper_left_us(const struct guest *g);

#endif
