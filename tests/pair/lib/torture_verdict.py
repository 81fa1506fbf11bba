#!/usr/bin/python3
"""The verdict on one run of the campaign, from what was recorded alone: the frames of both zones by one clock, the clients' own records, journals.

torture_verdict.py FOLDER: prints what is wrong, one line each; exit status 1 if anything is. It knows nothing of the fault.

FOLDER holds frames-a, frames-b (frames.py capture), journal-a, journal-b, oracle.json (oracle_client.py verify), counter.json
(counter_client.py, and `held`: what the guest's counter is), end.json (how the zones were left).
"""

import json
import os
import re
import sys

LEAST_ANSWERS = 20
ACTIVATED = re.compile(r"understudyd: info: event activated: .*\bterm=(\d+)")
CRASHED = re.compile(r"understudy.*(segfault|general protection)|understudy\S*: .*(AddressSanitizer|runtime error|Assertion)|code=dumped|"
                     r"status=11/SEGV")


def read(folder, name):
    with open(os.path.join(folder, name), encoding="utf-8") as file:
        return file.read()


def turns(folder):
    """[[zone, first_us, last_us]]: who was heard in the guest's name, one after the other."""
    frames, found = [], []
    for zone in "ab":
        frames += [(int(line.split()[0]), zone) for line in read(folder, f"frames-{zone}").splitlines() if line.count(" ") == 2]
    for at, zone in sorted(frames):
        if found and found[-1][0] == zone:
            found[-1][2] = at
        else:
            found.append([zone, at, at])
    return found


def judge_sources(folder, lost):
    """I2: every change of the source is an activation; two that run at once would take turns with every frame."""
    heard = turns(folder)
    terms = [int(term) for zone in "ab" for term in ACTIVATED.findall(read(folder, f"journal-{zone}"))]
    if not heard:
        yield "nothing was heard of the guest: the capture proves nothing"
    if len(heard) - 1 > len(terms) + lost:
        yield f"{len(heard) - 1} changes of the source, {len(terms)} activations: two sources: {heard[:6]}"
    if len(set(terms)) != len(terms):
        yield f"two activations in one term: {sorted(terms)}"


def judge_clients(folder):
    """I1: what a client was told is in the state. Its connection is the same one."""
    oracle, counter = json.loads(read(folder, "oracle.json")), json.loads(read(folder, "counter.json"))
    if not oracle["ok"]:
        yield f"oracle: {'; '.join(oracle['problems'])}"
    if oracle["answered"] < LEAST_ANSWERS:
        yield f"oracle: only {oracle['answered']} answers: nothing to judge by"
    for what in ("backward", "jumps"):
        if counter[what]:
            yield f"counter: {counter[what]} {what}"
    if counter["error"] or not (counter["connection"]["same_socket"] and counter["connection"]["established"]):
        yield f"counter: its connection did not survive: {counter['error']} {counter['connection']}"
    if counter["held"] != counter["last_value"]:
        yield f"counter: the last answer was {counter['last_value']}, the guest holds {counter['held']}"


def runs(looks):
    """Whether a domain with these state letters, seen at several times, runs. An epoch's pause may be seen, a pause that stays is one."""
    return any("p" not in letters for letters in looks)


def judge_end(end):
    """I5: it runs in one place, protected; nothing of it is left elsewhere but a shell."""
    running = [zone for zone in "ab" for looks in end[zone]["domains"].values() if runs(looks)]
    if len(running) != 1:
        yield f"it runs in {running or 'no zone'}: {end}"
    elif end[running[0]]["state"] != "protected":
        yield f"it is {end[running[0]]['state']} in zone {running[0]}: {end[running[0]]['problem']}"
    for zone in "ab":
        if len(end[zone]["domains"]) != 1:
            yield f"zone {zone} has the domains {sorted(end[zone]['domains'])}"
        if end[zone]["illegal_events"]:
            yield f"zone {zone}: the state machine refused {end[zone]['illegal_events']} events"


def judge_journals(folder):
    for zone in "ab":
        bad = [line.strip() for line in read(folder, f"journal-{zone}").splitlines() if CRASHED.search(line)]
        if bad:
            yield f"zone {zone}: {bad[0]}"


def judge(folder):
    """A guest whose both homes were lost together has no state to be found in: what then counts is that it never ran twice, and runs now."""
    end = json.loads(read(folder, "end.json"))
    wrong = list(judge_sources(folder, end["lost"])) + list(judge_end(end)) + list(judge_journals(folder))
    return wrong + ([] if end["lost"] else list(judge_clients(folder)))


if __name__ == "__main__":
    found = judge(sys.argv[1])
    print("\n".join(found))
    sys.exit(1 if found else 0)
