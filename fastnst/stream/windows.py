"""Encoded photographs of tars, read ahead of the crops in large pieces: one window in use, the next on its way."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

from fastnst.errors import InputError, StorageError
from fastnst.files import printable
from fastnst.stream.order import Order, Window

READERS = 8  # pieces that are read at once
GAP = 256 << 10  # bytes that nobody needs are read over, since another request takes longer

Read = Callable[[str, int, int], bytes]
Extent = Callable[[int], tuple[str, int, int]]  # of a photo


@dataclass(frozen=True)
class _Wanted:
    """A photo that is read for a position."""

    position: int
    photo: int
    start: int
    stop: int


class Windows:
    """The bytes of each position from `start` to `stop` that `wanted` tells, once each, and about in their order.

    `extent` tells the place, the first byte and the number of bytes of a photo. To be used in a `with`.
    """

    def __init__(
        self, order: Order, extent: Extent, read: Read, start: int, stop: int, wanted: Callable[[int], bool]
    ) -> None:
        self.order, self.extent, self.read = order, extent, read
        self.stop, self.wanted = stop, wanted
        self.begun: dict[int, Future[dict[int, bytes]]] = {}  # by position
        self.newest, self.next = start, start  # first positions of the last window that is begun, and of the one after
        self.lock = Lock()
        self.failure: StorageError | None = None  # after which nothing more is asked for
        self.pool = ThreadPoolExecutor(READERS, "windows")

    def __enter__(self) -> "Windows":
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def take(self, position: int) -> bytes:
        """The bytes of the photo at a position, which are forgotten with that; StorageError if they are not there."""
        with self.lock:
            while self.next < self.stop and self.newest <= position:
                self._begin(self.order.window_at(self.next))
            piece = self.begun.pop(position)
        return piece.result().pop(position)

    def _begin(self, window: Window) -> None:
        """Begin to read what is wanted of a window, that which is used first, first."""
        chunks: dict[int, list[_Wanted]] = {}
        for position in filter(self.wanted, range(self.next, min(window.stop, self.stop))):
            place = position - window.first
            photo = int(window.photos[place])
            _, start, length = self.extent(photo)
            chunks.setdefault(int(window.chunks[place]), []).append(_Wanted(position, photo, start, start + length))
        for chunk in chunks.values():
            for piece in _pieces(chunk):
                future = self.pool.submit(self._load, piece)
                self.begun |= dict.fromkeys((one.position for one in piece), future)
        self.newest, self.next = self.next, window.stop

    def _load(self, piece: Sequence[_Wanted]) -> dict[int, bytes]:
        """The bytes of photos that lie close together in a tar, by position."""
        if self.failure is not None:
            raise self.failure
        try:
            return self._read(piece)
        except StorageError as error:
            self.failure = error
            raise

    def _read(self, piece: Sequence[_Wanted]) -> dict[int, bytes]:
        place = self.extent(piece[0].photo)[0]
        start, stop = piece[0].start, max(one.stop for one in piece)
        try:
            data = self.read(place, start, stop - start)
        except InputError as error:
            raise StorageError(f"{error}; photographs in it are still to be read") from error
        if len(data) < stop - start:
            raise StorageError(f"{printable(place)} became shorter while photographs in it were still to be read")
        return {one.position: data[one.start - start : one.stop - start] for one in piece}


def _pieces(wanted: Sequence[_Wanted]) -> Iterator[list[_Wanted]]:
    """Those of one chunk in groups that are worth one request each."""
    piece: list[_Wanted] = []
    for one in sorted(wanted, key=lambda one: one.start):
        if piece and one.start - piece[-1].stop > GAP:
            yield piece
            piece = []
        piece.append(one)
    if piece:
        yield piece
