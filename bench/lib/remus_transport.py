#!/usr/bin/python3
"""Carries the stream of `xl remus` over plain TCP, as Understudy's is, so that ssh's encryption is not measured.

    remus_transport.py receive ADDRESS PORT COMMAND...    on the backup: one connection becomes COMMAND's stdin and stdout
    remus_transport.py send ADDRESS PORT                  on the primary: `xl remus -s '' DOMAIN 'exec ... send ...'`
"""

import os
import socket
import sys
import threading
import time

CONNECT_LIMIT_S = 20
ACCEPT_LIMIT_S = 120
CHUNK_BYTES = 1 << 20
RETRY_S = 0.2


def receive(address, port, command):
    with socket.create_server((address, port)) as server:
        server.settimeout(ACCEPT_LIMIT_S)
        stream, _ = server.accept()
    stream.settimeout(None)
    for fd in (0, 1):
        os.dup2(stream.fileno(), fd)
    os.execvp(command[0], command)


def connect(address, port):
    end = time.monotonic() + CONNECT_LIMIT_S
    while True:
        try:
            return socket.create_connection((address, port), CONNECT_LIMIT_S)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(RETRY_S)


def carry(source, destination):
    """One end of it is a pipe, so nothing is copied through this process."""
    while os.splice(source, destination, CHUNK_BYTES):
        pass


def back(stream):
    """What the receiver says: a banner at the beginning. Its end is this process's end, and xl's."""
    try:
        carry(stream.fileno(), 1)
    finally:
        os._exit(0)


def send(address, port):
    stream = connect(address, port)
    stream.settimeout(None)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=back, args=(stream,), daemon=True).start()
    carry(0, stream.fileno())


def main(args):
    if len(args) > 3 and args[0] == "receive":
        receive(args[1], int(args[2]), args[3:])
    elif len(args) == 3 and args[0] == "send":
        send(args[1], int(args[2]))
    else:
        print(__doc__, file=sys.stderr)
        return 64
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
