/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A session with a peer that is played by this test, over real sockets. */
#include "replicator/peer.h"
#include "replicator/config.h"
#include "replicator/host.h"

#include <arpa/inet.h>
#include <event2/event.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

enum { WAIT_MS = 5000, STEP_MS = 5 };

static struct event_base *base;
static struct config config;
static struct host host = {.id = {5}};
static struct peer *peer;
static unsigned int ups, agains, downs;

static void on_up(void *arg, bool again)
{
	ups++;
	agains += again;
}

static void on_down(void *arg, const char *cause)
{
	downs++;
}

static void on_message(void *arg, enum peer_type type, const ProtobufCMessage *m)
{
}

static const struct peer_ops ops = {.up = on_up, .down = on_down, .message = on_message};

static int local_socket(uint32_t *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	*port = ntohs(a.sin_port);
	return fd;
}

static int begin(void **state)
{
	int fds[2];

	config_defaults(&config);
	strcpy(config.host, "here");
	strcpy(config.listen_address, "127.0.0.1");
	strcpy(config.peer_address, "127.0.0.1");
	fds[0] = local_socket(&config.control_port);
	fds[1] = local_socket(&config.peer_control_port); /* nobody listens there */
	close(fds[0]);
	close(fds[1]);
	base = event_base_new();
	ups = agains = downs = 0;
	return peer_new(base, &config, &host, &ops, NULL, &peer);
}

static int end(void **state)
{
	peer_free(peer);
	event_base_free(base);
	return 0;
}

/* A connection of the peer's daemon `instance`, and its hello. */
static int connect_as(uint8_t id, uint64_t instance)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = htons((uint16_t)config.control_port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	Understudy__PeerHello m = UNDERSTUDY__PEER_HELLO__INIT;
	uint8_t host_id[16] = {id};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct buf b = {0};

	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	m.version_min = m.version_max = PEER_VERSION_MIN;
	m.host = "there";
	m.zone = "zone-b";
	m.host_id.data = host_id;
	m.host_id.len = sizeof(host_id);
	m.instance = instance;
	m.pv_state_abi = PV_STATE_ABI;
	m.heartbeat_ms = 100;
	m.stream_port = 1;
	assert_int_equal(frame_add(peer_kinds, PEER_HELLO, &m.base, &b), 0);
	assert_int_equal(write(fd, b.data, b.len), b.len);
	buf_free(&b);
	return fd;
}

static void wait_ups(unsigned int wanted)
{
	struct timeval tv = {.tv_usec = STEP_MS * 1000};
	unsigned int n;

	for (n = 0; ups < wanted && n < WAIT_MS / STEP_MS; n++) {
		event_base_loopexit(base, &tv);
		event_base_dispatch(base);
	}
	assert_int_equal(ups, wanted);
}

/* The same daemon over a better connection: told again, but no other session. */
static void test_two_connections(void **state)
{
	int first = connect_as(9, 1), second;

	wait_ups(1);
	assert_int_equal(agains, 0);
	assert_string_equal(peer_info(peer)->zone, "zone-b");
	second = connect_as(9, 1);
	wait_ups(2);
	assert_int_equal(agains, 1);
	assert_int_equal(downs, 0);
	close(first);
	close(second);
}

/* A daemon that has started anew is another session. */
static void test_restarted(void **state)
{
	int first = connect_as(9, 1), second;

	wait_ups(1);
	second = connect_as(9, 2);
	wait_ups(2);
	assert_int_equal(agains, 0);
	assert_int_equal(downs, 1);
	close(first);
	close(second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_two_connections, begin, end),
		cmocka_unit_test_setup_teardown(test_restarted, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
