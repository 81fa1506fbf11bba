/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An input that is a program: its bytes are taken from the front; behind the last one there are zeroes. */
#ifndef TESTS_FUZZ_PROGRAM_H
#define TESTS_FUZZ_PROGRAM_H

#include "pvdrivers/ring.h"

#include <stddef.h>
#include <stdint.h>

static struct {
	const uint8_t *at;
	size_t left;
} program;

static uint32_t take(unsigned int bytes)
{
	uint32_t value = 0;

	for (unsigned int i = 0; i < bytes && program.left; i++, program.left--)
		value |= (uint32_t)*program.at++ << (8 * i);
	return value;
}

/* Anything anywhere into a page that the guest shares. */
static void scribble(uint8_t page[RING_PAGE_SIZE])
{
	uint32_t offset = take(2) % RING_PAGE_SIZE, len = take(1) % 64;

	for (uint32_t i = 0; i < len && offset + i < RING_PAGE_SIZE; i++)
		page[offset + i] = (uint8_t)take(1);
}

#endif
