"""An epoch stream over several connections."""

from pairlib import CONFIG, require
from scenario import scenario

# What one connection gets, as of a cloud's cap on a flow: the kernel paces each one by itself.
FLOW_MBIT_S = 8
LANES = 4
GAIN = 1.8                  # at least: the first copy is not all waiting for the network, least of all emulated
POLICIES = f"""
[policy one]
timeout_ms = 1500
takeover = manual

[policy several]
epoch_ms = 50
timeout_ms = 1500
streams = {LANES}
takeover = automatic-without-witness
"""


def cap_flows(pair, capped):
    for zone in "ab":
        pair.ssh(zone, f"modprobe sch_fq; tc qdisc replace dev repl root fq maxrate {FLOW_MBIT_S}mbit" if capped else
                 "tc qdisc del dev repl root 2> /dev/null || true")


def sync_ms(pair, guest, policy):
    """How long the first copy took."""
    pair.tag("a", guest.name, policy)
    pair.wait_protected("a", guest.name)
    return [e["fields"]["sync_ms"] for e in pair.events("a", guest.name) if e["kind"] == "protected"][-1]


@scenario("lanes", 600)
def lanes(pair):
    """Where each connection is capped, several carry more; and lose nothing with a zone."""
    pair.clean()
    for zone in "ab":
        pair.configure(zone, config=CONFIG + POLICIES)
    try:
        guest = pair.create("redis1", "a")
        cap_flows(pair, True)
        one = sync_ms(pair, guest, "one")
        pair.untag("a", guest.name)
        several = sync_ms(pair, guest, "several")
        require(one > GAIN * several, f"the first copy takes {one} ms over one connection, {several} ms over {LANES}")
        cap_flows(pair, False)
        oracle, counter = pair.oracle(guest), pair.counter(guest)
        counter.wait_answers(50)
        pair.kill("a")
        pair.wait_runs("b", guest.name)
        counter.wait_answers(50)
        pair.start("a")
        pair.wait_protected("b", guest.name)
        verdict = oracle.stop()
        counter.stop()
        return f"first copy {one} ms, over {LANES} connections {several} ms; {verdict['answered']} answers, 0 lost"
    finally:
        cap_flows(pair, False)
        pair.clean()
