"""What a committed epoch is worth: exactness, and output commit (I1, I3)."""

import re
import time

from pairlib import REMOTE, check_progress, require, wait_for
from scenario import chance, parameter, scenario

EXACT_EPOCHS = 50
EXACT_LIMIT_S = 400
ACK_LATE_MS = 3000
ASK_EVERY_MS = 50
HELD_MS = 4500      # less than the time-out of the policy "late"
SETTLE_MS = 150     # a frame that was already released may still be on its way


def verify_totals(text):
    """(epochs compared, pages that differed) as the worker last logged them."""
    found = re.findall(r"pages compared, \d+ differ \(in all: (\d+) epochs, (\d+) pages\)", text)
    return (int(found[-1][0]), int(found[-1][1])) if found else (0, 0)


@scenario("exactness", 700)
def exactness(pair):
    """The image built from epochs equals the stopped guest's memory, under TCP load."""
    pair.clean()
    mark = pair.journal_mark("a")
    pair.configure("a", environment="Environment=UNDERSTUDY_VERIFY=16")
    try:
        guest = pair.create("redis1", "a")
        counter = pair.counter(guest)     # before the pauses become long: each comparison takes over a second
        pair.tag("a", guest.name, "patient")
        before = pair.wait_protected("a", guest.name)["raw_bytes_total"]

        def probe():
            epochs, differing = verify_totals(pair.journal("a", mark))
            require(differing == 0, f"{differing} pages differ after {epochs} sampled epochs")
            return epochs if epochs >= EXACT_EPOCHS else f"{epochs} epochs sampled"
        epochs = wait_for(f"{EXACT_EPOCHS} sampled epochs", EXACT_LIMIT_S, probe, poll_s=5)
        status = pair.is_protected("a", guest.name)
        require(not isinstance(status, str), f"protection was lost meanwhile: {status}")
        # Of single seconds some have no epoch: a comparison takes longer.
        require(status["raw_bytes_total"] > before, "the load dirtied no page: nothing was compared")
        result = counter.stop()
        require(result["answers"] > 50, f"only {result['answers']} answers: hardly any TCP load")
        return f"{epochs} epochs, 0 pages differ, {result['answers']} answers meanwhile"
    finally:
        pair.clean()


def read_frames(pair, name):
    """[(microseconds, kind, number)]"""
    text = pair.ssh("c", f"cat {REMOTE}/{name}")
    return [(int(a), b, int(c)) for a, b, c in (line.split() for line in text.splitlines())]


def silences(frames, least_us):
    """[(from, to)] between consecutive frames."""
    times = sorted(at for at, _, _ in frames)
    return [(a, b) for a, b in zip(times, times[1:]) if b - a >= least_us]


def judge_silence(frames, asked):
    """The held-back time is one silence of every kind of frame, in which the guest was asked all the
    time; what was asked in it is answered, and only behind it."""
    long_us = (ACK_LATE_MS - SETTLE_MS) * 1000
    gaps = silences(frames, long_us)
    require(len(gaps) == 1, f"expected one silence of {ACK_LATE_MS} ms, saw {len(gaps)}: {gaps}")
    begin, end = gaps[0]
    told = []
    for kind in ("ipv4", "ipv6", "arp"):
        inside = {n for at, k, n in asked if k == kind and begin < at < end - SETTLE_MS * 1000}
        require(len(inside) > ACK_LATE_MS / ASK_EVERY_MS / 2,
                f"{kind}: only {len(inside)} requests were sent in the silence")
        before = [f for f in frames if f[1] == kind and f[0] <= begin]
        after = [f for f in frames if f[1] == kind and f[0] >= end]
        require(before and after, f"{kind}: {len(before)} frames before, {len(after)} after")
        if kind == "arp":   # replies carry no number: as many as were asked for
            answered = sum(1 for at, _, _ in after if at < end + 1_000_000)
        else:
            answered = len(inside & {n for _, _, n in after})
        require(answered >= 0.9 * len(inside),
                f"{kind}: {len(inside)} asked in the silence, only {answered} answered behind it: "
                f"the guest did not send, or what it sent was lost")
        told.append(f"{kind} {answered} of {len(inside)}")
    return f"silent for {(end - begin) / 1000:.0f} ms, then answered: {', '.join(told)}"


