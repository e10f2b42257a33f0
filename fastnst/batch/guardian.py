"""A program that ends what a cluster of this machine left behind, however its owner ended: FOLDER on the command line.

It waits for the end of its standard input, which its owner holds open, then kills the processes that have files in the
folder open or carry its name in their environment, and removes it. It imports nothing of fastnst or Ray, to be small.
"""

import os
import shutil
import signal
import sys
import time

ROUNDS, PAUSE = 50, 0.1  # processes that are about to be born when one looks are seen in a later round


def belongs(process: str, folder: bytes) -> bool:
    """Whether a process was started for the cluster with this folder."""
    root = f"/proc/{process}"
    try:
        with open(f"{root}/environ", "rb") as file:
            if b"=" + folder + b"\0" in file.read() + b"\0":
                return True
        files = os.listdir(f"{root}/fd")
    except OSError:  # it ended, or is somebody else's
        return False
    return any(leads_to(f"{root}/fd/{name}").startswith(folder + b"/") for name in files)


def leads_to(link: str) -> bytes:
    """Where a link leads; nowhere if it is gone."""
    try:
        return os.readlink(os.fsencode(link))  # noqa: PTH115 (bytes)
    except OSError:
        return b""


def end_all(folder: bytes, spared: "set[int]") -> bool:
    """Kill what belongs to the cluster; whether there was anything."""
    try:
        found = [int(name) for name in os.listdir("/proc") if name.isdecimal() and int(name) not in spared]
    except OSError:  # a system without /proc, whose processes end by themselves
        return False
    found = [process for process in found if belongs(str(process), folder)]
    for process in found:
        try:
            os.kill(process, signal.SIGKILL)
        except OSError:
            pass
    return bool(found)


def main() -> None:
    """Wait for the owner's end, and see to it that nothing is left of its cluster."""
    folder = os.fsencode(sys.argv[1])
    spared = {os.getpid(), os.getppid()}
    sys.stdin.buffer.read()
    quiet = 0
    for _ in range(ROUNDS):
        quiet = 0 if end_all(folder, spared) else quiet + 1
        if quiet == 2:
            break
        time.sleep(PAUSE)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
