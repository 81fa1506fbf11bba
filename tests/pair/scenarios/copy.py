"""What the backup is about to run is what the primary stopped: every byte of memory, compared while neither runs."""

import os
import subprocess

from pairlib import PEER, REPO, require, wait_for
from scenario import scenario

MEMDIGEST = os.path.join(REPO, "build", "tests", "pair", "memdigest")
REMOTE_TOOL = "/run/memdigest"
OUT = "/run/memdigest.out"
MAP_LIMIT_S = 120
DIGEST_LIMIT_S = 60
STOPPED_MS = 9000           # less than the daemon gives an activation in a switchover
# What Xen writes by itself when a domain is made: the wall clock, in shared_info at 0xc00, in the seventh eighth of that page.
WALL_CLOCK = [6]
TAKE_OVER_LIMIT_S = 60


def begin_digest(pair, zone, guest):
    """A process that has mapped the domain of guest in `zone`, whatever it is called there."""
    domid = pair.domains("a" if guest.name in pair.domains("a") else "b")[guest.name][0]
    pair.tool("push", zone, MEMDIGEST, "/run/")
    pair.ssh(zone, f"rm -f {OUT}; (setsid {REMOTE_TOOL} {domid} {OUT} > {OUT}.log 2>&1 < /dev/null &)")
    wait_for(f"zone {zone}: the guest's memory is mapped", MAP_LIMIT_S,
             lambda: pair.ssh(zone, f"cat {OUT}.log").strip() == "mapped" or pair.ssh(zone, f"cat {OUT}.log").strip())


def end_digest(pair, zone):
    wait_for(f"zone {zone}: the digest is written", DIGEST_LIMIT_S,
             lambda: "done" in pair.ssh(zone, f"cat {OUT}.log"))
    text = pair.ssh(zone, f"cat {OUT}", limit=120)
    return {words[0]: words[1:] for words in (line.split() for line in text.splitlines())}


def compared_move(pair, guest, zone):
    """Moves the guest out of `zone`; ({gfn: parts that differ}, pages compared, gfns of one side only)."""
    for each in "ab":
        begin_digest(pair, each, guest)
    pair.arm(PEER[zone], guest.name, f"ACTIVATE_RUN:sleep={STOPPED_MS}")
    mark = pair.journal_mark(PEER[zone])
    pair.understudy(zone, f"failover {guest.name} --no-wait")
    wait_for("the copy is about to run", 30, lambda: "ACTIVATE_RUN" in pair.journal(PEER[zone], mark), poll_s=0.1)
    for each in "ab":
        pair.ssh(each, "pkill -USR1 -x memdigest")
    for each in "ab":
        wait_for(f"zone {each}: all pages are read", 10, lambda each=each: "hashed" in pair.ssh(each, f"cat {OUT}.log"), poll_s=0.1)
    state = pair.guest_status(PEER[zone], guest.name)["state"]
    require(state == "activating", f"zone {PEER[zone]}: it is {state} by now: the pages were not read in time")
    here, there = end_digest(pair, zone), end_digest(pair, PEER[zone])
    pair.wait_runs(PEER[zone], guest.name)
    common = here.keys() & there.keys()
    return ({gfn: [i for i, parts in enumerate(zip(here[gfn], there[gfn])) if parts[0] != parts[1]]
             for gfn in common if here[gfn] != there[gfn]}, len(common), sorted(here.keys() ^ there.keys()))


def judged_move(pair, guest, zone):
    """A compared_move(); the number of pages."""
    differing, pages, odd = compared_move(pair, guest, zone)
    pair.say(f"out of zone {zone}: {pages} pages compared, differing parts: {differing}")
    require(not odd, f"pages of one side only: {odd[:20]}")
    require(len(differing) <= 1 and all(parts == WALL_CLOCK for parts in differing.values()),
            f"{len(differing)} pages differ: {dict(sorted(differing.items())[:20])}")
    pair.wait_protected(PEER[zone], guest.name)
    return pages


@scenario("same-memory", 600)
def same_memory(pair):
    """A copy about to run has the stopped guest's memory, byte for byte: in a planned move, and in another one behind a power-off."""
    subprocess.run(["make", "-s", "-C", REPO, "pair-tools"], check=True)
    guest = pair.protected("redis1", "a")
    oracle, counter = pair.oracle(guest), pair.counter(guest)
    counter.wait_answers(50)
    pages = judged_move(pair, guest, "a")
    counter.wait_answers(50)
    pair.kill("b")
    pair.wait_runs("a", guest.name, TAKE_OVER_LIMIT_S)
    pair.start("b")
    pair.wait_protected("a", guest.name)
    counter.wait_answers(50)
    judged_move(pair, guest, "a")
    verdict = oracle.stop()
    counter.stop()
    return f"{pages} pages, twice equal but for the wall clock, {verdict['answered']} answers, 0 lost"
