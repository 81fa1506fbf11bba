// sources: checkpoint/receiver.c checkpoint/lanes.c checkpoint/channel.c common/tls.c checkpoint/record.c checkpoint/epoch.c checkpoint/page_codec.c common/buf.c common/log.c common/fault.c
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The backup's end of an epoch stream, fed with anything. No mutation would hit a checksum: the
 * digest is 0 here, and so is every EPOCH_END's checksum that can be found, unless its first byte
 * is 0xff (a wrong one is wanted, too).
 */
#include "checkpoint/record.h"
#include "common/log.h"
#include "common/wire.h"
#include "tests/unit/stream_fake.h"

#include <stdbool.h>
#include <unistd.h>
#include <xxhash.h>

enum { FUZZ_PAGES = 64, FUZZ_STAGED_MAX = 128, FUZZ_BYTES_MAX = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

XXH64_hash_t XXH64_digest(const XXH64_state_t *state)
{
	return 0;
}

static void clear_checksums(uint8_t *data, size_t len)
{
	size_t at = STREAM_HELLO_SIZE;

	while (at + RECORD_HEADER_SIZE <= len) {
		size_t next = at + RECORD_HEADER_SIZE + record_padded(wire_get32(data + at + 4));

		if (wire_get16(data + at) == RECORD_EPOCH_END && next <= len &&
		    wire_get32(data + at + 4) == RECORD_END_SIZE &&
		    data[at + RECORD_HEADER_SIZE + 16] != 0xff)
			wire_put64(data + at + RECORD_HEADER_SIZE + 16, 0);
		at = next;
	}
}

/* What a receiver hands on is within what it was told to accept. */
static int fuzz_apply(void *arg, struct epoch *e)
{
	size_t i;

	if (!e->number || e->term != FAKE_TERM || e->nr_pages > FUZZ_STAGED_MAX)
		abort();
	for (i = 0; i < e->nr_pages; i++) {
		if (e->gfn[i] >= FUZZ_PAGES)
			abort();
	}
	for (i = 0; i < EPOCH_BLOBS; i++) {
		if (e->blob[i].len > record_blob_max[i])
			abort();
	}
	return shell_apply(arg, e);
}

static void fuzz_input(void *arg, const struct record_input *input, const void *data, size_t len)
{
	if (!input->epoch || len < RECORD_INPUT_DATA_MIN || len > RECORD_INPUT_DATA_MAX)
		abort();
	shell_input(arg, input, data, len);
}

static const struct receiver_ops fuzz_ops = {.page = shell_page, .apply = fuzz_apply, .input = fuzz_input};

static void feed(int fd, struct receiver *r, const uint8_t *data, size_t len)
{
	size_t at = 0;
	int rc = 0;

	while (rc >= 0) {
		if (at < len) {
			ssize_t n = send(fd, data + at, len - at, MSG_NOSIGNAL | MSG_DONTWAIT);

			at += n > 0 ? (size_t)n : 0;
		} else {
			shutdown(fd, SHUT_WR);
		}
		rc = receiver_read(r);
		if (rc >= 0 && receiver_tick(r))
			break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint8_t bytes[FUZZ_BYTES_MAX];
	static bool opened;
	struct receiver_config rc;
	struct receiver *r;
	struct shell shell;
	int fd[2];

	if (len > sizeof(bytes))
		return 0;
	if (!opened)
		log_open("fuzz", (enum log_level) - 1);
	opened = true;
	memcpy(bytes, data, len);
	clear_checksums(bytes, len);

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd))
		abort();
	rc = fake_receiver_config(fd[1], FUZZ_PAGES);
	rc.staged_pages_max = FUZZ_STAGED_MAX;
	rc.staged_changes_bytes_max = 4 << 20;
	shell_init(&shell, FUZZ_PAGES);
	if (receiver_new(&rc, &fuzz_ops, &shell, &r))
		abort();
	feed(fd[0], r, bytes, len);
	receiver_free(r);
	shell_free(&shell);
	close(fd[0]);
	return 0;
}
