"""One zone's QEMU: its command line, its life, and the monitor socket."""

import json
import os
import signal
import socket
import subprocess
import time

import network
from image import Failure

QEMU = "qemu-system-x86_64"
QMP_LIMIT_S = 5
KILL_LIMIT_S = 10
MEMORY_MIB = {"a": 2560, "b": 2560, "c": 768}
# Disjoint domain ids, so that a guest can keep its own on the other host.
DOMIDS = {"a": "1-8191", "b": "8192-16383"}
XEN_OPTIONS = ("console=com1 com1=115200,8n1 vga=none dom0_mem=768M,max:768M dom0_max_vcpus=1 "
               "dom0_vcpus_pin bootscrub=0 spec-ctrl=no xpti=0 ucode=no-scan noreboot")
# The emulator has no speculation to mitigate. Its TSC is the host's, but an emulated clock is read so late at times
# that Linux gives the TSC up, and from then on every look at the clock is a system call.
LINUX_OPTIONS = ("quiet tsc=reliable mitigations=off lsm=yama audit=0 cryptomgr.notests nowatchdog "
                 "transparent_hugepage=madvise")


def _accelerator(kvm):
    if kvm:
        return ["-accel", "kvm", "-cpu", "host"]
    return ["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "qemu64,+svm,+npt"]


def boot_arguments(zone, linux, xen, initramfs, kvm):
    """The arguments that decide what runs: processor, memory, hypervisor, kernel."""
    args = [QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc",
            "-smp", "2", "-m", str(MEMORY_MIB[zone])] + _accelerator(kvm)
    if zone == "c":
        return args + ["-kernel", linux, "-initrd", initramfs,
                       "-append", f"console=ttyS0 {LINUX_OPTIONS}"]
    return args + ["-kernel", xen, "-append", f"{XEN_OPTIONS} domid-range={DOMIDS[zone]}",
                   "-initrd", f"{linux} console=hvc0 {LINUX_OPTIONS},{initramfs}"]


class Machine:
    """The machine of `zone` in the pair's folder `folder`."""

    def __init__(self, folder, zone):
        self.folder, self.zone = folder, zone
        self.address = network.loopback(folder)
        self.console_log = self.path("console.log")
        self.overlay = self.path("qcow2")

    def path(self, suffix):
        return os.path.join(self.folder, f"{self.zone}.{suffix}")

    def pid(self):
        """The process id of the running QEMU, or None."""
        try:
            with open(self.path("pid"), encoding="ascii") as file:
                pid = int(file.read())
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                ours = self.overlay.encode() in file.read()
            with open(f"/proc/{pid}/stat", encoding="ascii") as file:
                alive = file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
        except (OSError, ValueError, IndexError):
            return None
        return pid if ours and alive else None

    def _interfaces(self, sockets):
        args = []
        for index, (name, link) in enumerate(network.INTERFACES[self.zone].items()):
            nic = f"{link}.nic"
            if link == "mgmt":
                forward = f"hostfwd=tcp:{self.address}:{network.ssh_port(self.zone)}-:22"
                args += ["-netdev", f"user,id={nic},restrict=on,{forward}"]
            else:
                # The hub keeps set_link from taking the carrier away: a cut link drops silently.
                args += ["-netdev", f"dgram,id={link},local.type=fd,local.str={sockets[link].fileno()}",
                         "-netdev", f"hubport,id={link}.hub,hubid={index},netdev={link}",
                         "-netdev", f"hubport,id={nic},hubid={index}"]
            args += ["-device", f"virtio-net-pci,netdev={nic},romfile=,"
                     f"mac={network.mac(self.zone, name)}"]
        return args

    def _devices(self, guest_disk):
        args = ["-chardev", f"socket,id=console,path={self.path('console')},server=on,wait=off,"
                f"logfile={self.console_log},logappend=on", "-serial", "chardev:console",
                "-chardev", f"file,id=journal,path={self.path('journal.log')},append=on",
                "-device", "virtio-serial", "-device", "virtconsole,chardev=journal",
                "-qmp", f"unix:{self.path('qmp')},server=on,wait=off",
                "-drive", f"if=virtio,format=qcow2,cache=unsafe,file={self.overlay}",
                "-drive", f"if=virtio,format=raw,readonly=on,file={self.path('payload.tar')}"]
        if self.zone != "c":
            args += ["-drive", f"if=virtio,format=raw,readonly=on,file={guest_disk}"]
        return args

    def start(self, linux, xen, initramfs, guest_disk, kvm, cut):
        """Powers the machine on, with the links in `cut` cut. It must not be running."""
        sockets = {}
        try:
            for link, ends in network.LINKS.items():
                if self.zone in ends:
                    sockets[link] = network.open_link(self.address, link, self.zone)
            args = boot_arguments(self.zone, linux, xen, initramfs, kvm)
            args += ["-name", f"zone-{self.zone}", "-S"]
            args += self._devices(guest_disk) + self._interfaces(sockets)
            with open(self.path("qemu.log"), "wb") as log:
                process = subprocess.Popen(
                    args, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                    pass_fds=[sock.fileno() for sock in sockets.values()])
        except OSError as error:
            raise Failure(f"zone {self.zone}: cannot start QEMU: {error}") from error
        finally:
            for sock in sockets.values():
                sock.close()
        with open(self.path("pid"), "w", encoding="ascii") as file:
            file.write(str(process.pid))
        self._wait_for_monitor(process)
        for link in cut:
            if link in sockets:
                self.set_link(link, False)
        self.monitor("cont")

    def _wait_for_monitor(self, process):
        limit = time.monotonic() + QMP_LIMIT_S
        while True:
            try:
                self.monitor("query-status")
                return
            except Failure:
                if process.poll() is not None or time.monotonic() > limit:
                    with open(self.path("qemu.log"), encoding="utf-8", errors="replace") as log:
                        raise Failure(f"zone {self.zone}: QEMU: {log.read()}") from None
            time.sleep(0.05)

    def monitor(self, command, **arguments):
        """One QMP command; returns its result."""
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(QMP_LIMIT_S)
                sock.connect(self.path("qmp"))
                stream = sock.makefile("rw", encoding="utf-8")
                for request in ({"execute": "qmp_capabilities"},
                                {"execute": command, "arguments": arguments}):
                    stream.write(json.dumps(request))
                    stream.flush()
                    answer = self._answer(stream)
                return answer
        except (OSError, ValueError) as error:
            raise Failure(f"zone {self.zone}: monitor: {command}: {error}") from error

    def _answer(self, stream):
        for line in stream:
            message = json.loads(line)
            if "error" in message:
                raise Failure(f"zone {self.zone}: monitor: {message['error']['desc']}")
            if "return" in message:
                return message["return"]
        raise Failure(f"zone {self.zone}: monitor closed")

    def set_link(self, link, up):
        self.monitor("set_link", name=link, up=up)

    def kill(self):
        """Power off at once. Returns whether the machine was running."""
        pid = self.pid()
        if pid is None:
            return False
        os.kill(pid, signal.SIGKILL)
        limit = time.monotonic() + KILL_LIMIT_S
        while self.pid() is not None:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass
            if time.monotonic() > limit:
                raise Failure(f"zone {self.zone}: QEMU {pid} survives SIGKILL")
            time.sleep(0.02)
        os.unlink(self.path("pid"))
        return True
