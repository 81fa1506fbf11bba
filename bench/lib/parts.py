"""The parts of the benchmark. Each is a function of the run: run.step() guards one contender, run.add() keeps one measurement."""

import contextlib
import functools
import time

import figures
from pairlib import Failed, require
from remus import remus
from stand import EPOCHS_MS, FAILOVER, PLAIN_TCP, SETTLE_S, STEADY, beside

ALL = {}

RATE, MIB = 500, 8                  # the loop wherever it is not what is varied
RATES, SIZES_MIB = (0, 500, 2000, 8000), (8, 32, 64)
LOOP = f"dirtyloop={RATE},{max(SIZES_MIB)}"
CORNERS = ((2000, 32), (8000, 64))  # what `xl remus` is measured at besides MIB, unless everything is asked for
SHORTEST_MS = min(EPOCHS_MS)
REMUS_TIMES = 2                     # it has few epochs a second: as many more seconds

CLIENTS = (1, 2, 8)
IPERF3_TIMES = 3                    # each way, with each guest
CALIBRATION_REQUESTS = 20           # per client
REQUESTS_MAX = 200000

PAUSE_MS = 10                       # of the client that counts through a failover
ALONE, BUSY = LOADS = ("alone", "beside redis-benchmark")
FAILOVERS = 3                       # at least: where in its round trip the kill finds a client is chance
ANSWERS = 50                        # it gets so many before the zone is killed, and after it
UNANSWERED = "loop_client: timed out"
QUIET_S = 3                         # around the kill: longer than any stall

BOOT_S = 240                        # for a step's limit: an empty pair and a new guest
CELL_S = 60                         # for a step's limit: settling and slow answers around a measurement


def part(function):
    ALL[function.__name__] = function
    return function


def summary(function):
    return function.__doc__.strip().splitlines()[0]


def loop_cell(loop, epochs_per_s):
    """What the guest's loop says. As many of its longest gaps as there were epochs are pauses; shorter ones are its kernel's own."""
    epochs = max(1, round(epochs_per_s * loop["elapsed_us"] / 1e6))
    gaps = loop["longest_gaps_us"][:epochs]
    return {"rounds_per_s": loop["rounds_per_s"], "seen_us": figures.distribution(gaps),
            "loop": dict(loop, longest_gaps_us=gaps)}


def add_loop(run, contender, ms, rate, mib, loop, **found):
    """One measurement of a contender. An unprotected guest has no pauses; its gaps are counted as if it had an epoch every `ms`."""
    epochs_per_s = found.get("epochs_per_s", 1000 / ms)
    cell = run.add(contender=contender, epoch_ms=ms, rate=rate, mib=mib, **loop_cell(loop, epochs_per_s), **found)
    epochs = f"{cell['epochs_per_s']:.1f} epochs/s, " if "epochs_per_s" in cell else ""
    run.say(f"{contender}, {ms} ms, {rate} pages/s in {mib} MiB: {epochs}{cell['rounds_per_s'] / 1e3:.0f} k rounds/s")


@contextlib.contextmanager
def protected(stand, guest, policy):
    stand.tag("a", guest.name, policy)
    stand.wait_protected("a", guest.name)
    time.sleep(SETTLE_S)
    yield
    stand.unprotect(guest)


# The contenders, each at some rates and sizes of the loop

def unprotected(run, cells):
    guest = run.stand.fresh(LOOP)
    for rate, mib in cells:
        run.stand.set_loop(guest, rate, mib)
        add_loop(run, "unprotected", SHORTEST_MS, rate, mib, run.stand.loop(guest, run.seconds))


def floor_cell(run, guest, ms):
    found, loop = run.stand.floor(guest, ms, run.seconds, lambda: run.stand.loop(guest, run.seconds))
    add_loop(run, "floor", ms, RATE, MIB, loop, **found)


def understudy_cell(run, guest, ms, rate, mib):
    loop, windows = beside(lambda: run.stand.loop(guest, run.seconds), lambda: run.stand.statuses(guest, run.seconds))
    add_loop(run, "understudy", ms, rate, mib, loop, **figures.of_worker(windows), windows=windows)


def side_by_side(run, epochs_ms):
    """One guest: unprotected, then by turns under the floor and protected."""
    guest = run.stand.fresh(LOOP)
    run.stand.set_loop(guest, RATE, MIB)
    add_loop(run, "unprotected", SHORTEST_MS, RATE, MIB, run.stand.loop(guest, run.seconds))
    for ms in epochs_ms:
        floor_cell(run, guest, ms)
        with protected(run.stand, guest, f"e{ms}"):
            understudy_cell(run, guest, ms, RATE, MIB)


