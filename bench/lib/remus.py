"""The contender: `xl remus` as Debian 12 builds it, from zone a to zone b.

`-n -d` because libxl is built without libnl there (no network buffering) and our guests have no disk; `-F` permits it.
`-s ''` has xl run its second argument in place of `ssh HOST xl migrate-receive -r`: plain TCP, as Understudy's stream.
"""

import contextlib
import shlex

import figures
import pairlib
from pairlib import Failed, wait_for
from stand import NICE, PROGRAMS

PORT = 7790
LOG = "/run/bench-remus.log"
RECEIVE_LOG = "/run/bench-receive.log"
BEGIN_LIMIT_S = 240         # xl sends every page of the guest first, the empty ones too
FIRST_CHECKPOINTS = 3       # seen before anything is measured
END_LIMIT_S = 15
TO_BACKUP, TO_NOWHERE = "a backup in zone b", "/dev/null (-b)"


class Remus:
    """One `xl remus`. `transport` says where its stream goes."""

    def __init__(self, stand, guest, epoch_ms, transport):
        self.stand, self.transport = stand, transport
        self.command = ["xl", "remus", "-F", "-n", "-d", "-i", str(epoch_ms)] + self._target(guest)
        self.receiver = self.sender = None

    def start(self):
        if self.transport == TO_BACKUP:
            self.receiver = self._spawn("b", RECEIVE_LOG, f"python3 {PROGRAMS}/remus_transport.py receive "
                                                          f"{pairlib.REPL['b']} {PORT} xl migrate-receive -r -e")
        self.sender = self._spawn("a", LOG, shlex.join(self.command))
        self._wait_checkpoints()

    def _target(self, guest):
        if self.transport == TO_NOWHERE:
            return ["-b", guest.name, "nowhere"]    # xl wants two arguments even so
        return ["-s", "", guest.name, f"exec python3 {PROGRAMS}/remus_transport.py send {pairlib.REPL['b']} {PORT}"]

    def _spawn(self, zone, log, command):
        """A process group of its own; its id."""
        return int(self.stand.ssh(zone, f"rm -f {log}; setsid nice -n {NICE} {command} > {log} 2>&1 < /dev/null & echo $!"))

    def _wait_checkpoints(self):
        def probe():
            seen = int(self.stand.try_ssh("a", f"grep -c {shlex.quote(figures.SUSPENDED)} {LOG}")[1] or 0)
            if seen >= FIRST_CHECKPOINTS:
                return True
            if self.stand.try_ssh("a", f"test -d /proc/{self.sender}")[0] != 0:
                raise Failed(f"xl remus ended: {self._said()}")
            return f"{seen} checkpoints"
        wait_for(f"xl remus to {self.transport}", BEGIN_LIMIT_S, probe, poll_s=1)

    def _said(self):
        said = self.stand.try_ssh("a", f"tail -n 6 {LOG}")[1]
        if self.receiver:
            said += self.stand.try_ssh("b", f"tail -n 6 {RECEIVE_LOG}")[1]
        return " | ".join(said.split("\n"))[-600:]

    def measure(self, seconds):
        """Epochs, pages and bytes on the wire while `seconds` pass: see figures.of_remus()."""
        now = "$(cut -d' ' -f1 /proc/uptime) $(cat /sys/class/net/repl/statistics/tx_bytes)"
        out = self.stand.ssh("a", f"from=$(stat -c %s {LOG}); a=\"{now}\"; sleep {seconds}; b=\"{now}\"; "
                                  f"to=$(stat -c %s {LOG}); echo \"$a\"; echo \"$b\"; "
                                  f"tail -c +$((from + 1)) {LOG} | head -c $((to - from))",
                             limit=2 * seconds + pairlib.SSH_LIMIT_S)
        found = figures.of_remus(out)
        if self.transport == TO_NOWHERE:
            found["wire_bytes_per_epoch"] = None
        return dict(found, transport=self.transport)

    def stop(self):
        """The receiver first: when its stream ends it takes that for a failure and runs the guest."""
        for zone, group in (("b", self.receiver), ("a", self.sender)):
            if group:
                self.stand.try_ssh(zone, f"kill -9 -- -{group}")
                wait_for(f"zone {zone}: xl ends", END_LIMIT_S, lambda zone=zone, group=group: self.stand.try_ssh(
                    zone, f"test -d /proc/{group}")[0] != 0)
        for domid, _ in self.stand.domains("b").values():
            self.stand.try_ssh("b", f"xl destroy {domid}", limit=pairlib.CLEAN_LIMIT_S)     # what was being received


@contextlib.contextmanager
def remus(stand, roles, epoch_ms, transports):
    """A fresh guest under `xl remus`. A transport that does not work is taken out of the list `transports`, so that it is
    not waited for again."""
    while True:
        guest = stand.fresh(roles)
        session = Remus(stand, guest, epoch_ms, transports[0])
        try:
            session.start()
            break
        except Failed as error:
            session.stop()
            if len(transports) == 1:
                raise
            stand.say(f"{error}; trying xl remus to {transports[1]}")
            del transports[0]
        except BaseException:
            session.stop()
            raise
    try:
        yield guest, session
    finally:
        session.stop()
