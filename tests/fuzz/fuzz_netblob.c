// sources: pvdrivers/net/state.c pvdrivers/net/addresses.c pvdrivers/net/flows.c
// sources: pvdrivers/net/headers.c common/buf.c common/log.c
/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The net blob, which comes from the other host: what is taken is what would be given again. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/wire.h"
#include "pvdrivers/net/vif.h"

enum { HEADER_BYTES = 4, VIF_BYTES = 8 };

/* The vifs that the blob names, in its order. */
static void make_vifs(struct netback *nb, const uint8_t *blob)
{
	size_t at = HEADER_BYTES;

	for (uint16_t i = 0; i < wire_get16(blob + 2); i++) {
		nb->vif[i].devid = wire_get32(blob + at);
		nb->vif[i].present = true;
		at += VIF_BYTES + (size_t)wire_get16(blob + at + 4) * ADDRESSES_ENTRY_BYTES +
		      (size_t)wire_get16(blob + at + 6) * FLOWS_ENTRY_BYTES;
	}
}

static bool names_one_twice(const struct netback *nb)
{
	for (int i = 0; i < NETBACK_VIFS_MAX; i++)
		for (int j = 0; j < i; j++)
			if (nb->vif[i].present && nb->vif[j].present &&
			    nb->vif[i].devid == nb->vif[j].devid)
				return true;
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct netback nb;
	struct buf again = {0};

	if (netback_state_check(data, size))
		return 0;
	memset(&nb, 0, sizeof(nb));
	make_vifs(&nb, data);
	assert(netback_state_take(&nb, data, size) == 0);
	if (!names_one_twice(&nb)) {
		assert(netback_state(&nb, &again) == 0);
		assert(again.len == size && !memcmp(again.data, data, size));
	}
	buf_free(&again);
	return 0;
}
