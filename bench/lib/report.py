"""The table: one line per number, side by side, with the targets that are stated for it."""

import dataclasses
import operator

import figures
from parts import ALONE, CLIENTS, LOADS, MIB, RATE, RATES, SHORTEST_MS, SIZES_MIB, remus_wanted
from stand import EPOCHS_MS

COLUMNS = ("unprotected", "remus", "understudy", "floor")
HEADINGS = ("", "unprotected", "xl remus", "Understudy", "floor", "ratio", "target", "met")
FAILED, NOTHING = "failed", "-"


@dataclasses.dataclass
class Target:
    """`judge(value, bound)` must hold of the row's ratio, or of Understudy's value itself; `text` says it."""
    text: str
    judge: object
    bound: float
    of_ratio: bool = True


EPOCHS_TARGET = Target(">= 8 x xl remus", operator.ge, 8)
SPEED_TARGET = Target(">= 15 x xl remus", operator.ge, 15)
PAUSE_TARGET = Target("<= 1.25 x floor", operator.le, 1.25)
WIRE_TARGET = Target("<= 15 % of raw", operator.le, 0.15, of_ratio=False)
NET_TARGET = Target(">= 0.8 x xen-netback", operator.ge, 0.8)
DECLARED_TARGET = Target("<= 150 ms", operator.le, 150e3, of_ratio=False)
STALL_TARGET = Target("<= 1 s", operator.le, 1e6, of_ratio=False)


# How values are shown

def plain(value):
    return f"{value:.1f}"


def share(value):
    return f"{100 * value:.1f} %"


def milliseconds(us):
    return f"{us / 1e3:.2f} ms"


def latency(ms):
    return f"{ms:.2f} ms"


def kilobytes(n):
    return f"{n / 1e3:.1f} kB"


def megabits(n):
    return f"{n / 1e6:.1f} Mbit/s"


def row(what, show, over=None, target=None, **values):
    """A column that is given but None was to be measured and is not there. `over`: the column Understudy's value is divided by."""
    cells = {column: FAILED if value is None else show(value) for column, value in values.items()}
    ours, other = values.get("understudy"), values.get(over)
    ratio = ours / other if over and ours is not None and other else None
    judged = ratio if target and target.of_ratio else ours
    met = None if target is None or judged is None else target.judge(judged, target.bound)
    return {"what": what, **{column: cells.get(column, NOTHING) for column in COLUMNS}, "values": values, "ratio": ratio,
            "target": target.text if target else None, "met": met}


def medians(cells):
    """Of every number that all of them have, also one level down and further; what is no number is the first one's."""
    if len(cells) < 2:
        return cells[0] if cells else {}
    found = {}
    for key, value in cells[0].items():
        values = [cell.get(key) for cell in cells]
        if isinstance(value, dict) and all(isinstance(v, dict) for v in values):
            found[key] = medians(values)
        elif all(isinstance(v, (int, float)) for v in values):
            found[key] = figures.median(values)
        else:
            found[key] = value
    return found


class Cells:
    """One part's measurements."""

    def __init__(self, cells):
        self.cells = cells

    def find(self, **keys):
        """The one that has these values, the medians of several, or an empty one, whose figures are all None."""
        return medians([cell for cell in self.cells if all(cell.get(key) == value for key, value in keys.items())])

    def all(self, figure, **keys):
        return [cell[figure] for cell in self.cells
                if figure in cell and all(cell.get(key) == value for key, value in keys.items())]


def of(cell, *path):
    """cell[path[0]][path[1]]..., None where there is none."""
    for key in path:
        cell = cell.get(key) if cell else None
    return cell


def divided(part, whole):
    return part / whole if part is not None and whole else None


def lost_us(cell, unprotected):
    """What an epoch costs the guest, whatever its own clock says: time in which it made no progress."""
    rounds, epochs, before = of(cell, "rounds_per_s"), of(cell, "epochs_per_s"), of(unprotected, "rounds_per_s")
    return (1 - rounds / before) / epochs * 1e6 if rounds is not None and before and epochs else None