def understudy_speed(run, cells):
    guest = run.stand.fresh(LOOP)
    with protected(run.stand, guest, f"e{SHORTEST_MS}"):
        for rate, mib in cells:
            run.stand.set_loop(guest, rate, mib)
            understudy_cell(run, guest, SHORTEST_MS, rate, mib)


def remus_cell(run, guest, session, ms, rate, mib):
    seconds = REMUS_TIMES * run.seconds
    run.stand.set_loop(guest, rate, mib)
    loop, found = beside(lambda: run.stand.loop(guest, seconds), lambda: session.measure(seconds))
    add_loop(run, "remus", ms, rate, mib, loop, **found, command=session.command)


def remus_cells(run, ms, cells):
    """A guest that no longer answers makes no progress, which is a result; the next cell gets a new one."""
    left = list(cells)
    while left:
        with remus(run.stand, LOOP, ms, run.remus_transports) as (guest, session):
            while left:
                rate, mib = left.pop(0)
                try:
                    remus_cell(run, guest, session, ms, rate, mib)
                except Failed as error:
                    if UNANSWERED not in str(error):
                        raise
                    run.add(contender="remus", epoch_ms=ms, rate=rate, mib=mib, rounds_per_s=0.0, error=str(error))
                    run.say(f"remus, {ms} ms, {rate} pages/s in {mib} MiB: no answer: no progress")
                    break


def limit(run, cells, times=1):
    return int(BOOT_S + cells * (times * run.seconds + CELL_S))


@part
def epochs(run):
    """epochs per second, pauses, bytes and the guest's speed at 25 to 200 ms: unprotected, floor, Understudy, xl remus"""
    def one_guest(epochs_ms, which):
        run.step(f"unprotected, floor and Understudy at {which}", limit(run, 6 * len(epochs_ms)), lambda: side_by_side(run, epochs_ms))

    def one_remus(ms, which):
        run.step(f"xl remus at {which}", 2 * limit(run, 4, REMUS_TIMES), lambda: remus_cells(run, ms, [(RATE, MIB)]))

    longer = [ms for ms in EPOCHS_MS if ms != SHORTEST_MS]
    for number in range(1, run.repeat + 1):
        which = f"{SHORTEST_MS} ms, {number} of {run.repeat}"
        one_guest([SHORTEST_MS], which)
        one_remus(SHORTEST_MS, which)
    one_guest(longer, "longer epochs")
    for ms in longer:
        one_remus(ms, f"{ms} ms")


def remus_wanted(run, rate, mib):
    return run.full or mib == MIB or (rate, mib) in CORNERS


@part
def speed(run):
    """the guest's speed at 25 ms, by rate and working set of dirty pages: unprotected, Understudy, xl remus"""
    cells = [(rate, mib) for mib in SIZES_MIB for rate in RATES]
    wanted = [cell for cell in cells if remus_wanted(run, *cell)]
    run.step("unprotected", limit(run, len(cells)), lambda: unprotected(run, cells))
    run.step("Understudy", limit(run, len(cells) + 2), lambda: understudy_speed(run, cells))
    run.step("xl remus", 2 * limit(run, len(wanted) + 4, REMUS_TIMES), lambda: remus_cells(run, SHORTEST_MS, wanted))


# Clients' view

def redis_clients(run, contender, guest):
    for clients in CLIENTS:
        limit_s = 4 * run.seconds + CELL_S
        first = run.stand.redis_benchmark(guest, clients, CALIBRATION_REQUESTS * clients, limit_s)
        slowest = min(test["requests_per_s"] for test in first.values())
        requests = max(CALIBRATION_REQUESTS * clients, min(REQUESTS_MAX, int(slowest * run.seconds / len(first))))
        for test, found in run.stand.redis_benchmark(guest, clients, requests, limit_s).items():
            run.add(contender=contender, test=test, clients=clients, requests=requests, **found)
            run.say(f"{contender}, {test}, {clients} clients: {found['requests_per_s']:.0f}/s, p50 {found['p50']:.2f} ms")


def redis_protected(run):
    guest = run.stand.fresh("redis")
    with protected(run.stand, guest, f"e{SHORTEST_MS}"):
        before = run.stand.guest_status("a", guest.name)
        redis_clients(run, "understudy", guest)
        after = run.stand.wait_protected("a", guest.name, SETTLE_S)
        run.add(contender="understudy", wire=True, **figures.volume(before, after))


