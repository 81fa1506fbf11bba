"""kill -9 of every process at every phase, on either side (I5)."""

import time

from pairlib import Failed, PEER, PROTECT_LIMIT_S, require, wait_for
from scenario import chance, parameter, scenario

BACK_LIMIT_S = 15       # a killed worker or daemon until its successor is known
SKIP = 40               # epochs a point lets pass first: about a second

PRIMARY_POINTS = ("DRAIN", "PAUSED", "CAPTURED", "RESUMED", "SEND_BEGIN", "SEND_BEGIN_AFTER",
                  "SEND_PAGES", "SEND_END", "SEND_END_AFTER", "SEND_ACK_READ", "COMMIT")
BACKUP_POINTS = ("RECV_BEGIN", "RECV_END", "ACK_BEFORE", "ACK_AFTER", "APPLY_BEFORE", "APPLY_AFTER")
ACTIVATE_POINTS = ("ACTIVATE_STORE", "ACTIVATE_MEMORY", "ACTIVATE_NET", "ACTIVATE_RUN", "ACTIVATE_RUNS")


def wait_new_worker(pair, zone, name, old):
    def probe():
        pid = pair.worker_pid(zone, name)
        return pid if pid and pid != old else f"worker {pid}"
    return wait_for(f"zone {zone}: {name} has a new worker", BACK_LIMIT_S, probe)


def shoot(pair, guest, zone, point, clients):
    """One worker is killed at one point; the guest and its clients go on, protected again."""
    oracle, counter = clients
    began = time.monotonic()
    old = pair.arm(zone, guest.name, f"{point}:kill:{SKIP}")
    wait_new_worker(pair, zone, guest.name, old)
    counter.wait_answers(20)
    pair.wait_protected("a", guest.name)
    verdict = oracle.verify()
    pair.say(f"zone {zone}: killed at {point}: protected again after "
             f"{time.monotonic() - began:.1f} s; {verdict['answered']} answers, 0 lost")


def shoot_all(pair, zone, points):
    guest = pair.protected("redis1", "a", policy="manual")
    clients = pair.oracle(guest), pair.counter(guest)
    for point in points:
        shoot(pair, guest, zone, point, clients)
    verdict, result = clients[0].stop(), clients[1].stop()
    return (f"{len(points)} points, {verdict['answered']} answers, 0 lost, longest stall "
            f"{result['longest_gap']['us'] / 1e6:.1f} s")


@scenario("kill-primary-worker", 900)
def kill_primary_worker(pair):
    """The primary's worker dies at each of its phases; guest and connection go on."""
    return shoot_all(pair, "a", PRIMARY_POINTS)


@scenario("kill-backup-worker", 600)
def kill_backup_worker(pair):
    """The backup's worker dies at each of its phases; guest and connection go on."""
    return shoot_all(pair, "b", BACKUP_POINTS)


@scenario("kill-in-sync", 240)
def kill_in_sync(pair):
    """A worker dies in the middle of the baseline; the next one begins anew."""
    pair.clean()
    guest = pair.create("redis1", "a")
    counter = pair.counter(guest)
    pair.tag("a", guest.name, "manual")
    pair.untag("a", guest.name)     # the worker is there now, and known
    pids = workers(pair, "a")
    require(len(pids) == 1, f"zone a: workers {pids}")
    pair.arm_pid("a", pids[0], "SYNC:kill:5")
    pair.tag("a", guest.name, "manual")
    pair.wait_protected("a", guest.name)
    require(pids[0] not in workers(pair, "a"), "the worker did not die at SYNC")
    counter.stop()
    return "protected by its successor"


def workers(pair, zone):
    return [int(pid) for pid in pair.ssh(zone, "pgrep -x understudy-work || true").split()]


@scenario("hung-worker", 300)
def hung_worker(pair):
    """A worker that hangs (SIGSTOP) on the backup costs a stall or protection, never the guest."""
    guest = pair.protected("redis1", "a", policy="manual")
    oracle, counter = pair.oracle(guest), pair.counter(guest)
    pid = pair.worker_pid("b", guest.name)
    pair.ssh("b", f"kill -STOP {pid}")
    time.sleep(3)
    result = counter.wait_answers(50)
    pair.try_ssh("b", f"kill -CONT {pid}")
    pair.wait_protected("a", guest.name)
    oracle.stop()
    counter.stop()
    return f"longest stall {result['longest_gap']['us'] / 1e6:.1f} s"


@scenario("kill-activation", 600)
def kill_activation(pair):
    """The worker that activates dies at each phase of it: the guest runs on exactly one side after."""
    guest = pair.protected("redis1", "a", policy="manual")
    oracle, counter = pair.oracle(guest), pair.counter(guest)
    zone, told = "a", []
    for point in ACTIVATE_POINTS:
        pair.arm(PEER[zone], guest.name, f"{point}:kill")
        pair.understudy(zone, f"failover {guest.name}", limit=60)
        counter.wait_answers(20, limit_s=40)
        zone = wait_one_active(pair, guest)
        pair.wait_protected(zone, guest.name)
        oracle.verify()
        told.append(f"{point}: zone {zone}")
        pair.say(f"activation killed at {point}: lives in zone {zone}")
    oracle.stop()
    counter.stop()
    return ", ".join(told)


def wait_one_active(pair, guest):
    """The zone that runs the guest; two of them are a failure at once (I2)."""
    def probe():
        roles = {zone: (pair.guest_status(zone, guest.name) or {}).get("role") for zone in "ab"}
        active = [zone for zone, role in roles.items() if role == "primary"]
        running = [zone for zone in "ab"
                   if "p" not in pair.domains(zone).get(guest.name, (0, "p"))[1]]
        require(len(running) < 2, f"{guest.name} runs in both zones")
        return active if len(active) == 1 else f"roles {roles}"
    return wait_for(f"exactly one zone runs {guest.name}", 60, probe, poll_s=1)[0]


