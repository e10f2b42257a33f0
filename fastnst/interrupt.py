"""What keeps a long run from harm: one run a folder, signals, a time limit, memory that runs out."""

import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fastnst.errors import OutputError
from fastnst.files import make_folder, printable

if TYPE_CHECKING:
    from filelock import BaseFileLock

log = logging.getLogger(__name__)

# Batch systems announce the end of a job's time with SIGUSR1, which Windows does not have.
SIGUSR1: signal.Signals | None = getattr(signal, "SIGUSR1", None)
SIGNALS = (signal.SIGINT, signal.SIGTERM, *([SIGUSR1] if SIGUSR1 else []))
OUT_OF_TIME = 1000  # a reason to stop, beside the numbers of signals
IN_TIME = (OUT_OF_TIME, SIGUSR1)  # reasons that leave time to save: the run ends without an error

T = TypeVar("T")

# What torch's allocator, oneDNN and the C++ library say; only CUDA has an exception of its own.
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "could not create a ", "bad_alloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was all that was missing."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")  # an error of torch's is only there where torch is
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)


@contextmanager
def only_run(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file that ends with the process, however it ends; OutputError at once if another process holds it.

    A drive that has no locks holds nobody up.
    """
    from filelock import Timeout

    missing = [folder for folder in path.parents if not folder.exists()]
    make_folder(path.parent)
    lock = _lock(path)
    try:
        _make_lock_file(path)
        lock.acquire()
    except (OSError, NotImplementedError) as error:  # the second is filelock's, for a system without locks
        # What a drive without locks says may be what it would say of a lock that is held.
        if path.exists() and not _has_locks(path.parent):
            log.info("no lock can be held in %s: nothing keeps two runs apart", printable(path.parent))
        elif isinstance(error, Timeout):
            raise OutputError(f"another run is writing {what}; wait for it, or choose another name") from error
        else:
            reason = getattr(error, "strerror", None) or error
            raise OutputError(f"cannot write {printable(path)}: {reason}") from error
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # before it is unlocked: who gets the lock later finds that the file is no longer there
        with suppress(OSError):  # on Windows, where an open file cannot be deleted, filelock does it now
            lock.release()
        for folder in missing:
            with suppress(OSError):  # not empty
                folder.rmdir()


def _lock(path: Path) -> "BaseFileLock":
    from filelock import FileLock

    return FileLock(path, blocking=False, fallback_to_soft=False)


def _make_lock_file(path: Path) -> None:
    """One that every user may lock, where the drive has permissions; filelock insists on setting them."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o666))
    with suppress(OSError):
        os.chmod(path, 0o666)  # noqa: S103 (it holds nothing)


def _has_locks(folder: Path) -> bool:
    """Whether a file that nobody else knows can be locked."""
    path = folder / f".fastnst.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    lock = _lock(path)
    try:
        lock.acquire()
    except (OSError, NotImplementedError):
        return False
    finally:
        with suppress(OSError):
            lock.release()
        path.unlink(missing_ok=True)
    return True


def reason_name(reason: int) -> str:
    """What stopped a run, as its user knows it: --time-limit, or the name of a signal."""
    return "--time-limit" if reason == OUT_OF_TIME else signal.Signals(reason).name


@contextmanager
def caught_signals() -> Iterator[list[int]]:
    """Collect the first signal instead of dying of it; a second one acts at once."""
    received: list[int] = []
    before: dict[int, Any] = {}

    def receive(number: int, _: object) -> None:
        received.append(number)
        for name in before:
            signal.signal(name, signal.SIG_DFL)

    try:
        before = {number: signal.signal(number, receive) for number in SIGNALS}
    except ValueError:  # not the main thread, where signals are somebody else's
        pass
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def until_signal(items: Iterable[T], received: Sequence[int]) -> Iterator[T]:
    """The items up to the one during which `caught_signals` received a signal."""
    for item in items:
        yield item
        if received:
            return


class Deadline:
    """When to stop so that everything is saved within a limit in seconds; None is no limit."""

    def __init__(self, limit: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit, self.clock = limit, clock
        self.start = self.last = clock()
        self.longest_step = self.longest_save = 0.0

    @contextmanager
    def saving(self) -> Iterator[None]:
        """The block is a save."""
        start = self.clock()
        yield
        self.longest_save = max(self.longest_save, self.clock() - start)

    def step(self) -> None:
        """A step ends here; with a save, if there was one since the last."""
        now = self.clock()
        self.longest_step = max(self.longest_step, now - self.last)
        self.last = now

    @property
    def near(self) -> bool:
        """Whether another step and a save might end too late."""
        # Nobody knows how long a first save takes; the others may take somewhat longer than the longest so far.
        needed = self.longest_step + max(2 * self.longest_save, 1.0)
        return self.limit is not None and self.clock() - self.start + needed > self.limit
