#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Judges a captured epoch stream (primary to backup). Written from docs/protocol.md, "Epoch stream"; shares no code
with the programs. Needs python3-lz4 and python3-xxhash.

Exit status: 0 whole, 1 malformed, 2 usage, 3 sound so far but torn: it ends inside a record or an epoch."""

import argparse
import struct
import sys
import uuid

import lz4.block
import xxhash

PAGE = 4096
LANES_MAX = 8
MAGIC = b"UNDRSTDY"
WHOLE, MALFORMED, USAGE, TORN = range(4)

EPOCH_BEGIN, PAGES, BLOB, EPOCH_END, HEARTBEAT, ACK, GOODBYE, CHANGE, INPUT = range(1, 10)
RECORDS = {  # type: (name, shortest, longest); what a primary may send
    EPOCH_BEGIN: ("EPOCH_BEGIN", 40, 40),
    PAGES: ("PAGES", 16, 8 + 256 * (8 + PAGE)),
    BLOB: ("BLOB", 9, 8 + (16 << 20)),
    EPOCH_END: ("EPOCH_END", 24, 24),
    HEARTBEAT: ("HEARTBEAT", 0, 0),
    GOODBYE: ("GOODBYE", 8, 208),
    CHANGE: ("CHANGE", 24, 24 + (1 << 20)),
    INPUT: ("INPUT", 16 + 24, 16 + 2048),
}
SYNC, FIRST, FINAL = 1, 2, 4
ZERO, SAME, DELTA, LZ4, RAW = range(5)
ENCODINGS = ("zero", "same", "delta", "lz4", "raw")
BLOBS = (("context", 8 << 20), ("machine", 4 << 10), ("layout", 16 << 20), ("net", 64 << 10), ("store", 1 << 20),
         ("disks", 4 << 10), ("output", 64 << 10))
WRITE, DISCARD, FLUSH, ZEROES = range(4)
CHANGES = ("write", "discard", "flush", "zero")
GOODBYES = ("done", "protocol violated", "out of resources", "epoch could not be applied")


class Malformed(Exception):
    """The stream breaks the protocol."""


class Torn(Exception):
    """The stream ends where it must not."""


def need(condition, what):
    if not condition:
        raise Malformed(what)


class Source:
    """A file with a position that errors can name."""

    def __init__(self, file):
        self.file, self.at = file, 0

    def take(self, size, what, may_end=False):
        data = self.file.read(size)
        if not data and may_end and size:
            return None
        if len(data) < size:
            raise Torn(f"ends at byte {self.at + len(data)} inside {what}")
        self.at += size
        return data


class Epoch:
    def __init__(self, number, payload):
        (self.term, self.captured_us, self.pause_us, self.flags, self.pages, self.blobs,
         self.changes) = struct.unpack("<QQIIQII", payload)
        need(not self.flags & ~(SYNC | FIRST | FINAL), f"unknown epoch flags {self.flags:#x}")
        need(not self.flags & SYNC or self.flags == SYNC, "a sync epoch cannot be first or final")
        need(self.blobs <= len(BLOBS), f"{self.blobs} blobs announced")
        self.number = number
        self.hash = xxhash.xxh64(seed=0)
        self.hash.update(struct.pack("<Q", number) + payload)
        self.staged, self.nr_pages, self.nr_blobs, self.last_blob = {}, 0, 0, -1
        self.nr_changes, self.changed, self.todo = 0, [0] * len(CHANGES), []
        self.encodings = [0] * len(ENCODINGS)
        self.blob_bytes = {}


class Checker:
    def __init__(self, source, args):
        self.source, self.args = source, args
        self.memory = {}                  # gfn: page, as of the last whole epoch
        self.disks = {}                   # vbd: file, likewise
        self.epoch = None                 # the open one
        self.last = 0                     # number of the last whole one
        self.whole = self.committed = 0
        self.input_epoch = 0
        self.first_seen = self.over = False
        self.start, self.name = 0, "hello"

    def hello(self):
        data = self.source.take(56, "the hello")
        need(data[:8] == MAGIC, "not the magic of an epoch stream")
        token, version, lane, _features = struct.unpack_from("<QHHI", data, 8)
        need(self.args.token is None or token == self.args.token, "wrong token")
        need(version == 1, f"version {version} is not spoken here")
        self.uuid = uuid.UUID(bytes=data[24:40])
        need(self.args.uuid is None or self.uuid == self.args.uuid, f"another guest: {self.uuid}")
        self.term, further, zero, zero2 = struct.unpack_from("<QHHI", data, 40)
        need(zero == 0 and zero2 == 0, "reserved bytes are not zero")
        need(lane == 0 and further < LANES_MAX, f"connection {lane} of {further + 1}")
        need(self.args.term is None or self.term == self.args.term, f"another term: {self.term}")

    def record(self):
        """One record; False at the end of the stream."""
        self.start, self.name = self.source.at, "header"
        need(not self.over or not self.source.file.read(1), "more behind GOODBYE")
        head = self.source.take(16, "a record's header", may_end=True)
        if head is None:
            return False
        kind, flags, length, number = struct.unpack("<HHIQ", head)
        need(kind in RECORDS, "an ACK from the primary" if kind == ACK else f"unknown type {kind}")
        self.name, shortest, longest = RECORDS[kind]
        need(flags == 0, f"unknown flags {flags:#x}")
        need(shortest <= length <= longest, f"length {length} is not in {shortest}..{longest}")
        if kind == EPOCH_BEGIN:
            need(self.epoch is None, f"out of order: epoch {self.epoch and self.epoch.number} is open")
        elif kind in (PAGES, BLOB, CHANGE, EPOCH_END):
            need(self.epoch is not None, "out of order: no epoch is open")
            need(kind != PAGES or self.epoch.last_blob < 0, "out of order: behind a BLOB")
            need(kind not in (PAGES, BLOB) or not self.epoch.nr_changes, "out of order: behind a CHANGE")
        if kind != EPOCH_BEGIN:
            expected = self.epoch.number if self.epoch else self.last
            need(number == expected, f"names epoch {number} instead of {expected}")
        payload = self.source.take(length, f"the payload of {self.name}")
        padding = self.source.take(-length % 8, f"the padding of {self.name}")
        need(not any(padding), "padding is not zero")
        {EPOCH_BEGIN: self.begin, PAGES: self.pages, BLOB: self.blob, CHANGE: self.change, EPOCH_END: self.end,
         HEARTBEAT: lambda number, payload: None, GOODBYE: self.goodbye, INPUT: self.input}[kind](number, payload)
        return True

    def begin(self, number, payload):
        epoch = Epoch(number, payload)
        need(number > 0, "number 0")
        need(not self.last or number == self.last + 1, f"number {number} follows {self.last}")
        need(epoch.term == self.term, f"term {epoch.term} instead of {self.term}")
        if self.first_seen:
            need(not epoch.flags & (SYNC | FIRST), "a second baseline in one stream")
        else:
            need(epoch.flags & (SYNC | FIRST), "an epoch before the baseline")
        limit = self.args.pages_max
        need(limit is None or epoch.pages <= limit, f"{epoch.pages} pages announced, more than {limit}")
        self.epoch = epoch

    def decode(self, gfn, encoding, data):
        if encoding == ZERO:
            return bytes(PAGE)
        if encoding == RAW:
            return data
        base = self.epoch.staged.get(gfn) or self.memory.get(gfn) or bytes(PAGE)
        if encoding == SAME:
            return base
        try:
            page = lz4.block.decompress(data, uncompressed_size=PAGE)
        except lz4.block.LZ4BlockError as error:
            raise Malformed(f"gfn {gfn:#x}: not an LZ4 block: {error}") from error
        need(len(page) == PAGE, f"gfn {gfn:#x}: decodes to {len(page)} bytes")
        if encoding == DELTA:
            page = (int.from_bytes(page, "little") ^ int.from_bytes(base, "little")).to_bytes(PAGE, "little")
        return page

    def pages(self, number, payload):
        epoch = self.epoch
        count, zero = struct.unpack_from("<II", payload)
        need(zero == 0, "reserved bytes are not zero")
        need(1 <= count <= 256, f"{count} pages")
        need(8 + 8 * count <= len(payload), f"{count} entries do not fit")
        need(epoch.nr_pages + count <= epoch.pages, "more pages than announced")
        at = 8 + 8 * count
        for i in range(count):
            gfn, encoding, length = struct.unpack_from("<IHH", payload, 8 + 8 * i)
            where = f"entry {i} (gfn {gfn:#x})"
            need(encoding < len(ENCODINGS), f"{where}: unknown encoding {encoding}")
            fits = {ZERO: length == 0, SAME: length == 0, RAW: length == PAGE}.get(encoding, 0 < length < PAGE)
            need(fits, f"{where}: {ENCODINGS[encoding]} of {length} bytes")
            need(at + length <= len(payload), f"{where}: payload longer than the record")
            need(self.args.gfn_limit is None or gfn < self.args.gfn_limit, f"{where}: beyond the guest")
            page = self.decode(gfn, encoding, payload[at:at + length])
            at += length
            epoch.hash.update(struct.pack("<Q", gfn))
            epoch.hash.update(page)
            epoch.staged[gfn] = page
            epoch.encodings[encoding] += 1
        need(at == len(payload), "payload shorter than the record")
        epoch.nr_pages += count

    def blob(self, number, payload):
        epoch = self.epoch
        kind, zero = struct.unpack_from("<II", payload)
        need(zero == 0, "reserved bytes are not zero")
        need(kind < len(BLOBS), f"unknown kind {kind}")
        name, longest = BLOBS[kind]
        content = payload[8:]
        need(len(content) <= longest, f"{name} of {len(content)} bytes is too long")
        need(kind > epoch.last_blob, f"{name} is not in ascending order")
        epoch.hash.update(struct.pack("<QQ", kind, len(content)) + content)
        epoch.last_blob = kind
        epoch.nr_blobs += 1
        epoch.blob_bytes[name] = len(content)

    def change(self, number, payload):
        epoch = self.epoch
        devid, kind, encoding, offset, size = struct.unpack_from("<IHHQQ", payload)
        data = payload[24:]
        need(epoch.nr_changes < epoch.changes, "more changes than announced")
        need(kind < len(CHANGES), f"unknown kind of change {kind}")
        need(encoding < 2, f"unknown encoding {encoding} of a change")
        need(offset % 512 == 0 and size % 512 == 0, f"{size} bytes at {offset}: not whole sectors")
        need(offset + size < 1 << 64, f"{size} bytes at {offset}")
        need((kind == FLUSH) == (size == 0) and (kind != FLUSH or offset == 0), f"{CHANGES[kind]} of {size} bytes at {offset}")
        if kind != WRITE:
            need(not data and not encoding, f"{CHANGES[kind]} with data")
        else:
            need(size <= 1 << 20, f"write of {size} bytes")
            need(0 < len(data) < size if encoding else len(data) == size, f"{len(data)} bytes for a write of {size}")
            if encoding:
                try:
                    data = lz4.block.decompress(data, uncompressed_size=size)
                except lz4.block.LZ4BlockError as error:
                    raise Malformed(f"change {epoch.nr_changes}: not an LZ4 block: {error}") from error
                need(len(data) == size, f"change {epoch.nr_changes}: decodes to {len(data)} bytes")
        epoch.hash.update(struct.pack("<QQQQ", devid, kind, offset, size) + data)
        epoch.nr_changes += 1
        epoch.changed[kind] += 1
        if self.args.disks:
            epoch.todo.append((devid, kind, offset, size, data))

    def input(self, number, payload):
        epoch, _devid, checksum = struct.unpack_from("<QII", payload)
        seed = xxhash.xxh64(payload[:12], seed=0).intdigest()
        digest = xxhash.xxh64(payload[16:], seed=seed).intdigest() & 0xffffffff
        need(checksum == digest, f"checksum {checksum:08x}, computed {digest:08x}")
        need(epoch > 0, "input of epoch 0")
        need(epoch >= self.input_epoch, f"input of epoch {epoch} behind that of epoch {self.input_epoch}")
        self.input_epoch = epoch

    def apply(self, devid, kind, offset, size, data):
        """One after the other, as the guest was answered. What was discarded is read as zeroes."""
        if kind == FLUSH:
            return
        if devid not in self.disks:
            self.disks[devid] = open(f"{self.args.disks}.{devid}", "wb")
        disk = self.disks[devid]
        disk.seek(offset)
        while size:
            part = data if kind == WRITE else bytes(min(size, 1 << 20))
            disk.write(part)
            size -= len(part)
        disk.flush()

    def end(self, number, payload):
        epoch = self.epoch
        pages, blobs, changes, checksum = struct.unpack("<QIIQ", payload)
        need(changes == epoch.changes == epoch.nr_changes,
             f"{changes} changes, announced {epoch.changes}, came {epoch.nr_changes}")
        need(pages == epoch.pages == epoch.nr_pages, f"{pages} pages, announced {epoch.pages}, came {epoch.nr_pages}")
        need(blobs == epoch.blobs == epoch.nr_blobs, f"{blobs} blobs, announced {epoch.blobs}, came {epoch.nr_blobs}")
        digest = epoch.hash.intdigest()
        need(checksum == digest, f"checksum {checksum:016x}, computed {digest:016x}")
        self.memory.update(epoch.staged)
        for change in epoch.todo:
            self.apply(*change)
        self.last = number
        self.whole += 1
        if not epoch.flags & SYNC:
            self.first_seen = True
            self.committed = number
        if self.args.list:
            self.show(epoch)
        self.epoch = None

    def show(self, epoch):
        flags = "".join(" " + name for bit, name in ((SYNC, "sync"), (FIRST, "first"), (FINAL, "final"))
                        if epoch.flags & bit)
        pages = " ".join(f"{name} {n}" for name, n in zip(ENCODINGS, epoch.encodings) if n)
        blobs = " ".join(f"{name} {n}" for name, n in epoch.blob_bytes.items())
        changes = "".join(f", {name} {n}" for name, n in zip(CHANGES, epoch.changed) if n)
        print(f"byte {self.source.at}: epoch {epoch.number}{flags}: paused {epoch.pause_us} us,"
              f" {epoch.pages} pages ({pages}), blobs ({blobs}){changes}")

    def goodbye(self, number, payload):
        cause, zero = struct.unpack_from("<II", payload)
        need(zero == 0, "reserved bytes are not zero")
        need(cause < len(GOODBYES), f"unknown cause {cause}")
        self.over = True
        if self.args.list:
            text = payload[8:].decode("ascii", "replace")
            print(f"byte {self.start}: goodbye: {GOODBYES[cause]}{': ' if text else ''}{text}")

    def run(self):
        self.hello()
        while self.record():
            pass
        if self.epoch:
            raise Torn(f"ends at byte {self.source.at} inside epoch {self.epoch.number}")

    def where(self):
        number = self.epoch.number if self.epoch else self.last
        return f"epoch {number}: record {self.name} at byte {self.start}"


def write_image(path, memory):
    """gfn (8 bytes) and page for every page ever sent, ascending."""
    with open(path, "wb") as out:
        for gfn in sorted(memory):
            out.write(struct.pack("<Q", gfn) + memory[gfn])


def arguments():
    number = lambda text: int(text, 0)
    parser = argparse.ArgumentParser(description="Checks a captured epoch stream.")
    parser.add_argument("stream", type=argparse.FileType("rb"))
    parser.add_argument("--list", action="store_true", help="one line per epoch")
    parser.add_argument("--image", metavar="OUT", help="the memory after the last whole epoch, as (gfn, page)")
    parser.add_argument("--disks", metavar="OUT", help="the disks after the last whole epoch, each in OUT.DEVID")
    parser.add_argument("--uuid", type=uuid.UUID, help="of the guest expected")
    parser.add_argument("--term", type=number)
    parser.add_argument("--token", type=number)
    parser.add_argument("--gfn-limit", type=number)
    parser.add_argument("--pages-max", type=number, help="per epoch")
    return parser.parse_args()


def main():
    args = arguments()
    checker = Checker(Source(args.stream), args)
    status, what = WHOLE, "whole"
    try:
        checker.run()
    except Malformed as error:
        status, what = MALFORMED, f"malformed: {checker.where()}: {error}"
    except Torn as error:
        status, what = TORN, f"torn: {error}"
    print(f"epochs {checker.whole}, last {checker.last}, committed {checker.committed}")
    print(what, file=sys.stderr if status else sys.stdout)
    if args.image:
        write_image(args.image, checker.memory)
    return status


if __name__ == "__main__":
    sys.exit(main())