@scenario("kill-daemon", 600)
def kill_daemon(pair):
    """understudyd dies on either side, protected, syncing and at random moments."""
    rng = chance(pair, "daemon kills")
    guest = pair.protected("redis1", "a", policy="manual")
    oracle, counter = pair.oracle(guest), pair.counter(guest)
    for number in range(parameter("UNDERSTUDY_DAEMON_KILLS", 6)):
        zone = "ab"[number % 2]
        in_sync = number % 3 == 2
        if in_sync:     # the worker's death makes a new baseline necessary; the daemon dies during it
            pair.ssh("a", f"kill -9 {pair.worker_pid('a', guest.name)}")
        time.sleep(rng.uniform(0, 2))
        kill_one_daemon(pair, zone)
        counter.wait_answers(20)
        pair.wait_protected("a", guest.name)
        verdict = oracle.verify()
        pair.say(f"zone {zone}: daemon killed{' in a baseline' if in_sync else ''}: protected again; "
                 f"{verdict['answered']} answers, 0 lost")
    oracle.stop()
    result = counter.stop()
    return f"longest stall {result['longest_gap']['us'] / 1e6:.1f} s"


def kill_one_daemon(pair, zone):
    old = pair.daemon_pid(zone)
    require(old, f"zone {zone}: no understudyd")
    pair.ssh(zone, f"kill -9 {old}")
    wait_new_daemon(pair, zone, old)


def wait_gone(pair, zone, pid, point):
    """Some points are passed at the end of a resync only, for which a shell is made anew."""
    wait_for(f"zone {zone}: understudyd comes to {point}", PROTECT_LIMIT_S,
             lambda: pair.daemon_pid(zone) != pid or "not yet", poll_s=1)


def wait_new_daemon(pair, zone, old):
    def probe():
        pid = pair.daemon_pid(zone)
        return pid if pid and pid != old else f"understudyd {pid}"
    wait_for(f"zone {zone}: another understudyd", BACK_LIMIT_S, probe)
    pair.wait_daemon(zone)


def provoke_resync(pair, guest, zone):
    pair.ssh(zone, f"kill -9 {pair.worker_pid(zone, guest.name)}")


def provoke_loss(pair, guest, zone):
    pair.ssh(PEER[zone], f"kill -9 {pair.worker_pid(PEER[zone], guest.name)}")


def provoke_switch(pair, guest, zone):
    pair.understudy(zone, f"failover {guest.name}", limit=60)


def provoke_retag(pair, guest, zone):
    """Untagged and tagged again; whichever of the two the daemon died over is repeated."""
    def untagged():
        if not pair.guest_status(zone, guest.name):
            return True
        pair.understudy(zone, f"untag {guest.name}", limit=60)
        return "still tagged"

    def tagged():
        if pair.guest_status(zone, guest.name):
            return True
        pair.understudy(zone, f"tag {guest.name} ha=manual", limit=60)
        return "not tagged yet"
    for what, probe in (("untagged", untagged), ("tagged", tagged)):
        wait_for(f"{guest.name} is {what}", 60, lambda probe=probe: patiently(probe), poll_s=1)


def patiently(probe):
    """The daemon may be away just now."""
    try:
        return probe()
    except Failed as error:
        return str(error)


# (at the side of, point, what makes the daemon pass it)
DAEMON_POINTS = (
    ("primary", "D_PREPARE", provoke_resync), ("primary", "D_SYNC", provoke_resync),
    ("primary", "D_PROTECTED", provoke_resync), ("backup", "D_PREPARED", provoke_resync),
    ("backup", "D_STREAM", provoke_resync), ("backup", "D_STANDBY", provoke_resync),
    ("primary", "D_DEGRADED", provoke_loss), ("primary", "D_DROP", provoke_loss),
    ("primary", "D_UNTAG", provoke_retag), ("backup", "D_REMOVE", provoke_retag),
    ("backup", "D_BUILD", provoke_retag),
    ("primary", "D_SWITCH", provoke_switch), ("primary", "D_HAND_OVER", provoke_switch),
    ("primary", "D_RETIRE", provoke_switch), ("backup", "D_ACTIVATE", provoke_switch),
    ("backup", "D_ACTIVATE_SAVED", provoke_switch), ("backup", "D_ACTIVATED", provoke_switch))


@scenario("kill-daemon-phases", 1500)
def kill_daemon_phases(pair):
    """understudyd dies at each of its phases; the guest runs on exactly one side, protected again."""
    guest = pair.protected("redis1", "a", policy="manual")
    oracle, counter = pair.oracle(guest), pair.counter(guest)
    home = "a"
    for side, point, provoke in DAEMON_POINTS:
        began = time.monotonic()
        zone = home if side == "primary" else PEER[home]
        old = pair.daemon_pid(zone)
        pair.arm_pid(zone, old, f"{point}:kill")
        provoke(pair, guest, home)
        wait_gone(pair, zone, old, point)
        wait_new_daemon(pair, zone, old)
        counter.wait_answers(20, limit_s=40)
        home = wait_one_active(pair, guest)
        pair.wait_protected(home, guest.name)
        verdict = oracle.verify()
        pair.say(f"{side}: daemon killed at {point}: protected in zone {home} after "
                 f"{time.monotonic() - began:.1f} s; {verdict['answered']} answers, 0 lost")
    oracle.stop()
    result = counter.stop()
    return f"{len(DAEMON_POINTS)} points, longest stall {result['longest_gap']['us'] / 1e6:.1f} s"
