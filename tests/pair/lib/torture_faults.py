"""The faults of the campaign. Each is a function of the campaign and its random numbers: it does harm, undoes it, and says what it did.

Whatever a fault breaks it also mends: what is left to do then is the product's. `c.primary` and `c.backup` are zones.
"""

import os
import re
import signal
import time

from pairlib import wait_for

ALL = {}

WITNESS = "10.77.0.3"
LONGEST_S = 8               # of what is held, stopped or cut: beyond every time-out and lease of the policy
BAD_LINK_S = 10
BAD_LINKS = {"loss": "loss 5%", "delay": "delay 50ms 30ms", "reordering": "delay 10ms reorder 25% 50%", "duplicates": "duplicate 5%"}
OUT_OF_MEMORY_S = 20
WORKER_LIMIT_S = 30
FILLER = "/var/lib/understudy/filler"


def fault(function):
    ALL[function.__name__.replace("_", "-")] = function
    return function


def some_seconds(rng):
    """Half of them shorter than a lease, where the question is who was first."""
    return round(rng.uniform(0.2, 3.0) if rng.random() < 0.5 else rng.uniform(3.0, LONGEST_S), 1)


def either(c, rng):
    return rng.choice((c.primary, c.backup))


def told(c, zone):
    return f"zone {zone} ({c.role(zone)})"


# A host

def power_off(c, zone, rng):
    c.pair.kill(zone)
    away = some_seconds(rng)
    time.sleep(away)
    c.pair.start(zone)
    return f"{told(c, zone)} without power, started again after {away} s"


@fault
def primary_power_off(c, rng):
    return power_off(c, c.primary, rng)


@fault
def backup_power_off(c, rng):
    return power_off(c, c.backup, rng)


@fault
def both_rebooted(c, rng):
    for zone in "ab":
        c.pair.kill(zone)
    first = either(c, rng)
    for zone in (first, "a" if first == "b" else "b"):
        c.pair.start(zone)
    c.both_lost()
    return "both zones without power; the guest, which is gone, started anew"


@fault
def dom0_panic(c, rng):
    """Xen halts the machine then: it runs with noreboot here."""
    zone = either(c, rng)
    c.pair.ssh(zone, "setsid sh -c 'sleep 0.3; echo c > /proc/sysrq-trigger' > /dev/null 2>&1 &")
    time.sleep(1)
    return "dom0's kernel panics; " + power_off(c, zone, rng)


@fault
def host_stopped(c, rng):
    """Everything in it at once, the hypervisor too, as when a cloud moves an instance."""
    zone, held = either(c, rng), some_seconds(rng)
    pid = int(re.search(rf"^zone {zone}: .*pid (\d+)", c.pair.tool("status")[1], re.M)[1])
    os.kill(pid, signal.SIGSTOP)
    time.sleep(held)
    os.kill(pid, signal.SIGCONT)
    c.pair.wait_daemon(zone)
    return f"{told(c, zone)} stopped for {held} s"


@fault
def out_of_memory(c, rng):
    """A process of dom0 takes all of it; the kernel chooses who dies, if it comes to that in time."""
    zone = either(c, rng)
    c.pair.try_ssh(zone, f"timeout -s KILL {OUT_OF_MEMORY_S} python3 -c 'x = []\nwhile True: x.append(b\"x\" * (1 << 22))'",
                   limit=3 * OUT_OF_MEMORY_S + 60)
    c.pair.wait_daemon(zone)
    return f"dom0 of {told(c, zone)} out of memory"


@fault
def disk_full(c, rng):
    zone = either(c, rng)
    c.pair.try_ssh(zone, f"dd if=/dev/zero of={FILLER} bs=1M count=100000 2> /dev/null; sync", limit=120)
    c.pair.ssh(zone, f"kill -9 {c.pair.daemon_pid(zone)}; sleep 5; rm {FILLER}", limit=60)
    c.pair.wait_daemon(zone)
    return f"the disk of {told(c, zone)} full, and its daemon killed meanwhile"


@fault
def clock_stepped(c, rng):
    zone, hours = either(c, rng), rng.choice((-1, 1))
    c.pair.ssh(zone, f"date -s '{hours:+d} hour' > /dev/null")
    time.sleep(5)
    c.pair.ssh(zone, f"date -s '{-hours:+d} hour' > /dev/null")
    return f"the wall clock of {told(c, zone)} stepped by {hours:+d} h, and back"


# Our processes

@fault
def daemon_killed(c, rng):
    zone = either(c, rng)
    c.pair.ssh(zone, f"kill -9 {c.pair.daemon_pid(zone)}")
    c.pair.wait_daemon(zone)
    return f"the daemon of {told(c, zone)} killed"


def stopped(c, zone, pid, what, rng):
    held = some_seconds(rng)
    c.pair.ssh(zone, f"kill -STOP {pid}; sleep {held}; kill -CONT {pid} || true", limit=LONGEST_S + 30)
    return f"{what} of {told(c, zone)} stopped for {held} s"


