/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Remembers, across the death of this process, that it was the one who paused the guest (I5): a byte in a mapped file. Written before
 * the pause, so a death between the two makes the successor unpause a running guest, which Xen refuses harmlessly.
 */
#ifndef CHECKPOINT_PAUSEMARK_H
#define CHECKPOINT_PAUSEMARK_H

enum pausemark_state {
	PAUSEMARK_RUNNING,
	PAUSEMARK_PAUSED,	/* inside an epoch: a successor lets the guest go */
	PAUSEMARK_FINISHED,	/* behind a final epoch: only the daemon may decide */
};

struct pausemark;

int pausemark_open(const char *path, struct pausemark **out);
void pausemark_close(struct pausemark *m, const char *unlink_path);
enum pausemark_state pausemark_get(const struct pausemark *m);
void pausemark_set(struct pausemark *m, enum pausemark_state state);

#endif
