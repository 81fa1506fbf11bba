"""The guest changes hosts: planned, there and back, two at once, two vCPUs, after a long idle time,
between hosts of different age."""

import re
import time

from pairlib import PEER, require, wait_for
from scenario import parameter, scenario

THERE_AND_BACK = 3
ACK_LATE_S = 12         # longer than the daemon gives a final epoch
UPTIME_DIFFERENCE_S = 600
LOCKUP = re.compile(r"soft lockup|hard LOCKUP|rcu.*stall|hung_task|clocksource.*unstable|"
                    r"Clock went backwards", re.I)


def switch(pair, guest, zone):
    """A planned failover out of `zone`; returns the new zone."""
    rc, out, err = pair.understudy(zone, f"failover {guest.name}", limit=60)
    require(rc < 64, f"failover {guest.name}: exit {rc}: {(err + out).strip()}")
    pair.wait_runs(PEER[zone], guest.name)
    return PEER[zone]


def check_domain_gone(pair, zone, guest):
    """What is left of the guest in the zone it left is at most a shell."""
    def probe():
        names = pair.domains(zone)
        return f"still in xl list: {names}" if guest.name in names and \
            "p" not in names[guest.name][1] else True
    wait_for(f"{guest.name} no longer runs in zone {zone}", 30, probe)


@scenario("switchover", 240)
def switchover(pair):
    """Planned failover: zero loss, the same connection, protected again the other way round."""
    guest = pair.protected("redis1", "a")
    oracle, counter = pair.oracle(guest), pair.counter(guest)
    time.sleep(2)
    before = counter.read()["last_us"]
    zone = switch(pair, guest, "a")
    result = counter.wait_answers(50)
    check_domain_gone(pair, "a", guest)
    pair.wait_protected(zone, guest.name)
    stall = max((g["us"] for g in result["gaps"] if g["to_us"] >= before), default=0) / 1000
    verdict = oracle.stop()
    counter.stop()
    require(verdict["answered"] == verdict["in_state"],
            f"planned, and yet {verdict['in_state'] - verdict['answered']} answers never arrived")
    return f"stall {stall:.0f} ms, {verdict['answered']} answers, 0 lost"


@scenario("called-off", 300)
def called_off(pair):
    """A switchover whose final epoch is not committed in time is called off; the guest goes on and can be moved later."""
    guest = pair.protected("redis1", "a", policy="patient")
    oracle, counter = pair.oracle(guest), pair.counter(guest)
    time.sleep(2)
    before = counter.read()["last_us"]
    pair.arm("b", guest.name, f"ACK_BEFORE:sleep={ACK_LATE_S * 1000}")
    rc, out, err = pair.understudy("a", f"failover {guest.name}", limit=60)
    require(rc != 0, f"failover succeeded though nothing was acknowledged: {out.strip()}")
    result = counter.wait_answers(50)
    stall = max((g["us"] for g in result["gaps"] if g["to_us"] >= before), default=0) / 1e6
    require(stall > ACK_LATE_S / 2, f"acknowledged {ACK_LATE_S} s late, yet output went on ({stall:.1f} s)")
    require(pair.guest_status("b", guest.name)["role"] == "backup", "both zones have taken it")
    pair.wait_protected("a", guest.name)
    zone = switch(pair, guest, "a")
    counter.wait_answers(20)
    pair.wait_protected(zone, guest.name)
    verdict = oracle.stop()
    counter.stop()
    return f"called off (exit {rc}), then moved; stall {stall:.1f} s, {verdict['answered']} answers, 0 lost"


@scenario("there-and-back", 420)
def there_and_back(pair):
    """Three times there and back, one connection all the way."""
    guest = pair.protected("redis1", "a")
    oracle, counter = pair.oracle(guest), pair.counter(guest)
    zone = "a"
    for _ in range(2 * THERE_AND_BACK):
        zone = switch(pair, guest, zone)
        counter.wait_answers(20)
        oracle.verify()
        pair.wait_protected(zone, guest.name)
    require(zone == "a", f"six moves ended in zone {zone}")
    verdict = oracle.stop()
    counter.stop()
    return f"{2 * THERE_AND_BACK} moves, {verdict['answered']} answers, 0 lost"


@scenario("two-guests", 300)
def two_guests(pair):
    """Two guests protect each other's zone; one zone dies."""
    pair.clean()
    one, two = pair.create("redis1", "a"), pair.create("redis2", "b")
    pair.tag("a", one.name)
    pair.tag("b", two.name)
    pair.wait_protected("a", one.name)
    pair.wait_protected("b", two.name)
    counters = [pair.counter(one), pair.counter(two)]
    oracles = [pair.oracle(one), pair.oracle(two)]
    time.sleep(3)
    pair.kill("b")
    pair.wait_runs("a", two.name)
    for counter in counters:
        counter.wait_answers(20)
    pair.start("b")
    for guest in (one, two):
        pair.wait_protected("a", guest.name)
    answered = [oracle.stop()["answered"] for oracle in oracles]
    for counter in counters:
        counter.stop()
    return f"both live on in zone a and are protected again; {answered[0]} and {answered[1]} answers, 0 lost"


