"""One thing to paint, wherever it is: plain values, small, and the same in every run."""

import posixpath
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from fastnst.config import StylizeOptions
from fastnst.errors import FastnstError, InputError
from fastnst.files import printable
from fastnst.folder import clip_name, painted_name
from fastnst.kinds import CLIP_SUFFIXES, PICTURE_SUFFIXES
from fastnst.video.movie import VIDEOS

_DRIVE = re.compile(r"^([a-z]):", re.IGNORECASE)
_LONGEST = 255  # bytes that a name may have on most disks, and 1024 a path in most stores


class Ours(Protocol):
    """Whether an item is in the share of this run, by what is `kept` of its name."""

    def __call__(self, kept: str, /) -> bool: ...


@dataclass(frozen=True, slots=True)
class Item:
    """A picture or a clip: where its bytes are, and what it is called.

    Undecodable bytes of local names are lone surrogates in `key`, `place` and `kept`, as os.fsdecode makes them.
    """

    key: str  # what the manifest calls it: a path as given, an address, TAR::MEMBER, TABLE::ROW
    place: str  # the local path or the address of the file that holds it
    kept: str  # its name below the output folder, with the suffix of the input: "a/b.jpg"; never absolute, never ".."
    clip: bool = False
    start: int = 0  # where its bytes begin in `place`
    length: int | None = None  # and how many they are; None is all
    row: tuple[int, int] | None = None  # row group, and row in it, of a Parquet file whose column has bytes
    column: str | None = None  # that column; without `row` it is one of the line of JSON that begins at `start`
    error: str | None = None  # what is to be reported of it, as is known before any work
    code: str | None = None  # of that error: what FastnstError.code says


def output_name(item: Item, options: StylizeOptions) -> str:
    """Below the output folder, what becomes of an item: "a/b.png"; what `fastnst stylize` calls it."""
    kept = PurePosixPath(item.kept)
    if not item.clip:
        return painted_name(kept, options).as_posix()
    return clip_name(kept, suffix if (suffix := kept.suffix.lower()) in VIDEOS else ".mp4").as_posix()


def failed(key: str, kept: str, error: FastnstError) -> Item:
    """An item that is only reported."""
    try:
        kept = safe(kept)
    except InputError:
        kept = "unusable"
    return Item(key, key, kept, error=str(error), code=error.code)


def safe(name: str) -> str:
    """A name from somewhere else as one below the output folder: no root, drive, backslash or "." is left of it.

    Raises InputError for a name that leads out of the folder, is empty, or that no file can have.
    """
    parts: list[str] = []
    for part in _DRIVE.sub(r"\1/", name.replace("\\", "/")).split("/"):
        if part == ".." and not parts:
            raise InputError(f"{printable(name)} leads out of the output folder; give it another name")
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    if not parts or "\0" in name:
        raise InputError(f"{printable(name)} is a name that no file can have; give it another one")
    return "/".join(parts)


def name_problem(name: str, *, remote: bool) -> str | None:
    """Why an output could not be called so on a disk, or in a store (`remote`); None if it could."""
    encoded = name.encode(errors="surrogateescape")
    if (len(encoded) > _LONGEST and max(map(len, encoded.split(b"/"))) > _LONGEST) or (
        remote and len(encoded) > 4 * _LONGEST
    ):
        return "is too long a name for its output"
    if remote and encoded != name.encode(errors="replace"):
        return "has a name that is no text, which an address cannot have"
    return None


def suffix_of(name: str) -> str:
    """The suffix of a path or an address in lower case, without the query of a web address."""
    if name.startswith(("http://", "https://")):
        name = re.split(r"[?#]", name, maxsplit=1)[0]
    return posixpath.splitext(name)[1].lower()


def is_clip_name(name: str) -> bool:
    """Whether a file is called like a video."""
    return suffix_of(name) in CLIP_SUFFIXES


def is_wanted_name(name: str) -> bool:
    """Whether a file is called like a picture or a video."""
    return suffix_of(name) in PICTURE_SUFFIXES or is_clip_name(name)