@part
def redis(run):
    """redis-benchmark with 1, 2 and 8 clients: unprotected, Understudy at 25 ms"""
    limit_s = limit(run, 2 * len(CLIENTS), 4)
    run.step("unprotected", limit_s, lambda: redis_clients(run, "unprotected", run.stand.fresh("redis")))
    run.step("Understudy", limit_s, lambda: redis_protected(run))


def iperf3_cells(run, back_end, guest):
    require(run.stand.back_end_driver(guest) == (back_end == "netback"), f"the guest's interface is not {back_end}'s")
    for direction in IPERF3_TIMES * ("in", "out"):
        bits_per_s = run.stand.iperf3(guest, run.seconds, direction == "out")
        run.add(back_end=back_end, direction=direction, bits_per_s=bits_per_s)
        run.say(f"{back_end}, {direction}: {bits_per_s / 1e6:.1f} Mbit/s")


def iperf3_ours(run):
    iperf3_cells(run, "ours", run.stand.fresh("iperf3", PLAIN_TCP))


def iperf3_netback(run):
    run.stand.clean()
    try:
        run.stand.kernel_takes_over()
        iperf3_cells(run, "netback", run.stand.boot("iperf3", PLAIN_TCP))
    finally:
        run.stand.kernel_gives_back()


@part
def iperf3(run):
    """iperf3 into and out of an unprotected guest: our net back end and the kernel's in turn"""
    for number in range(1, run.repeat + 1):
        run.step(f"our back end, {number} of {run.repeat}", limit(run, 4, 2 * IPERF3_TIMES), lambda: iperf3_ours(run))
        run.step(f"xen-netback, {number} of {run.repeat}", limit(run, 6, 2 * IPERF3_TIMES), lambda: iperf3_netback(run))


def tls_cells(run):
    guest = run.stand.fresh(LOOP)
    run.stand.set_loop(guest, RATE, MIB)
    for number in range(2 * run.repeat):
        contender = "tls" if number % 2 else "plain"
        if contender == "tls":
            run.stand.encrypt(run.stand.config)
        else:
            run.stand.plain()
        with protected(run.stand, guest, f"e{SHORTEST_MS}"):
            loop, windows = beside(lambda: run.stand.loop(guest, run.seconds), lambda: run.stand.statuses(guest, run.seconds))
            add_loop(run, contender, SHORTEST_MS, RATE, MIB, loop, **figures.of_worker(windows), windows=windows)


@part
def tls(run):
    """what TLS between the hosts costs at 25 ms: the same guest protected with it and without, by turns"""
    run.step("with TLS and without", limit(run, 4 * run.repeat), lambda: tls_cells(run))


def fail_over(run, load):
    stand = run.stand
    guest = stand.fresh("redis")
    client = stand.counter(guest, pause_ms=PAUSE_MS)
    if load == BUSY:
        stand.benchmark(guest, clients=1)
    stand.tag("a", guest.name)
    stand.wait_protected("a", guest.name)
    client.wait_answers(ANSWERS)
    time.sleep(run.seconds)
    stand.wait_protected("a", guest.name, SETTLE_S)
    last_event = max((event["serial"] for event in stand.events("b")), default=0)
    killed_us = stand.kill_undisturbed("a", client, QUIET_S)
    stand.wait_runs("b", guest.name)
    client.wait_answers(ANSWERS)
    result = client.stop()      # nothing lost, nothing twice, the same connection: else there is nothing to measure
    cell = run.add(load=load, stall_us=figures.stall(result, killed_us), **figures.of_activation(stand.events("b"), last_event))
    run.say(f"client {load}: stall {cell['stall_us'] / 1e3:.0f} ms: detection {cell['detection_us'] / 1e3:.0f} ms, "
            f"declared dead to running {cell['declared_us'] / 1e3:.0f} ms")


@part
def failover(run):
    """zone a loses its power at a 500 ms time-out: the clients' stall and its parts"""
    run.stand.config = FAILOVER
    try:
        times = max(run.repeat, FAILOVERS)
        for number in range(1, times + 1):
            for load in LOADS:
                run.step(f"failover, client {load}, {number} of {times}", 2 * limit(run, 4),
                         functools.partial(fail_over, run, load))
    finally:
        run.stand.config = STEADY
    run.step("zone a comes back", 2 * BOOT_S, run.stand.clean)
