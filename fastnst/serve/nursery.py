"""Loaded by the process that starts those that decode: it ends with the service, even if that is killed.

multiprocessing alone lets it live as long as one of its children does, which may hang, and leaves its socket behind.
"""

import atexit
import ctypes
import os
import signal
import sys
from contextlib import suppress
from multiprocessing import forkserver
from pathlib import Path
from types import FrameType

_PR_SET_PDEATHSIG = 1  # of Linux's prctl


def die_with_parent(number: int) -> None:
    """Get a signal when the thread ends that started this process; elsewhere than on Linux nothing happens."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def watch() -> None:
    """End with the parent, and without leaving the socket that multiprocessing made."""
    pid = os.getpid()

    def clean() -> None:
        address = getattr(forkserver._forkserver, "_forkserver_address", None)
        if os.getpid() == pid and isinstance(address, str):
            with suppress(OSError):  # the service is there and does it
                Path(address).unlink()
                Path(address).parent.rmdir()

    def end(_number: int, _frame: FrameType | None) -> None:
        sys.exit()

    atexit.register(clean)
    signal.signal(signal.SIGTERM, end)
    die_with_parent(signal.SIGTERM)


if sys.orig_argv[-1].startswith(f"from {forkserver.__name__} import main"):  # nobody else who imports this
    watch()
