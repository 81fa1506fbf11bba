#!/usr/bin/python3
"""Runs one command on a guest's console, in the zone where the guest runs, and prints its output."""

import os
import pty
import select
import sys
import time

LIMIT_S = 30
MARK = "console-mark"


def read_until(fd, marker, end, data=b""):
    while marker not in data:
        left = end - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            raise TimeoutError(f"no answer on the console; so far: {data[-300:]!r}")
        part = os.read(fd, 65536)
        if not part:
            raise EOFError("xl console ended")
        data += part
    return data


def main(name, command):
    end = time.monotonic() + LIMIT_S
    pid, fd = pty.fork()
    if pid == 0:
        os.execvp("xl", ["xl", "console", name])
    try:
        # The shell echoes what is typed, so the marks are spelled differently there.
        line = f"\necho {MARK}-'begin'; {command}; echo {MARK}-'end'\n"
        os.write(fd, line.encode())
        data = read_until(fd, f"\n{MARK}-end".encode(), end)
    except (TimeoutError, EOFError, OSError) as error:
        print(f"guest_console: {name}: {error}", file=sys.stderr)
        return 1
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    text = data.decode(errors="replace").replace("\r", "")
    text = text.split(f"\n{MARK}-begin\n", 1)[-1].split(f"{MARK}-end")[0]
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: guest_console.py NAME COMMAND")
    sys.exit(main(sys.argv[1], sys.argv[2]))
