"""The pair as the benchmark uses it: fresh guests, its own policies, programs in the zones, one measurement beside another."""

import concurrent.futures
import json
import os
import re
import shlex
import time

import figures
import pairlib
from pairlib import require, wait_for

HERE = os.path.dirname(os.path.realpath(__file__))
FLOOR = os.path.join(pairlib.REPO, "build", "bench", "floor")
PROGRAMS = "/opt/bench"             # in the zones; survives a power-off only if it was written out
GUEST_CFG = "/run/bench.cfg"
# At both ends of iperf3's connection. What is compared is two back ends, not what TCP makes of an emulated processor's delays: HyStart takes the
# first of them for a full queue and leaves slow start with a small window, and the next connection begins with what this one ended with.
PLAIN_TCP = "tcp_cubic.hystart=0 sysctl.net.ipv4.tcp_no_metrics_save=1"     # the guest's kernel is told
PLAIN_TCP_IN_C = "echo 0 > /sys/module/tcp_cubic/parameters/hystart; echo 1 > /proc/sys/net/ipv4/tcp_no_metrics_save"
WARM_UP_S = 2                       # of iperf3, not counted
PORTS = {"dirtyloop": 7001, "redis": 6379, "iperf3": 5201}
NICE = -5                           # the worker's (checkpoint/worker_main.c): nobody gets more of dom0's processor

EPOCHS_MS = (25, 50, 100, 200)
SETTLE_S = 3                        # after a change, until figures are of the new state only
SAMPLE_EVERY_S = 2                  # a status costs dom0 the start of a process
LOOP_LIMIT_S = 150                  # the loop client's connection and three answers, beyond the measured time
FLOOR_MAP_LIMIT_S = 60              # until floor has mapped the guest
FLOOR_MORE_S = 10                   # floor outlives the guest's measurement by about so much
TAKEN_DOWN_LIMIT_S = 30

_CONFIG_HEAD = """\
[host]
name = zone-{zone}
zone = {zone}

[peer]
address = {peer}
"""
# Nothing fails here, and a busy machine is no failure. `standard` is set too: the daemons' session keeps the smallest time-out.
_STEADY_POLICY = """
[policy {name}]
epoch_ms = {epoch_ms}
timeout_ms = 5000
hold_max_ms = 15000
takeover = manual
"""
STEADY = _CONFIG_HEAD + "".join(
    _STEADY_POLICY.format(name=name, epoch_ms=ms)
    for name, ms in [("standard", 25)] + [(f"e{ms}", ms) for ms in EPOCHS_MS])
# What the failover's target is stated for. Zone a is really off, so taking over alone is safe.
FAILOVER = _CONFIG_HEAD + """
[policy standard]
epoch_ms = 25
heartbeat_ms = 100
timeout_ms = 500
takeover = automatic-without-witness
"""


def beside(*jobs):
    """The results of functions that run at the same time; the first error is raised when all are over."""
    with concurrent.futures.ThreadPoolExecutor(len(jobs)) as pool:
        futures = [pool.submit(job) for job in jobs]
        return [future.result() for future in futures]


