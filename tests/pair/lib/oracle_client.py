#!/usr/bin/python3
"""The output-commit oracle: whatever the guest answered, it must still know after a failover.

  oracle_client.py run --host H --journal FILE    puts unique tokens over several connections and
                                                  journals every answer the moment it is here
  oracle_client.py verify --host H --journal FILE dumps the guest's state and compares

`run` never reconnects: a connection that breaks is journalled as an error and fails the verdict.
The journal has one line per happening: "put CONNECTION TOKEN" before a request is sent, "got
CONNECTION INDEX TOKEN" for an answer, "error CONNECTION TEXT".
"""

import argparse
import json
import os
import selectors
import signal
import socket
import sys
import time

CONNECT_LIMIT_S = 10
DUMP_LIMIT_S = 120
EXAMPLES = 5


class Connection:
    def __init__(self, number, args, journal):
        self.number, self.args, self.journal = number, args, journal
        self.sequence = 0
        self.data = b""
        self.waiting_since = None
        self.token = None
        self.sock = socket.create_connection((args.host, args.port), CONNECT_LIMIT_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)

    def put(self):
        self.sequence += 1
        self.token = f"{self.args.run}-{self.number}-{self.sequence}"
        self.journal.write(f"put {self.number} {self.token}\n")
        self.journal.flush()
        self.waiting_since = time.monotonic()
        self.sock.send(f"put {self.token}\n".encode())

    def readable(self):
        part = self.sock.recv(4096)
        if not part:
            raise OSError("the server closed the connection")
        self.data += part
        if not self.data.endswith(b"\n"):
            return
        line, self.data, self.waiting_since = self.data.decode().strip(), b"", None
        index, _, token = line.partition(" ")
        if not index.isdigit() or token != self.token:
            raise OSError(f"asked for {self.token}, was answered {line!r}")
        self.journal.write(f"got {self.number} {index} {token}\n")
        self.journal.flush()


class Run:
    def __init__(self, args):
        self.args = args
        self.stopping = False

    def stop(self, *_):
        self.stopping = True

    def _fail(self, journal, live, selector, connection, why):
        journal.write(f"error {connection.number} {why}\n")
        journal.flush()
        selector.unregister(connection.sock)
        live.remove(connection)

    def run(self):
        selector = selectors.DefaultSelector()
        with open(self.args.journal, "a", encoding="ascii") as journal:
            live = [Connection(n, self.args, journal) for n in range(self.args.connections)]
            for connection in live:
                selector.register(connection.sock, selectors.EVENT_READ, connection)
            due, period = time.monotonic(), 1 / self.args.rate
            while live and (not self.stopping or any(c.waiting_since for c in live)):
                now = time.monotonic()
                idle = [c for c in live if c.waiting_since is None]
                if idle and now >= due and not self.stopping:
                    idle[0].put()
                    live.append(live.pop(live.index(idle[0])))
                    due = max(due + period, now - 1)
                # With every connection waiting there is nothing to do before an answer.
                for key, _ in selector.select(min(0.2, max(0.001, due - now)) if idle else 0.2):
                    try:
                        key.data.readable()
                    except OSError as error:
                        self._fail(journal, live, selector, key.data, error)
                for connection in list(live):
                    since = connection.waiting_since
                    if since and now - since > self.args.patience:
                        self._fail(journal, live, selector, connection,
                                   f"no answer for {self.args.patience} s")
        return 0 if self.stopping else 1


def read_journal(path):
    """(tokens sent, {index: token} as answered, problems)"""
    sent, answered, problems, last = set(), {}, [], {}
    with open(path, encoding="ascii") as file:
        for line in file:
            if not line.endswith("\n"):
                break  # being written just now
            kind, connection, rest = line[:-1].split(" ", 2)
            if kind == "put":
                sent.add(rest)
            elif kind == "got":
                index, token = rest.split(" ")
                index = int(index)
                if index in answered:
                    problems.append(f"index {index} answered twice: {answered[index]}, {token}")
                if index <= last.get(connection, 0):
                    problems.append(f"connection {connection}: index {index} after {last[connection]}")
                answered[index], last[connection] = token, index
            else:
                problems.append(f"connection {connection}: {rest}")
    return sent, answered, problems


def dump(host, port):
    """The guest's state, {index: token}, read over a connection of its own."""
    state = {}
    with socket.create_connection((host, port), CONNECT_LIMIT_S) as sock:
        sock.settimeout(DUMP_LIMIT_S)
        sock.sendall(b"dump\n")
        for line in sock.makefile("r", encoding="ascii"):
            index, _, token = line.strip().partition(" ")
            if index == "end":
                if int(token) != len(state):
                    raise OSError(f"dump: {len(state)} tokens, announced {token}")
                return state
            state[int(index)] = token
    raise OSError("dump: ended early")


def compare(journal, state, run):
    sent, answered, problems = journal
    lost = [(i, t) for i, t in answered.items() if state.get(i) != t]
    ours = [t for t in state.values() if t.startswith(run + "-")]
    twice = len(ours) - len(set(ours))
    foreign = [t for t in ours if t not in sent]
    if lost:
        problems.append(f"{len(lost)} answered tokens are not in the state, such as {lost[:EXAMPLES]}")
    if twice:
        problems.append(f"{twice} tokens are in the state twice")
    if foreign:
        problems.append(f"{len(foreign)} tokens in the state were never sent: {foreign[:EXAMPLES]}")
    return {"answered": len(answered), "sent": len(sent), "in_state": len(ours), "lost": len(lost),
            "twice": twice, "problems": problems[:20], "ok": not problems}


def verify(args):
    # The client may be at work. What is answered while we dump need not be in the dump: answers from before count.
    # What is sent meanwhile may be in it: so does everything sent until after it.
    _, answered, problems = read_journal(args.journal)
    state = dump(args.host, args.port)
    sent, _, _ = read_journal(args.journal)
    verdict = compare((sent, answered, problems), state, args.run)
    print(json.dumps(verdict))
    return 0 if verdict["ok"] and verdict["answered"] else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("run", "verify"))
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, default=7002)
    parser.add_argument("--run", default="t", help="prefix of the tokens")
    parser.add_argument("--journal", required=True)
    parser.add_argument("--connections", type=int, default=2)
    parser.add_argument("--rate", type=float, default=10, help="tokens per second, all together")
    parser.add_argument("--patience", type=float, default=120)
    args = parser.parse_args()
    if args.command == "verify":
        return verify(args)
    with open(args.journal + ".pid", "w", encoding="ascii") as file:
        file.write(str(os.getpid()))
    run = Run(args)
    signal.signal(signal.SIGTERM, run.stop)
    signal.signal(signal.SIGINT, run.stop)
    return run.run()


if __name__ == "__main__":
    sys.exit(main())
