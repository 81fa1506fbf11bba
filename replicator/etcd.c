/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/buf.h"
#include "common/clock.h"
#include "common/log.h"
#include "replicator/etcd_json.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ETCD_ANSWER_BYTES_MAX = 64 << 10 };

struct witness_request {
	struct witness *w;
	struct witness_request *next;
	enum etcd_kind kind;
	struct witness_record record; /* ETCD_WRITE: what is to be there */
	CURL *easy;
	char *body, error[CURL_ERROR_SIZE];
	struct buf answer;
	unsigned int endpoint, tried;
	uint64_t sent_us;
	witness_done done;
	void *arg;
};

struct witness {
	struct event_base *base;
	struct witness_config config;
	CURLM *multi;
	struct event *timer;
	struct curl_slist *headers;
	unsigned int preferred; /* the endpoint that answered last */
	struct witness_request *requests;
};

/* ---- one request ---- */

static size_t body_arrived(char *data, size_t size, size_t nr, void *arg)
{
	struct witness_request *q = arg;

	if (q->answer.len + size * nr > ETCD_ANSWER_BYTES_MAX || buf_add(&q->answer, data, size * nr))
		return 0;
	return size * nr;
}

static void set_tls(CURL *easy, const struct witness_config *c)
{
	if (c->ca_file[0])
		curl_easy_setopt(easy, CURLOPT_CAINFO, c->ca_file);
	if (c->cert_file[0])
		curl_easy_setopt(easy, CURLOPT_SSLCERT, c->cert_file);
	if (c->key_file[0])
		curl_easy_setopt(easy, CURLOPT_SSLKEY, c->key_file);
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2);
}

/* To q->endpoint. 0 or -ENOMEM. */
static int send_request(struct witness_request *q)
{
	const struct witness_config *c = &q->w->config;
	char url[WITNESS_URL_MAX + 32];

	snprintf(url, sizeof(url), "%s%s", c->endpoints[q->endpoint], etcd_path[q->kind]);
	q->easy = curl_easy_init();
	if (!q->easy)
		return -ENOMEM;
	buf_reset(&q->answer);
	q->error[0] = '\0';
	q->sent_us = clock_us();
	curl_easy_setopt(q->easy, CURLOPT_URL, url);
	curl_easy_setopt(q->easy, CURLOPT_PRIVATE, q);
	curl_easy_setopt(q->easy, CURLOPT_ERRORBUFFER, q->error);
	curl_easy_setopt(q->easy, CURLOPT_HTTPHEADER, q->w->headers);
	curl_easy_setopt(q->easy, CURLOPT_POSTFIELDS, q->body);
	curl_easy_setopt(q->easy, CURLOPT_WRITEFUNCTION, body_arrived);
	curl_easy_setopt(q->easy, CURLOPT_WRITEDATA, q);
	curl_easy_setopt(q->easy, CURLOPT_TIMEOUT_MS, (long)c->request_ms);
	curl_easy_setopt(q->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(q->easy, CURLOPT_PROXY, "");
	curl_easy_setopt(q->easy, CURLOPT_PROTOCOLS_STR, "http,https");
	set_tls(q->easy, c);
	if (curl_multi_add_handle(q->w->multi, q->easy) == CURLM_OK)
		return 0;
	curl_easy_cleanup(q->easy);
	q->easy = NULL;
	return -ENOMEM;
}

static void request_stop(struct witness_request *q)
{
	if (!q->easy)
		return;
	curl_multi_remove_handle(q->w->multi, q->easy);
	curl_easy_cleanup(q->easy);
	q->easy = NULL;
}

static void request_free(struct witness_request *q)
{
	struct witness_request **at = &q->w->requests;

	request_stop(q);
	while (*at && *at != q)
		at = &(*at)->next;
	if (*at)
		*at = q->next;
	buf_free(&q->answer);
	free(q->body);
	free(q);
}

static struct witness_request *request_new(struct witness *w, enum etcd_kind kind, const uint8_t uuid[16],
					   const struct witness_record *r, uint64_t revision, witness_done done, void *arg)
{
	struct witness_request *q = calloc(1, sizeof(*q));

	if (!q)
		return NULL;
	*q = (struct witness_request){.w = w, .kind = kind, .endpoint = w->preferred, .done = done, .arg = arg};
	if (r)
		q->record = *r;
	q->body = etcd_request(kind, uuid, r, revision);
	q->next = w->requests;
	w->requests = q;
	if (q->body && !send_request(q))
		return q;
	request_free(q);
	return NULL;
}

struct witness_request *witness_read(struct witness *w, const uint8_t uuid[16], witness_done done, void *arg)
{
	return request_new(w, ETCD_READ, uuid, NULL, 0, done, arg);
}

struct witness_request *witness_write(struct witness *w, const uint8_t uuid[16], const struct witness_record *r,
				      uint64_t revision, witness_done done, void *arg)
{
	return request_new(w, ETCD_WRITE, uuid, r, revision, done, arg);
}

struct witness_request *witness_remove(struct witness *w, const uint8_t uuid[16], uint64_t revision, witness_done done,
				       void *arg)
{
	return request_new(w, ETCD_REMOVE, uuid, NULL, revision, done, arg);
}

void witness_cancel(struct witness_request *q)
{
	request_free(q);
}

/* ---- its end ---- */

/* The one place that turns curl's codes into ours. */
static int curl_error(CURLcode code)
{
	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_COULDNT_CONNECT:
		return -ECONNREFUSED;
	case CURLE_COULDNT_RESOLVE_HOST:
		return -EHOSTUNREACH;
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CACERT_BADFILE:
		return -EACCES;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	default:
		return -EIO;
	}
}

