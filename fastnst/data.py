"""A folder of photographs as an endless, repeatable stream of crops.

Which photo stands at a position, and how it is cropped, depends on (seed, position) alone: not on the number of
workers, not on where a run was interrupted.
"""

import hashlib
import json
import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from fastnst.ahead import prepare_ahead
from fastnst.errors import FastnstError, InputError, UnsupportedFormatError, UsageError
from fastnst.files import printable
from fastnst.image import Limits, Pixels, read_picture, read_size
from fastnst.kinds import is_foreign_picture
from fastnst.listing import files_below

log = logging.getLogger(__name__)

LARGEST_SCALE = 2.0  # a crop shows between all of a photo's short side and half of it
KEPT = 1 << 29  # bytes of decoded photos that stay in memory
NOT_A_PICTURE = "not a picture"  # nor named like one of a format that is not read
_LIMITS = Limits(smallest=16)


@dataclass
class Photographs:
    """All usable pictures below a folder; `unusable` says why others are not, and grows when decoding finds more.

    `hold_out` of them, one in ten but at most 4 if None, are kept apart in `held_out` and never seen in a crop. Files
    and folders in `leave_out`, such as the output of this very run, are no photographs. `digest` tells whether there
    are the same photographs, by names and sizes, wherever the folder is.

    Raises InputError if there is no folder or nothing usable in it, UsageError if nothing were left to train on.
    """

    folder: Path
    size: int
    seed: int
    hold_out: int | None = 0
    leave_out: Sequence[Path] = ()
    files: list[Path] = field(init=False)
    held_out: list[Path] = field(init=False, default_factory=list)
    unusable: dict[Path, str] = field(init=False)
    digest: str = field(init=False)
    _kept: dict[Path, Image.Image] = field(init=False, repr=False, default_factory=dict)
    _room: int = field(init=False, repr=False, default=KEPT)

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise InputError(f"{printable(self.folder)} is not a folder; give one with photographs")
        self.files, self.unusable = _scan(self.folder, self.leave_out)
        if not self.files:
            raise InputError(
                f"no usable picture in {printable(self.folder)} or below ({len(self.unusable)} unusable files); "
                "give a folder with JPEG, PNG or WebP photographs"
            )
        sizes = [(self.name(path), path.stat().st_size) for path in self.files]
        self.digest = hashlib.sha256(json.dumps(sizes).encode()).hexdigest()
        count = min(4, len(self.files) // 10) if self.hold_out is None else self.hold_out
        if count >= len(self.files):
            raise UsageError(
                f"--held-out is {count} but {printable(self.folder)} has {len(self.files)} usable "
                "photographs; give fewer"
            )
        self.keep_apart([self.name(path) for path in _spread(self.files, count)])

    def name(self, path: Path) -> str:
        """A photo's path inside the folder, the same on every system."""
        return path.relative_to(self.folder).as_posix()

    def keep_apart(self, names: Collection[str]) -> None:
        """Hold out exactly these photos, as the run that is continued did; one that has gone is missed by nobody."""
        everything = sorted([*self.files, *self.held_out])
        self.held_out = [path for path in everything if self.name(path) in names]
        self.files = [path for path in everything if self.name(path) not in names]
        if not self.files:
            raise InputError(f"{printable(self.folder)} has only held-out photographs left; give more")

    def crop(self, position: int) -> Pixels:
        """The photo at a position, at a random scale, place and side: uint8 (size, size, 3).

        A photo that turns out damaged is replaced by the next in the same epoch's order.
        """
        epoch, place = divmod(position, len(self.files))
        order = _order(self.seed, epoch, len(self.files))
        for offset in range(len(self.files)):
            path = self.files[order[(place + offset) % len(self.files)]]
            if path in self.unusable:
                continue
            try:
                return self.random_crop(path, np.random.default_rng([self.seed, position]))
            except FastnstError as error:
                self.unusable[path] = str(error)
        raise InputError(f"every picture in {printable(self.folder)} turned out damaged; give usable photographs")

    def random_crop(self, path: Path, random: np.random.Generator) -> Pixels:
        """A photo at a random scale, place and side: uint8 (size, size, 3)."""
        zoom, x, y, flip = LARGEST_SCALE ** random.random(), random.random(), random.random(), random.random() < 0.5
        pixels = self._cut(path, max(1.0, zoom), x, y)
        return pixels[:, ::-1] if flip else pixels

    def middle(self, path: Path) -> Pixels:
        """The largest square in the middle of a photo: uint8 (size, size, 3)."""
        return self._cut(path, 1, 0.5, 0.5)

    def _cut(self, path: Path, zoom: float, x: float, y: float) -> Pixels:
        image = self._decoded(path)
        side = min(image.size) / zoom
        left, top = x * (image.width - side), y * (image.height - side)
        box = (left, top, left + side, top + side)
        return np.asarray(image.resize((self.size, self.size), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0))

    def _decoded(self, path: Path) -> Image.Image:
        """A photo, scaled to what the smallest crop needs or up to twice that; the first ones stay in memory."""
        if (image := self._kept.get(path)) is None:
            side = round(self.size * LARGEST_SCALE)
            picture = read_picture(path, limits=_LIMITS, short_side=side)
            image = Image.fromarray(picture.rgb)
            if (times := min(image.size) // side) > 1:
                image = image.reduce(times)
            if self._room > 0:
                self._room -= image.width * image.height * 3
                self._kept[path] = image
        return image

    def batches(
        self, start: int, stop: int, batch_size: int, workers: int = 2, rank: int = 0, ranks: int = 1
    ) -> Iterator[np.ndarray]:
        """uint8 (batch_size, size, size, 3) for each step from start to stop, prepared ahead by threads.

        Several ranks see the parts, in their order, of what one alone would see in a batch as large as all of theirs.
        """
        firsts = ((step * ranks + rank) * batch_size for step in range(start, stop))
        positions = (range(first, first + batch_size) for first in firsts)
        return map(np.stack, prepare_ahead(self.crop, positions, workers))


def report_unusable(photographs: Photographs, listed_in: str = "") -> None:
    """Warn of what is left out, the first three by name; `listed_in` names a file that has them all."""
    if not (bad := photographs.unusable):
        return
    named = ", ".join(f"{printable(photographs.name(path))} ({reason})" for path, reason in list(bad.items())[:3])
    total = len({*bad, *photographs.files, *photographs.held_out})  # what is found damaged later stays in files
    log.warning(
        "%d of the %d files in %s are unusable and left out: %s%s",
        *(len(bad), total, printable(photographs.folder), named),
        "" if len(bad) <= 3 else f", ... (all in {listed_in})" if listed_in else ", ...",
    )


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng([seed, epoch, count]).permutation(count).tolist())


def _spread(files: Sequence[Path], count: int) -> list[Path]:
    """This number of files at even distances, whatever subfolders they are in."""
    return [files[(2 * index + 1) * len(files) // (2 * count)] for index in range(count)]


def _scan(folder: Path, leave_out: Sequence[Path]) -> tuple[list[Path], dict[Path, str]]:
    """Files whose header is that of a usable picture, and the reasons against the others, in a stable order."""
    listing = files_below(folder, leave_out)
    usable, unusable = [], dict(listing.unreadable)
    for path in listing.files:
        try:
            read_size(path, _LIMITS)
        except UnsupportedFormatError as error:
            unusable[path] = str(error) if is_foreign_picture(path) else NOT_A_PICTURE
        except FastnstError as error:
            unusable[path] = str(error)
        else:
            usable.append(path)
    return usable, dict(sorted(unusable.items()))