@scenario("frames", 240)
def frames(pair):
    """Nothing the guest sends in epoch N (IPv4, IPv6, ARP) is seen before N is acknowledged."""
    pair.clean()
    guest = pair.create("redis1", "a")
    capture = pair.spawn(f"python3 {REMOTE}/frames.py capture --mac {guest.mac} --out frames lan-a lan-b",
                         "frames.log")
    ask = pair.spawn(f"python3 {REMOTE}/frames.py ask --ip4 {guest.ip4} --ip6 {guest.ip6} "
                     f"--every-ms {ASK_EVERY_MS} --out asked", "asked.log")
    time.sleep(4)
    control = read_frames(pair, "frames")
    kinds = {kind for _, kind, _ in control}
    require({"ipv4", "ipv6", "arp"} <= kinds, f"unprotected, only {kinds} were captured")
    require(not silences(control, ACK_LATE_MS * 500), "unprotected, the guest is silent by itself")

    pair.tag("a", guest.name, "patient")
    pair.wait_protected("a", guest.name)
    time.sleep(3)
    begin = read_frames(pair, "frames")[-1][0]
    require(begin > control[-1][0], "protected, nothing comes through")
    pair.arm("b", guest.name, f"ACK_BEFORE:sleep={ACK_LATE_MS}")
    time.sleep(ACK_LATE_MS / 1000 + 4)
    for pid in (ask, capture):
        pair.end(pid)
    verdict = judge_silence([f for f in read_frames(pair, "frames") if f[0] >= begin],
                            read_frames(pair, "asked"))
    status = pair.is_protected("a", guest.name)
    require(not isinstance(status, str), f"afterwards: {status}")
    return verdict


def judge_takeover(frames, asked, until_us):
    """Every request from a second before zone a fell silent on, none of which was asked twice, is answered, whichever zone does it."""
    begin = max(at for at, _, _ in frames if at < until_us)
    told = []
    for kind in ("ipv4", "ipv6"):
        wanted = {n: at for at, k, n in asked if k == kind and begin - 1_000_000 < at < until_us}
        late = [n for n, at in wanted.items() if at > begin + SETTLE_MS * 1000]
        require(len(late) >= 8, f"{kind}: only {len(late)} requests were sent in the silence")
        answered = {n for _, k, n in frames if k == kind}
        missing = {n: f"{(wanted[n] - begin) / 1000:.0f} ms" for n in sorted(wanted.keys() - answered)}
        require(not missing, f"{kind}: of {len(wanted)} requests {len(missing)} were never answered, asked behind zone a's last word by: "
                             f"{list(missing.items())[:20]}")
        told.append(f"{kind} {len(wanted)}, {len(late)} of them by zone b alone")
    return f"answered, each asked once: {'; '.join(told)}"


@scenario("no-frame-lost", 300)
def no_frame_lost(pair):
    """What the guest had received and sent is neither lost with its zone, nor up to anybody's time-outs: pings, which nobody repeats."""
    guest = pair.protected("redis1", "a", "late")
    capture = pair.spawn(f"python3 {REMOTE}/frames.py capture --mac {guest.mac} --out frames lan-a lan-b", "frames.log")
    ask = pair.spawn(f"python3 {REMOTE}/frames.py ask --ip4 {guest.ip4} --ip6 {guest.ip6} --every-ms {ASK_EVERY_MS} --out asked",
                     "asked.log")
    time.sleep(3)
    pair.arm("b", guest.name, f"ACK_BEFORE:sleep={HELD_MS}")
    time.sleep(HELD_MS / 3000)
    until_us = read_frames(pair, "asked")[-1][0]
    pair.kill("a")
    pair.wait_runs("b", guest.name)
    time.sleep(4)
    for pid in (ask, capture):
        pair.end(pid)
    verdict = judge_takeover(read_frames(pair, "frames"), read_frames(pair, "asked"), until_us)
    event = [e["fields"] for e in pair.events("b", guest.name) if e["kind"] == "activated"][-1]
    require(event["received_again"], f"the event says {event}")
    return f"{verdict}; {event['received_again']} frames received again, {event['sent_again']} sent again"


def other_home(pair, guest, zone):
    """The killed zone comes back and protects the guest that left it."""
    survivor = "b" if zone == "a" else "a"
    pair.start(zone)
    pair.wait_protected(survivor, guest.name)
    return survivor


@scenario("poweroff", 3600)
def poweroff(pair):
    """Power off at random moments: every answer that a client saw is in the guest's state."""
    count = parameter("UNDERSTUDY_POWEROFFS", 20)
    rng = chance(pair, "power-off moments")
    guest = pair.protected("redis1", "a")
    home, stalls = "a", []
    oracle, counter = pair.oracle(guest), pair.counter(guest)
    for number in range(1, count + 1):
        wait = rng.uniform(0.5, 3.0)
        time.sleep(wait)
        before = counter.read()["last_us"]
        pair.kill(home)
        home = "b" if home == "a" else "a"
        pair.wait_runs(home, guest.name)
        result = counter.wait_answers(20)
        check_progress(result)
        verdict = oracle.verify(least=number)
        stall = max(g["us"] for g in result["gaps"] if g["to_us"] >= before) / 1000
        stalls.append(stall)
        pair.say(f"power-off {number} of {count}: {wait:.2f} s after protection; stall {stall:.0f} ms; "
                 f"{verdict['answered']} answers, 0 lost")
        if number < count:
            other_home(pair, guest, "b" if home == "a" else "a")
    verdict = oracle.stop()
    counter.stop()
    return (f"{count} power-offs, {verdict['answered']} answers, 0 lost, one connection; stall "
            f"{min(stalls):.0f} to {max(stalls):.0f} ms")
