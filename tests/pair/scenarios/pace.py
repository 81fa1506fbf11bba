"""Adaptive epochs: as short as the guest's load allows, never longer than policy says."""

import time

from pairlib import CONFIG, require, wait_for
from scenario import scenario

SHORTEST_MS, LONGEST_MS, PAUSE_PCT = 10, 300, 4
POLICY = f"""
[policy adaptive]
epoch = adaptive
epoch_ms = {SHORTEST_MS}
epoch_max_ms = {LONGEST_MS}
pause_pct = {PAUSE_PCT}
timeout_ms = 3000
hold_max_ms = 10000
takeover = manual
"""
DIRTY_PORT = 7001
BUSY = 3000                 # pages a second
SETTLE_S = 8
SAMPLES = 6
GROWTH = 1.3
TOLERANCE = 0.5             # of the share: single seconds' medians, emulated


def sample(pair, guest):
    """(epoch's length, pause p50, share of pauses in percent), the middle of some seconds."""
    found = []
    for _ in range(SAMPLES):
        time.sleep(1)
        g = pair.guest_status("a", guest.name)
        length, pause = g["epoch_us"], g["pause_us_p50"]
        require(SHORTEST_MS * 1000 <= length <= LONGEST_MS * 1000, f"an epoch of {length} us")
        if pause:
            found.append((100 * pause / (length + pause), length, pause))
    require(found, "no epoch in all these seconds")
    share, length, pause = sorted(found)[len(found) // 2]
    return length / 1e3, pause / 1e3, share


def told(length, pause, share):
    return f"{length:.0f} ms (pause {pause:.1f} ms, {share:.1f} %)"


@scenario("adaptive", 420)
def adaptive(pair):
    """Epochs shrink when the load ends and grow with it until pauses take their share of the guest's time."""
    pair.clean()
    for zone in "ab":
        pair.configure(zone, config=CONFIG + POLICY)
    try:
        guest = pair.create("small", "a")
        pair.tag("a", guest.name, "adaptive")
        pair.wait_protected("a", guest.name)
        seen = []
        for rate in (BUSY, 0, BUSY):
            wait_for(f"the guest takes a rate of {rate}", 30,
                     lambda rate=rate: pair.guest_line(guest, DIRTY_PORT, f"rate {rate}") == "ok")
            time.sleep(SETTLE_S)
            seen.append(sample(pair, guest))
            pair.say(f"{rate} pages/s: epochs of {told(*seen[-1])}")
        busy, quiet, again = seen
        require(busy[0] > GROWTH * quiet[0], f"epochs do not shrink: {told(*busy)}, then {told(*quiet)}")
        require(again[0] > GROWTH * quiet[0], f"epochs do not grow: {told(*quiet)}, then {told(*again)}")
        for length, pause, share in seen:
            bound = length <= SHORTEST_MS * 1.05 or length >= LONGEST_MS * 0.95
            require(bound or abs(share - PAUSE_PCT) <= TOLERANCE * PAUSE_PCT, f"the share is missed: {told(length, pause, share)}")
        return "; ".join(told(*each) for each in seen)
    finally:
        pair.clean()
