/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Exactness, checked from inside: a participant that keeps an image of the guest built from nothing but epochs and, every Nth epoch,
 * compares all of the stopped guest's memory with it. Asked for by UNDERSTUDY_VERIFY=N; for tests: the pauses become long.
 */
#ifndef CHECKPOINT_PART_VERIFY_H
#define CHECKPOINT_PART_VERIFY_H

#include "checkpoint/part_memory.h"

struct part_verify;

/* *out is NULL where nobody asked. */
int part_verify_new(struct part_memory *memory, struct part_verify **out);
void part_verify_free(struct part_verify *v);
struct participant *part_verify_participant(struct part_verify *v);

#endif
