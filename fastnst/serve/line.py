"""The one queue: places that are taken on arrival, and the lane in front of which they wait."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from fastnst.engine import Stop
from fastnst.errors import StoppedError
from fastnst.serve.problems import BusyError, DrainingError

T = TypeVar("T")

LANES = 1  # a device has one: two networks at once on it take as long as one after the other, and twice the memory
_LONGEST_RETRY = 60  # seconds


class Line:
    """A bounded number of places, each with a request from its first byte to its last."""

    def __init__(self, queue: int, lanes: int = LANES, clock: Callable[[], float] = time.monotonic) -> None:
        self.room, self.lanes, self.clock = queue + lanes, lanes, clock
        self.taken = 0
        self.draining = False
        self.pace = 1.0  # seconds that a request held a place, of late
        self._empty = asyncio.Event()
        self._empty.set()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place in the block; BusyError if there is none, DrainingError if there will be none."""
        if self.draining:
            raise DrainingError("the service is stopping and takes nothing new; try again in a moment", seconds=5)
        if self.taken >= self.room:
            raise BusyError(
                f"{self.taken} requests are painted or wait already; try again in {self.retry_after} seconds",
                seconds=self.retry_after,
            )
        self.taken += 1
        self._empty.clear()
        begun = self.clock()
        try:
            yield
        finally:
            self.taken -= 1
            self.pace = 0.8 * self.pace + 0.2 * (self.clock() - begun) / self.room
            if not self.taken:
                self._empty.set()

    @property
    def retry_after(self) -> int:
        """Seconds, 1 to 60, after which a place should be free."""
        return max(1, min(_LONGEST_RETRY, math.ceil(self.pace)))

    def drain(self) -> None:
        """Give no more places."""
        self.draining = True

    async def empty(self) -> None:
        """Wait until no place is taken."""
        await self._empty.wait()


class Lane:
    """One thread that paints a picture at a time, in the order in which they come."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lane")
        self._running: set[Stop] = set()
        self._closed = False
        self.busy = 0  # pictures that are painted now

    async def run(self, work: Callable[[Stop], T]) -> T:
        """What the work returns, done when its turn comes; a caller that is canceled stops it, at once if it runs."""
        if self._closed:
            raise StoppedError("the lane is closed")
        stop = Stop()
        self._running.add(stop)
        try:
            return await asyncio.wrap_future(self._thread.submit(self._counted, work, stop))
        finally:
            self._running.discard(stop)
            stop.set()

    def _counted(self, work: Callable[[Stop], T], stop: Stop) -> T:
        if stop.is_set:
            raise StoppedError("painting was stopped before it began")
        self.busy += 1
        try:
            return work(stop)
        finally:
            self.busy -= 1

    def close(self) -> None:
        """Stop what runs and what waits: StoppedError."""
        self._closed = True
        for stop in self._running:
            stop.set()
        self._thread.shutdown(wait=False)
