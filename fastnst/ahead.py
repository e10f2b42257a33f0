"""Ordered work ahead in threads: crops for training, pictures of a folder, frames of a clip, read and written."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice, repeat
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")


def prepare_ahead(
    make: Callable[[T], U], batches: Iterable[Iterable[T]], workers: int, limit: int = 3, *, finish: bool = False
) -> Generator[list[U]]:
    """What threads make of the items of each batch, in order, at most `limit` batches ahead.

    Batches are drawn in the reader's own thread, as there is room for them. An error is raised in its turn. When the
    reader stops, by an exception or by close(), the threads end: they finish what they are at, and drop what waits, or
    do that too with `finish`.
    """
    with ThreadPoolExecutor(max(1, workers)) as pool:
        begun: deque[list[Future[U]]] = deque()
        waiting = iter(batches)
        try:
            while True:
                begun += ([pool.submit(make, item) for item in batch] for batch in islice(waiting, limit - len(begun)))
                if not begun:
                    return
                yield [made.result() for made in begun.popleft()]
        finally:
            pool.shutdown(cancel_futures=not finish)


def each_ahead(
    make: Callable[[T], U], items: Iterable[T], workers: int, limit: int, *, finish: bool = False
) -> Generator[U]:
    """The same for items one by one."""
    with closing(prepare_ahead(make, ((item,) for item in items), workers, limit, finish=finish)) as batches:
        for (made,) in batches:
            yield made


def read_ahead(items: Iterable[T], limit: int) -> Generator[T]:
    """The items themselves, drawn by a thread, in order, at most `limit` ahead."""
    iterator, end = iter(items), object()
    with closing(each_ahead(lambda _: next(iterator, end), repeat(None), 1, limit)) as drawn:
        for item in drawn:
            if item is end:
                return
            yield item  # type: ignore[misc]
