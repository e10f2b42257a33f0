"""Decode what stdin holds; prints its size, and fails if that took more than 64 MiB."""

import os
import resource
import sys

from fastnst.image import decode_picture


def peak() -> int:
    """KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


data = sys.stdin.buffer.read()
# A program inherits the peak of the process that started it; a fork does not.
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
before = peak()
height, width = decode_picture(data).size
print(f"{height}x{width}", flush=True)
sys.exit(int((peak() - before) // 1024 > 64))
