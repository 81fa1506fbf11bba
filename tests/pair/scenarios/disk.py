"""Disks: what the guest saw written is there, whatever became of its worker or its zone (I4, I5)."""

import glob
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time

from pairlib import CLEAN_LIMIT_S, REPO, Failed, require, wait_for
from scenario import chance, parameter, scenario

IMAGE = "/var/lib/guests/disk1.img"
IMAGE_MIB = 64
CHURN_PORT = 7004
CHURN_WRITES = 100      # seen before a fault, and after it
CHURN_LIMIT_S = 90
WORKER_KILLS = 3
CAPTURE = "/var/lib/guests/capture"     # of the stream, in zone b
COPY = "/var/lib/guests/at-activation.img"
CHECKER = os.path.join(REPO, "tests", "checker", "stream_check.py")
XVDA = 51712            # the vbd's number
BEGUN_MS = 2000         # a zone is off: the other one activates
HOLD_MS = 4500          # an activation stands still while its disk is copied; the daemon has patience for 5 s
PULL_LIMIT_S = 180


def blank(pair):
    """An empty disk in both zones that a power-off of the zone does not take away."""
    for zone in "ab":
        pair.ssh(zone, f"mkdir -p {IMAGE.rsplit('/', 1)[0]}; rm -f {IMAGE}; truncate -s {IMAGE_MIB}M {IMAGE}; sync")


def churned(pair, guest):
    """(writes, reads) of the guest's diskchurn, which has found no sector that differs from its memory."""
    def ask():
        try:
            return pair.guest_line(guest, CHURN_PORT, "check")
        except Failed as error:     # a protected guest under load answers late
            return None if "exit status 124" in str(error) else str(error)

    line = wait_for("an answer of diskchurn", CHURN_LIMIT_S, lambda: [answer] if (answer := ask()) else None)[0]
    found = re.match(r"writes (\d+) reads (\d+) errors (\d+) ?(.*)", line)
    require(found, f"diskchurn says {line!r}")
    writes, reads, errors = (int(found[n]) for n in (1, 2, 3))
    require(errors == 0, f"diskchurn: {errors} errors after {writes} writes and {reads} reads, first: {found[4]}")
    return writes, reads


def wait_churned(pair, guest, more=CHURN_WRITES):
    before = churned(pair, guest)[0]

    def probe():
        now = churned(pair, guest)
        return now if now[0] >= before + more else f"{now[0] - before} of {more} writes"
    return wait_for(f"diskchurn of {guest.name} goes on", CHURN_LIMIT_S, probe, poll_s=2)


def with_disk(pair, clean=True):
    if clean:
        pair.clean()
    blank(pair)
    guest = pair.create("disk1", "a")
    wait_for(f"{guest.name} has zeroed its disk", CHURN_LIMIT_S, lambda: pair.answers(guest, CHURN_PORT))
    return guest


@scenario("disk", 400)
def disk(pair):
    """A disk through plain `xl create`; its worker is killed in the middle of I/O: no error, nothing lost or torn (I5)."""
    guest = with_disk(pair)
    require("vbd" in pair.ssh("a", "xenstore-ls /local/domain/0/backend"), "the guest has no vbd")
    require("blkback" not in pair.ssh("a", "cat /proc/modules"), "the kernel's back end is loaded")
    oracle = pair.oracle(guest)
    wait_churned(pair, guest)
    for _ in range(WORKER_KILLS):
        pid = pair.worker_pid("a", guest.name) or int(pair.ssh("a", "pgrep -x understudy-work | head -n 1"))
        pair.ssh("a", f"kill -9 {pid}")
        wait_churned(pair, guest)
    verdict = oracle.stop()
    writes, reads = churned(pair, guest)
    pair.ssh("a", f"xl shutdown -w {guest.name}", limit=60)

    def gone():
        left = pair.ssh("a", "xenstore-ls /local/domain/0/backend/vbd 2> /dev/null; losetup -a; true").strip()
        return not left or left[:200]
    wait_for("the disk is given up", CLEAN_LIMIT_S, gone)
    return f"{WORKER_KILLS} kills; {writes} writes and {reads} reads as they must be; {verdict['answered']} answers on the disk"