/* Nothing of the request has left, whatever happened then. */
static bool not_sent(CURL *easy)
{
	long bytes = 1;

	return curl_easy_getinfo(easy, CURLINFO_REQUEST_SIZE, &bytes) == CURLE_OK && !bytes;
}

static void read_answer(struct witness_request *q, CURLcode code, struct witness_answer *a, char *text, size_t len)
{
	const char *body = q->answer.data ? (const char *)q->answer.data : "";
	long status = 0;

	a->sent_us = q->sent_us;
	a->error = curl_error(code);
	if (a->error) {
		a->in_doubt = q->kind != ETCD_READ && !not_sent(q->easy);
		snprintf(text, len, "%s: %.140s", q->w->config.endpoints[q->endpoint],
			 q->error[0] ? q->error : curl_easy_strerror(code));
		return;
	}
	curl_easy_getinfo(q->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status != 200) {
		a->error = status == 401 || status == 403 ? -EACCES : -EIO;
		a->in_doubt = q->kind != ETCD_READ && status >= 500;
		etcd_error(status, body, q->answer.len, text, len);
		return;
	}
	a->error = etcd_answer(q->kind, body, q->answer.len, a, text, len);
	a->in_doubt = a->error && q->kind != ETCD_READ;
	if (a->written && q->kind == ETCD_WRITE) {
		a->exists = true;
		a->record = q->record;
	}
}

static bool try_next(struct witness_request *q, const struct witness_answer *a)
{
	unsigned int nr = q->w->config.nr_endpoints;

	if (!a->error || a->error == -EBADMSG || a->in_doubt || ++q->tried >= nr)
		return false;
	q->endpoint = (q->endpoint + 1) % nr;
	return !send_request(q);
}

static void request_done(struct witness_request *q, CURLcode code)
{
	char text[WITNESS_TEXT_MAX] = "";
	struct witness_answer a = {.text = text};

	read_answer(q, code, &a, text, sizeof(text));
	request_stop(q);
	if (try_next(q, &a))
		return;
	q->w->preferred = a.error ? (q->endpoint + 1) % q->w->config.nr_endpoints : q->endpoint;
	q->done(q->arg, &a);
	request_free(q);
}

/* ---- libcurl on libevent ---- */

static void check_done(struct witness *w)
{
	struct witness_request *q;
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(w->multi, &left))) {
		CURLcode code = m->data.result;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &q);
		request_done(q, code);
	}
}

static void socket_ready(evutil_socket_t fd, short what, void *arg)
{
	struct witness *w = arg;
	int action = (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0), running;

	curl_multi_socket_action(w->multi, fd, action, &running);
	check_done(w);
}

static void timer_due(evutil_socket_t fd, short what, void *arg)
{
	struct witness *w = arg;
	int running;

	curl_multi_socket_action(w->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	check_done(w);
}

static int want_timer(CURLM *multi, long ms, void *arg)
{
	struct witness *w = arg;
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	if (ms < 0)
		return event_del(w->timer);
	return event_add(w->timer, &tv);
}

static int want_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	struct event *event = socket_arg;
	struct witness *w = arg;
	short kind = EV_PERSIST;

	if (event)
		event_free(event);
	event = NULL;
	if (what != CURL_POLL_REMOVE) {
		kind |= what & CURL_POLL_IN ? EV_READ : 0;
		kind |= what & CURL_POLL_OUT ? EV_WRITE : 0;
		event = event_new(w->base, fd, kind, socket_ready, w);
		if (!event || event_add(event, NULL))
			return -1;
	}
	curl_multi_assign(w->multi, fd, event);
	return 0;
}

int witness_new(struct event_base *base, const struct witness_config *config, struct witness **out)
{
	struct witness *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->base = base;
	w->config = *config;
	w->timer = evtimer_new(base, timer_due, w);
	w->headers = curl_slist_append(NULL, "Content-Type: application/json");
	w->multi = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? curl_multi_init() : NULL;
	if (!w->timer || !w->headers || !w->multi) {
		witness_free(w);
		return -ENOMEM;
	}
	curl_multi_setopt(w->multi, CURLMOPT_SOCKETFUNCTION, want_socket);
	curl_multi_setopt(w->multi, CURLMOPT_SOCKETDATA, w);
	curl_multi_setopt(w->multi, CURLMOPT_TIMERFUNCTION, want_timer);
	curl_multi_setopt(w->multi, CURLMOPT_TIMERDATA, w);
	*out = w;
	return 0;
}

void witness_free(struct witness *w)
{
	if (!w)
		return;
	while (w->requests)
		request_free(w->requests);
	if (w->multi)
		curl_multi_cleanup(w->multi);
	curl_slist_free_all(w->headers);
	if (w->timer)
		event_free(w->timer);
	free(w);
}
