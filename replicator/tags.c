/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/tags.h"
#include "common/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

enum { TAG_BYTES_MAX = 1024 };

static const char first_line[] = "understudy-guest 1";
static const char suffix[] = ".state";

enum tag_key {
	KEY_NAME,
	KEY_UUID,
	KEY_POLICY,
	KEY_ROLE,
	KEY_TERM,
	KEY_EPOCH,
	KEY_CURRENT,
	KEY_HANDING_OVER,
	KEYS,
};
static const char *const key_name[KEYS] = {
	[KEY_NAME] = "name",	   [KEY_UUID] = "uuid",
	[KEY_POLICY] = "policy",   [KEY_ROLE] = "role",
	[KEY_TERM] = "term",	   [KEY_EPOCH] = "epoch",
	[KEY_CURRENT] = "current", [KEY_HANDING_OVER] = "handing-over",
};

void uuid_format(const uint8_t uuid[16], char out[UUID_TEXT])
{
	unsigned int i, at = 0;

	for (i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			out[at++] = '-';
		snprintf(out + at, 3, "%02x", uuid[i]);
		at += 2;
	}
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int uuid_parse(const char *text, uint8_t uuid[16])
{
	unsigned int i, at = 0;

	if (strlen(text) != UUID_TEXT - 1)
		return -EINVAL;
	for (i = 0; i < 16; i++) {
		int high, low;

		if (i == 4 || i == 6 || i == 8 || i == 10)
			if (text[at++] != '-')
				return -EINVAL;
		high = hex_digit(text[at]);
		low = hex_digit(text[at + 1]);
		if (high < 0 || low < 0)
			return -EINVAL;
		uuid[i] = (uint8_t)(high << 4 | low);
		at += 2;
	}
	return 0;
}

int tag_format(const struct tag *t, char *out, size_t len)
{
	char uuid[UUID_TEXT];
	int n, m;

	uuid_format(t->uuid, uuid);
	n = snprintf(out, len,
		     "%s\nname %s\nuuid %s\npolicy %s\nrole %s\nterm %" PRIu64 "\nepoch %" PRIu64
		     "\ncurrent %s\nhanding-over %s\n",
		     first_line, t->name, uuid, t->policy, t->backup ? "backup" : "primary",
		     t->term, t->epoch, t->current ? "yes" : "no", t->handing_over ? "yes" : "no");
	if (n < 0 || (size_t)n >= len)
		return -ENOBUFS;
	m = snprintf(out + n, len - (size_t)n, "sum %016" PRIx64 "\n",
		     (uint64_t)XXH64(out, (size_t)n, 0));
	if (m < 0 || (size_t)m >= len - (size_t)n)
		return -ENOBUFS;
	return n + m;
}

static int parse_number(const char *value, uint64_t *out)
{
	char *end;

	if (value[0] < '0' || value[0] > '9')
		return -EINVAL;
	errno = 0;
	*out = strtoull(value, &end, 10);
	return errno || *end ? -EINVAL : 0;
}

static int parse_either(const char *value, const char *no, const char *yes, bool *out)
{
	*out = !strcmp(value, yes);
	return *out || !strcmp(value, no) ? 0 : -EINVAL;
}

static int parse_text(const char *value, char out[TAG_NAME_MAX])
{
	if (!value[0] || strlen(value) >= TAG_NAME_MAX || strchr(value, '/'))
		return -EINVAL;
	strcpy(out, value);
	return 0;
}

static int parse_value(struct tag *t, enum tag_key key, const char *value)
{
	switch (key) {
	case KEY_NAME:
		return parse_text(value, t->name);
	case KEY_UUID:
		return uuid_parse(value, t->uuid);
	case KEY_POLICY:
		return parse_text(value, t->policy);
	case KEY_ROLE:
		return parse_either(value, "primary", "backup", &t->backup);
	case KEY_TERM:
		return parse_number(value, &t->term);
	case KEY_EPOCH:
		return parse_number(value, &t->epoch);
	case KEY_CURRENT:
		return parse_either(value, "no", "yes", &t->current);
	case KEY_HANDING_OVER:
		return parse_either(value, "no", "yes", &t->handing_over);
	default:
		return -EINVAL;
	}
}

/* Returns the next line, terminated, and moves on; NULL at the end or at a line without an end. */
static char *next_line(char **at)
{
	char *line = *at, *newline = strchr(line, '\n');

	if (!newline)
		return NULL;
	*newline = '\0';
	*at = newline + 1;
	return line;
}

int tag_parse(struct tag *t, const char *text, size_t len, char *why, size_t why_len)
{
	char copy[TAG_BYTES_MAX + 1], sum[32];
	char *at = copy, *line;
	unsigned int key;

	memset(t, 0, sizeof(*t));
	if (len > TAG_BYTES_MAX || memchr(text, '\0', len)) {
		snprintf(why, why_len, "too long or not text");
		return -EINVAL;
	}
	memcpy(copy, text, len);
	copy[len] = '\0';

	line = next_line(&at);
	if (!line || strcmp(line, first_line)) {
		snprintf(why, why_len, "line 1: not \"%s\"", first_line);
		return -EINVAL;
	}
	for (key = 0; key < KEYS; key++) {
		size_t n = strlen(key_name[key]);

		line = next_line(&at);
		if (!line || strncmp(line, key_name[key], n) || line[n] != ' ' ||
		    parse_value(t, (enum tag_key)key, line + n + 1)) {
			snprintf(why, why_len, "line %u: no good \"%s\"", key + 2, key_name[key]);
			return -EINVAL;
		}
	}
	snprintf(sum, sizeof(sum), "sum %016" PRIx64,
		 (uint64_t)XXH64(text, (size_t)(at - copy), 0));
	line = next_line(&at);
	if (!line || strcmp(line, sum) || *at) {
		snprintf(why, why_len, "line %u: the checksum does not fit", KEYS + 2);
		return -EINVAL;
	}
	return 0;
}

static int write_all(int fd, const char *text, size_t len)
{
	while (len) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		text += n;
		len -= (size_t)n;
	}
	return 0;
}

