"""The base image of the zones and the guest's image: built once, keyed by a hash of what they are
made from."""

import fcntl
import hashlib
import lzma
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time

import archive

LOCAL = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
REPO = os.path.dirname(os.path.dirname(LOCAL))
BUILD = os.path.join(REPO, "build")

MIRROR = os.environ.get("PAIR_MIRROR", "http://deb.debian.org")
SOURCES = [
    f"deb {MIRROR}/debian bookworm main",
    f"deb {MIRROR}/debian bookworm-updates main",
    f"deb {MIRROR}/debian-security bookworm-security main",
]
BUILD_LIMIT_S = 900
GUEST_PROGRAMS = ["dirtyloop", "oracle", "clockwatch", "diskchurn"]


class Failure(Exception):
    """Something the user must hear about; the message says what and where."""


class Progress:
    """Prints what is going on, with the seconds since the start."""

    def __init__(self):
        self.start = time.monotonic()

    def say(self, text):
        print(f"[{time.monotonic() - self.start:6.1f}s] {text}", file=sys.stderr, flush=True)


def _files_below(top):
    for folder, folders, files in os.walk(top):
        folders.sort()
        for name in sorted(files):
            yield os.path.join(folder, name)


def _digest(paths, *texts):
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    for path in paths:
        digest.update(os.path.relpath(path, REPO).encode() + b"\0")
        digest.update(b"x" if os.access(path, os.X_OK) else b"-")
        with open(path, "rb") as file:
            digest.update(file.read() + b"\0")
    return digest.hexdigest()[:16]


def _packages():
    with open(os.path.join(LOCAL, "image", "packages"), encoding="ascii") as file:
        lines = (line.strip() for line in file)
        return [line for line in lines if line and not line.startswith("#")]


def _locked(folder):
    """An exclusive lock on `folder`, held until the returned file is closed: two pairs may want the
    same image at once."""
    os.makedirs(folder, exist_ok=True)
    lock = open(os.path.join(folder, "lock"), "w", encoding="ascii")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def _remove_others(folder, keep):
    """Old builds go, unless a running pair still has its overlays on one: its file stays readable to
    QEMU, but a zone started again would miss it, so only builds older than a day go."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if name != keep and os.path.isdir(path) and time.time() - os.stat(path).st_mtime > 86400:
            shutil.rmtree(path, ignore_errors=True)


def _debootstrap(out, log_path):
    """Fills `out` through mmdebstrap and its customize hook."""
    root_image = os.path.join(out, "root.img")
    with open(root_image, "wb") as file:
        file.truncate(1200 << 20)
    # mmdebstrap may work in a user namespace, where we are somebody else.
    os.chmod(out, 0o777)
    os.chmod(root_image, 0o666)
    here = os.path.join(LOCAL, "image")
    command = ["mmdebstrap", "--mode=auto", "--variant=essential", "--format=null",
               "--aptopt=Acquire::Languages \"none\"", "--aptopt=Acquire::Retries \"3\"",
               "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
               "--dpkgopt=path-exclude=/usr/share/locale/*", "--include=" + ",".join(_packages()),
               "--customize-hook=" + os.path.join(here, "customize") + " \"$1\"",
               "bookworm", "/dev/null"] + SOURCES
    env = dict(os.environ, OUT=out, HERE=here, DEBIAN_FRONTEND="noninteractive")
    with open(log_path, "wb") as log:
        try:
            r = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                               timeout=BUILD_LIMIT_S, check=False).returncode
        except subprocess.TimeoutExpired:
            r = -1
    if r != 0:
        with open(log_path, encoding="utf-8", errors="replace") as log:
            tail = "".join(log.readlines()[-25:])
        raise Failure(f"mmdebstrap failed ({r}); the end of {log_path}:\n{tail}")
    os.chmod(out, 0o755)
    unpack_kernel(os.path.join(out, "vmlinuz"), os.path.join(out, "vmlinux"))


def unpack_kernel(packed, unpacked):
    """Writes the ELF kernel inside the bzImage `packed` (Linux x86 boot protocol: payload_offset,
    payload_length). Under emulation the zones and xl would unpack it for many seconds each time."""
    with open(packed, "rb") as file:
        kernel = file.read()
    offset, length = struct.unpack_from("<II", kernel, 0x248)
    start = ((kernel[0x1f1] or 4) + 1) * 512 + offset
    payload = kernel[start:start + length]
    with open(unpacked, "wb") as file:
        if payload.startswith(b"\xfd7zXZ"):
            file.write(lzma.LZMADecompressor().decompress(payload))
        elif payload.startswith(b"\x02!L\x18"):
            # The last four bytes are the size, not LZ4.
            subprocess.run(["lz4", "-dc"], input=payload[:-4], stdout=file, check=True)
        else:
            raise Failure(f"{packed}: compressed with something new")


def base_image(progress):
    """Returns the folder of the base image, built if there is none for today's inputs."""
    folder = os.path.join(BUILD, "image")
    source = os.path.join(LOCAL, "image")
    inputs = [path for path in _files_below(source) if os.path.basename(path) != "init"]
    key = _digest(inputs, *SOURCES)
    with _locked(folder):
        done = os.path.join(folder, key)
        if os.path.isdir(done):
            return done
        progress.say("image: building the zones' root (about two minutes)")
        out = tempfile.mkdtemp(prefix="new.", dir=folder)
        try:
            _debootstrap(out, os.path.join(folder, "build.log"))
            os.rename(out, done)
        except BaseException:
            shutil.rmtree(out, ignore_errors=True)
            raise
        _remove_others(folder, key)
        progress.say(f"image: built {os.path.relpath(done, REPO)}")
        return done


