#!/usr/bin/python3
"""One TCP connection to a redis server, INCR without pause, never a second connection.

Runs where the clients are (zone c). Rewrites OUT (JSON) twice a second and at the end: on SIGTERM,
after --seconds, on an error, or when no answer came for --patience seconds. With SIGTERM the request
under way is still answered first, so that what the server holds and what was answered can be equal.

Times are this machine's CLOCK_MONOTONIC, in microseconds.
"""

import argparse
import collections
import json
import os
import select
import signal
import socket
import struct
import sys
import time

GAP_REPORT_US = 50_000
GAPS_KEPT = 2000
CONNECT_LIMIT_S = 10
SNAPSHOT_EVERY_US = 500_000
TCP_ESTABLISHED = 1


def now_us():
    return time.monotonic_ns() // 1000


class Record:
    """What is remembered of the answers."""

    def __init__(self):
        self.answers = 0
        self.first_value = self.last_value = None
        self.first_us = self.last_us = None
        self.backward = self.jumps = 0
        self.gaps = collections.deque(maxlen=GAPS_KEPT)     # the last ones
        self.longest = {"us": 0, "from_us": 0, "to_us": 0, "from_value": 0, "to_value": 0}

    def answer(self, value, at_us):
        if self.last_value is not None:
            self.backward += value <= self.last_value
            self.jumps += value > self.last_value + 1
            gap = at_us - self.last_us
            if gap >= GAP_REPORT_US or gap > self.longest["us"]:
                entry = {"us": gap, "from_us": self.last_us, "to_us": at_us,
                         "from_value": self.last_value, "to_value": value}
                if gap >= GAP_REPORT_US:
                    self.gaps.append(entry)
                if gap > self.longest["us"]:
                    self.longest = entry
        else:
            self.first_value, self.first_us = value, at_us
        self.answers += 1
        self.last_value, self.last_us = value, at_us


class Client:
    def __init__(self, args):
        self.args = args
        self.record = Record()
        self.error = None
        self.stopping = False
        self.request = b"*2\r\n$4\r\nINCR\r\n$%d\r\n%s\r\n" % (len(args.key), args.key.encode())
        self.sock = socket.create_connection((args.host, args.port), CONNECT_LIMIT_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.began = self._identity()

    def _identity(self):
        """What tells one connection from another."""
        local, peer = self.sock.getsockname(), self.sock.getpeername()
        return {"inode": os.fstat(self.sock.fileno()).st_ino, "local": list(local[:2]),
                "peer": list(peer[:2])}

    def connection(self):
        try:
            ended = self._identity()
        except OSError as error:
            return {"same_socket": False, "established": False, "began": self.began,
                    "error": str(error)}
        info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        return {"same_socket": ended == self.began, "established": info[0] == TCP_ESTABLISHED,
                "began": self.began, "retransmits": struct.unpack_from("=I", info, 100)[0]}

    def write(self, done):
        r = self.record
        out = {"answers": r.answers, "first_value": r.first_value, "last_value": r.last_value,
               "first_us": r.first_us, "last_us": r.last_us, "backward": r.backward,
               "jumps": r.jumps, "longest_gap": r.longest, "gaps": list(r.gaps), "error": self.error,
               "connection": self.connection(), "now_us": now_us(), "done": done,
               "pid": os.getpid()}
        with open(self.args.out + ".new", "w", encoding="ascii") as file:
            json.dump(out, file)
        os.rename(self.args.out + ".new", self.args.out)

    def _one(self, snapshot):
        """One request and its answer; `snapshot` is called while waiting."""
        self.sock.send(self.request)
        sent, data = now_us(), b""
        while not data.endswith(b"\r\n"):
            readable, _, _ = select.select([self.sock], [], [], 0.2)
            snapshot()
            if not readable:
                if now_us() - sent > self.args.patience * 1_000_000:
                    raise OSError(f"no answer for {self.args.patience} s")
                continue
            part = self.sock.recv(4096)
            if not part:
                raise OSError("the server closed the connection")
            data += part
        if not data.startswith(b":"):
            raise OSError(f"not a number: {data!r}")
        self.record.answer(int(data[1:-2]), now_us())

    def run(self):
        end = now_us() + self.args.seconds * 1_000_000 if self.args.seconds else None
        written = 0

        def snapshot():
            nonlocal written
            if now_us() - written > SNAPSHOT_EVERY_US:
                written = now_us()
                self.write(False)

        try:
            while not self.stopping and (end is None or now_us() < end):
                self._one(snapshot)
                if self.args.pause_ms:
                    time.sleep(self.args.pause_ms / 1000)
        except OSError as error:
            self.error = str(error)
        self.write(True)
        return 1 if self.error else 0

    def stop(self, *_):
        self.stopping = True


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, default=6379)
    parser.add_argument("--key", default="counter")
    parser.add_argument("--out", required=True)
    parser.add_argument("--seconds", type=float, default=0, help="0: until SIGTERM")
    parser.add_argument("--patience", type=float, default=120)
    parser.add_argument("--pause-ms", type=float, default=0)
    client = Client(parser.parse_args())
    signal.signal(signal.SIGTERM, client.stop)
    signal.signal(signal.SIGINT, client.stop)
    return client.run()


if __name__ == "__main__":
    sys.exit(main())
