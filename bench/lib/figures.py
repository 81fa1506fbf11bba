"""Figures out of what programs print: parsing and statistics, nothing that needs a pair."""

import csv
import io
import json
import re
import statistics

PAGE_BYTES = 4096
# xl's default verbosity shows libxc's progress: this line once per checkpoint (xg_sr_save.c, suspend_domain()),
SUSPENDED = "progress: Domain now suspended:"
# and this one with the number of pages when they are all written (send_dirty_pages()).
WRITTEN = re.compile(r"progress: Checkpointed save: (\d+)/(\d+)\s+100%")


class Unusable(Exception):
    """The text does not hold the figures; says what was there instead."""


def percentile(values, percent):
    """As samples_percentile() in checkpoint/samples.c, so that floor, worker and guest count alike."""
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) * percent // 100] if ordered else None


def distribution(values):
    return {"p50": percentile(values, 50), "p99": percentile(values, 99), "max": percentile(values, 100)}


def median(values):
    return statistics.median(values) if values else None


def json_stream(text):
    """Every JSON value of a text that is nothing but JSON values, one after the other."""
    decoder, at, found = json.JSONDecoder(), 0, []
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        try:
            value, at = decoder.raw_decode(text, at)
        except ValueError:
            raise Unusable(f"not JSON: {text[at:at + 200]!r}") from None
        found.append(value)
    return found


# The worker's figures

def windows_of(statuses, name):
    """The guest's part of every `understudy status --json`. Protected all the time, or the figures mean nothing."""
    windows = [guest for status in statuses for guest in status["guests"] if guest["name"] == name]
    odd = [f"{w['state']} {w['problem']}".strip() for w in windows if w["state"] != "protected"]
    if odd or len(windows) < 2:
        raise Unusable(f"{name} was {', '.join(odd) or 'seen ' + str(len(windows)) + ' times'} while it was measured")
    return windows


def volume(before, after):
    """Bytes per epoch between two statuses: the totals are of the same instant, so their quotient is exact."""
    epochs, raw, wire = (after[key] - before[key] for key in ("epochs_total", "raw_bytes_total", "wire_bytes_total"))
    if epochs <= 0 or raw <= 0:
        raise Unusable(f"{epochs} epochs with {raw} bytes: nothing to measure")
    return {"epochs": epochs, "raw_bytes": raw, "wire_bytes": wire, "raw_bytes_per_epoch": raw / epochs,
            "wire_bytes_per_epoch": wire / epochs}


def of_worker(windows):
    """A status holds the figures of one second. p50 is the seconds' median; in a second of some 30 epochs p99 is all but the
    longest pause, so the greatest of them stands for the whole."""
    pause = {"p50": statistics.median(w["pause_us_p50"] for w in windows),
             "p99": max(w["pause_us_p99"] for w in windows), "max": max(w["pause_us_max"] for w in windows)}
    return dict(volume(windows[0], windows[-1]),
                epochs_per_s=statistics.mean(w["epochs_per_s"] for w in windows), pause_us=pause,
                pages_per_epoch=statistics.mean(w["dirty_pages_per_s"] for w in windows)
                / max(0.001, statistics.mean(w["epochs_per_s"] for w in windows)),
                commit_us_p50=statistics.median(w["commit_us_p50"] for w in windows),
                back_pressure=sum(w["back_pressure"] for w in windows), seconds_seen=len(windows))


def of_floor(text):
    try:
        f = json.loads(text)
        return {"epochs_per_s": f["epochs_per_s"], "pages_per_epoch": f["dirty_pages_per_epoch"],
                "pause_us": {"p50": f["pause_us_p50"], "p99": f["pause_us_p99"], "max": f["pause_us_max"]}}
    except (ValueError, KeyError, TypeError):
        raise Unusable(f"floor said {text[:300]!r}") from None


# xl remus

def of_remus(text):
    """From "UPTIME BYTES", twice, and the log between these two instants."""
    lines = text.splitlines()
    try:
        (began, sent_before), (ended, sent_after) = ((float(a), int(b)) for a, b in (line.split() for line in lines[:2]))
    except ValueError:
        raise Unusable(f"remus: {text[:300]!r}") from None
    log = "\n".join(lines[2:])
    checkpoints = log.count(SUSPENDED)
    pages = [int(total) for done, total in WRITTEN.findall(log) if done == total]
    if checkpoints == 0 or ended <= began:
        raise Unusable(f"remus: {checkpoints} checkpoints in {ended - began:.1f} s; the log: {log[-300:]!r}")
    per_epoch = statistics.mean(pages) if pages else None
    return {"epochs": checkpoints, "epochs_per_s": checkpoints / (ended - began), "pages_per_epoch": per_epoch,
            "raw_bytes_per_epoch": per_epoch * PAGE_BYTES if pages else None,
            "wire_bytes_per_epoch": (sent_after - sent_before) / checkpoints}


# Clients

def of_redis(text):
    """{test: figures} of `redis-benchmark --csv`."""
    found = {}
    for row in csv.DictReader(io.StringIO(text)):
        try:
            found[row["test"]] = {"requests_per_s": float(row["rps"]),
                                  **{key: float(row[key + "_latency_ms"]) for key in ("p50", "p95", "p99", "max")}}
        except (KeyError, TypeError, ValueError):
            raise Unusable(f"redis-benchmark said {text[:300]!r}") from None
    if not found:
        raise Unusable(f"redis-benchmark said {text[:300]!r}")
    return found


def of_iperf3(text):
    """Bits per second that arrived, by `iperf3 -J`."""
    try:
        whole = json.loads(text)
        if whole.get("error"):
            raise Unusable(f"iperf3: {whole['error']}")
        return whole["end"]["sum_received"]["bits_per_second"]
    except (ValueError, KeyError, TypeError):
        raise Unusable(f"iperf3 said {text[:300]!r}") from None


def stall(client, since_us):
    """The counter client's longest gap among those that ended after `since_us`."""
    gaps = client["gaps"] + [client["longest_gap"]]
    over = [gap["us"] for gap in gaps if gap["to_us"] > since_us]
    if not over:
        raise Unusable("the client had no gap of 50 ms since the zone was killed")
    return max(over)


ACTIVATION_PARTS = ("context_us", "devices_us", "store_us", "announce_us", "total_us")


def of_activation(events, since_serial):
    """The parts of the one takeover among zone b's events."""
    took_over = [e["fields"] for e in events if e["kind"] == "activated" and e["serial"] > since_serial]
    if len(took_over) != 1:
        raise Unusable(f"zone b says it activated {len(took_over)} times")
    fields = took_over[0]
    return dict({part: fields[part] for part in ACTIVATION_PARTS}, declared_us=fields["declared_to_running_us"],
                detection_us=fields["heard_to_running_us"] - fields["declared_to_running_us"])
