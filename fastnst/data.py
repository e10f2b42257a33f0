"""A folder of photographs as an endless, repeatable stream of crops."""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from fastnst.crops import KEPT, LIMITS, Crops, number_held_out, report_unusable, shuffled, spread
from fastnst.errors import FastnstError, InputError, UnsupportedFormatError
from fastnst.files import printable
from fastnst.image import Picture, decode_picture, read_picture, read_size
from fastnst.kinds import is_foreign_picture
from fastnst.listing import files_below

__all__ = ["NOT_A_PICTURE", "Photographs", "report_unusable"]

NOT_A_PICTURE = "not a picture"  # nor named like one of a format that is not read


@dataclass
class Photographs(Crops[Path]):
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
        count = number_held_out(self.hold_out, len(self.files), str(self.folder))
        self.keep_apart([self.name(path) for path in spread(self.files, count)])

    @property
    def source(self) -> str:
        return str(self.folder)

    @property
    def count(self) -> int:
        return len(self.files)

    @property
    def found(self) -> int:
        return len({*self.unusable, *self.files, *self.held_out})  # what is found damaged later stays in files

    def trained(self, number: int) -> Path:
        return self.files[number]

    def name(self, photo: Path) -> str:
        """A photo's path inside the folder, the same on every system."""
        return photo.relative_to(self.folder).as_posix()

    def called(self, name: str) -> list[Path]:
        return [path for path in (*self.held_out, *self.files) if self.name(path) == name]

    def keep_apart(self, names: Collection[str]) -> None:
        """Hold out exactly these photos, as the run that is continued did; one that has gone is missed by nobody."""
        everything = sorted([*self.files, *self.held_out])
        self.held_out = [path for path in everything if self.name(path) in names]
        self.files = [path for path in everything if self.name(path) not in names]
        if not self.files:
            raise InputError(f"{printable(self.folder)} has only held-out photographs left; give more")

    def place(self, photo: Path) -> str:
        return str(photo)

    def read(self, photo: Path, data: bytes | None = None, **options: Any) -> Picture:
        return read_picture(photo, **options) if data is None else decode_picture(data, printable(photo), **options)

    def at(self, epoch: int, place: int) -> Path:
        return self.files[int(shuffled(self.seed, epoch, len(self.files))[place])]


def _scan(folder: Path, leave_out: Sequence[Path]) -> tuple[list[Path], dict[Path, str]]:
    """Files whose header is that of a usable picture, and the reasons against the others, in a stable order."""
    listing = files_below(folder, leave_out)
    usable, unusable = [], dict(listing.unreadable)
    for path in listing.files:
        try:
            read_size(path, LIMITS)
        except UnsupportedFormatError as error:
            unusable[path] = str(error) if is_foreign_picture(path) else NOT_A_PICTURE
        except FastnstError as error:
            unusable[path] = str(error)
        else:
            usable.append(path)
    return usable, dict(sorted(unusable.items()))
