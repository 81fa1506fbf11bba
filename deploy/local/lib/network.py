"""The pair's networks: which link joins which zones, and how a zone's interfaces are called.

Every link is a pair of connected UDP sockets on the pair's own loopback address. A datagram socket
does not notice when the other end dies and comes back, and drops what nobody reads, as a wire does.
"""

import hashlib
import os
import socket

ZONES = ("a", "b", "c")

# link -> its two ends
LINKS = {"repl": ("a", "b"), "lan-a": ("a", "c"), "lan-b": ("b", "c")}

# other names of links, as `cut` and `heal` take them
ALIASES = {
    "replication": ("repl",),
    "lan": ("lan-a", "lan-b"),
    "guest-lan": ("lan-a", "lan-b"),
    "client": ("lan-a", "lan-b"),
    "all": ("repl", "lan-a", "lan-b"),
}

# zone -> interface name inside the zone -> link ("mgmt" is the user-mode network with ssh)
INTERFACES = {
    "a": {"mgmt": "mgmt", "repl": "repl", "lan0": "lan-a"},
    "b": {"mgmt": "mgmt", "repl": "repl", "lan0": "lan-b"},
    "c": {"mgmt": "mgmt", "lan-a": "lan-a", "lan-b": "lan-b"},
}

# zone -> /etc/zone/net, for the script in image/rootfs/usr/lib/zone/net
SETUP = {
    "a": "mtu repl 9000\naddress repl 10.88.0.1/24\nbridge xenbr0 10.77.0.1/24,fd77::1/64 lan0\n",
    "b": "mtu repl 9000\naddress repl 10.88.0.2/24\nbridge xenbr0 10.77.0.2/24,fd77::2/64 lan0\n",
    "c": "bridge lan 10.77.0.3/24,fd77::3/64 lan-a lan-b\n",
}
MGMT = "address mgmt 10.0.2.15/24\n"

SSH_PORT = 2200
LINK_PORT = 7000
SOCKET_BUFFER_BYTES = 4 << 20
SO_RCVBUFFORCE = 33
SO_SNDBUFFORCE = 32


def resolve(name):
    """The links that `name` stands for, or () if there is no such link."""
    return (name,) if name in LINKS else ALIASES.get(name, ())


def loopback(folder):
    """The pair's own address out of 127/8, so that pairs do not compete for ports."""
    digest = hashlib.sha256(os.path.realpath(folder).encode()).digest()
    return f"127.{digest[0]}.{digest[1]}.{1 + digest[2] % 254}"


def ssh_port(zone):
    return SSH_PORT + ZONES.index(zone)


def mac(zone, interface):
    index = list(INTERFACES[zone]).index(interface)
    return f"52:54:00:77:{ZONES.index(zone) + 1:02x}:{index + 1:02x}"


def _port(link, end):
    return LINK_PORT + 2 * list(LINKS).index(link) + end


def open_link(address, link, zone):
    """The connected socket of `zone`'s end of `link`, to be inherited by its QEMU."""
    end = LINKS[link].index(zone)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for force, option in ((SO_RCVBUFFORCE, socket.SO_RCVBUF), (SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, force, SOCKET_BUFFER_BYTES)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
    sock.bind((address, _port(link, end)))
    sock.connect((address, _port(link, 1 - end)))
    return sock
