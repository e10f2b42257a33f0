"""Decode what stdin is, or begins to be; prints the size of the picture or the error, and ends with the MiB it took.

PNG's decoder is imported before.
"""

import os
import resource
import sys

from PIL import PngImagePlugin  # noqa: F401

from fastnst.errors import InputError
from fastnst.image import decode_picture


def peak() -> int:
    """KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


data = sys.stdin.buffer.read()
# A program inherits the peak of the process that started it; a fork does not.
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
before = peak()
try:
    print("{1}x{0}".format(*decode_picture(data, "a.png").size))
except InputError as error:
    print(error)
sys.exit(min(255, (peak() - before) // 1024))
