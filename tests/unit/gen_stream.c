/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Helper of tests/checker/run: `gen_stream write FILE EPOCHS PAGES` captures what a real sender and
 * receiver say to each other; `gen_stream read FILE [IMAGE]` lets a receiver judge a file. Exit
 * status as stream_check.py: 0 whole, 1 malformed, 3 torn.
 */
#include "tests/unit/stream_fake.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { GUEST_PAGES = 256, WHOLE = 0, MALFORMED = 1, USAGE = 2, TORN = 3 };

static int stream_pair(int fd[2])
{
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd);
}

/* Serves both ends until `number` is acknowledged. */
static int run_epoch(struct sender *s, struct receiver *r, uint64_t number)
{
	struct sender_report report;
	uint64_t acked = 0;
	int rc = 0;

	while (acked < number && rc >= 0) {
		struct pollfd fds[] = {{.fd = receiver_fd(r), .events = POLLIN},
				       {.fd = sender_fd(s), .events = POLLIN}};

		if (poll(fds, 2, 1000) <= 0)
			return -ETIMEDOUT;
		do
			rc = receiver_read(r);
		while (rc > 0);
		for (sender_poll(s, &report); report.event != SENDER_NONE;
		     sender_poll(s, &report)) {
			if (report.event == SENDER_ACKED)
				acked = report.number;
			if (report.event == SENDER_LOST)
				return -EPIPE;
		}
	}
	return rc;
}

static int write_stream(const char *path, uint64_t epochs, size_t pages)
{
	struct sender_config sc;
	struct receiver_config rc;
	struct receiver *r;
	struct sender *s;
	struct shell shell;
	struct epoch *e;
	uint8_t *memory = calloc(GUEST_PAGES, FAKE_PAGE);
	uint64_t n, seed = 7;
	int fd[2], res = 0;

	if (!memory || stream_pair(fd) || epoch_new(pages, &e))
		return USAGE;
	sc = fake_sender_config(fd[0]);
	rc = fake_receiver_config(fd[1], GUEST_PAGES);
	rc.capture_fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0644);
	shell_init(&shell, GUEST_PAGES);
	if (rc.capture_fd < 0 || receiver_new(&rc, &shell_ops, &shell, &r) || sender_new(&sc, &s))
		return USAGE;
	for (n = 1; n <= epochs && res >= 0; n++) {
		fake_capture(e, memory, GUEST_PAGES, pages, n,
			     n < 3    ? EPOCH_SYNC
			     : n == 3 ? EPOCH_FIRST
				      : 0,
			     &seed);
		for (unsigned int i = 0; n > 3 && i < 3; i++)
			sender_input(s, n, i, memory, 60 + 7 * i);
		if (sender_submit(s, e))
			return USAGE;
		res = run_epoch(s, r, n);
	}
	sender_stop(s);
	while (res >= 0)
		res = receiver_read(r);
	receiver_free(r);
	sender_free(s);
	epoch_free(e);
	shell_free(&shell);
	free(memory);
	return res == -ESHUTDOWN ? WHOLE : USAGE;
}

/* (gfn, page) for every page ever seen, ascending: the image of stream_check.py. */
static int write_image(const char *path, const struct shell *shell)
{
	FILE *f = fopen(path, "we");
	uint64_t gfn;

	if (!f)
		return USAGE;
	for (gfn = 0; gfn < shell->pages; gfn++) {
		if (shell->seen[gfn]) {
			fwrite(&gfn, sizeof(gfn), 1, f);
			fwrite(shell->memory + gfn * FAKE_PAGE, FAKE_PAGE, 1, f);
		}
	}
	return fclose(f) ? USAGE : WHOLE;
}

static int read_stream(const char *path, const char *image)
{
	struct receiver_stats stats;
	struct receiver_config rc;
	struct receiver *r;
	struct shell shell;
	uint8_t chunk[8192];
	int fd[2], res = 0, file = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = 0, at = 0;

	if (file < 0 || stream_pair(fd))
		return USAGE;
	rc = fake_receiver_config(fd[1], GUEST_PAGES);
	shell_init(&shell, GUEST_PAGES);
	if (receiver_new(&rc, &shell_ops, &shell, &r))
		return USAGE;
	while (res >= 0) {
		ssize_t sent;

		if (at == n) {
			at = 0;
			n = read(file, chunk, sizeof(chunk));
			if (n <= 0)
				shutdown(fd[0], SHUT_WR);
		}
		sent = n > at ? send(fd[0], chunk + at, (size_t)(n - at), MSG_NOSIGNAL) : 0;
		if (sent > 0)
			at += sent;
		res = receiver_read(r);
	}
	receiver_stats(r, &stats);
	printf("epochs %u, last %llu, committed %llu%s\n", shell.epochs,
	       (unsigned long long)shell.applied, (unsigned long long)receiver_committed(r),
	       stats.torn ? ", torn" : "");
	if (image && write_image(image, &shell))
		return USAGE;
	receiver_free(r);
	shell_free(&shell);
	close(fd[0]);
	close(file);
	if (res != -ECONNRESET && res != -ESHUTDOWN)
		return MALFORMED;
	return stats.torn ? TORN : WHOLE;
}

int main(int argc, char **argv)
{
	if (argc == 5 && !strcmp(argv[1], "write"))
		return write_stream(argv[2], strtoull(argv[3], NULL, 10),
				    strtoull(argv[4], NULL, 10));
	if ((argc == 3 || argc == 4) && !strcmp(argv[1], "read"))
		return read_stream(argv[2], argv[3]);
	fprintf(stderr, "usage: gen_stream write FILE EPOCHS PAGES | read FILE [IMAGE]\n");
	return USAGE;
}
