"""The local pair as the scenarios and the demo see it: zones, guests, clients, waiting, evidence.

Everything is done through deploy/local/pair and, in the zones, through `understudy` and `xl`, as an
operator would do it. Every wait has a bound and says what it waited for.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time

HERE = os.path.dirname(os.path.realpath(__file__))
REPO = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
TOOL = os.path.join(REPO, "deploy", "local", "pair")
CLIENTS = ("counter_client.py", "oracle_client.py", "frames.py")
REMOTE = "/run/test"

UP_LIMIT_S = 420
START_LIMIT_S = 200
SSH_LIMIT_S = 30
DAEMON_LIMIT_S = 20         # understudyd answers after its start
GUEST_BOOT_LIMIT_S = 120    # xl create until redis answers
PROTECT_LIMIT_S = 240       # tagged, or peer back, until the first whole epoch is committed
RESUME_LIMIT_S = 90         # whatever happened, clients get answers again within (a few dozen of them, under emulation)
FAILOVER_LIMIT_S = 30       # zone lost until the other one runs the guest
CLEAN_LIMIT_S = 60
POLL_S = 0.5
POLL_SELDOM_S = 2     # what takes long anyway: each look costs an emulated dom0 a third of a second of its processor

REPL = {"a": "10.88.0.1", "b": "10.88.0.2"}
PEER = {"a": "b", "b": "a"}

CONFIG = """\
[host]
name = zone-{zone}
zone = {zone}

[peer]
address = {peer}

# Two hosts and no witness: a cut link would run the guest twice. Here links are cut on purpose only.
# An emulated guest pays for every epoch with most of its processor: 50 ms leave it enough for two clients. And while libxl builds a
# shell, dom0's one emulated processor keeps a heartbeat waiting for more than the usual 500 ms.
[policy standard]
epoch_ms = 50
timeout_ms = 1500
takeover = automatic-without-witness

[policy manual]
epoch_ms = 50
timeout_ms = 1500
takeover = manual

# For tests that hold something up on purpose.
[policy patient]
epoch_ms = 50
heartbeat_ms = 100
timeout_ms = 20000
hold_max_ms = 60000
takeover = manual

# The witness is etcd in zone c, where a scenario has started it.
[witness]
endpoints = http://10.77.0.3:2379
ttl_ms = 3000

[policy leased]
epoch_ms = 50
timeout_ms = 1500
takeover = automatic

