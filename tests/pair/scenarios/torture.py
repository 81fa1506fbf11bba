"""The fault campaign. A run: clients and captures on, a fault at a random moment, everything mended, records kept, a verdict from them.

A run is its seed: the fault, its moment and its measures come from it. Runs follow each other on the same guest, wherever it is by then.
`tests/pair/torture` makes many; the scenario here a few.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time

import torture_faults
import witness
from pairlib import HERE, PEER, PROTECT_LIMIT_S, REMOTE, REPO, Failed, require, wait_for
from scenario import parameter, scenario

FOLDER = os.path.join(REPO, "build", "torture")
VERDICT = os.path.join(HERE, "torture_verdict.py")
SETTLE_LIMIT_S = PROTECT_LIMIT_S
SLICE = ("primary-power-off", "alone", "worker-stopped", "host-stopped")
LOOKS = 4                   # a guest is paused in every epoch: it is left paused only if it always is
ANSWERS = 10
KEY, POLICY = "redis1", "leased"


def draw(seed, only=None):
    """(the fault's name, the random numbers that the rest of the run comes from)"""
    rng = random.Random(seed)
    name = rng.choice(sorted(torture_faults.ALL))
    return only or name, rng


class Campaign:
    def __init__(self, pair):
        self.pair = pair
        self.guest = self.primary = self.backup = None
        self.lost = False       # in this run: what the guest knew

    # What the faults may ask for

    def role(self, zone):
        return "primary" if zone == self.primary else "backup"

    def restart_witness(self):
        self.pair.ssh("c", "pkill -9 -x etcd")
        witness.run_witness(self.pair)

    def inner(self, rng):
        return torture_faults.ALL[rng.choice(torture_faults.INNER)](self, rng)

    def both_lost(self):
        """Whose memory was the guest's only home: it is started anew, by hand, and the clients' records end here."""
        self.lost = True
        self.pair.create(KEY, self.primary)

    # A run, in order

    def prepare(self):
        """A new guest in zone a, protected with a lease, and an empty witness."""
        self.guest = witness.leased(self.pair)
        self.primary, self.backup = "a", "b"

    def run(self, seed, only=None):
        """A record of the run, {seed, fault, did, wrong: [...], ...}. What a run that went wrong left behind is in FOLDER/SEED."""
        name, rng = draw(seed, only)
        folder, began, self.lost = os.path.join(FOLDER, str(seed)), time.monotonic(), False
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        record = {"seed": seed, "fault": name, "did": "", "wrong": []}
        try:
            self._run(folder, name, rng, record)
            record["wrong"] = judge(folder)
        except (Failed, KeyError, TypeError, ValueError) as error:
            record["wrong"] = [f"{type(error).__name__}: {error}"]
        record["seconds"] = round(time.monotonic() - began)
        if record["wrong"]:
            self.pair.collect(os.path.join(folder, "evidence"))
        else:
            shutil.rmtree(folder)
        return record

    def _run(self, folder, name, rng, record):
        sizes = {zone: os.path.getsize(self._journal(zone)) for zone in "ab"}
        captures = witness.capture(self.pair, self.guest)
        oracle, counter = self.pair.oracle(self.guest, rate=10), self.pair.counter(self.guest)
        time.sleep(rng.uniform(0, 1.5))
        before = counter.read()["last_us"]
        record["did"] = torture_faults.ALL[name](self, rng)
        self._settle()
        if not self.lost:
            counter.wait_answers(ANSWERS)
        end = self._end()
        self._keep_clients(folder, oracle, counter, record, before)
        for pid in captures:
            self.pair.end(pid)
        for zone in "ab":
            write(folder, f"frames-{zone}", self.pair.ssh("c", f"cat {REMOTE}/frames-{zone}"))
            with open(self._journal(zone), encoding="utf-8", errors="replace") as file:
                file.seek(sizes[zone])
                write(folder, f"journal-{zone}", file.read())
        write(folder, "end.json", json.dumps(end))
        record.update(times(folder))

    def _journal(self, zone):
        return os.path.join(self.pair.folder, f"{zone}.journal.log")

    def _settle(self):
        """Until one zone protects it again; that one is the primary from then on."""
        def probe():
            seen = {zone: self.pair.guest_status(zone, self.guest.name) for zone in "ab"}
            for zone in "ab":
                here, there = seen[zone], seen[PEER[zone]]
                if here and there and here["role"] == "primary" and here["state"] == "protected" and there["role"] == "backup":
                    self.primary, self.backup = zone, PEER[zone]
                    return True
            return ", ".join(f"{zone}: {g['role']} {g['state']} {g.get('problem') or ''}" if g else f"{zone}: unknown" for zone, g in seen.items())
        wait_for("protected again", SETTLE_LIMIT_S, probe, poll_s=1)

    def _end(self):
        """What the zones say when it is over."""
        end = {"lost": self.lost}
        for zone in "ab":
            looks = [self.pair.domains(zone) for _ in range(LOOKS)]
            host = self.pair.status(zone)
            guest = next((g for g in host["guests"] if g["name"] == self.guest.name), {})
            end[zone] = {"domains": {n: [look.get(n, (0, ""))[1] for look in looks] for n in looks[-1]}, "state": guest.get("state"),
                         "problem": guest.get("problem"), "illegal_events": host["host"].get("illegal_events", 0)}
        return end

    def _keep_clients(self, folder, oracle, counter, record, before):
        pair = self.pair
        pair.end(oracle.pid)
        if self.lost:
            pair.end_clients()
            return
        _, out, err = pair.try_ssh("c", f"python3 {REMOTE}/oracle_client.py verify {oracle.common}", limit=180)
        write(folder, "oracle.json", out or json.dumps({"ok": False, "answered": 0, "problems": [err.strip()[-400:]]}))
        pair.end(counter.pid)
        result = counter.read()
        result["held"] = int(pair.redis(self.guest, f"GET {counter.key}"))
        write(folder, "counter.json", json.dumps(result))
        record["answers"] = json.loads(out)["answered"] + result["answers"]
        record["stall_ms"] = round(witness.longest_stall(result, before) * 1000)
        pair.ssh("c", f"rm -f {oracle.journal} {counter.out}")


def write(folder, name, text):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        file.write(text)


def times(folder):
    """Of an activation in this run, from the daemon's own records: its own work, and the silence it began with."""
    found = {}
    for zone in "ab":
        with open(os.path.join(folder, f"journal-{zone}"), encoding="utf-8") as file:
            for line in file:
                if "event activated: failover" in line:
                    fields = dict(re.findall(r"(\w+)=(\d+)", line))
                    found = {"own_ms": round(int(fields["total_us"]) / 1000), "heard_to_running_ms": round(int(fields["heard_to_running_us"]) / 1000)}
    return found


def judge(folder):
    """The verdict of another program, which has nothing but the folder: [what is wrong]."""
    r = subprocess.run([sys.executable, VERDICT, folder], capture_output=True, text=True, check=False)
    return (r.stdout + r.stderr).strip().splitlines() if r.returncode else []


def tell(record):
    """A run in one line."""
    numbers = ", ".join(f"{key} {record[key]}" for key in ("stall_ms", "own_ms", "answers", "seconds") if key in record)
    return f"seed {record['seed']}: {record['did'] or record['fault']}: {'WRONG: ' + '; '.join(record['wrong']) if record['wrong'] else 'right'} ({numbers})"


@scenario("torture", 900)
def torture(pair):
    """A slice of the fault campaign: a power-off, a host without peer and witness, a worker and a whole host that stand still."""
    campaign, seed = Campaign(pair), parameter("UNDERSTUDY_SEED", random.SystemRandom().randrange(1, 1 << 31))
    campaign.prepare()
    for number, fault in enumerate(SLICE):
        record = campaign.run(seed + number, fault)
        pair.say(tell(record))
        require(not record["wrong"], f"{fault}, seed {seed + number}: {'; '.join(record['wrong'])}")
    return f"{len(SLICE)} faults, nothing lost, never two"