# The parts' rows

def rows_of_interval(cells, ms, target):
    """What is shown for every length of an epoch; `target` says whether that is the one the targets are stated for."""
    loop = {"rate": RATE, "mib": MIB}
    base = cells.find(contender="unprotected", **loop)
    found = {name: cells.find(contender=name, epoch_ms=ms, **loop) for name in ("remus", "understudy", "floor")}
    at = f"at {ms} ms"
    speeds = {name: divided(of(cell, "rounds_per_s"), of(base, "rounds_per_s")) for name, cell in found.items()}
    yield row(f"epochs per second {at}", plain, over="remus", target=EPOCHS_TARGET if target else None,
              **{name: of(cell, "epochs_per_s") for name, cell in found.items()})
    yield row(f"guest's speed {at}", share, over="remus", target=SPEED_TARGET if target else None,
              unprotected=divided(of(base, "rounds_per_s"), of(base, "rounds_per_s")), **speeds)
    yield row(f"guest's time lost per epoch {at}", milliseconds, over="floor",
              **{name: lost_us(cell, base) for name, cell in found.items()})
    for percent in ("p50", "p99", "max"):
        yield row(f"pause {percent} in the worker {at}", milliseconds, over="floor",
                  target=PAUSE_TARGET if target and percent == "p50" else None,
                  understudy=of(found["understudy"], "pause_us", percent), floor=of(found["floor"], "pause_us", percent))
    for percent in ("p50", "p99", "max"):
        yield row(f"pause {percent} in the guest {at}", milliseconds, over="floor",
                  **({"unprotected": of(base, "seen_us", percent)} if target else {}),
                  **{name: of(cell, "seen_us", percent) for name, cell in found.items()})
    volumes = {name: {column: of(found[column], figure) for column in ("remus", "understudy")}
               for name, figure in (("raw", "raw_bytes_per_epoch"), ("on the wire", "wire_bytes_per_epoch"))}
    for name, values in volumes.items():
        yield row(f"bytes per epoch {at}, {name}", kilobytes, over="remus", **values)
    yield row(f"bytes on the wire, of raw, {at}", share, target=WIRE_TARGET if target else None,
              **{column: divided(volumes["on the wire"][column], volumes["raw"][column]) for column in ("remus", "understudy")})


def wire_share(cells, **keys):
    return divided(sum(cells.all("wire_bytes", **keys)), sum(cells.all("raw_bytes", **keys)))


def rows_of_epochs(cells, run):
    for ms in EPOCHS_MS:
        yield from rows_of_interval(cells, ms, ms == SHORTEST_MS)


def rows_of_speed(cells, run):
    for mib in SIZES_MIB:
        for rate in RATES:
            keys = {"rate": rate, "mib": mib}
            names = ("unprotected", "understudy") + (("remus",) if remus_wanted(run, rate, mib) else ())
            found = {name: of(cells.find(contender=name, **keys), "rounds_per_s") for name in names}
            yield row(f"guest's speed, {rate} pages/s in {mib} MiB", share, over="remus",
                      **{name: divided(rounds, found["unprotected"]) for name, rounds in found.items()})
    yield row("bytes on the wire, of raw, over all of these", share, target=WIRE_TARGET,
              understudy=wire_share(cells, contender="understudy"))


def rows_of_redis(cells, run):
    for test in ("SET", "GET"):
        for clients in CLIENTS:
            found = {name: cells.find(contender=name, test=test, clients=clients) for name in ("unprotected", "understudy")}
            many = f"{clients} client{'s' if clients > 1 else ''}"
            for figure, what, show in (("requests_per_s", "requests per second", plain), ("p50", "latency p50", latency),
                                       ("p99", "latency p99", latency)):
                yield row(f"redis {test}, {many}, {what}", show, over="unprotected",
                          **{name: of(cell, figure) for name, cell in found.items()})
    yield row("redis, bytes on the wire, of raw", share, target=WIRE_TARGET, understudy=wire_share(cells, wire=True))