[policy late]
epoch_ms = 50
heartbeat_ms = 100
timeout_ms = 6000
hold_max_ms = 60000
takeover = automatic-without-witness
"""

FAULT_FILE = "/run/understudy-fault"
# A zone that boots lays its default configuration over ours.
BUNDLE = "/run/bundle"
OUR_CONFIG = "/etc/understudy/pair.conf"
DROP_IN = """\
[Service]
ExecStartPre=+/bin/cp {config} /etc/understudy/understudy.conf
Environment=UNDERSTUDY_FAULT_FILE={fault}
{extra}
"""


class Failed(Exception):
    """The verdict: what was expected and what was seen."""


class Skipped(Exception):
    """The scenario cannot be run here, and why."""


class Guest:
    def __init__(self, name, number, cfg):
        self.name, self.cfg = name, cfg
        self.ip4, self.ip6 = f"10.77.0.{number}", f"fd77::{number}"
        self.mac = f"00:16:3e:77:00:{number}"


GUESTS = {
    "redis1": Guest("redis1", 11, "/guest/redis1.cfg"),
    "redis1-smp": Guest("redis1", 11, "/guest/redis1-smp.cfg"),
    "redis2": Guest("redis2", 12, "/guest/redis2.cfg"),
    "small": Guest("small", 13, "/guest/small.cfg"),
    "disk1": Guest("disk1", 14, "/guest/disk1.cfg"),
}


def told(args):
    """A command for a message: one line, not too long."""
    line = " ".join(" ".join(args).split())
    return line if len(line) <= 100 else line[:60] + " ... " + line[-35:]


def require(condition, text):
    if not condition:
        raise Failed(text)


def wait_for(what, limit_s, probe, poll_s=POLL_S):
    """Calls probe() until it returns something true, which is returned. A string it returns counts as
    "not yet, because"; a Failed it raises ends the wait at once."""
    end, last = time.monotonic() + limit_s, ""
    while True:
        result = probe()
        if result and not isinstance(result, str):
            return result
        last = result or last
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {limit_s} s" + (f" ({last})" if last else ""))
        time.sleep(poll_s)


class Pair:
    def __init__(self, folder, say):
        self.folder, self.say = folder, say
        self.client_serial = 0
        self.left = None            # what protected() made last; clean() took nothing away since

    # The tool

    def tool(self, *args, limit=SSH_LIMIT_S, check=True, **kwargs):
        """(exit status, stdout, stderr) of one pair command."""
        command = [TOOL, "-d", self.folder] + list(args)
        try:
            r = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                               errors="replace", timeout=limit, check=False, **kwargs)
        except subprocess.TimeoutExpired:
            raise Failed(f"pair {told(args)}: not done within {limit} s") from None
        if check and r.returncode != 0:
            raise Failed(f"pair {told(args)}: exit status {r.returncode}: "
                         f"{(r.stderr + r.stdout).strip()[-600:]}")
        return r.returncode, r.stdout, r.stderr

    def ssh(self, zone, script, limit=SSH_LIMIT_S):
        """stdout of a shell command in a zone that must succeed."""
        return self.tool("ssh", zone, script, limit=limit)[1]

    def try_ssh(self, zone, script, limit=SSH_LIMIT_S):
        return self.tool("ssh", zone, script, limit=limit, check=False)

    def alive(self, zone):
        _, out, _ = self.tool("status")
        return re.search(rf"^zone {zone}: .*pid \d+", out, re.M) is not None

    def up(self):
        """Zones up, with our software as it is built now, configured for the tests, clients' programs in zone c."""
        self.tool("up", limit=UP_LIMIT_S)
        self.tool("reload", limit=START_LIMIT_S)    # a pair that was up may have an older one
        self.install_clients()
        for zone in "ab":
            self.configure(zone)

    def down(self):
        self.tool("down", limit=60)

    def kill(self, zone):
        self.tool("kill", zone)

    def kill_undisturbed(self, zone, counter, quiet_s):
        """Power off. Nothing else of ours runs within `quiet_s` before and after: a process that starts takes processor from the zones.

        Returns when, on the clock of the `counter` client; not too late, and early by less than that clock's reading takes."""
        pid = int(re.search(rf"^zone {zone}: .*pid (\d+)", self.tool("status")[1], re.M)[1])
        clients_us, ours = counter.now_us(), time.monotonic()
        time.sleep(quiet_s)
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        time.sleep(quiet_s)
        return clients_us + int((killed - ours) * 1e6)

    def start(self, zone):
        if not self.alive(zone):
            self.tool("start", zone, limit=START_LIMIT_S)
            self.wait_daemon(zone)

    def cut(self, link):
        self.tool("cut", link)

    def heal(self, link):
        self.tool("heal", link)

    def cut_for(self, link, seconds):
        """Cut and healed; returns how long it really was."""
        self.cut(link)
        began = time.monotonic()
        time.sleep(max(0.0, seconds))
        self.heal(link)
        return time.monotonic() - began

    # Our software in the zones

    def configure(self, zone, environment="", config=CONFIG):
        """Writes the configuration; restarts the daemon only if something changed."""
        files = {OUR_CONFIG: config.format(zone=zone, peer=REPL[PEER[zone]]),
                 "/etc/systemd/system/understudyd.service.d/pair.conf":
                 DROP_IN.format(config=OUR_CONFIG, fault=FAULT_FILE, extra=environment)}
        script = "changed=\n"
        for path, text in files.items():
            script += (f"mkdir -p {os.path.dirname(path)}\n"
                       f"printf %s {shlex.quote(text)} > /tmp/new\n"
                       f"cmp -s /tmp/new {path} || {{ cp /tmp/new {path}; changed=1; }}\n")
        script += ("[ -z \"$changed\" ] || { systemctl daemon-reload; "
                   "systemctl reset-failed understudyd; systemctl restart understudyd; }\nsync")
        self.ssh(zone, script)
        self.wait_daemon(zone)

    def encrypt(self, config=CONFIG):
        """[tls] in both zones' configuration, with certificates of `understudy pair`; clean() takes it out again."""
        self.ssh("a", "understudy pair init zone-b")
        bundle = self.ssh("a", "cat /etc/understudy/tls/zone-b.bundle")
        self.ssh("b", f"umask 077; printf %s {shlex.quote(bundle)} > {BUNDLE}; understudy pair join {BUNDLE} && rm {BUNDLE}")
        for zone in "ab":
            self.configure(zone, config=config + f"\n[tls]\npeer = zone-{PEER[zone]}\n")

    def wait_daemon(self, zone):
        def probe():
            rc, _, err = self.understudy(zone, "status --json")
            return True if rc < 64 else f"exit {rc}: {err.strip()}"
        wait_for(f"zone {zone}: understudyd answers", DAEMON_LIMIT_S, probe)

    def understudy(self, zone, args, limit=SSH_LIMIT_S):
        """(exit status, stdout, stderr)"""
        return self.try_ssh(zone, f"understudy {args}", limit=limit)

    def status(self, zone):
        rc, out, err = self.understudy(zone, "status --json")
        try:
            return json.loads(out)
        except ValueError:
            raise Failed(f"zone {zone}: status --json: exit {rc}, not JSON: "
                         f"{(out + err).strip()[:300]}") from None

    def guest_status(self, zone, name):
        """The guest's part of the status, or None."""
        for guest in self.status(zone)["guests"]:
            if guest["name"] == name:
                return guest
        return None

    def events(self, zone, name=None):
        rc, out, err = self.understudy(zone, "events --json")
        require(rc == 0, f"zone {zone}: events --json: exit {rc}: {err.strip()[:300]}")
        events = parse_json_lines(out)
        return [e for e in events if name is None or e.get("guest") == name]

    def domains(self, zone):
        """{name: (domid, state letters)} of xl list, without dom0."""
        out = self.ssh(zone, "xl list")
        found = {}
        for line in out.splitlines()[1:]:
            words = line.split()
            if len(words) >= 6 and words[1] != "0":
                found[words[0]] = (int(words[1]), words[4])
        return found

    def worker_pid(self, zone, name):
        guest = self.guest_status(zone, name)
        return guest.get("worker_pid") if guest else None

    def daemon_pid(self, zone):
        return int(self.ssh(zone, "systemctl show -p MainPID --value understudyd").strip())

    def journal_mark(self, zone):
        return self.ssh(zone, "journalctl -n 0 --show-cursor -q").split("-- cursor: ")[-1].strip()

    def journal(self, zone, mark):
        return self.ssh(zone, f"journalctl -q -o short-monotonic --no-pager --after-cursor "
                              f"{shlex.quote(mark)}", limit=60)

    def arm(self, zone, name, spec):
        """Arms fault points in a guest's live worker; returns its pid."""
        pid = self.worker_pid(zone, name)
        require(pid, f"zone {zone}: no worker of {name} to arm")
        return self.arm_pid(zone, pid, spec)

    def arm_pid(self, zone, pid, spec):
        """As arm(). The FIFO is gone before the process can act, so that its successor does not find
        it again."""
        rc, _, err = self.try_ssh(zone, (
            f"rm -f {FAULT_FILE}; mkfifo {FAULT_FILE}; kill -USR2 {pid} && "
            f"timeout 10 sh -c 'exec 3> {FAULT_FILE}; rm {FAULT_FILE}; echo {spec} >&3'"))
        if rc != 0:
            self.try_ssh(zone, f"rm -f {FAULT_FILE}")
            raise Failed(f"zone {zone}: process {pid} did not read {spec}: {err.strip()}")
        return pid

    # Guests

    def create(self, key, zone, extra="", clocks=False):
        """xl create, and waits until it serves; `extra` is one more line of its configuration. What a
        scenario does not use is left out: emulated, a guest has little to spare."""
        guest, cfg = GUESTS[key], f"/run/{key}.cfg"
        unused = "iperf3" if clocks else "iperf3\\|clockwatch"
        self.ssh(zone, f"sed 's/ \\({unused}\\)//g' {guest.cfg} > {cfg}; "
                       f"xl create -q {cfg} {shlex.quote(extra) if extra else ''}",
                 limit=GUEST_BOOT_LIMIT_S)
        port = 6379 if key.startswith("redis") else 7002
        wait_for(f"{guest.name} in zone {zone} answers on port {port}", GUEST_BOOT_LIMIT_S,
                 lambda: self.answers(guest, port), poll_s=0.5)
        return guest

    def answers(self, guest, port=6379):
        rc, _, err = self.try_ssh("c", f"timeout 3 bash -c 'exec 3<>/dev/tcp/{guest.ip4}/{port}'")
        return rc == 0 or err.strip() or "no connection"

    def redis(self, guest, command):
        return self.ssh("c", f"redis-cli -h {guest.ip4} {command}").strip()

    def guest_line(self, guest, port, line):
        """One answer line of a test program in the guest."""
        script = (f"exec 3<>/dev/tcp/{guest.ip4}/{port} && echo {line} >&3 && "
                  f"timeout 5 head -n 1 <&3")
        return self.ssh("c", f"timeout 15 bash -c '{script}'").strip()

    def guest_shell(self, zone, name, command):
        """A command on the guest's console; its output."""
        self.tool("push", zone, os.path.join(HERE, "guest_console.py"), "/tmp/guest_console.py")
        return self.ssh(zone, f"python3 /tmp/guest_console.py {name} {shlex.quote(command)}", limit=60)

    # Protection

    def tag(self, zone, name, policy="standard"):
        rc, out, err = self.understudy(zone, f"tag {name} ha={policy}", limit=PROTECT_LIMIT_S)
        require(rc in (0, 1, 2), f"tag {name} ha={policy}: exit {rc}: {(err + out).strip()}")

    def untag(self, zone, name):
        rc, out, err = self.understudy(zone, f"untag {name}", limit=CLEAN_LIMIT_S)
        require(rc == 0, f"untag {name}: exit {rc}: {(err + out).strip()}")

    def is_protected(self, zone, name):
        guest = self.guest_status(zone, name)
        if not guest:
            return f"zone {zone} does not know {name}"
        if guest["state"] != "protected":
            return f"{guest['state']}: {guest.get('problem') or ''}"
        return guest

    def wait_protected(self, zone, name, limit_s=PROTECT_LIMIT_S):
        return wait_for(f"{name} protected in zone {zone}", limit_s,
                        lambda: self.is_protected(zone, name), poll_s=POLL_SELDOM_S)

    def wait_runs(self, zone, name, limit_s=FAILOVER_LIMIT_S):
        def probe():
            guest = self.guest_status(zone, name)
            if guest and guest["role"] == "primary":
                return guest
            return guest["state"] if guest else f"zone {zone} does not know {name}"
        return wait_for(f"{name} runs in zone {zone}", limit_s, probe)

    # Clients in zone c

    def install_clients(self):
        self.ssh("c", f"mkdir -p {REMOTE}; rm -f {REMOTE}/*.json {REMOTE}/*.journal; ip -6 address add fd77::3/64 dev lan nodad 2>/dev/null || true")
        self.tool("push", "c", *[os.path.join(HERE, name) for name in CLIENTS], REMOTE + "/")

    def spawn(self, command, log):
        """Starts a process in zone c that outlives the ssh session; returns its pid."""
        out = self.ssh("c", f"cd {REMOTE}; setsid sh -c 'exec {command}' > {log} 2>&1 < /dev/null & "
                            f"echo $!")
        return int(out)

    def end(self, pid, limit_s=60):
        """SIGTERM, and waits for the end."""
        self.try_ssh("c", f"kill {pid}")
        wait_for(f"client {pid} ends", limit_s,
                 lambda: self.try_ssh("c", f"test -d /proc/{pid}")[0] != 0)

    def end_clients(self):
        """Every client of a scenario, whatever became of it."""
        self.try_ssh("c", f"for p in /proc/[0-9]*; do "
                          f"[ \"$(readlink $p/cwd)\" = {REMOTE} ] && kill ${{p#/proc/}}; done")

    def counter(self, guest, pause_ms=100):
        return Counter(self, guest, pause_ms)

    def oracle(self, guest, **options):
        return Oracle(self, guest, **options)

    def benchmark(self, guest, clients=2):
        """redis-benchmark without end, a second kind of load."""
        return self.spawn(f"redis-benchmark -h {guest.ip4} -c {clients} -l -q -t set,get,lpush -r 10000",
                          "benchmark.log")

    # Between scenarios

    def clean(self):
        """Zones up, links healed, nothing tagged, no guest anywhere, no client."""
        self.left = None
        if not all(self.alive(zone) for zone in "abc"):
            for zone in "abc":
                self.start(zone)
        self.heal("all")
        self.end_clients()
        for zone in "ab":
            self.configure(zone)
            self.try_ssh(zone, f"rm -f {FAULT_FILE}; pkill -CONT understudy")
        for zone in "ab":
            for guest in self.status(zone)["guests"]:
                self.understudy(zone, f"untag {guest['name']}", limit=CLEAN_LIMIT_S)
        for zone in "ab":
            for name in self.domains(zone):
                if not name.endswith("--shell"):
                    self.try_ssh(zone, f"xl destroy {name}", limit=CLEAN_LIMIT_S)
        for zone in "ab":
            wait_for(f"zone {zone}: no guest is left", CLEAN_LIMIT_S,
                     lambda zone=zone: self._nothing_left(zone))

    def _nothing_left(self, zone):
        left = list(self.domains(zone)) + [g["name"] for g in self.status(zone)["guests"]]
        return ", ".join(left) if left else True

    def protected(self, key="redis1", zone="a", policy="standard", clocks=False):
        """A guest that runs in `zone`, protected, and nothing else: the last scenario's if it left such a one, else a new one."""
        guest, wanted = GUESTS[key], (key, zone, policy, clocks)
        if self._left_protected(guest, wanted):
            self.say(f"goes on with the {guest.name} that was left")
        else:
            self.clean()
            self.create(key, zone, clocks=clocks)
            self.tag(zone, guest.name, policy)
            self.wait_protected(zone, guest.name)
        self.left = wanted
        return guest

    def _left_protected(self, guest, wanted):
        if self.left != wanted or not all(self.alive(zone) for zone in "abc"):
            return False
        self.heal("all")
        self.end_clients()
        for zone in "ab":
            self.configure(zone)
            self.try_ssh(zone, f"rm -f {FAULT_FILE}")
            if [g["name"] for g in self.status(zone)["guests"]] != [guest.name] or len(self.domains(zone)) != 1:
                return False
        return not isinstance(self.is_protected(wanted[1], guest.name), str)

    # Evidence

    def collect(self, where):
        """What there is to see, into the folder `where`; never raises."""
        shutil.rmtree(where, ignore_errors=True)
        os.makedirs(where)
        for zone in "abc":
            for suffix in ("journal.log", "console.log", "qemu.log"):
                source = os.path.join(self.folder, f"{zone}.{suffix}")
                if os.path.exists(source):
                    shutil.copy(source, where)
        looks = {"status": "understudy status; understudy status --json", "xl": "xl list -v",
                 "events": "understudy events --json", "dmesg": "xl dmesg | tail -n 200",
                 "net": "ip -s link; ip address; bridge fdb", "ps": "ps axfww",
                 "xenstore": "xenstore-ls -fp", "guests": "tail -n 80 /var/log/xen/guest-*.log"}
        for zone in "ab":
            for name, script in looks.items():
                self._keep(os.path.join(where, f"{zone}.{name}"), zone, script)
        self._keep(os.path.join(where, "c.net"), "c", looks["net"])
        try:
            self.tool("pull", "c", f"{REMOTE}/", os.path.join(where, "clients"), check=False)
        except (Failed, OSError):
            pass

    def _keep(self, path, zone, script):
        try:
            rc, out, err = self.try_ssh(zone, script, limit=15)
            text = out + err + (f"\nexit status {rc}\n" if rc else "")
        except (Failed, OSError) as error:
            text = f"{error}\n"
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


