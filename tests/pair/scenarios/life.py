"""Tags: what they survive, what they refuse, and what is left when they go (I6)."""

import re
import time

from pairlib import CLEAN_LIMIT_S, GUEST_BOOT_LIMIT_S, require, wait_for
from scenario import scenario

PV_GUEST = ("name=\"pv1\"\ntype=\"pv\"\nkernel=\"/guest/vmlinuz\"\nramdisk=\"/guest/initrd.img\"\n"
            "memory=128\nvcpus=1\n")
TRACES = {
    "interfaces": "ls /sys/class/net | sort",
    "bridge ports": "ls /sys/class/net/xenbr0/brif | sort",
    "queueing": "tc qdisc 2>/dev/null | sed 's/ refcnt [0-9]*//' | sort",
    "domains": "xl list | tail -n +2 | awk '{print $1, $2, $3, $4}'",
    "xenstore": "xenstore-ls -f | cut -d' ' -f1 | grep -v -e /control/ -e ^/local/domain/0/libxl | sort",
    "state files": "find /run/understudy /var/lib/understudy -type f -o -type s | sort",
    "processes": "ps -eo comm,args --no-headers | grep -e '^understudy' -e '^xl ' | "
                 "sed 's/--socket.*//' | sort",
}


def traces(pair, zone):
    return {what: pair.ssh(zone, script) for what, script in TRACES.items()}


def descriptors(pair, zone):
    """{process: number of open files}: sockets to clients that come and go are not counted twice."""
    out = pair.ssh(zone, "for p in $(pgrep understudy); do echo $(cat /proc/$p/comm) "
                         "$(ls /proc/$p/fd | wc -l); done")
    return sorted(out.splitlines())


def log_dirty(pair, domid):
    """Whether Xen tracks the domain's writes, as the hypervisor itself says."""
    pair.ssh("a", "xl dmesg -c > /dev/null; xl debug-keys q; sleep 0.5")
    text = pair.ssh("a", "xl dmesg")
    found = re.search(rf"General information for domain {domid}:(.*?)(?=General information|\Z)", text, re.S)
    require(found, f"xl debug-keys q says nothing of domain {domid}")
    modes = re.search(r"paging assistance: (.*)", found.group(1))
    require(modes, f"xl debug-keys q has no paging line for domain {domid}")
    return "log_dirty" in modes.group(1)


def differences(before, after):
    told = []
    for what, old in before.items():
        old_lines, new_lines = set(old.splitlines()), set(after[what].splitlines())
        told += [f"{what}: new: {line}" for line in sorted(new_lines - old_lines)]
        told += [f"{what}: gone: {line}" for line in sorted(old_lines - new_lines)]
    return told


@scenario("untag", 300)
def untag(pair):
    """Untagged, the guest is an ordinary domain again and nothing is left on either side."""
    pair.clean()
    guest = pair.create("redis1", "a")
    counter = pair.counter(guest)
    pair.tag("a", guest.name)       # once, so that what stays for good (the worker's caches) is there
    pair.wait_protected("a", guest.name)
    pair.untag("a", guest.name)
    wait_for("zone b: the shell is gone", CLEAN_LIMIT_S, lambda: not pair.domains("b") or "domains are left")
    before = {zone: (traces(pair, zone), descriptors(pair, zone)) for zone in "ab"}
    domid = pair.domains("a")[guest.name][0]
    require(not log_dirty(pair, domid), "the guest is in log-dirty mode though nobody protects it")

    pair.tag("a", guest.name)
    pair.wait_protected("a", guest.name)
    require(log_dirty(pair, domid), "protected, but Xen says it tracks no writes: this test sees nothing")
    require(differences(before["b"][0], traces(pair, "b")), "protected, but zone b shows no trace of it")
    # The first untag was of a live worker; this one finds nobody who knows of the protection.
    pair.ssh("a", f"kill -9 {pair.worker_pid('a', guest.name)}")
    pair.untag("a", guest.name)

    def probe():
        left = [f"zone {zone}: {text}" for zone in "ab"
                for text in differences(before[zone][0], traces(pair, zone))]
        left += [f"zone {zone}: open files {before[zone][1]}, now {now}" for zone in "ab"
                 for now in [descriptors(pair, zone)] if now != before[zone][1]]
        return True if not left else "; ".join(left[:6])
    wait_for("no trace is left", 30, probe, poll_s=2)
    require(not log_dirty(pair, domid), "the guest is still in log-dirty mode")
    require(pair.domains("a")[guest.name][0] == domid, "the guest was rebooted")
    check_ballooning(pair, guest)
    counter.stop()
    return "no trace in either zone, log-dirty off, ballooning works"


