"""The photographs in WebDataset tars as a stream of crops."""

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fastnst.ahead import prepare_ahead
from fastnst.crops import KEPT, Crops, Problem, number_held_out, positions_of, spread
from fastnst.errors import InputError
from fastnst.files import printable
from fastnst.image import Picture, Pixels, decode_picture
from fastnst.storage.addresses import read
from fastnst.stream.index import Tar
from fastnst.stream.order import Order
from fastnst.stream.windows import Windows


class TarPhotographs(Crops[int]):
    """All pictures in tars, by their number; one is called TAR::MEMBER.

    `buffer` is how many bytes of encoded photographs are in memory: half of it in use, half on its way. What is held
    out, what is unusable and what `digest` tells is as with a folder of photographs.

    Raises InputError if there is no picture, UsageError if nothing were left to train on.
    """

    def __init__(
        self, source: str, tars: Sequence[Tar], size: int, seed: int, hold_out: int | None = 0, buffer: int = 256 << 20
    ) -> None:
        self._source, self.tars, self.size, self.seed, self.buffer = source, tars, size, seed, buffer
        self._kept: dict[int, Image.Image] = {}
        self._room = KEPT
        self._bounds = np.cumsum([0, *(len(tar.starts) for tar in tars)])
        self._starts = np.concatenate([tar.starts for tar in tars])
        self._lengths = np.concatenate([tar.lengths for tar in tars])
        self.names = _short_names([tar.place for tar in tars])
        self.parts = {name: tar.digest for name, tar in zip(self.names, tars, strict=True)}
        self.digest = hashlib.sha256(json.dumps(sorted(self.parts.items())).encode()).hexdigest()
        self._refused = [
            Problem(_within(name, member), _within(tar.place, member), reason)
            for name, tar in zip(self.names, tars, strict=True)
            for member, reason in tar.unusable.items()
        ]
        self.unusable: dict[int, str] = {}
        total = len(self._starts)
        if not total:
            reason = f" ({self._refused[0].reason})" if self._refused else ""
            raise InputError(
                f"no usable picture in {printable(source)}{reason}; give tars with JPEG, PNG or WebP photographs"
            )
        self._keep_apart(spread(range(total), number_held_out(hold_out, total, source)))

    def _keep_apart(self, photos: Collection[int]) -> None:
        self.held_out = sorted(photos)
        left = np.delete(np.arange(len(self._starts)), self.held_out)
        if not len(left):
            raise InputError(f"{printable(self.source)} has only held-out photographs left; give more")
        tars = np.repeat(np.arange(len(self.tars)), np.diff(self._bounds))
        self.order = Order(left, tars, self._starts, self._lengths, self.buffer // 2, self.seed)

    @property
    def source(self) -> str:
        return self._source

    @property
    def count(self) -> int:
        return len(self.order.photos)

    @property
    def found(self) -> int:
        return len(self._starts) + len(self._refused)

    def trained(self, number: int) -> int:
        return int(self.order.photos[number])

    def name(self, photo: int) -> str:
        tar = self._tar(photo)
        return _within(self.names[tar], self.tars[tar].name(photo - int(self._bounds[tar])))

    def place(self, photo: int) -> str:
        tar = self._tar(photo)
        return _within(self.tars[tar].place, self.tars[tar].name(photo - int(self._bounds[tar])))

    def keep_apart(self, names: Collection[str]) -> None:
        self._keep_apart([photo for name in names for photo in self.called(name)])

    def extent(self, photo: int) -> tuple[str, int, int]:
        """The tar that a photo is in, its first byte there, and how many it has."""
        return self.tars[self._tar(photo)].place, int(self._starts[photo]), int(self._lengths[photo])

    def called(self, name: str) -> list[int]:
        tar, _, member = name.partition("::")
        if tar not in self.names:
            return []
        number = self.names.index(tar)
        return [int(self._bounds[number]) + place for place in self.tars[number].called(member)]

    def read(self, photo: int, data: bytes | None = None, **options: Any) -> Picture:
        if data is None:
            data = read(*self.extent(photo))
        return decode_picture(data, printable(self.name(photo)), **options)

    def at(self, epoch: int, place: int) -> int:
        return self.order.at(epoch * self.count + place)

    def problems(self) -> list[Problem]:
        return [*self._refused, *super().problems()]

    def batches(
        self, start: int, stop: int, batch_size: int, workers: int = 2, rank: int = 0, ranks: int = 1
    ) -> Iterator[npt.NDArray[np.uint8]]:
        positions = positions_of(start, stop, batch_size, rank, ranks)
        images = batch_size * ranks  # a step

        def wanted(position: int) -> bool:
            return position // batch_size % ranks == rank

        def crop(position: int) -> Pixels:
            data = windows.take(position)
            return self.crop(position, {self.order.at(position): data})

        with (
            Windows(self.order, self.extent, read, start * images, stop * images, wanted) as windows,
            closing(prepare_ahead(crop, positions, workers)) as batches,
        ):
            yield from map(np.stack, batches)

    def _tar(self, photo: int) -> int:
        return int(np.searchsorted(self._bounds, photo, side="right")) - 1


def _within(tar: str, member: str) -> str:
    """What a file in a tar is called, or the tar itself if none is named."""
    return f"{tar}::{member}" if member else tar


def _short_names(places: Sequence[str]) -> list[str]:
    """The paths of tars below the folder that all are in, the same wherever that is."""
    parts = [place.replace(os.sep, "/").split("/") for place in places]
    common = 0
    while all(len(part) > common + 1 and part[common] == parts[0][common] for part in parts):
        common += 1
    return ["/".join(part[common:]) for part in parts]