class Counter:
    """The counter client in zone c."""

    def __init__(self, pair, guest, pause_ms):
        self.pair, self.guest = pair, guest
        pair.client_serial += 1
        self.key = f"counter{pair.client_serial}"
        self.out = f"{REMOTE}/{self.key}.json"
        self.pid = pair.spawn(f"python3 {REMOTE}/counter_client.py --host {guest.ip4} --key {self.key} "
                              f"--pause-ms {pause_ms} --out {self.out}", f"{self.key}.log")
        self.wait_answers(10)

    def read(self):
        """The last snapshot, or None before the first."""
        rc, out, _ = self.pair.try_ssh("c", f"cat {self.out}")
        return json.loads(out) if rc == 0 and out else None

    def now_us(self):
        return int(self.pair.ssh("c", "python3 -c 'import time; print(time.monotonic_ns() // 1000)'"))

    def wait_answers(self, more, limit_s=RESUME_LIMIT_S):
        """Until `more` further answers have come in from now on."""
        before = (self.read() or {"answers": 0})["answers"]

        def probe():
            now = self.read()
            if now and now["error"]:
                raise Failed(f"counter client of {self.guest.name}: {now['error']}")
            return now if now and now["answers"] >= before + more else \
                f"{now['answers'] - before if now else 0} of {more} answers"
        return wait_for(f"answers from {self.guest.name}", limit_s, probe, poll_s=1)

    def stop(self):
        """Ends it and judges: one connection, nothing lost, nothing twice, never backward."""
        self.pair.end(self.pid)
        result = self.read()
        check_counter(result)
        held = int(self.pair.redis(self.guest, f"GET {self.key}"))
        require(held == result["last_value"],
                f"the last answer was {result['last_value']}, the guest holds {held}")
        return result