def rows_of_iperf3(cells, run):
    """Both without protection. xen-netback's figures stand in the column of what there is without us."""
    for direction, what in (("in", "into the guest"), ("out", "out of the guest")):
        found = {column: cells.all("bits_per_s", back_end=back_end, direction=direction)
                 for column, back_end in (("unprotected", "netback"), ("understudy", "ours"))}
        yield row(f"iperf3 {what} (unprotected: by xen-netback)", megabits, over="unprotected", target=NET_TARGET,
                  **{column: figures.median(values) for column, values in found.items()})
        for name, extreme in (("least", min), ("most", max)):
            yield row(f"  the {name} of {len(found['understudy'])}", megabits,
                      **{column: extreme(values, default=None) for column, values in found.items()})


def rows_of_tls(cells, run):
    """Both protected. The figures without TLS stand in the column of what there is without us."""
    found = {"unprotected": cells.find(contender="plain"), "understudy": cells.find(contender="tls")}
    for path, what, show in ((("epochs_per_s",), "epochs per second", plain), (("rounds_per_s",), "guest's speed, rounds per second", plain),
                             (("commit_us_p50",), "capture to acknowledgement p50", milliseconds),
                             (("pause_us", "p50"), "pause p50", milliseconds)):
        yield row(f"{what}, with TLS (unprotected: without)", show, over="unprotected",
                  **{column: of(cell, *path) for column, cell in found.items()})


FAILOVER_ROWS = (
    ("  silence until zone a is declared dead", "detection_us", None),
    ("  declared dead until running and announced", "declared_us", DECLARED_TARGET),
    ("    of it in the worker", "total_us", None),
    ("      tail pages and context", "context_us", None),
    ("      devices", "devices_us", None),
    ("      xenstore", "store_us", None),
    ("      announcements", "announce_us", None),
)


def rows_of_failover(cells, run):
    for load in LOADS:
        found = cells.all("stall_us", load=load)
        spread = f" ({min(found) / 1e3:.0f} to {max(found) / 1e3:.0f} ms)" if len(found) > 1 else ""
        yield row(f"stall, the longest gap of a client {load}{spread}", milliseconds,
                  target=STALL_TARGET if load == ALONE else None, understudy=figures.median(found))
    for what, figure, target in FAILOVER_ROWS:
        yield row(what, milliseconds, target=target, understudy=figures.median(cells.all(figure)))


ROWS = {"epochs": rows_of_epochs, "speed": rows_of_speed, "redis": rows_of_redis, "iperf3": rows_of_iperf3, "tls": rows_of_tls,
        "failover": rows_of_failover}


def rows(parts, run):
    """{part: rows} of the parts' results {name: {"cells": ...}}."""
    return {name: list(ROWS[name](Cells(result["cells"]), run)) for name, result in parts.items()}


def verdict(entry):
    if entry["target"] is None:
        return ""
    return FAILED if entry["met"] is None else "yes" if entry["met"] else "NO"


def texts(entry):
    ratio = "" if entry["ratio"] is None else f"{entry['ratio']:.2f} x"
    return [entry["what"], *(entry[column] for column in COLUMNS), ratio, entry["target"] or "", verdict(entry)]


def table(rows_by_part, parts):
    """Lines of text: a block per part, with what could not be measured in it."""
    blocks = {name: [texts(entry) for entry in entries] for name, entries in rows_by_part.items()}
    widths = [max(len(line[i]) for block in [[HEADINGS], *blocks.values()] for line in block) for i in range(len(HEADINGS))]

    def shown(line):
        return "  ".join(text.ljust(width) if i in (0, 6) else text.rjust(width)
                         for i, (text, width) in enumerate(zip(line, widths))).rstrip()

    lines = [shown(HEADINGS)]
    for name, block in blocks.items():
        lines += ["", name] + [shown(line) for line in block]
        lines += [f"  FAILED  {error}" for error in parts[name]["errors"]]
    return lines