@scenario("disk-poweroff", 1800)
def disk_poweroff(pair):
    """Power off under writes: memory and disk are those of one moment, and every answered write is there (I4)."""
    count = parameter("UNDERSTUDY_DISK_POWEROFFS", 4)
    rng = chance(pair, "power-off moments")
    guest = with_disk(pair)
    pair.tag("a", guest.name)
    pair.wait_protected("a", guest.name)
    oracle, home = pair.oracle(guest), "a"
    for number in range(1, count + 1):
        wait_churned(pair, guest, CHURN_WRITES // 4)
        time.sleep(rng.uniform(0.0, 2.0))
        pair.kill(home)
        lost, home = home, "b" if home == "a" else "a"
        pair.wait_runs(home, guest.name)
        wait_churned(pair, guest)
        verdict = oracle.verify(least=number)
        writes, reads = churned(pair, guest)
        pair.say(f"power-off {number} of {count}: {verdict['answered']} answers on the disk; {writes} writes and "
                 f"{reads} reads as they must be")
        if number < count:
            pair.start(lost)
            pair.wait_protected(home, guest.name)
    verdict = oracle.stop()
    return f"{count} power-offs, {verdict['answered']} answers, 0 lost; {writes} writes and {reads} reads as they must be"


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replayed(pair, folder):
    """The disk's copy and what an independent reader of the captured stream makes of it: their paths."""
    pair.tool("pull", "b", CAPTURE, COPY, folder, limit=PULL_LIMIT_S)
    streams = sorted(glob.glob(os.path.join(folder, "capture", "*.stream")), key=os.path.getsize)
    require(streams, "no stream was captured")
    r = subprocess.run([sys.executable, CHECKER, streams[-1], "--disks", os.path.join(folder, "replay")],
                       capture_output=True, text=True, timeout=PULL_LIMIT_S, check=False)
    # The power went off in the middle of the stream: 3 says so of the last epoch, which does not count.
    require(r.returncode in (0, 3), f"stream_check.py: exit {r.returncode}: {(r.stdout + r.stderr).strip()[-300:]}")
    replay = os.path.join(folder, f"replay.{XVDA}")
    os.truncate(replay, IMAGE_MIB << 20)    # a hole at the end is not in the stream
    return os.path.join(folder, os.path.basename(COPY)), replay


@scenario("disk-replay", 600)
def disk_replay(pair):
    """As it activates, the backup's disk equals an independent replay of the stream up to the committed epoch, byte for byte."""
    pair.clean()
    pair.ssh("b", f"rm -rf {CAPTURE} {COPY}; mkdir -p {CAPTURE}")
    pair.configure("b", environment=f"Environment=UNDERSTUDY_CAPTURE={CAPTURE}")
    try:
        guest = with_disk(pair, clean=False)
        pair.tag("a", guest.name)
        pair.wait_protected("a", guest.name)
        oracle = pair.oracle(guest)
        wait_churned(pair, guest)
        pair.arm("b", guest.name, f"ACTIVATE_NET:sleep={HOLD_MS}")
        pair.kill("a")
        # From its time-out on, nothing touches the disk until the fault point is left.
        time.sleep(BEGUN_MS / 1000)
        seen = json.loads(pair.ssh("b", f"cp --sparse=always {IMAGE} {COPY} && understudy status --json || true"))
        state = [g["state"] for g in seen["guests"] if g["name"] == guest.name]
        require(state == ["activating"], f"zone b is {state} when the disk is copied, not activating")
        pair.wait_runs("b", guest.name)
        wait_churned(pair, guest)
        verdict = oracle.stop()
        with tempfile.TemporaryDirectory() as folder:
            copy, replay = replayed(pair, folder)
            require(digest(copy) == digest(replay), "the disk differs from the stream's replay")
        return f"{IMAGE_MIB} MiB equal; {verdict['answered']} answers on the disk, 0 lost"
    finally:
        pair.clean()
