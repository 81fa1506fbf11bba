#!/usr/bin/python3
"""Frames on zone c's links, and the requests that make a guest send some.

  frames.py capture --mac MAC --out FILE LINK...   records every frame whose source is MAC as it comes
                                                   in on one of LINKs, until SIGTERM
  frames.py ask --ip4 A --ip6 A --mac MAC --device D --out FILE
                                                   sends an ICMP echo, an ICMPv6 echo and an ARP request
                                                   every --every-ms, until SIGTERM

Lines of both files: "MICROSECONDS KIND NUMBER", KIND of ipv4, ipv6, arp, other; the time is this
machine's CLOCK_MONOTONIC; NUMBER is the echo's sequence number, or the frame's length.
"""

import argparse
import ctypes
import select
import signal
import socket
import struct
import sys
import time

ETH_P_ALL = 3
ETH_P = {0x0800: "ipv4", 0x86DD: "ipv6", 0x0806: "arp"}
PACKET_OUTGOING = 4
SO_ATTACH_FILTER = 26
ECHO_ID = 0x7575
stopping = False


def stop(*_):
    global stopping
    stopping = True


def now_us():
    return time.monotonic_ns() // 1000


def attach_filter(sock, mac):
    """Lets the kernel drop what does not come from `mac`: BPF on the frame's bytes 6 to 11."""
    high, low = struct.unpack("!HI", mac)
    code = [(0x28, 0, 0, 6), (0x15, 0, 3, high), (0x20, 0, 0, 8), (0x15, 0, 1, low),
            (0x06, 0, 0, 256), (0x06, 0, 0, 0)]
    program = b"".join(struct.pack("=HBBI", *c) for c in code)
    buffer = ctypes.create_string_buffer(program)
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER,
                    struct.pack("HL", len(code), ctypes.addressof(buffer)))


def mac_bytes(text):
    return bytes(int(part, 16) for part in text.split(":"))


def echo_number(kind, frame):
    """The sequence number if the frame is the reply to one of our echo requests."""
    if kind == "ipv4" and frame[23] == socket.IPPROTO_ICMP and frame[34] == 0:
        ident, number = struct.unpack_from("!HH", frame, 38)
    elif kind == "ipv6" and frame[20] == socket.IPPROTO_ICMPV6 and frame[54] == 129:
        ident, number = struct.unpack_from("!HH", frame, 58)
    else:
        return -len(frame)
    return number if ident == ECHO_ID else -len(frame)


def capture(args):
    mac, socks = mac_bytes(args.mac), {}
    for link in args.links:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        attach_filter(sock, mac)
        sock.bind((link, ETH_P_ALL))
        sock.setblocking(False)
        socks[sock] = link
    with open(args.out, "w", encoding="ascii") as out:
        while not stopping:
            readable, _, _ = select.select(list(socks), [], [], 0.2)
            for sock in readable:
                frame, address = sock.recvfrom(256)
                if address[2] == PACKET_OUTGOING or frame[6:12] != mac:
                    continue
                kind = ETH_P.get(struct.unpack_from("!H", frame, 12)[0], "other")
                out.write(f"{now_us()} {kind} {echo_number(kind, frame)}\n")
            out.flush()
    return 0


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def arp_request(source_mac, source_ip, ip):
    return (b"\xff" * 6 + source_mac + struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, 1) +
            source_mac + socket.inet_aton(source_ip) + b"\0" * 6 + socket.inet_aton(ip))


def ask(args):
    with open(f"/sys/class/net/{args.device}/address", encoding="ascii") as file:
        own_mac = mac_bytes(file.read().strip())
    icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    icmp6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    raw.bind((args.device, 0))
    request = arp_request(own_mac, args.source_ip4, args.ip4)
    number = 0
    with open(args.out, "w", encoding="ascii") as out:
        while not stopping:
            number = (number + 1) & 0xFFFF
            header = struct.pack("!BBHHH", 8, 0, 0, ECHO_ID, number)
            header = struct.pack("!BBHHH", 8, 0, checksum(header), ECHO_ID, number)
            for kind, send in (("ipv4", lambda: icmp.sendto(header, (args.ip4, 0))),
                               ("ipv6", lambda: icmp6.sendto(struct.pack(
                                   "!BBHHH", 128, 0, 0, ECHO_ID, number), (args.ip6, 0))),
                               ("arp", lambda: raw.send(request))):
                at = now_us()
                try:
                    send()
                except OSError as error:
                    print(f"frames: {kind}: {error}", file=sys.stderr)
                    continue
                out.write(f"{at} {kind} {number}\n")
            out.flush()
            time.sleep(args.every_ms / 1000)
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    sub = commands.add_parser("capture")
    sub.add_argument("links", nargs="+")
    sub = commands.add_parser("ask")
    sub.add_argument("--ip4", required=True)
    sub.add_argument("--ip6", required=True)
    sub.add_argument("--source-ip4", default="10.77.0.3")
    sub.add_argument("--device", default="lan")
    sub.add_argument("--every-ms", type=float, default=50)
    for sub in commands.choices.values():
        sub.add_argument("--mac", default="")
        sub.add_argument("--out", required=True)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return capture(args) if args.command == "capture" else ask(args)


if __name__ == "__main__":
    sys.exit(main())