@scenario("two-vcpus", 240)
def two_vcpus(pair):
    """A guest with two vCPUs survives its zone."""
    guest = pair.protected("redis1-smp", "a", clocks=True)
    require(pair.guest_status("a", guest.name)["vcpus"] == 2, "the guest has not two vCPUs")
    oracle, counter = pair.oracle(guest), pair.counter(guest)
    time.sleep(3)
    pair.kill("a")
    pair.wait_runs("b", guest.name)
    counter.wait_answers(50)
    online = pair.guest_shell("b", guest.name, "grep -c ^processor /proc/cpuinfo").strip()
    require(online == "2", f"after the failover the guest counts {online} processors")
    clocks = read_clocks(pair, guest)
    require(clocks["monotonic_back"] == 0, f"its clock went back: {clocks}")
    check_no_lockup(pair, "b", guest)
    verdict = oracle.stop()
    counter.stop()
    return f"{verdict['answered']} answers, 0 lost, both processors online"


def read_clocks(pair, guest):
    line = pair.guest_line(guest, 7003, "report")
    require(line.startswith("readings="), f"clockwatch: {line!r}")
    return {key: int(value) for key, value in (word.split("=") for word in line.split())}


def check_no_lockup(pair, zone, guest):
    text = pair.guest_shell(zone, guest.name, "dmesg")
    require("Linux version" in text or len(text) > 200, f"no dmesg from the guest: {text[:200]!r}")
    bad = [line for line in text.splitlines() if LOCKUP.search(line)]
    require(not bad, f"the guest complains: {bad[:3]}")


@scenario("idle", 900)
def idle(pair):
    """A guest that nobody talked to for minutes is as alive as any other."""
    seconds = parameter("UNDERSTUDY_IDLE_S", 180)
    guest = pair.protected("redis1", "a", clocks=True)
    pair.redis(guest, "SET before idle")
    pair.guest_line(guest, 7003, "reset")
    first = pair.guest_status("a", guest.name)["epoch"]
    time.sleep(seconds)
    status = pair.is_protected("a", guest.name)
    require(not isinstance(status, str), f"after {seconds} s: {status}")
    require(status["epoch"] > first + seconds, f"epochs went from {first} to {status['epoch']} only")
    pair.kill("a")
    pair.wait_runs("b", guest.name)
    wait_for("the guest answers after the failover", 20, lambda: pair.answers(guest))
    require(pair.redis(guest, "GET before") == "idle", "the guest forgot what it was told")
    clocks = read_clocks(pair, guest)
    require(clocks["monotonic_back"] == 0, f"its clock went back: {clocks}")
    require(clocks["readings"] > seconds, f"clockwatch stood still: {clocks}")
    check_no_lockup(pair, "b", guest)
    return (f"{seconds} s idle, {status['epoch'] - first} epochs; longest step of the guest's clock "
            f"{clocks['gap_max_ns'] / 1e6:.0f} ms")


def uptime(pair, zone):
    return float(pair.ssh(zone, "cat /proc/uptime").split()[0])


@scenario("uptime", 1200)
def uptime_difference(pair):
    """Hosts whose uptimes differ by ten minutes: the guest's clock is monotonic, nothing locks up."""
    pair.clean()
    old = "a" if uptime(pair, "a") >= uptime(pair, "b") else "b"
    new = PEER[old]
    # Waiting is the honest way; behind other scenarios there is little left to wait for.
    left = UPTIME_DIFFERENCE_S + 10 - uptime(pair, old)
    if left > 0:
        pair.say(f"uptime: zone {old} has to grow {left:.0f} s older")
        time.sleep(left)
    if uptime(pair, old) - uptime(pair, new) < UPTIME_DIFFERENCE_S:
        pair.kill(new)
        pair.start(new)
    difference = uptime(pair, old) - uptime(pair, new)
    require(difference >= UPTIME_DIFFERENCE_S - 30, f"uptimes differ by {difference:.0f} s only")
    guest = pair.protected("redis1", old, clocks=True)
    oracle, counter = pair.oracle(guest), pair.counter(guest)
    pair.guest_line(guest, 7003, "reset")
    readings = 0
    zone = old
    for _ in range(2):  # to the younger host, and back to the older
        zone = switch(pair, guest, zone)
        counter.wait_answers(20)
        time.sleep(5)   # what was armed on the other host is due by now
        clocks = read_clocks(pair, guest)
        require(clocks["monotonic_back"] == 0, f"zone {zone}: its clock went back: {clocks}")
        require(clocks["readings"] > readings + 50, f"zone {zone}: its timers stand still: {clocks}")
        require(clocks["gap_max_ns"] < 30e9, f"zone {zone}: its clock leapt ahead: {clocks}")
        readings = clocks["readings"]
        check_no_lockup(pair, zone, guest)
        pair.wait_protected(zone, guest.name)
    verdict = oracle.stop()
    counter.stop()
    return (f"{difference:.0f} s apart, there and back; longest step of the clock "
            f"{clocks['gap_max_ns'] / 1e6:.0f} ms; {verdict['answered']} answers, 0 lost")
