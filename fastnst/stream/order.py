"""Which photograph of many tars stands at a position: shuffled, and yet read in few large pieces.

Tars are cut into chunks of photographs that lie side by side. Each epoch has all chunks in an order of its own, cut
into windows of about equal bytes; a window's photographs, which are from all over the tars, are shuffled together. All
of it follows from (seed, epoch), so that any position is found without going through those before it.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

CHUNKS = 32  # in a window, at least
LARGEST_CHUNK = 4 << 20  # bytes; a store gives larger pieces no faster

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """Photographs that are in memory together."""

    first: int  # position of the first
    photos: Numbers  # in the order of their positions
    chunks: Numbers  # the chunk that each is in

    @property
    def stop(self) -> int:
        return self.first + len(self.photos)


class Order:
    """The order of photographs, of which each is in a tar, at a byte there, and so many bytes long: (N,) each.

    `photos` are the numbers of those that are trained on, sorted. `window` is how many bytes of them are shuffled.
    """

    def __init__(self, photos: Numbers, tars: Numbers, starts: Numbers, lengths: Numbers, window: int, seed: int):
        self.photos, self.window, self.seed = photos, window, seed
        pieces = np.stack([tars[photos], starts[photos] // max(1, min(LARGEST_CHUNK, window // CHUNKS))])
        begins = np.flatnonzero((np.diff(pieces, prepend=-1) != 0).any(axis=0))
        self.bounds = np.append(begins, len(photos))  # of the chunks, among photos
        self.bytes = np.add.reduceat(lengths[photos], begins)  # (chunks,)
        self._epoch = lru_cache(maxsize=4)(self._make_epoch)
        self._window = lru_cache(maxsize=4)(self._make_window)

    @property
    def chunks(self) -> int:
        return len(self.bytes)

    def at(self, position: int) -> int:
        """The photo at a position."""
        window = self.window_at(position)
        return int(window.photos[position - window.first])

    def window_at(self, position: int) -> Window:
        """The window that a position is in."""
        epoch, place = divmod(position, len(self.photos))
        return self._window(epoch, self._epoch(epoch).window_at(place))

    def _make_epoch(self, epoch: int) -> "_Epoch":
        order = np.random.default_rng([self.seed, epoch, self.chunks]).permutation(self.chunks)
        before = np.cumsum(self.bytes[order]) - self.bytes[order]
        begins = np.flatnonzero(np.diff(before // self.window, prepend=-1))
        photos = np.cumsum(np.diff(self.bounds)[order])
        return _Epoch(order, np.append(begins, self.chunks), np.concatenate([[0], photos]))

    def _make_window(self, epoch: int, number: int) -> Window:
        whole = self._epoch(epoch)
        chunks = whole.order[whole.begins[number] : whole.begins[number + 1]]
        photos = np.concatenate([self.photos[self.bounds[chunk] : self.bounds[chunk + 1]] for chunk in chunks])
        sources = np.repeat(chunks, self.bounds[chunks + 1] - self.bounds[chunks])
        mixed = np.random.default_rng([self.seed, epoch, number, len(photos)]).permutation(len(photos))
        return Window(epoch * len(self.photos) + int(whole.firsts[number]), photos[mixed], sources[mixed])


@dataclass(frozen=True)
class _Epoch:
    order: Numbers  # of the chunks
    begins: Numbers  # of the windows, among the chunks in their order, and the end
    before: Numbers  # photos before each chunk in its order, and all

    @cached_property
    def firsts(self) -> Numbers:
        """The place where each window begins."""
        return self.before[self.begins]

    def window_at(self, place: int) -> int:
        return int(np.searchsorted(self.firsts, place, side="right")) - 1