int tag_save(const char *dir, const struct tag *t)
{
	char text[TAG_BYTES_MAX], name[UUID_TEXT + 8], temporary[UUID_TEXT + 16];
	int len = tag_format(t, text, sizeof(text));
	int dirfd, fd = -1;
	int rc;

	if (len < 0)
		return len;
	uuid_format(t->uuid, name);
	strcat(name, suffix);
	snprintf(temporary, sizeof(temporary), ".%s.new", name);

	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return -errno;
	fd = openat(dirfd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0) {
		rc = -errno;
		goto out;
	}
	rc = write_all(fd, text, (size_t)len);
	if (rc)
		goto out;
	if (fsync(fd) || renameat(dirfd, temporary, dirfd, name) || fsync(dirfd))
		rc = -errno;
out:
	if (fd >= 0)
		close(fd);
	close(dirfd);
	return rc;
}

int tag_remove(const char *dir, const uint8_t uuid[16])
{
	char name[UUID_TEXT + 8];
	int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = 0;

	if (dirfd < 0)
		return -errno;
	uuid_format(uuid, name);
	strcat(name, suffix);
	if ((unlinkat(dirfd, name, 0) && errno != ENOENT) || fsync(dirfd))
		rc = -errno;
	close(dirfd);
	return rc;
}

int tag_move(const char *from, const char *to, const uint8_t uuid[16])
{
	char name[UUID_TEXT + 8];
	int fromfd = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC), tofd;
	int rc = 0;

	if (fromfd < 0)
		return -errno;
	tofd = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uuid_format(uuid, name);
	strcat(name, suffix);
	if (tofd < 0 || renameat(fromfd, name, tofd, name) || fsync(tofd) || fsync(fromfd))
		rc = -errno;
	if (tofd >= 0)
		close(tofd);
	close(fromfd);
	return rc;
}

static int load_one(int dirfd, const char *name, struct tag *t, char *why, size_t why_len)
{
	char text[TAG_BYTES_MAX + 1], uuid[UUID_TEXT];
	int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n;
	int rc;

	if (fd < 0) {
		snprintf(why, why_len, "%s", strerror(errno));
		return -EINVAL;
	}
	n = read(fd, text, sizeof(text));
	close(fd);
	if (n < 0) {
		snprintf(why, why_len, "%s", strerror(errno));
		return -EINVAL;
	}
	rc = tag_parse(t, text, (size_t)n, why, why_len);
	if (rc)
		return rc;
	uuid_format(t->uuid, uuid);
	if (strncmp(uuid, name, UUID_TEXT - 1)) {
		snprintf(why, why_len, "its uuid is not its file's name");
		return -EINVAL;
	}
	return 0;
}

int tags_load(const char *dir, void (*found)(void *arg, const struct tag *t), void *arg)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	int nr = 0;

	if (!d)
		return -errno;
	while ((e = readdir(d))) {
		size_t len = strlen(e->d_name);
		char why[128], bad[sizeof(e->d_name) + 8];
		struct tag t;

		if (e->d_name[0] == '.' || len <= sizeof(suffix) - 1 ||
		    strcmp(e->d_name + len - (sizeof(suffix) - 1), suffix))
			continue;
		if (load_one(dirfd(d), e->d_name, &t, why, sizeof(why)) == 0) {
			found(arg, &t);
			nr++;
			continue;
		}
		log_err(NULL, "%s/%s: %s; set aside as %s.bad", dir, e->d_name, why, e->d_name);
		snprintf(bad, sizeof(bad), "%s.bad", e->d_name);
		if (renameat(dirfd(d), e->d_name, dirfd(d), bad))
			log_err(NULL, "%s/%s: cannot be renamed: %s", dir, e->d_name,
				strerror(errno));
	}
	closedir(d);
	return nr;
}