class Stand(pairlib.Pair):
    """A pair whose daemons have `config`."""

    def __init__(self, folder, say):
        super().__init__(folder, say)
        self.config = STEADY

    def configure(self, zone, environment="", config=None):
        super().configure(zone, environment, config or self.config)

    def install(self):
        """Our programs, into the zones; again whenever a zone may have lost them."""
        for zone in "abc":
            self.ssh(zone, f"mkdir -p {PROGRAMS}")
        for zone, names in (("a", (FLOOR, "remus_transport.py")), ("b", ("remus_transport.py",)),
                            ("c", ("loop_client.py",))):
            self.tool("push", zone, *[os.path.join(HERE, name) for name in names], PROGRAMS + "/")
        self.install_clients()

    def plain(self):
        """No TLS, whatever was before."""
        for zone in "ab":
            self.configure(zone)

    # Guests

    def fresh(self, roles, options=""):
        """An empty pair, then a new guest in zone a that runs nothing but `roles`; waits until the first of them answers."""
        self.clean()
        return self.boot(roles, options)

    def boot(self, roles, options=""):
        """`options`: more of its kernel's."""
        guest = pairlib.GUESTS["redis1"]
        run = f'{options} understudy.run="{roles}"'.strip()
        self.ssh("a", f"sed 's/understudy\\.run=\"[^\"]*\"/{run}/' {guest.cfg} > {GUEST_CFG}; "
                      f"grep -qF {shlex.quote(run)} {GUEST_CFG} && xl create -q {GUEST_CFG}",
                 limit=pairlib.GUEST_BOOT_LIMIT_S)
        port = PORTS[re.match(r"\w+", roles)[0]]
        wait_for(f"{guest.name} answers on port {port}", pairlib.GUEST_BOOT_LIMIT_S,
                 lambda: self.answers(guest, port), poll_s=0.5)
        return guest

    def domid(self, guest):
        domains = self.domains("a")
        require(guest.name in domains, f"{guest.name} does not run in zone a")
        return domains[guest.name][0]

    def unprotect(self, guest):
        """An ordinary guest again, and no copy of it on the other side, so that it can be tagged anew."""
        self.untag("a", guest.name)
        wait_for(f"{guest.name} is forgotten", pairlib.CLEAN_LIMIT_S,
                 lambda: all(self.guest_status(zone, guest.name) is None for zone in "ab"))

    # The loop in the guest

    def set_loop(self, guest, rate, mib):
        """From now on it dirties `rate` pages a second, round and round in `mib`."""
        self._loop_client(guest, f"--set 'size {mib}' --set 'rate {rate}'", 0)
        time.sleep(SETTLE_S)

    def loop(self, guest, seconds):
        """One measurement; see loop_client.py."""
        return json.loads(self._loop_client(guest, f"--seconds {seconds}", seconds))

    def _loop_client(self, guest, args, seconds):
        return self.ssh("c", f"python3 {PROGRAMS}/loop_client.py --host {guest.ip4} {args}",
                        limit=seconds + LOOP_LIMIT_S)

    # What an epoch costs

    def statuses(self, guest, seconds):
        """The worker's figures while `seconds` pass, as figures.of_worker() takes them."""
        times = max(2, int(seconds / SAMPLE_EVERY_S))
        out = self.ssh("a", f"for i in $(seq {times}); do sleep {SAMPLE_EVERY_S}; "
                            f"understudy status {guest.name} --json || true; done",
                       limit=2 * seconds + pairlib.SSH_LIMIT_S)
        return figures.windows_of(figures.json_stream(out), guest.name)

    def floor(self, guest, epoch_ms, seconds, meanwhile):
        """(floor's figures, what meanwhile() returned while it ran)"""
        out, err = "/run/bench-floor.json", "/run/bench-floor.log"
        longest = seconds + FLOOR_MORE_S
        pid = int(self.ssh("a", f"rm -f {out} {err}; setsid nice -n {NICE} {PROGRAMS}/floor {self.domid(guest)} "
                                f"{epoch_ms} {longest} > {out} 2> {err} < /dev/null & echo $!"))

        def ended():
            return self.try_ssh("a", f"test -d /proc/{pid}")[0] != 0

        def begun():
            said = self.ssh("a", f"cat {err}").strip()
            require("floor: begins" in said or not ended(), f"floor ended: {said}")
            return "floor: begins" in said or said or "it maps the guest"

        try:
            wait_for("floor begins", FLOOR_MAP_LIMIT_S, begun)
            result = meanwhile()
            wait_for("floor ends", longest + pairlib.SSH_LIMIT_S, ended)
        finally:
            # A failed measurement: whatever floor leaves behind goes with the guest.
            if not ended():
                self.try_ssh("a", f"kill -9 {pid}")
        return figures.of_floor(self.ssh("a", f"cat {out}")), result

    # The two back ends

    def back_end_driver(self, guest):
        """Whether dom0's kernel serves the guest's interface."""
        path = f"/sys/bus/xen-backend/devices/vif-{self.domid(guest)}-0/driver"
        return self.try_ssh("a", f"test -e {path}")[0] == 0

    def kernel_takes_over(self):
        """xen-netback instead of ours, for guests that are made from now on. The pair must be clean."""
        self.ssh("a", "systemctl stop understudyd; pkill -f '^/usr/lib/understudy/understudy-worker'; "
                      "modprobe xen-netback")

    def kernel_gives_back(self):
        """No guest, no xen-netback, our daemon again."""
        for name in self.domains("a"):
            self.try_ssh("a", f"xl destroy {name}", limit=pairlib.CLEAN_LIMIT_S)
        wait_for("xen-netback goes", TAKEN_DOWN_LIMIT_S, lambda: self.try_ssh(
            "a", "! grep -q ^xen_netback /proc/modules || rmmod xen_netback")[0] == 0, poll_s=1)
        self.ssh("a", "systemctl reset-failed understudyd; systemctl start understudyd")
        self.wait_daemon("a")

    def redis_benchmark(self, guest, clients, requests, limit_s):
        out = self.ssh("c", f"timeout {limit_s} redis-benchmark -h {guest.ip4} -c {clients} -n {requests} "
                            f"-r 10000 -t set,get --csv", limit=limit_s + pairlib.SSH_LIMIT_S)
        return figures.of_redis(out)

    def iperf3(self, guest, seconds, reverse):
        """Bits per second into the guest; reverse: out of it."""
        limit_s = 2 * seconds + 20
        out = self.ssh("c", f"{PLAIN_TCP_IN_C}; timeout {limit_s} iperf3 -c {guest.ip4} -t {seconds} -O {WARM_UP_S} -J "
                            f"--connect-timeout 10000 {'-R' if reverse else ''}", limit=limit_s + pairlib.SSH_LIMIT_S)
        return figures.of_iperf3(out)