def guest_memory_kib(pair, guest):
    text = pair.guest_shell("a", guest.name, "grep MemTotal /proc/meminfo")
    return int(re.search(r"MemTotal:\s+(\d+)", text).group(1))


def check_ballooning(pair, guest):
    before = guest_memory_kib(pair, guest)
    pair.ssh("a", f"xl mem-set {guest.name} 200m")

    def probe():
        now = guest_memory_kib(pair, guest)
        return True if now < before - 20000 else f"{now} of {before} KiB"
    wait_for("the guest's balloon works", 30, probe, poll_s=1)


@scenario("ballooning", 240)
def ballooning(pair):
    """While protected, ballooning is refused or undone, and protection is not lost over it for good."""
    guest = pair.protected("redis1", "a")
    oracle = pair.oracle(guest)
    before = guest_memory_kib(pair, guest)
    rc, _, _ = pair.try_ssh("a", f"xl mem-set {guest.name} 200m")
    time.sleep(5)
    now = guest_memory_kib(pair, guest)
    pair.wait_protected("a", guest.name)
    oracle.stop()
    require(now == before, f"while protected the guest shrank from {before} to {now} KiB")
    alarms = [e["text"] for e in pair.events("a", guest.name) if e["kind"] == "alarm"]
    require(any("204800 KiB is refused" in text for text in alarms), f"nobody says that it was refused: {alarms}")
    return f"mem-set exits {rc}; the guest keeps {before} KiB and is protected; an alarm says so"


@scenario("migrate", 240)
def migrate(pair):
    """`xl migrate` of a protected guest is refused: what it would do to the dirty log would spoil epochs unseen."""
    guest = pair.protected("redis1", "a")
    oracle = pair.oracle(guest)
    before = pair.guest_status("a", guest.name)
    # To this very host: nothing but the hypervisor's word is in its way.
    rc, out, err = pair.try_ssh("a", f"xl migrate -s '' {guest.name} 'xl migrate-receive'", limit=60)
    require(rc != 0, f"xl migrate was not refused: {(out + err).strip()[-300:]}")
    require(pair.domains("a").get(guest.name, (0, ""))[0] == before["domid"], "the guest is another domain now")
    require(len(pair.domains("a")) == 1, f"xl migrate left a domain: {pair.domains('a')}")
    after = pair.wait_protected("a", guest.name)
    require(after["term"] == before["term"], f"the term went from {before['term']} to {after['term']}")
    verdict = oracle.stop()
    return f"exit status {rc}; the guest goes on, {verdict['answered']} answers, 0 lost"


