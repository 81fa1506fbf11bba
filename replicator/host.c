/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "replicator/host.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static void read_line(const char *path, char *out, size_t len)
{
	FILE *f = fopen(path, "re");

	out[0] = '\0';
	if (!f)
		return;
	if (!fgets(out, (int)len, f))
		out[0] = '\0';
	out[strcspn(out, "\n")] = '\0';
	fclose(f);
}

static int id_load(uint8_t id[16], const char *state_dir)
{
	char path[256];
	int fd;
	ssize_t n;
	int rc = 0;

	snprintf(path, sizeof(path), "%s/host-id", state_dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	n = read(fd, id, 16);
	if (n != 16) {
		if (n > 0)
			log_warn(NULL, "%s: %zd bytes instead of 16, made anew", path, n);
		if (getrandom(id, 16, 0) != 16 || pwrite(fd, id, 16, 0) != 16 || fsync(fd))
			rc = -EIO;
	}
	close(fd);
	return rc;
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void cpu_load(struct host *h)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char *line = NULL, *save = NULL, *word;
	size_t size = 0, i, kept = 0;

	while (f && getline(&line, &size, f) > 0) {
		char *colon = strchr(line, ':');

		if (strncmp(line, "flags", 5) || !colon)
			continue;
		h->cpu_text = strdup(colon + 1);
		break;
	}
	free(line);
	if (f)
		fclose(f);
	if (!h->cpu_text)
		return;
	for (word = strtok_r(h->cpu_text, " \t\n", &save);
	     word && h->nr_cpu_features < HOST_CPU_FEATURES_MAX;
	     word = strtok_r(NULL, " \t\n", &save))
		h->cpu_features[h->nr_cpu_features++] = word;
	qsort(h->cpu_features, h->nr_cpu_features, sizeof(char *), compare);
	for (i = 0; i < h->nr_cpu_features; i++)
		if (!kept || strcmp(h->cpu_features[kept - 1], h->cpu_features[i]))
			h->cpu_features[kept++] = h->cpu_features[i];
	h->nr_cpu_features = kept;
}

int host_probe(struct host *h, const char *state_dir)
{
	char major[16], minor[16];
	int rc;

	memset(h, 0, sizeof(*h));
	rc = id_load(h->id, state_dir);
	if (rc)
		return rc;
	if (getrandom(&h->instance, sizeof(h->instance), 0) != sizeof(h->instance))
		return -EIO;
	read_line("/proc/sys/kernel/random/boot_id", h->boot_id, sizeof(h->boot_id));
	read_line("/sys/hypervisor/version/major", major, sizeof(major));
	read_line("/sys/hypervisor/version/minor", minor, sizeof(minor));
	read_line("/sys/hypervisor/version/extra", h->hypervisor_extra,
		  sizeof(h->hypervisor_extra));
	if (major[0])
		snprintf(h->hypervisor, sizeof(h->hypervisor), "%s.%s", major, minor);
	cpu_load(h);
	return 0;
}

/* What cannot be read or written is another boot: the answer that lets a copy live. */
bool host_same_boot(const struct host *h, const char *run_dir)
{
	char path[256], before[HOST_TEXT_MAX];
	FILE *f;

	snprintf(path, sizeof(path), "%s/boot-id", run_dir);
	read_line(path, before, sizeof(before));
	f = fopen(path, "we");
	if (!f || fprintf(f, "%s\n", h->boot_id) < 0)
		log_warn(NULL, "%s: %s", path, strerror(errno));
	if (f)
		fclose(f);
	return before[0] && !strcmp(before, h->boot_id);
}

void host_release(struct host *h)
{
	free(h->cpu_text);
	h->cpu_text = NULL;
}

/* The first features that only one of two sorted lists has. */
static int features_differ(char *const *a, size_t nr_a, char *const *b, size_t nr_b, char *out,
			   size_t len)
{
	size_t i = 0, j = 0, at = 0;
	int differ = 0;

	out[0] = '\0';
	while (i < nr_a || j < nr_b) {
		int c = i == nr_a ? 1 : j == nr_b ? -1 : strcmp(a[i], b[j]);

		if (c && differ++ < 8 && at < len)
			at += (size_t)snprintf(out + at, len - at, " %s%s", c < 0 ? "+" : "-",
					       c < 0 ? a[i] : b[j]);
		if (c <= 0)
			i++;
		if (c >= 0)
			j++;
	}
	return differ;
}

int host_match(const struct host *h, const Understudy__PeerHello *peer, char *why, size_t why_len)
{
	char features[256];
	int n;

	if (!memcmp(h->id, peer->host_id.data, sizeof(h->id))) {
		snprintf(why, why_len,
			 "%s has this host's own id: the peer address is this host's, or the state "
			 "directory was copied",
			 peer->host);
		return -EINVAL;
	}
	if (strcmp(h->hypervisor, peer->hypervisor) ||
	    strcmp(h->hypervisor_extra, peer->hypervisor_extra)) {
		snprintf(why, why_len, "the hypervisors differ: %s%s here, %s%s on %s",
			 h->hypervisor, h->hypervisor_extra, peer->hypervisor,
			 peer->hypervisor_extra, peer->host);
		return -EINVAL;
	}
	n = features_differ(h->cpu_features, h->nr_cpu_features, peer->cpu_features,
			    peer->n_cpu_features, features, sizeof(features));
	if (n) {
		snprintf(why, why_len,
			 "the CPUs differ in %d features (+ only here, - only on %s):%s", n,
			 peer->host, features);
		return -EINVAL;
	}
	return 0;
}
