"""The channel between the hosts over TLS, with the certificates that `understudy pair` makes."""

import time

from pairlib import require
from scenario import scenario

CAPTURE = "/run/repl.pcap"
CAPTURE_S = 4
FRAME_MAGIC, KEY = "USFM", "understudy-was-here"     # of every control message; in the guest's memory and in its packets
TAKE_OVER_LIMIT_S = 60


def seen_on_the_link(pair, guest, what):
    """How often each text is in what the hosts say to each other for some seconds."""
    pair.ssh("a", f"timeout {CAPTURE_S} tcpdump -q -i repl -w {CAPTURE} tcp 2> /dev/null & sleep 1; "
                  f"for i in $(seq 5); do understudy status {guest.name} > /dev/null; done; wait", limit=60)
    return {text: int(pair.ssh("a", f"grep -a -o {text} {CAPTURE} | wc -l")) for text in what}


@scenario("encrypted", 600)
def encrypted(pair):
    """TLS between the hosts: nothing readable on the link, a planned move, a power-off, protected again; nothing lost."""
    guest = pair.protected("redis1", "a")
    pair.redis(guest, f"SET {KEY} {KEY}")
    plain = seen_on_the_link(pair, guest, [FRAME_MAGIC])
    require(plain[FRAME_MAGIC], "without TLS there should be heartbeats to read: the capture shows nothing")
    try:
        pair.clean()
        pair.encrypt()
        pair.create("redis1", "a")
        pair.tag("a", guest.name)
        pair.wait_protected("a", guest.name)
        require("TLS" in pair.understudy("a", "status")[1], "status does not say TLS")
        oracle, counter = pair.oracle(guest), pair.counter(guest)
        counter.wait_answers(50)
        pair.redis(guest, f"SET {KEY} {KEY}")
        hidden = seen_on_the_link(pair, guest, [FRAME_MAGIC, KEY])
        require(not any(hidden.values()), f"readable on the link: {hidden}")

        before = counter.read()["last_us"]
        pair.understudy("a", f"failover {guest.name}", limit=60)
        pair.wait_runs("b", guest.name)
        counter.wait_answers(50)
        pair.wait_protected("b", guest.name)
        moved = max((g["us"] for g in counter.read()["gaps"] if g["to_us"] >= before), default=0) / 1e3
        time.sleep(1)
        before = counter.read()["last_us"]
        pair.kill("b")
        pair.wait_runs("a", guest.name, TAKE_OVER_LIMIT_S)
        result = counter.wait_answers(50)
        lost = max((g["us"] for g in result["gaps"] if g["to_us"] >= before), default=0) / 1e3
        pair.start("b")
        pair.wait_protected("a", guest.name)
        verdict = oracle.stop()
        counter.stop()
        return f"stall {moved:.0f} ms planned, {lost:.0f} ms at the power-off, {verdict['answered']} answers, 0 lost"
    finally:
        pair.clean()
