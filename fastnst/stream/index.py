"""Which photographs are in WebDataset tars, and where: learned once, by reading headers, and kept in a file."""

import hashlib
import json
import logging
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnst.ahead import each_ahead
from fastnst.crops import LIMITS
from fastnst.decode.formats import MAGIC, looks_like_image
from fastnst.decode.pillow import not_read
from fastnst.errors import InputError, OutputError
from fastnst.files import printable, write_bytes
from fastnst.kinds import PICTURE_SUFFIXES
from fastnst.listing import is_clutter
from fastnst.storage.addresses import version
from fastnst.storage.tars import Member, members

log = logging.getLogger(__name__)

TARS_AT_ONCE = 8
_WORDS = {".json", ".txt", ".cls", ".caption", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".npy", ".npz", ".pyd", ".pth"}
_LAYOUT = 1  # of the file; another is made anew
_LONG = 1 << 30  # bytes of tars after which it is said that this takes a while

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tar:
    """A tar and the photographs in it: their names, first bytes and lengths, (N,) each; and why others are unusable."""

    place: str
    size: int  # bytes
    version: str  # changes when the tar is replaced
    names: bytes  # with a zero byte between them
    starts: Numbers
    lengths: Numbers
    unusable: dict[str, str]

    @property
    def digest(self) -> str:
        """Of what is in it, wherever it is and whenever it was written."""
        sha = hashlib.sha256(self.names)
        for numbers in (self.starts, self.lengths):
            sha.update(numbers.astype("<i8").tobytes())
        return sha.hexdigest()[:16]

    def name(self, number: int) -> str:
        """What the tar calls a photo."""
        return self.names.split(b"\0")[number].decode(errors="surrogateescape")

    def called(self, name: str) -> list[int]:
        """The numbers of the photos of a name."""
        wanted = _encoded(name)
        return [number for number, one in enumerate(self.names.split(b"\0")) if one == wanted]


def index(places: Sequence[str], file: Path | None = None) -> list[Tar]:
    """What is in these tars; those that did not change since `file` was written are not read again.

    Raises InputError if one is not there, StorageError if a store does not answer.
    """
    before = {tar.place: tar for tar in _load(file)} if file else {}
    versions = list(each_ahead(version, places, TARS_AT_ONCE, 2 * TARS_AT_ONCE))
    known = {
        place: before[place]
        for place, now in zip(places, versions, strict=True)
        if place in before and (before[place].size, before[place].version) == now
    }
    new = [(place, *now) for place, now in zip(places, versions, strict=True) if place not in known]
    if (total := sum(size for _, size, _ in new)) > _LONG:
        log.warning("reading what is in %d tars of %.1f GB, once", len(new), total / 1e9)
    read = {tar.place: tar for tar in each_ahead(lambda one: _read(*one), new, TARS_AT_ONCE, 2 * TARS_AT_ONCE)}
    everything = [known.get(place) or read[place] for place in places]
    if file and new:
        save(everything, file)
    return everything


def save(tars: Iterable[Tar], file: Path) -> None:
    """Write an index; one that cannot be written only costs time."""
    try:
        write_bytes(file, to_bytes(tars))
    except OutputError as error:
        log.warning("%s; the tars are read again the next time", error)


def to_bytes(tars: Iterable[Tar]) -> bytes:
    """An index as a file, or as other processes get it."""
    tars = list(tars)
    about = [
        {"place": tar.place, "size": tar.size, "version": tar.version, "count": len(tar.starts), "bad": tar.unusable}
        for tar in tars
    ]
    buffer = BytesIO()
    np.savez_compressed(
        buffer,
        about=np.frombuffer(json.dumps({"layout": _LAYOUT, "tars": about}).encode(), np.uint8),
        names=np.frombuffer(b"\n".join(tar.names for tar in tars), np.uint8),
        starts=np.concatenate([*(tar.starts for tar in tars), np.empty(0, np.int64)]),
        lengths=np.concatenate([*(tar.lengths for tar in tars), np.empty(0, np.int64)]),
    )
    return buffer.getvalue()


def from_bytes(data: bytes) -> list[Tar]:
    """The index that to_bytes made; ValueError for anything else."""
    try:
        with np.load(BytesIO(data), allow_pickle=False) as arrays:
            about = json.loads(arrays["about"].tobytes())
            if about["layout"] != _LAYOUT:
                raise ValueError("another layout")
            parts = arrays["names"].tobytes().split(b"\n")
            return list(_tars(about["tars"], parts, arrays["starts"], arrays["lengths"]))
    except (KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(str(error)) from error


def _tars(about: list[dict[str, Any]], names: list[bytes], starts: Numbers, lengths: Numbers) -> Iterator[Tar]:
    first = 0
    for one, part in zip(about, names, strict=False):
        stop = first + one["count"]
        yield Tar(one["place"], one["size"], one["version"], part, starts[first:stop], lengths[first:stop], one["bad"])
        first = stop


def _load(file: Path) -> list[Tar]:
    try:
        return from_bytes(file.read_bytes())
    except (OSError, ValueError):  # not there yet, or damaged
        return []


def _read(place: str, size: int, version: str) -> Tar:
    """What is in a tar now; one that is damaged has what comes before the damage."""
    pictures: list[Member] = []
    unusable: dict[str, str] = {}
    try:
        for member in members(place):
            problem = _problem(member)
            if problem is None:
                pictures.append(member)
            elif problem:
                unusable[member.name] = problem
    except InputError as error:
        unusable[""] = str(error)
    pictures = list(_without_companions(pictures))
    if not pictures and not unusable:
        unusable[""] = f"{printable(place)} has no pictures"
    names = b"\0".join(_encoded(picture.name) for picture in pictures)
    starts = np.array([picture.start for picture in pictures], np.int64)
    lengths = np.array([picture.length for picture in pictures], np.int64)
    return Tar(place, size, version, names, starts, lengths, unusable)


def _encoded(name: str) -> bytes:
    return name.encode(errors="surrogateescape").translate(None, b"\0\n")


def _problem(member: Member) -> str | None:
    """Why a file in a tar is no photograph; None if it is one, empty if nobody would think that it is."""
    suffix = PurePosixPath(member.name).suffix.lower()
    if suffix in _WORDS or is_clutter(member.name):
        return ""
    if member.problem:
        return f"it {member.problem}" if suffix in PICTURE_SUFFIXES else ""
    format = _format(member.head if member.head[4:8] == b"ftyp" else member.head[:32])
    if format in MAGIC:
        return None if member.length <= LIMITS.size else f"it has more than {LIMITS.size >> 20} MiB"
    if format is not None:
        return not_read(member.name, format)
    return "not a picture" if suffix in PICTURE_SUFFIXES else ""


_format = lru_cache(maxsize=64)(looks_like_image)  # most of a tar begin alike


def _without_companions(pictures: Sequence[Member]) -> Iterator[Member]:
    """One picture of each sample: beside KEY.jpg, KEY.mask.png says something of it, and is no photograph."""
    samples = {key for key, kind in (_sample(one.name) for one in pictures) if "." not in kind}
    for one in pictures:
        key, kind = _sample(one.name)
        if "." not in kind or key not in samples:
            yield one


def _sample(name: str) -> tuple[str, str]:
    """The key of a sample and which part of it this is: "a/1.mask.png" -> ("a/1", "mask.png")."""
    folder, slash, file = name.rpartition("/")
    key, _, kind = file.partition(".")
    return folder + slash + key, kind
