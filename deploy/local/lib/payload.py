"""What is laid over the base image when a zone boots: our software, and what makes a zone itself."""

import os
import subprocess
import tempfile

import archive
import network
from image import REPO, BUILD, Failure

HYPERVISOR_DEB = os.path.join(BUILD, "hypervisor", "understudy-xen.deb")
MAKE_LIMIT_S = 600

CONFIG = """\
[host]
name = zone-{zone}
zone = {zone}

[peer]
address = {peer}
"""
REPL_ADDRESS = {"a": "10.88.0.1", "b": "10.88.0.2"}
HOSTS = """\
127.0.0.1 localhost
10.77.0.1 zone-a
10.77.0.2 zone-b
10.77.0.3 zone-c
10.88.0.1 repl-a
10.88.0.2 repl-b
10.77.0.11 redis1
10.77.0.12 redis2
10.77.0.13 small
"""


def _make_has_install():
    """Whether the repository can install yet: it grows."""
    if not os.path.exists(os.path.join(REPO, "Makefile")):
        return False
    r = subprocess.run(["make", "-C", REPO, "-n", "install", "DESTDIR=/nonexistent"],
                       capture_output=True, check=False, text=True, timeout=MAKE_LIMIT_S)
    return r.returncode == 0 or "No rule to make target" not in r.stderr


def install_tree(folder):
    """Fills `folder` with `make install`. Returns whether there is anything to install."""
    if not _make_has_install():
        return False
    r = subprocess.run(["make", "-s", "-j2", "-C", REPO, "install", f"DESTDIR={folder}"],
                       stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                       timeout=MAKE_LIMIT_S)
    if r.returncode != 0:
        raise Failure(f"make install failed (`up --bare` boots without our software):\n"
                      f"{(r.stdout + r.stderr)[-3000:]}")
    return True


def unpack_hypervisor(folder):
    """Unpacks our hypervisor's package into `folder`. Returns the path of the hypervisor that QEMU
    can load, or None when the package has not been built."""
    if not os.path.exists(HYPERVISOR_DEB):
        return None
    subprocess.run(["dpkg-deb", "-x", HYPERVISOR_DEB, folder], check=True)
    packed = os.path.join(folder, "boot", "xen-understudy.gz")
    unpacked = os.path.join(folder, "xen")
    with open(unpacked, "wb") as file:
        r = subprocess.run(["gunzip", "-c", packed], stdout=file, check=False).returncode
    if r != 0:
        raise Failure(f"{HYPERVISOR_DEB}: no usable /boot/xen-understudy.gz")
    return unpacked


def _identity(tar, zone, key):
    tar.add("etc/hostname", f"zone-{zone}\n")
    tar.add("etc/hosts", HOSTS)
    tar.add("root/.ssh/authorized_keys", key, 0o600)
    links = "".join(f"{name} {network.mac(zone, name)}\n" for name in network.INTERFACES[zone])
    tar.add("etc/zone/links", links)
    tar.add("etc/zone/net", network.MGMT + network.SETUP[zone])
    if zone in REPL_ADDRESS:
        peer = REPL_ADDRESS["b" if zone == "a" else "a"]
        tar.add("etc/understudy/understudy.conf",
                CONFIG.format(zone=zone, peer=peer))


def write(pair_folder, bare=False):
    """Writes ZONE.payload.tar for each zone into the pair's folder, and `xen` beside them if our
    hypervisor has been built. Returns a line that says what is in it."""
    with open(os.path.join(pair_folder, "id.pub"), encoding="ascii") as file:
        key = file.read()
    with tempfile.TemporaryDirectory() as work:
        os.makedirs(os.path.join(work, "deb"))
        software = not bare and install_tree(os.path.join(work, "install"))
        xen = unpack_hypervisor(os.path.join(work, "deb"))
        if xen:
            os.rename(xen, os.path.join(pair_folder, "xen"))
        elif os.path.exists(os.path.join(pair_folder, "xen")):
            os.unlink(os.path.join(pair_folder, "xen"))
        for zone in network.ZONES:
            tar = archive.Payload()
            if software:
                tar.add_tree(os.path.join(work, "install"))
            if zone != "c":
                tar.add_tree(os.path.join(work, "deb"), skip=("boot",))
            if zone != "c" and tar.holds("lib/systemd/system/understudyd.service"):
                tar.link("etc/systemd/system/multi-user.target.wants/understudyd.service",
                         "/lib/systemd/system/understudyd.service")
            _identity(tar, zone, key)
            tar.write(os.path.join(pair_folder, f"{zone}.payload.tar"))
    return (f"{'our hypervisor' if xen else 'stock hypervisor'}, "
            f"{'our software' if software else 'without our software'}")
