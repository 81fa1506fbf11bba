"""The lease: real etcd in zone c decides who runs the guest. Zones lose their power, their peer, the witness, both, or stand still.

Who ran it when is read from the frames on the two links into zone c: one clock for both zones.
"""

import json
import os
import re
import signal
import time

from pairlib import PEER, REMOTE, require, wait_for
from scenario import parameter, scenario

ETCD = "http://10.77.0.3:2379"
ETCD_PATH = "/run/etcd"
ETCD_LIMIT_S = 60
TTL_S = 3.0                 # of pairlib's CONFIG
TIMEOUT_S = 1.5             # policy leased
AWAY_S = 10
TAKE_OVER_LIMIT_S = 60
HOME_LIMIT_S = 120
SWITCHES = 10
# What may differ between the first and the last move: caches fill, and one page is not a leak.
GROWTH_KIB = 1024


def start_witness(pair):
    """etcd in zone c, empty."""
    pair.ssh("c", f"pkill -x -CONT etcd; pkill -9 -x etcd; rm -rf {ETCD_PATH}; mkdir {ETCD_PATH}")
    run_witness(pair)


def run_witness(pair):
    """etcd with the data it has."""
    pair.ssh("c", f"cd {ETCD_PATH}; setsid etcd --name c --data-dir {ETCD_PATH}/data --listen-client-urls {ETCD} "
                  f"--advertise-client-urls {ETCD} --log-level warn > {ETCD_PATH}/log 2>&1 < /dev/null &")
    wait_for("etcd answers", ETCD_LIMIT_S, lambda: pair.try_ssh("a", (
        "python3 -c \"import urllib.request as u; "
        f"u.urlopen(u.Request('{ETCD}/v3/kv/range', data=b'{{\\\"key\\\":\\\"YQ==\\\"}}'), timeout=3).read()\""))[0] == 0)


def leased(pair):
    """A guest in zone a that is protected with a lease."""
    pair.clean()
    start_witness(pair)
    return pair.protected("redis1", "a", "leased")


def capture(pair, guest):
    return [pair.spawn(f"python3 {REMOTE}/frames.py capture --mac {guest.mac} --out frames-{zone} lan-{zone}", f"frames-{zone}.log")
            for zone in "ab"]


def frame_times(pair, zone):
    text = pair.ssh("c", f"cat {REMOTE}/frames-{zone}")
    return [int(line.split()[0]) for line in text.splitlines() if line.count(" ") == 2]


def judge_two(pair, captures):
    """How long before zone b's first frame zone a's last one was, in ms; fails if they overlap."""
    for pid in captures:
        pair.end(pid)
    a, b = frame_times(pair, "a"), frame_times(pair, "b")
    require(a and b, f"{len(a)} frames of zone a, {len(b)} of zone b")
    require(a[-1] < b[0], f"zone a was heard {(a[-1] - b[0]) / 1e3:.0f} ms after zone b's first frame")
    return (b[0] - a[-1]) / 1e3


def lose_witness(pair, zone, lost):
    """Only its host: the guests' frames are bridged. A route does not end a connection, the lack of answers does."""
    pair.ssh(zone, f"ip route {'add' if lost else 'del'} blackhole 10.77.0.3/32")


def longest_stall(result, since_us):
    return max((g["us"] for g in result["gaps"] if g["to_us"] >= since_us), default=0) / 1e6


def said(pair, zone, guest, kind):
    return [e for e in pair.events(zone, guest.name) if e["kind"] == kind]


def move(pair, guest, zone):
    rc, out, err = pair.understudy(zone, f"failover {guest.name}", limit=60)
    require(rc < 64, f"failover {guest.name}: exit {rc}: {(err + out).strip()}")
    pair.wait_runs(PEER[zone], guest.name, HOME_LIMIT_S)
    pair.wait_protected(PEER[zone], guest.name)
    return PEER[zone]


@scenario("witness-poweroff", 420)
def witness_poweroff(pair):
    """Power off with a lease: taken over when it has run out, protected again when the zone is back, and moved home."""
    guest = leased(pair)
    oracle, counter = pair.oracle(guest), pair.counter(guest)
    counter.wait_answers(20)
    before = counter.read()["last_us"]
    pair.kill("a")
    pair.wait_runs("b", guest.name, TAKE_OVER_LIMIT_S)
    stall = longest_stall(counter.wait_answers(50), before)
    activated, claimed = (said(pair, "b", guest, kind) for kind in ("activated", "claimed"))
    require(activated and claimed and claimed[-1]["serial"] < activated[-1]["serial"], "taken over without a claim")
    pair.start("a")
    pair.wait_protected("b", guest.name)
    move(pair, guest, "b")
    counter.wait_answers(20)
    verdict = oracle.stop()
    counter.stop()
    return f"stall {stall:.1f} s, {verdict['answered']} answers, 0 lost"


@scenario("witness-cut", 300)
def witness_cut(pair):
    """The hosts lose each other, both see the witness: the copy never runs, the guest goes on, and is protected again in the same term."""
    guest = leased(pair)
    term = pair.guest_status("a", guest.name)["term"]
    captures = capture(pair, guest)
    oracle, counter = pair.oracle(guest), pair.counter(guest)
    counter.wait_answers(20)
    before = counter.read()["last_us"]
    pair.cut("repl")
    wait_for("it goes on without its backup", TAKE_OVER_LIMIT_S,
             lambda: pair.guest_status("a", guest.name)["state"] == "unprotected")
    result = counter.wait_answers(50)
    time.sleep(3 * TTL_S)
    require(pair.guest_status("b", guest.name)["role"] == "backup", "both zones have taken it")
    pair.heal("repl")
    pair.wait_protected("a", guest.name)
    require(pair.guest_status("a", guest.name)["term"] == term, "the term has changed")
    for pid in captures:
        pair.end(pid)
    require(not frame_times(pair, "b"), "zone b let something out")
    verdict = oracle.stop()
    counter.stop()
    return f"stall {longest_stall(result, before):.1f} s, {verdict['answered']} answers, 0 lost"


