"""Photographs as an endless, repeatable stream of crops, wherever they come from.

Which photo stands at a position, and how it is cropped, depends on (seed, position) alone: not on the number of
workers, not on where a run was interrupted.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from fastnst.ahead import prepare_ahead
from fastnst.errors import FastnstError, InputError, StorageError, UsageError
from fastnst.files import printable
from fastnst.image import Limits, Picture, Pixels

log = logging.getLogger(__name__)

LARGEST_SCALE = 2.0  # a crop shows between all of a photo's short side and half of it
KEPT = 1 << 29  # bytes of decoded photos that stay in memory
LIMITS = Limits(smallest=16)
_NOTHING: Mapping[Any, Any] = MappingProxyType({})

Photo = TypeVar("Photo", bound=Hashable)
Item = TypeVar("Item")


@dataclass(frozen=True)
class Problem:
    """Something that cannot be trained on."""

    name: str
    place: str  # for somebody who wants to see what is wrong with it
    reason: str


class Crops(ABC, Generic[Photo]):
    """Photographs, some of them `held_out` of training; `unusable` says why others are not used, and grows when
    decoding finds more. `digest` tells whether there are the same photographs, wherever they are.
    """

    size: int
    seed: int
    held_out: list[Photo]
    unusable: dict[Photo, str]
    digest: str
    parts: Mapping[str, str] = _NOTHING  # digests of the tars that the photographs are in, by name
    patience: int | None = None  # damaged photos in a row after which there is no hope; None is all of them
    _kept: dict[Photo, Image.Image]
    _room: int

    @property
    @abstractmethod
    def source(self) -> str:
        """Where the photographs are, to be printed."""

    @property
    @abstractmethod
    def count(self) -> int:
        """How many are trained on, those included that turn out damaged."""

    @property
    @abstractmethod
    def found(self) -> int:
        """How many files there are, usable or not."""

    @abstractmethod
    def trained(self, number: int) -> Photo:
        """One of the photos that are trained on, by its number from 0, in the same order always."""

    @abstractmethod
    def called(self, name: str) -> list[Photo]:
        """The photos of a name: one, or none; several only in a tar that has several files of one name."""

    @abstractmethod
    def name(self, photo: Photo) -> str:
        """What a photo is called, the same on every system and wherever the photographs are."""

    @abstractmethod
    def place(self, photo: Photo) -> str:
        """Where a photo is."""

    def problems(self) -> list[Problem]:
        """All that is unusable, as far as it is known."""
        return [Problem(self.name(one), self.place(one), why) for one, why in list(self.unusable.items())]

    @abstractmethod
    def keep_apart(self, names: Collection[str]) -> None:
        """Hold out exactly these photos, as the run that is continued did; one that has gone is missed by nobody."""

    @abstractmethod
    def read(self, photo: Photo, data: bytes | None = None, **options: Any) -> Picture:
        """A photo, of its bytes if these are at hand; see decode_picture for options and errors.

        Raises StorageError if its store does not answer.
        """

    @abstractmethod
    def at(self, epoch: int, place: int) -> Photo:
        """Which photo stands at a place in an epoch."""

    def crop(self, position: int, at_hand: Mapping[Photo, bytes] = _NOTHING) -> Pixels:
        """The photo at a position, at a random scale, place and side: uint8 (size, size, 3).

        A photo that turns out damaged is replaced by the next in the same epoch's order. Those whose bytes are at hand
        are not read.
        """
        epoch, place = divmod(position, self.count)
        for offset in range(min(self.count, self.patience or self.count)):
            photo = self.at(epoch, (place + offset) % self.count)
            if photo in self.unusable:
                continue
            try:
                return self.random_crop(photo, np.random.default_rng([self.seed, position]), at_hand.get(photo))
            except StorageError:  # it may be in order
                raise
            except FastnstError as error:
                self.unusable[photo] = str(error)
        raise self._hopeless()

    def _hopeless(self) -> InputError:
        return InputError(f"every picture in {printable(self.source)} turned out damaged; give usable photographs")

    def random_crop(self, photo: Photo, random: np.random.Generator, data: bytes | None = None) -> Pixels:
        """A photo at a random scale, place and side: uint8 (size, size, 3)."""
        zoom, x, y, flip = LARGEST_SCALE ** random.random(), random.random(), random.random(), random.random() < 0.5
        pixels = self._cut(photo, max(1.0, zoom), x, y, data)
        return pixels[:, ::-1] if flip else pixels

    def middle(self, photo: Photo) -> Pixels:
        """The largest square in the middle of a photo: uint8 (size, size, 3)."""
        return self._cut(photo, 1, 0.5, 0.5)

    def _cut(self, photo: Photo, zoom: float, x: float, y: float, data: bytes | None = None) -> Pixels:
        image = self._decoded(photo, data)
        side = min(image.size) / zoom
        left, top = x * (image.width - side), y * (image.height - side)
        box = (left, top, left + side, top + side)
        return np.asarray(image.resize((self.size, self.size), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0))

    def _decoded(self, photo: Photo, data: bytes | None) -> Image.Image:
        """A photo, scaled to what the smallest crop needs or up to twice that; the first ones stay in memory."""
        if (image := self._kept.get(photo)) is None:
            side = round(self.size * LARGEST_SCALE)
            picture = self.read(photo, data, limits=LIMITS, short_side=side)
            image = Image.fromarray(picture.rgb)
            if (times := min(image.size) // side) > 1:
                image = image.reduce(times)
            if self._room > 0:
                self._room -= image.width * image.height * 3
                self._kept[photo] = image
        return image

    def batches(
        self, start: int, stop: int, batch_size: int, workers: int = 2, rank: int = 0, ranks: int = 1
    ) -> Iterator[npt.NDArray[np.uint8]]:
        """uint8 (batch_size, size, size, 3) for each step from start to stop, prepared ahead by threads.

        Several ranks see the parts, in their order, of what one alone would see in a batch as large as all of theirs.
        """
        positions = positions_of(start, stop, batch_size, rank, ranks)
        return map(np.stack, prepare_ahead(self.crop, positions, workers))


def positions_of(start: int, stop: int, batch_size: int, rank: int, ranks: int) -> Iterator[range]:
    """The positions that a rank sees in each step."""
    firsts = ((step * ranks + rank) * batch_size for step in range(start, stop))
    return (range(first, first + batch_size) for first in firsts)


def report_unusable(photographs: Crops[Any], listed_in: str = "") -> None:
    """Warn of what is left out, the first three by name; `listed_in` names a file that has them all."""
    if not (bad := photographs.problems()):
        return
    named = ", ".join(f"{printable(problem.name)} ({problem.reason})" for problem in bad[:3])
    log.warning(
        "%d of the %d files in %s are unusable and left out: %s%s",
        *(len(bad), photographs.found, printable(photographs.source), named),
        "" if len(bad) <= 3 else f", ... (all in {listed_in})" if listed_in else ", ...",
    )


@lru_cache(maxsize=4)
def shuffled(seed: int, epoch: int, count: int) -> npt.NDArray[np.int64]:
    """The order of this many in an epoch."""
    return np.random.default_rng([seed, epoch, count]).permutation(count)


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """This number of items at even distances, whatever subfolders they are in."""
    return [items[(2 * index + 1) * len(items) // (2 * count)] for index in range(count)]


def number_held_out(asked: int | None, count: int, source: str) -> int:
    """How many of `count` photographs are held out: one in ten but at most 4 if none is asked for.

    Raises UsageError if nothing were left to train on.
    """
    number = min(4, count // 10) if asked is None else asked
    if number >= count:
        raise UsageError(f"--held-out is {number} but {printable(source)} has {count} usable photographs; give fewer")
    return number
