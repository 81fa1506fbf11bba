"""The host's watchdog: a daemon that hangs for good costs the host, and then the other one has the guests."""

import os
import time

from pairlib import CONFIG, require, wait_for
from scenario import scenario
from witness import TAKE_OVER_LIMIT_S, longest_stall, start_witness

WATCHDOG_S = 10
RESTART_S = 3 * WATCHDOG_S      # a restarted daemon feeds it: nothing happens for so long
RESET_LIMIT_S = 60
# The service manager has a watchdog of its own, which is quicker.
DROP_IN = "WatchdogSec=0"


def console(pair, zone):
    with open(os.path.join(pair.folder, f"{zone}.console.log"), encoding="utf-8", errors="replace") as file:
        return file.read()


@scenario("watchdog", 420)
def watchdog(pair):
    """A daemon that is restarted or killed does no harm; one that stands still has Xen reset its host, and the guest goes on elsewhere."""
    pair.clean()
    start_witness(pair)
    pair.ssh("a", "modprobe xen_wdt")
    pair.configure("a", environment=DROP_IN,
                   config=CONFIG.replace("[host]\n", f"[host]\nwatchdog = /dev/watchdog\nwatchdog_s = {WATCHDOG_S}\n"))
    try:
        guest = pair.create("redis1", "a")
        pair.tag("a", guest.name, "leased")
        pair.wait_protected("a", guest.name)
        oracle, counter = pair.oracle(guest), pair.counter(guest)
        counter.wait_answers(20)
        pair.ssh("a", "systemctl restart understudyd")
        pair.wait_daemon("a")
        pair.ssh("a", f"kill -9 {pair.daemon_pid('a')}")
        pair.wait_daemon("a")
        time.sleep(RESTART_S)
        require("watchdog rebooting" not in console(pair, "a"), "a daemon that came back has had its host reset")
        pair.wait_protected("a", guest.name)

        before = counter.read()["last_us"]
        pair.ssh("a", f"kill -STOP {pair.daemon_pid('a')}")
        wait_for("Xen resets zone a", RESET_LIMIT_S, lambda: "watchdog rebooting" in console(pair, "a"))
        pair.wait_runs("b", guest.name, TAKE_OVER_LIMIT_S)
        stall = longest_stall(counter.wait_answers(50), before)
        verdict = oracle.stop()
        counter.stop()
        return f"stall {stall:.1f} s, {verdict['answered']} answers, 0 lost"
    finally:
        pair.kill("a")      # it was halted, not reset: Xen runs with noreboot here
        pair.start("a")