def check_progress(result):
    """What must be true of the counter client's answers at any time."""
    require(result is not None, "the counter client left no result")
    require(result["error"] is None, f"counter client: {result['error']}")
    require(result["answers"] > 0, "the counter client had no answer at all")
    require(result["backward"] == 0, f"the counter went back {result['backward']} times")
    require(result["jumps"] == 0, f"the counter jumped {result['jumps']} times: something ran twice")


def check_counter(result):
    check_progress(result)
    connection = result["connection"]
    require(connection["same_socket"] and connection["established"],
            f"the connection did not survive: {connection}")


class Oracle:
    """The output-commit oracle in zone c."""

    def __init__(self, pair, guest, connections=4, rate=20):
        self.pair, self.guest = pair, guest
        pair.client_serial += 1
        self.run = f"o{pair.client_serial}"
        self.journal = f"{REMOTE}/{self.run}.journal"
        self.common = f"--host {guest.ip4} --run {self.run} --journal {self.journal}"
        self.pid = pair.spawn(f"python3 {REMOTE}/oracle_client.py run {self.common} "
                              f"--connections {connections} --rate {rate}", f"{self.run}.log")

    def verify(self, least=1):
        """The verdict on everything answered so far."""
        _, out, err = self.pair.try_ssh("c", f"python3 {REMOTE}/oracle_client.py verify {self.common}",
                                        limit=180)
        try:
            verdict = json.loads(out)
        except ValueError:
            raise Failed(f"oracle: no verdict: {(out + err).strip()[-400:]}") from None
        require(verdict["ok"], f"oracle: {'; '.join(verdict['problems'])}")
        require(verdict["answered"] >= least,
                f"oracle: only {verdict['answered']} answers to judge by, wanted {least}")
        return verdict

    def stop(self):
        self.pair.end(self.pid)
        return self.verify()


def parse_json_lines(text):
    """A JSON array, an object with "events", or one object a line."""
    text = text.strip()
    if not text:
        return []
    try:
        whole = json.loads(text)
    except ValueError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    if isinstance(whole, dict):
        return whole.get("events", [whole])
    return whole