@fault
def daemon_stopped(c, rng):
    """systemd's watchdog may have killed it by then."""
    zone = either(c, rng)
    said = stopped(c, zone, c.pair.daemon_pid(zone), "the daemon", rng)
    c.pair.wait_daemon(zone)
    return said


def worker(c, zone):
    """Its process; in the middle of a move there is none for a moment."""
    return wait_for("a worker to harm", WORKER_LIMIT_S, lambda: c.pair.worker_pid(zone, c.guest.name))


@fault
def worker_killed(c, rng):
    zone = either(c, rng)
    c.pair.ssh(zone, f"kill -9 {worker(c, zone)}")
    return f"the worker of {told(c, zone)} killed"


@fault
def worker_stopped(c, rng):
    zone = either(c, rng)
    return stopped(c, zone, worker(c, zone), "the worker", rng)


# Links

@fault
def replication_cut(c, rng):
    return f"the replication link cut for {c.pair.cut_for('repl', some_seconds(rng)):.1f} s"


@fault
def one_way(c, rng):
    """What this zone sends is lost; it hears the other one."""
    zone, lost = either(c, rng), some_seconds(rng)
    queue(c, zone, "loss 100%")
    time.sleep(lost)
    queue(c, zone, None)
    return f"nothing that {told(c, zone)} sent reached its peer for {lost} s"


def queue(c, zone, kind):
    c.pair.ssh(zone, f"modprobe sch_netem; tc qdisc replace dev repl root netem {kind}" if kind else "tc qdisc del dev repl root")


@fault
def bad_link(c, rng):
    """Both directions: each end's own queue."""
    name = rng.choice(sorted(BAD_LINKS))
    for zone in "ab":
        queue(c, zone, BAD_LINKS[name])
    time.sleep(BAD_LINK_S)
    for zone in "ab":
        queue(c, zone, None)
    return f"{name} on the replication link ({BAD_LINKS[name]}, both ways) for {BAD_LINK_S} s"


@fault
def flapping(c, rng):
    times = rng.randint(3, 15)
    for _ in range(times):
        c.pair.cut_for("repl", 1)
        time.sleep(1)
    return f"the replication link cut for a second, {times} times"


def lose_witness(c, zone, lost):
    """Only its host: the guests' frames are bridged. A route does not end a connection, the lack of answers does."""
    c.pair.ssh(zone, f"ip route {'add' if lost else 'del'} blackhole {WITNESS}/32")


@fault
def witness_cut(c, rng):
    zone, lost = either(c, rng), some_seconds(rng)
    lose_witness(c, zone, True)
    time.sleep(lost)
    lose_witness(c, zone, False)
    return f"{told(c, zone)} without the witness for {lost} s"


@fault
def alone(c, rng):
    """No peer and no witness; its clients still reach it."""
    zone = either(c, rng)
    lose_witness(c, zone, True)
    lost = c.pair.cut_for("repl", some_seconds(rng))
    lose_witness(c, zone, False)
    return f"{told(c, zone)} without peer and witness for {lost:.1f} s"


@fault
def both_alone(c, rng):
    """Two failures at once: neither has a right that lasts, and one must get it back."""
    for zone in "ab":
        lose_witness(c, zone, True)
    lost = c.pair.cut_for("repl", some_seconds(rng))
    for zone in "ab":
        lose_witness(c, zone, False)
    return f"both zones without peer and witness for {lost:.1f} s"


# The witness

@fault
def witness_stopped(c, rng):
    held = some_seconds(rng)
    c.pair.ssh("c", f"pkill -x -STOP etcd; sleep {held}; pkill -x -CONT etcd", limit=LONGEST_S + 30)
    return f"etcd stopped for {held} s"


@fault
def witness_slow(c, rng):
    """It works for a tenth of a second, then rests."""
    rest = round(rng.uniform(0.2, 1.5), 1)
    turns = int(BAD_LINK_S / (rest + 0.1)) + 1
    c.pair.ssh("c", f"for i in $(seq {turns}); do pkill -x -STOP etcd; sleep {rest}; pkill -x -CONT etcd; sleep 0.1; done", limit=60)
    return f"etcd stopped for {rest} s, {turns} times"


@fault
def witness_restarted(c, rng):
    c.restart_witness()
    return "etcd killed, and started again with its data"


# Moves

@fault
def switched_over(c, rng):
    """No fault, but the moment in which most is under way, with one in its middle."""
    c.pair.ssh(c.primary, f"setsid understudy switchover {c.guest.name} > /dev/null 2>&1 &")
    time.sleep(rng.uniform(0, 0.4))
    return "a switchover, and in it: " + c.inner(rng)


# What may fall into a switchover.
INNER = ("daemon-killed", "worker-killed", "replication-cut", "witness-stopped", "primary-power-off", "backup-power-off")