def guest_image(progress, base):
    """Returns the path of the disk that the zones mount on /guest."""
    folder = os.path.join(BUILD, "guest")
    source = os.path.join(LOCAL, "guest")
    programs = os.path.join(REPO, "tests", "pair", "guest")
    inputs = [path for path in _files_below(os.path.join(LOCAL, "lib")) if path.endswith(".py")]
    inputs += list(_files_below(source)) + list(_files_below(programs))
    key = _digest(inputs, os.path.basename(base))
    with _locked(folder):
        done = os.path.join(folder, key)
        if os.path.isdir(done):
            return os.path.join(done, "guest.img")
        progress.say("guest: building the guest's kernel and initramfs")
        out = tempfile.mkdtemp(prefix="new.", dir=folder)
        try:
            _build_guest(out, base, source, programs)
            os.chmod(out, 0o755)
            os.rename(out, done)
        except BaseException:
            shutil.rmtree(out, ignore_errors=True)
            raise
        _remove_others(folder, key)
        return os.path.join(done, "guest.img")


def _build_guest(out, base, source, programs):
    tree, disk = os.path.join(out, "tree"), os.path.join(out, "disk")
    os.makedirs(tree)
    os.makedirs(disk)
    subprocess.run(["tar", "-C", tree, "-xf", os.path.join(base, "guest-root.tar")], check=True)
    entries = {os.path.relpath(path, tree): path for path in _files_below(tree)}
    for name in ("dev", "proc", "sys", "tmp", "run", "etc"):
        entries[name] = None
    entries["init"] = os.path.join(source, "init")
    for name in GUEST_PROGRAMS:
        binary = os.path.join(out, name)
        r = subprocess.run(["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-static", "-pthread",
                            "-o", binary, os.path.join(programs, name + ".c")], check=False)
        if r.returncode != 0:
            raise Failure(f"guest: {name}.c does not compile")
        entries["bin/" + name] = binary
    # Not compressed either: libxc unpacks a compressed one before the guest starts.
    archive.write_initramfs(os.path.join(disk, "initrd.img"), entries, packed=False)
    unpack_kernel(os.path.join(base, "guest-vmlinuz"), os.path.join(disk, "vmlinux"))
    os.symlink("vmlinux", os.path.join(disk, "vmlinuz"))
    for path in _files_below(source):
        if path.endswith(".cfg"):
            shutil.copy(path, disk)
    size = sum(os.lstat(path).st_size for path in _files_below(disk))
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", "-d", disk, "-L", "guest",
                    os.path.join(out, "guest.img"), f"{(size >> 10) + 8192}k"],
                   stdout=subprocess.DEVNULL, check=True)
    shutil.rmtree(tree)
    shutil.rmtree(disk)
