"""Whether KVM can run the zones: found out by booting one, since /dev/kvm alone says little."""

import os
import signal
import subprocess
import time

import machine

PROBE_LIMIT_S = 20
MARKER = b"zone: initramfs"


def _boots(folder, args):
    """Whether Xen and dom0 come as far as their initramfs within PROBE_LIMIT_S."""
    console = os.path.join(folder, "kvm-probe.log")
    with open(console, "wb"):
        pass
    process = subprocess.Popen(args + ["-serial", f"file:{console}", "-no-reboot"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        limit = time.monotonic() + PROBE_LIMIT_S
        while process.poll() is None and time.monotonic() < limit:
            with open(console, "rb") as file:
                if MARKER in file.read():
                    return True
            time.sleep(0.1)
        return False
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()


def kvm_works(progress, cache, linux, xen, initramfs):
    """Boots zone a's kernels under KVM, once; the answer is kept in the folder `cache`."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    answer = os.path.join(cache, "kvm")
    if not os.path.exists(answer):
        progress.say(f"kvm: trying whether Xen boots under it (at most {PROBE_LIMIT_S} s)")
        works = _boots(cache, machine.boot_arguments("a", linux, xen, initramfs, True))
        with open(answer, "w", encoding="ascii") as file:
            file.write("yes" if works else "no")
        progress.say(f"kvm: {'works' if works else 'does not boot Xen; emulating'}")
    with open(answer, encoding="ascii") as file:
        return file.read() == "yes"
