"""What is in a tar, local or remote, by its headers: names, and where their bytes are, to be read range by range."""

import os
import posixpath
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from fastnst.decode.formats import HEAD
from fastnst.errors import InputError
from fastnst.files import printable
from fastnst.storage.addresses import open_input

_AHEAD = 4 << 20  # bytes of a remote tar that are read at once: most of it has to come, but not one by one
_PACKED = {b"\x1f\x8b": "gunzip", b"BZh": "bunzip2", b"\xfd7zXZ\0": "unxz", b"\x28\xb5\x2f\xfd": "unzstd"}


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar: `length` bytes that begin at `start` of the tar, of which `head` are the first few."""

    name: str  # as the tar has it, which may be absolute or lead up
    start: int
    length: int
    head: bytes
    problem: str | None = None  # why its bytes are not there, in words that follow its name


def members(place: str) -> Iterator[Member]:
    """The files in a tar, in order; hard and symbolic links to them at the end, with the bytes of what they lead to.

    Raises InputError if it is not there or no tar, and after all that is whole if the tar is damaged or cut off;
    StorageError as addresses.read does.
    """
    with open_input(place, _AHEAD) as file:
        links: dict[str, str] = {}
        yield from _files(place, file, links)
        if links:
            yield from _linked(place, file, links)


def _files(place: str, file: BinaryIO, links: dict[str, str]) -> Iterator[Member]:
    """The files in an open tar; `links` gets its links, and the names in the tar that they lead to."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    _check_plain(place, file.read(8))
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (entry := _next(tar)) is not None:
                if entry.islnk() or entry.issym():
                    folder = "" if entry.islnk() else posixpath.dirname(entry.name)
                    links[entry.name] = posixpath.normpath(posixpath.join(folder, entry.linkname))
                elif entry.isfile():
                    yield _member(place, file, size, entry)
            _check_end(place, file, tar.offset)
    except (tarfile.TarError, EOFError) as error:
        raise InputError(f"{printable(place)} is damaged or no tar ({error}); write it again") from error


def _next(tar: tarfile.TarFile) -> tarfile.TarInfo | None:
    entry = tar.next()
    tar.members = []  # type: ignore[attr-defined] # else all of them stay
    return entry


def _member(place: str, file: BinaryIO, size: int, entry: tarfile.TarInfo) -> Member:
    if entry.issparse():
        return Member(entry.name, entry.offset_data, 0, b"", "is stored with holes; write the tar without --sparse")
    if entry.offset_data + entry.size > size:
        raise InputError(f"{printable(place)} is cut off within {printable(entry.name)}; copy it again")
    file.seek(entry.offset_data)
    return Member(entry.name, entry.offset_data, entry.size, file.read(min(HEAD, entry.size)))


def _check_plain(place: str, head: bytes) -> None:
    """InputError for a compressed tar, of which no part can be read alone."""
    for mark, program in _PACKED.items():
        if head.startswith(mark):
            raise InputError(f"{printable(place)} is compressed, and is read in parts; unpack it with {program} first")


def _check_end(place: str, file: BinaryIO, offset: int) -> None:
    """InputError unless a tar ends with a block of zeros, as it should; damage ends the reading, too."""
    file.seek(offset)
    block = file.read(tarfile.BLOCKSIZE)
    if not block or any(block):
        problem = f"is damaged at byte {offset}" if len(block) == tarfile.BLOCKSIZE else "is cut off"
        raise InputError(f"{printable(place)} {problem}: only what is in it before that is taken; copy it again")


def _linked(place: str, file: BinaryIO, links: Mapping[str, str]) -> Iterator[Member]:
    """Links of a tar as files, after another look for what they lead to."""
    wanted = set(links.values())
    found = {
        posixpath.normpath(one.name): one for one in _files(place, file, {}) if posixpath.normpath(one.name) in wanted
    }
    for name, target in links.items():
        if (one := found.get(target)) is None:
            yield Member(name, 0, 0, b"", f"is a link to {printable(target)}, which the tar does not have; add it")
        else:
            yield Member(name, one.start, one.length, one.head, one.problem)


def is_packed(name: str) -> bool:
    """Whether a file is a compressed tar by its name."""
    lower = name.lower()
    return lower.endswith((".tgz", ".tbz2", ".txz", ".tzst")) or ".tar." in lower.rpartition("/")[2]
