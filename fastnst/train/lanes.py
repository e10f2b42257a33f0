"""Parts of a batch side by side, each on one core."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Part = TypeVar("Part")
T = TypeVar("T")


def lane_count(device: torch.device, photographs: int) -> int:
    """How many parts are computed at once: as many as torch has threads for, on a processor."""
    return min(torch.get_num_threads(), photographs) if device.type == "cpu" else 1


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """What is done inside needs no other thread of a processor, for work of many small operations.

    Two threads are no faster there, and beside a busy program each operation waits until both have a core.
    """
    with _threads(1 if device.type == "cpu" else torch.get_num_threads()):
        yield


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Lanes:
    """Threads that compute a part each and share torch's threads evenly; they stay from one call to the next.

    Threads that share each operator wait for one another thousands of times a step, and all of them for the one whose
    core has something else to do. Lanes wait once a call.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._shape = (1, 1)  # lanes, and torch's threads that they share

    def map(self, work: Callable[[Part], T], parts: Sequence[Part], lanes: int) -> Iterator[T]:
        """Give work(part) of each, in order; so many are done at a time."""
        if lanes == 1:
            yield from map(work, parts)
            return
        threads = torch.get_num_threads()
        each = max(threads // lanes, 1)
        if self._pool is None or self._shape != (lanes, threads):
            self.close()
            self._pool = ThreadPoolExecutor(lanes, initializer=_take_threads, initargs=(each,))
            self._shape = (lanes, threads)
        with _threads(each):  # here too, because MKL has one number for all threads
            try:
                yield from self._pool.map(work, parts)
            except BaseException:
                self.close()  # what a backward that ran out of memory leaves behind goes with its thread
                raise

    def close(self) -> None:
        """Wait for what is being computed, and end the threads."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def _take_threads(count: int) -> None:
    """Let torch use so many threads in this one."""
    torch.get_num_threads()  # when first asked, torch sets a thread's number to that of the process
    torch.set_num_threads(count)
