"""Photographs that are listed, one by one, as a stream of crops; each is read when its turn comes."""

import hashlib
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fastnst.crops import KEPT, LIMITS, Crops, number_held_out, shuffled, spread
from fastnst.errors import InputError
from fastnst.files import printable
from fastnst.image import Picture, decode_picture, read_picture
from fastnst.storage.addresses import is_remote, read
from fastnst.stream.names import Names


class ListedPhotographs(Crops[int]):
    """All pictures of these names, by their number; `place_of` tells the path or address of a name.

    Nothing is looked at beforehand: a name without a usable picture, or without anything, is found when it is to be
    cropped. What is held out is as with a folder of photographs, and so is the order, if the names are sorted as they
    are there. `digest` is that of the names.

    Raises InputError if there are none, UsageError if nothing were left to train on.
    """

    patience = 1000

    def __init__(
        self,
        source: str,
        names: Iterable[str],
        place_of: Callable[[str], str],
        size: int,
        seed: int,
        hold_out: int | None = 0,
    ) -> None:
        self._source, self._place_of, self.size, self.seed = source, place_of, size, seed
        self._names = Names(names)
        self._kept: dict[int, Image.Image] = {}
        self._room = KEPT
        self.unusable: dict[int, str] = {}
        self.digest = hashlib.sha256(self._names.text).hexdigest()
        if not self.found:
            raise InputError(f"there are no photographs in {printable(source)}; give a path or an address in each line")
        self._keep_apart(spread(range(self.found), number_held_out(hold_out, self.found, source)))

    def _keep_apart(self, photos: Collection[int]) -> None:
        self.held_out = sorted(photos)
        self._trained = np.delete(np.arange(self.found), self.held_out)
        if not len(self._trained):
            raise InputError(f"{printable(self.source)} has only held-out photographs left; give more")

    @property
    def source(self) -> str:
        return self._source

    @property
    def count(self) -> int:
        return len(self._trained)

    @property
    def found(self) -> int:
        return len(self._names)

    def trained(self, number: int) -> int:
        return int(self._trained[number])

    def name(self, photo: int) -> str:
        return self._names[photo]

    def place(self, photo: int) -> str:
        return self._place_of(self._names[photo])

    def called(self, name: str) -> list[int]:
        return self._names.find(name)

    def keep_apart(self, names: Collection[str]) -> None:
        self._keep_apart([photo for name in names for photo in self._names.find(name)])

    def read(self, photo: int, data: bytes | None = None, **options: Any) -> Picture:
        place = self.place(photo)
        if data is None and not is_remote(place):
            return read_picture(Path(place), **options)
        if data is None:
            data = read(place, 0, LIMITS.size + 1)
        return decode_picture(data, printable(place), **options)

    def at(self, epoch: int, place: int) -> int:
        return int(self._trained[shuffled(self.seed, epoch, self.count)[place]])

    def _hopeless(self) -> InputError:
        number = min(self.count, self.patience)
        why = next(reversed(self.unusable.values()), "")
        return InputError(f"none of {number} photographs in a row in {printable(self.source)} can be used ({why})")
