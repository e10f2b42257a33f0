"""What --content names: a folder, a list of files, WebDataset tars, or files in a store; and opened, as crops."""

import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from fastnst.crops import Crops
from fastnst.data import Photographs
from fastnst.errors import InputError, UsageError
from fastnst.files import is_folder, printable
from fastnst.kinds import PICTURE_SUFFIXES
from fastnst.storage import lists
from fastnst.storage.addresses import is_remote, list_files, local_path, read
from fastnst.storage.tars import is_packed
from fastnst.stream import index
from fastnst.stream.listed import ListedPhotographs
from fastnst.stream.tars import TarPhotographs

Share = Callable[[Callable[[], bytes]], bytes]


def open_content(
    content: str,
    size: int,
    seed: int,
    hold_out: int | None = 0,
    *,
    buffer: int = 256 << 20,
    leave_out: Collection[Path] = (),
    beside: Path | None = None,
    share: Share | None = None,
) -> Crops[Any]:
    """The photographs that `content` names.

    What is in tars is kept in a file in the folder `beside`, if given. Where several processes train together, `share`
    gives to all what the first of them makes, so that tars are looked through once. The rest is as with a folder.

    Raises InputError and UsageError as these do, StorageError if a store does not answer.
    """
    if _is_folder(content):
        return Photographs(Path(local_path(content)), size, seed, hold_out, list(leave_out))
    if places := _tars(content):
        return TarPhotographs(content, _index(content, places, beside, share), size, seed, hold_out, buffer)
    names, place_of = _files(content)
    return ListedPhotographs(content, names, place_of, size, seed, hold_out)


def reader(content: str, beside: Path) -> Callable[[str], bytes]:
    """What reads the bytes of a photo by its name, with as little ado as possible, once a run is over.

    It raises InputError for one that is not there, StorageError if a store does not answer.
    """
    if _is_folder(content):
        return lambda name: read(os.fspath(Path(local_path(content)) / name))
    if places := _tars(content):
        photographs = TarPhotographs(content, index.index(places, _index_file(content, beside)), 1, 0)
        return lambda name: read(*photographs.extent(_only(photographs.called(name), name)))
    _, place_of = _files(content)
    return lambda name: read(place_of(name))


def _is_folder(content: str) -> bool:
    return not is_remote(content) and is_folder(local_path(content))


def _tars(content: str) -> list[str]:
    """The tars that are meant; none if it is no tars."""
    if _is_tar(content):
        return lists.expand(content)
    if not lists.is_list(content):
        return []
    names = lists.lines(content)
    if not _is_tar(next(names, "")):
        return []
    tars = [tar for name in lists.lines(content) for tar in lists.expand(lists.place_of(content, name))]
    if others := [tar for tar in tars if not _is_tar(tar)]:
        raise UsageError(
            f"{printable(content)} lists tars and {printable(others[0])}; give one list of tars, or one of pictures"
        )
    return list(dict.fromkeys(tars))


def _is_tar(name: str) -> bool:
    """Whether this is a tar by its name; UsageError for a compressed one."""
    if is_packed(name):
        raise UsageError(f"{printable(name)} is compressed, and is read in parts; unpack it to a .tar first")
    return name.partition("?")[0].lower().endswith(".tar") or name.lower().endswith(".tar")


def _files(content: str) -> tuple[Iterable[str], Callable[[str], str]]:
    """Names of files, as they are listed or lie in a store, and what tells where a name is."""
    if lists.is_list(content):
        return lists.lines(content), partial(lists.place_of, content)
    if not (is_remote(content) or "*" in content):
        raise InputError(
            f"{printable(content)} is not a folder; give one with photographs, a list of them (.txt), or tars (.tar)"
        )
    root = "" if "*" in content else content.rstrip("/") + "/"
    return _pictures(content, root), lambda name: root + name


def _pictures(folder: str, root: str) -> Iterator[str]:
    """Names of the pictures in a store, sorted."""
    names = (name for name, _ in list_files(folder))
    yield from sorted(
        name.removeprefix(root) for name in names if PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES
    )


def _index(content: str, places: list[str], beside: Path | None, share: Share | None) -> list[index.Tar]:
    made = partial(index.index, places, beside and _index_file(content, beside))
    return made() if share is None else index.from_bytes(share(lambda: index.to_bytes(made())))


def _index_file(content: str, beside: Path) -> Path:
    """The same for all runs in a folder that learn from the same tars."""
    return beside / f"photographs-{hashlib.sha256(content.encode(errors='surrogateescape')).hexdigest()[:8]}.npz"


def _only(photos: list[int], name: str) -> int:
    if not photos:
        raise InputError(f"{printable(name)} is not there any more")
    return photos[0]
