"""Archives written without root and without timestamps: newc cpio, and the payload's tar."""

import gzip
import io
import os
import stat
import tarfile


def _newc(name, mode, data, ino):
    fields = [ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
    header = b"070701" + b"".join(b"%08x" % field for field in fields)
    entry = header + name.encode() + b"\0"
    entry += b"\0" * (-len(entry) % 4)
    return entry + data + b"\0" * (-len(data) % 4)


def write_initramfs(path, entries, packed=True):
    """Writes a newc archive to `path`, gzipped if `packed`. entries: archive name -> file to read, or
    bytes; None makes a directory. Parents are added; a symbolic link on disk is followed."""
    tree = {}
    for name, source in entries.items():
        parts = name.strip("/").split("/")
        for depth in range(1, len(parts)):
            tree.setdefault("/".join(parts[:depth]), None)
        tree["/".join(parts)] = source
    out = io.BytesIO()
    for ino, name in enumerate(sorted(tree), 1):
        source = tree[name]
        if source is None:
            out.write(_newc(name, stat.S_IFDIR | 0o755, b"", ino))
        elif isinstance(source, bytes):
            out.write(_newc(name, stat.S_IFREG | 0o755, source, ino))
        else:
            with open(source, "rb") as file:
                data = file.read()
            mode = stat.S_IFREG | (0o755 if os.access(source, os.X_OK) else 0o644)
            out.write(_newc(name, mode, data, ino))
    out.write(_newc("TRAILER!!!", 0, b"", 0))
    data = gzip.compress(out.getvalue(), 6, mtime=0) if packed else out.getvalue()
    with open(path + ".new", "wb") as file:
        file.write(data)
    os.rename(path + ".new", path)


class Payload:
    """A tar that is unpacked over a zone's root. Paths are rewritten for a merged /usr, because an
    entry "lib/" would replace the symbolic link."""

    def __init__(self):
        self.entries = {}

    @staticmethod
    def _place(path):
        path = path.strip("/")
        top = path.split("/", 1)[0]
        return "usr/" + path if top in ("bin", "sbin", "lib", "lib64") else path

    def add(self, path, data, mode=0o644):
        """Adds a file with content `data` (str or bytes)."""
        info = tarfile.TarInfo(self._place(path))
        data = data.encode() if isinstance(data, str) else data
        info.size, info.mode = len(data), mode
        self.entries[info.name] = (info, data)

    def link(self, path, target):
        info = tarfile.TarInfo(self._place(path))
        info.type, info.linkname = tarfile.SYMTYPE, target
        self.entries[info.name] = (info, b"")

    def add_tree(self, top, skip=()):
        """Adds the files and links below `top`, but nothing below the top-level names in `skip`."""
        for folder, folders, files in os.walk(top):
            links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
            for name in files + links:
                source = os.path.join(folder, name)
                path = os.path.relpath(source, top)
                if path.split("/", 1)[0] in skip:
                    continue
                if os.path.islink(source):
                    self.link(path, os.readlink(source))
                    continue
                with open(source, "rb") as file:
                    self.add(path, file.read(), stat.S_IMODE(os.stat(source).st_mode))

    def holds(self, path):
        return self._place(path) in self.entries

    def write(self, path):
        with tarfile.open(path + ".new", "w", format=tarfile.GNU_FORMAT) as tar:
            for name in sorted(self.entries):
                info, data = self.entries[name]
                tar.addfile(info, io.BytesIO(data))
        os.rename(path + ".new", path)


def difference(new, old, path):
    """Writes to `path` a tar of the entries of the tar `new` that the tar `old` has not, or has with
    other content. Returns their names."""
    with tarfile.open(old) as tar:
        known = {info.name: _identity(tar, info) for info in tar}
    with tarfile.open(new) as tar, tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as out:
        changed = [info for info in tar if known.get(info.name) != _identity(tar, info)]
        for info in changed:
            out.addfile(info, tar.extractfile(info) if info.isreg() else None)
    return [info.name for info in changed]


def _identity(tar, info):
    return info.type, info.mode, info.linkname, tar.extractfile(info).read() if info.isreg() else b""
