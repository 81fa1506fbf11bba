"""Links and zones that go away and come back while the guest goes on."""

import time

from pairlib import require, wait_for
from scenario import scenario

SHORT_CUT_S = 1.0
LONG_CUT_S = 4.0
DEGRADED_LIMIT_S = 15


def wait_not_protected(pair, zone, name):
    def probe():
        guest = pair.guest_status(zone, name)
        return guest if guest["state"] != "protected" else "still called protected"
    return wait_for(f"{name} is no longer called protected", DEGRADED_LIMIT_S, probe)


@scenario("short-cut", 240)
def short_cut(pair):
    """A cut shorter than the time-out is a stall and nothing else."""
    guest = pair.protected("redis1", "a", policy="patient")
    term = pair.guest_status("a", guest.name)["term"]
    oracle, counter = pair.oracle(guest), pair.counter(guest)
    time.sleep(2)
    before = counter.read()["last_us"]
    lasted = pair.cut_for("repl", SHORT_CUT_S)
    result = counter.wait_answers(50)
    status = pair.is_protected("a", guest.name)
    require(not isinstance(status, str), f"afterwards {status}")
    require(status["term"] == term, f"the term went from {term} to {status['term']}")
    stall = max((g["us"] for g in result["gaps"] if g["to_us"] >= before), default=0) / 1e6
    require(stall >= 0.5 * SHORT_CUT_S,
            f"the cut lasted {lasted:.1f} s, yet output went on ({stall:.2f} s): not held?")
    verdict = oracle.stop()
    counter.stop()
    return f"cut for {lasted:.1f} s, stall {stall:.1f} s, {verdict['answered']} answers, 0 lost"


@scenario("cut-and-heal", 300)
def cut_and_heal(pair):
    """A long cut costs protection, loudly; healed, the guest is protected again and never stopped."""
    guest = pair.protected("redis1", "a", policy="manual")
    domid = pair.domains("a")[guest.name][0]
    oracle, counter = pair.oracle(guest), pair.counter(guest)
    pair.cut("repl")
    status = wait_not_protected(pair, "a", guest.name)
    require(status.get("problem") or status["state"] != "unprotected", "unprotected without a reason")
    rc, _, _ = pair.understudy("a", "status")
    require(rc in (1, 2), f"status exits {rc} while the backup is lost")
    counter.wait_answers(50)                    # goes on without its backup
    time.sleep(LONG_CUT_S)
    shell = pair.guest_status("b", guest.name)
    require(shell and shell["role"] == "backup", f"takeover is manual, yet zone b says {shell}")
    pair.heal("repl")
    pair.wait_protected("a", guest.name)
    require(pair.domains("a").get(guest.name, (0, ""))[0] == domid, "the guest was not kept running")
    counter.wait_answers(50)
    verdict = oracle.stop()
    counter.stop()
    return f"degraded, protected again, {verdict['answered']} answers, 0 lost"


@scenario("backup-lost", 300)
def backup_lost(pair):
    """The backup's zone dies and comes back; the guest goes on and is protected again."""
    guest = pair.protected("redis1", "a")
    oracle, counter = pair.oracle(guest), pair.counter(guest)
    time.sleep(1)
    before = counter.read()["last_us"]
    pair.kill("b")
    wait_not_protected(pair, "a", guest.name)
    result = counter.wait_answers(50)
    stall = max((g["us"] for g in result["gaps"] if g["to_us"] >= before), default=0) / 1e6
    rc, _, _ = pair.understudy("a", "status")
    require(rc in (1, 2), f"status exits {rc} while the backup is lost")
    pair.start("b")
    pair.wait_protected("a", guest.name)
    verdict = oracle.stop()
    counter.stop()
    return f"stall {stall:.1f} s, protected again, {verdict['answered']} answers, 0 lost"


@scenario("lan-cut", 240)
def lan_cut(pair):
    """The guests' own network is cut and healed: protection does not care, connections survive."""
    guest = pair.protected("redis1", "a")
    counter = pair.counter(guest)
    lasted = pair.cut_for("lan-a", 2)
    counter.wait_answers(50)
    status = pair.is_protected("a", guest.name)
    require(not isinstance(status, str), f"afterwards {status}")
    counter.stop()
    return f"cut for {lasted:.1f} s"