@scenario("tags", 400)
def tags(pair):
    """A tag survives the daemon's restart and the domain's reboot; a late guest is protected."""
    guest = pair.protected("redis1", "a")
    counter = pair.counter(guest)
    pair.ssh("a", "systemctl restart understudyd")
    pair.wait_daemon("a")
    pair.wait_protected("a", guest.name)
    counter.wait_answers(20)
    pair.ssh("b", "systemctl restart understudyd")
    pair.wait_daemon("b")
    pair.wait_protected("a", guest.name)
    counter.stop()

    domid = pair.domains("a")[guest.name][0]
    pair.ssh("a", f"xl reboot {guest.name}")

    def rebooted():
        now = pair.domains("a").get(guest.name, (domid, ""))[0]
        return now if now != domid else "the old domain is still there"
    wait_for("the domain has rebooted", GUEST_BOOT_LIMIT_S, rebooted, poll_s=1)
    wait_for("the guest answers again", GUEST_BOOT_LIMIT_S, lambda: pair.answers(guest), poll_s=1)
    pair.wait_protected("a", guest.name)

    uuid = pair.guest_status("a", guest.name)["uuid"]
    pair.ssh("a", f"xl destroy {guest.name}")

    def absent():
        status = pair.guest_status("a", guest.name)
        return status if status and status["state"] == "absent" else str(status and status["state"])
    wait_for("the tag outlives the domain", 30, absent)
    pair.create("redis1", "a", extra=f"uuid=\"{uuid}\"")
    pair.wait_protected("a", guest.name)
    return "over two restarts of the daemon, a reboot and a new domain"


def refused(pair, zone, command, *words):
    """The command fails, with a message that has every one of `words`."""
    rc, out, err = pair.understudy(zone, command, limit=60)
    require(rc != 0, f"{command}: not refused: {out.strip()}")
    missing = [word for word in words if word.lower() not in (err + out).lower()]
    require(not missing, f"{command}: the message lacks {missing}: {(err + out).strip()}")
    return rc


@scenario("refusals", 300)
def refusals(pair):
    """What cannot be done is refused, by name and with the reason."""
    pair.clean()
    require(refused(pair, "a", "no-such-verb") >= 64, "a wrong verb is not a usage error")
    require(refused(pair, "a", "tag") >= 64, "a tag of nothing is not a usage error")
    refused(pair, "a", "tag nobody ha=standard", "nobody")
    refused(pair, "a", "untag nobody", "nobody")
    refused(pair, "a", "failover nobody", "nobody")
    guest = pair.create("redis1", "a")
    refused(pair, "a", "tag redis1 ha=golden", "golden")
    require(not pair.status("a")["guests"], "a refused tag is remembered")

    pair.ssh("a", f"printf '{PV_GUEST}' > /tmp/pv1.cfg; xl create -q -p /tmp/pv1.cfg", limit=60)
    try:
        refused(pair, "a", "tag pv1 ha=standard", "pv1", "PV")
    finally:
        pair.try_ssh("a", "xl destroy pv1")

    pair.cut("repl")
    wait_for("zone a: the peer is down", 20,
             lambda: not pair.status("a")["peer"]["up"] or "peer still up")
    refused(pair, "a", "tag redis1 ha=standard", "peer")
    pair.heal("repl")
    # The tag stands: what keeps it from being protected passes.
    pair.wait_protected("a", guest.name)
    refused(pair, "a", "tag redis1 ha=standard", "redis1", "already")
    return "unknown verb, guest and policy, PV guest, peer unreachable, already tagged"


@scenario("ordinary-domain", 300)
def ordinary_domain(pair):
    """After activation the guest is an ordinary domain: console, sysrq, shutdown."""
    guest = pair.protected("redis1", "a")
    pair.redis(guest, "SET k v")
    pair.kill("a")
    pair.wait_runs("b", guest.name)
    require(pair.guest_shell("b", guest.name, "hostname").strip() == "redis1", "no shell on its console")
    mark = pair.guest_shell("b", guest.name, "dmesg | wc -l").strip()
    pair.ssh("b", f"xl sysrq {guest.name} m")
    wait_for("xl sysrq reaches the guest", 10, lambda: pair.guest_shell(
        "b", guest.name, "dmesg | wc -l").strip() != mark or "no new line in its dmesg", poll_s=1)
    require(pair.redis(guest, "GET k") == "v", "the guest forgot what it was told")
    pair.ssh("b", f"xl shutdown {guest.name}")
    wait_for("xl shutdown ends it", 40,
             lambda: guest.name not in pair.domains("b") or "still in xl list", poll_s=1)
    return "console, sysrq and shutdown work"
