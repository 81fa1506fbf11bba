#!/usr/bin/python3
"""Drives the guest's dirtyloop (tests/pair/guest/dirtyloop.c) and times it by this machine's clock.

Runs where the clients are (zone c). First every --set command, then, with --seconds, one measurement, whose
result is printed as JSON. The guest's own clock is no measure: under `xl remus` it stands still while the
guest is suspended.
"""

import argparse
import json
import socket
import sys
import time

PORT = 7001
CONNECT_LIMIT_S = 30
ANSWER_LIMIT_S = 60     # a guest under `xl remus` answers when it is let run
LONGEST = 4096          # more than the epochs of any measurement


class Loop:
    def __init__(self, host):
        self.sock = socket.create_connection((host, PORT), CONNECT_LIMIT_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.settimeout(ANSWER_LIMIT_S)
        self.lines = self.sock.makefile("r", encoding="ascii", newline="\n")

    def ask(self, command):
        """(answer, when it was asked, how long the answer took), in microseconds of CLOCK_MONOTONIC."""
        asked = time.monotonic_ns() // 1000
        self.sock.sendall(command.encode() + b"\n")
        answer = self.lines.readline().strip()
        if answer.startswith("error"):
            raise OSError(f"{command}: {answer}")
        return answer, asked, time.monotonic_ns() // 1000 - asked

    def measure(self, seconds):
        """The requests count from when they are sent: protected, the answers are held until their epoch is committed."""
        _, began, reset_us = self.ask("reset")
        time.sleep(max(0.0, seconds - reset_us / 1e6))
        report, ended, report_us = self.ask("report")
        gaps, _, _ = self.ask(f"longest {LONGEST}")
        values = {name: int(value) for name, value in (pair.split("=") for pair in report.split())}
        return {"elapsed_us": ended - began, "reset_answer_us": reset_us, "report_answer_us": report_us,
                "rounds_per_s": values["rounds"] * 1e6 / (ended - began), "inside": values,
                "longest_gaps_us": [int(gap) for gap in gaps.split()]}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--set", action="append", default=[], help="a command such as `rate 500` or `size 8`")
    parser.add_argument("--seconds", type=float, default=0)
    args = parser.parse_args()
    try:
        loop = Loop(args.host)
        for command in args.set:
            loop.ask(command)
        if args.seconds:
            json.dump(loop.measure(args.seconds), sys.stdout)
    except (OSError, ValueError, KeyError) as error:
        print(f"loop_client: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