@scenario("witness-alone", 420)
def witness_alone(pair):
    """Zone a loses its peer and the witness, but not its clients: it falls silent before zone b is heard, and gives its copy up."""
    guest = leased(pair)
    captures = capture(pair, guest)
    oracle, counter = pair.oracle(guest), pair.counter(guest)
    counter.wait_answers(20)
    lose_witness(pair, "a", True)
    pair.cut("repl")
    pair.wait_runs("b", guest.name, TAKE_OVER_LIMIT_S)
    counter.wait_answers(50)
    require(pair.domains("a")[guest.name][1][2] == "p", f"zone a's copy is not paused: {pair.domains('a')}")
    silent_ms = judge_two(pair, captures)
    lose_witness(pair, "a", False)
    pair.heal("repl")
    pair.wait_protected("b", guest.name)
    require(pair.guest_status("a", guest.name)["role"] == "backup", "zone a still has it")
    verdict = oracle.stop()
    counter.stop()
    return f"zone a silent {silent_ms:.0f} ms before zone b's first frame, {verdict['answered']} answers, 0 lost"


@scenario("witness-away", 300)
def witness_away(pair):
    """The witness stands still for longer than a lease lasts: the guest goes on by its backup's promises, and nobody is alarmed."""
    guest = leased(pair)
    oracle, counter = pair.oracle(guest), pair.counter(guest)
    counter.wait_answers(20)
    before = counter.read()["last_us"]
    last_event = max(e["serial"] for e in pair.events("a"))
    pair.ssh("c", "pkill -x -STOP etcd")
    try:
        time.sleep(AWAY_S)
        status = pair.is_protected("a", guest.name)
        require(not isinstance(status, str), f"without the witness: {status}")
    finally:
        pair.ssh("c", "pkill -x -CONT etcd")
    result = counter.wait_answers(50)
    stall = longest_stall(result, before)
    require(stall < TTL_S, f"it stood still for {stall:.1f} s")
    alarms = [e["text"] for e in said(pair, "a", guest, "alarm") if e["serial"] > last_event]
    require(not alarms, f"alarms: {alarms}")
    verdict = oracle.stop()
    counter.stop()
    return f"longest stall {stall:.1f} s, {verdict['answered']} answers, 0 lost"


@scenario("witness-stopped", 420)
def witness_stopped(pair):
    """All of zone a stands still until zone b has taken over, then goes on: nothing of it is heard any more."""
    guest = leased(pair)
    # systemd stands still as well, and would take that for the daemon's fault.
    pair.configure("a", environment=f"WatchdogSec={TAKE_OVER_LIMIT_S * 2}")
    pair.wait_protected("a", guest.name)
    captures = capture(pair, guest)
    oracle, counter = pair.oracle(guest), pair.counter(guest)
    counter.wait_answers(20)
    pid = int(re.search(r"^zone a: .*pid (\d+)", pair.tool("status")[1], re.M)[1])
    os.kill(pid, signal.SIGSTOP)
    try:
        pair.wait_runs("b", guest.name, TAKE_OVER_LIMIT_S)
    finally:
        os.kill(pid, signal.SIGCONT)
    counter.wait_answers(50)
    pair.wait_protected("b", guest.name)
    silent_ms = judge_two(pair, captures)
    verdict = oracle.stop()
    counter.stop()
    return f"zone a silent {silent_ms:.0f} ms before zone b's first frame, {verdict['answered']} answers, 0 lost"


def footprint(pair, zone):
    """What must not grow with the number of moves."""
    out = pair.ssh(zone, "p=$(systemctl show -p MainPID --value understudyd); ls /proc/$p/fd | wc -l; "
                         "grep VmRSS /proc/$p/status | tr -dc 0-9; echo; xl list | wc -l; xenstore-ls -f | wc -l; "
                         "ls /sys/class/net | wc -l; ls /run/understudy | wc -l")
    return dict(zip(("files", "rss_kib", "domains", "xenstore", "interfaces", "run"), map(int, out.split())))


@scenario("witness-switches", 2400)
def witness_switches(pair):
    """There and back, ten times: nothing is lost, and nothing accumulates."""
    guest = leased(pair)
    oracle, counter = pair.oracle(guest), pair.counter(guest)
    moves, zone, first, last = int(parameter("SWITCHES", SWITCHES)), "a", None, None
    for number in range(moves):
        zone = move(pair, guest, move(pair, guest, zone))
        counter.wait_answers(10)
        last = {z: footprint(pair, z) for z in "ab"}
        pair.say(f"move {2 * number + 2}: {json.dumps(last)}")
        first = first or last
    for z in "ab":
        for key, value in last[z].items():
            room = GROWTH_KIB if key == "rss_kib" else 1
            require(value <= first[z][key] + room, f"zone {z}: {key} went from {first[z][key]} to {value} in {2 * moves} moves")
    verdict = oracle.stop()
    counter.stop()
    return f"{2 * moves} moves, {verdict['answered']} answers, 0 lost"
