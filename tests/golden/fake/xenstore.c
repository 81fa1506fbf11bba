/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libxenstore for a daemon under test, by LD_PRELOAD: a domain is a file FAKE_XENSTORE/<domid> with
 * three lines: name, uuid, and "vif" if it has one. Nothing else is there.
 */
#include <errno.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>
#include <xenstore.h>

struct xs_handle {
	int fd;
	int changed;
};

static void domain_path(char *out, size_t len, unsigned int domid)
{
	snprintf(out, len, "%s/%u", getenv("FAKE_XENSTORE"), domid);
}

static int domain_line(unsigned int domid, int line, char *out, size_t len)
{
	char path[256];
	FILE *f;
	int i;

	domain_path(path, sizeof(path), domid);
	f = fopen(path, "re");
	out[0] = '\0';
	for (i = 0; f && i <= line; i++)
		if (!fgets(out, (int)len, f))
			out[0] = '\0';
	if (f)
		fclose(f);
	out[strcspn(out, "\n")] = '\0';
	return out[0] != '\0';
}

struct xs_handle *xs_open(unsigned long flags)
{
	struct xs_handle *h;

	if (!getenv("FAKE_XENSTORE"))
		return NULL;
	h = calloc(1, sizeof(*h));
	h->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	inotify_add_watch(h->fd, getenv("FAKE_XENSTORE"), IN_CLOSE_WRITE | IN_DELETE | IN_MOVED_TO);
	return h;
}

void xs_close(struct xs_handle *h)
{
	if (h)
		close(h->fd);
	free(h);
}

bool xs_watch(struct xs_handle *h, const char *path, const char *token)
{
	return true;
}

int xs_fileno(struct xs_handle *h)
{
	return h->fd;
}

char **xs_check_watch(struct xs_handle *h)
{
	char bytes[4096];

	while (read(h->fd, bytes, sizeof(bytes)) > 0)
		h->changed = 1;
	if (h->changed) {
		h->changed = 0;
		return calloc(2, sizeof(char *));
	}
	errno = EAGAIN;
	return NULL;
}

void *xs_read(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *len)
{
	char text[256], answer[300], what[16];
	unsigned int domid;

	if (sscanf(path, "/local/domain/%u/%15s", &domid, what) != 2)
		return NULL;
	if (!strcmp(what, "name") && domain_line(domid, 0, text, sizeof(text)))
		snprintf(answer, sizeof(answer), "%s", text);
	else if (!strcmp(what, "vm") && domain_line(domid, 1, text, sizeof(text)))
		snprintf(answer, sizeof(answer), "/vm/%s", text);
	else
		return NULL;
	*len = (unsigned int)strlen(answer);
	return strdup(answer);
}

/* One block, as the real one: the caller frees it whole. */
char **xs_directory(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *num)
{
	int vifs = strstr(path, "backend/vif") != NULL;
	DIR *d = opendir(getenv("FAKE_XENSTORE"));
	char **list = calloc(1, 64 * sizeof(char *) + 64 * 16), *at = (char *)(list + 64);
	struct dirent *e;

	*num = 0;
	while (d && (e = readdir(d)) && *num < 64) {
		char text[256];

		if (e->d_name[0] < '0' || e->d_name[0] > '9')
			continue;
		if (vifs && (!domain_line((unsigned int)atoi(e->d_name), 2, text, sizeof(text)) ||
			     strcmp(text, "vif")))
			continue;
		list[(*num)++] = at;
		at += sprintf(at, "%.14s", e->d_name) + 1;
	}
	if (d)
		closedir(d);
	return list;
}
