"""What lies below a remote folder or fits a pattern of addresses, as it comes; as listing.py does with local ones."""

import glob
import re
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from fastnst.errors import InputError
from fastnst.listing import fits, is_clutter, is_left_out
from fastnst.storage.remote import ADDRESS, asked, is_not_there, store_of

_PAGE = 1000  # names of S3 that come at once; more it does not give


class Found(NamedTuple):
    """A remote file: its address, its name below the folder or the fixed part of the pattern, its size in bytes."""

    address: str
    name: str
    size: int


def files_at(address: str, leave_out: Callable[[str], bool] = lambda _: False) -> Iterator[Found]:
    """Files below a remote folder, or those that fit a pattern of *, ?, [...] and **, without hidden ones and clutter.

    `leave_out` tells addresses of folders and files that are none of the owner's. A folder that is not there has no
    files. Raises InputError and StorageError as addresses.read does.
    """
    if not glob.has_magic(ADDRESS.sub("", address)):
        root = address if address.endswith("/") else address + "/"
        yield from (file for file in _below(root) if not leave_out(file.address))
        return
    fixed, parts = _split(address)
    for file in _matching(fixed, parts):
        if not leave_out(file.address):
            yield file._replace(name=file.address.removeprefix(fixed))


def _split(pattern: str) -> tuple[str, list[str]]:
    """The part of a pattern that names a folder, with the slash in the end, and the names below it that it asks for."""
    match = ADDRESS.match(pattern)
    start = match.end() if match else 0
    magic = re.search(r"[*?\[]", pattern[start:])
    end = pattern.rindex("/", 0, start + magic.start()) + 1 if magic else len(pattern)
    return pattern[:end], [part for part in pattern[end:].split("/") if part]


def _matching(folder: str, parts: Sequence[str]) -> Iterator[Found]:
    part, *rest = parts
    if part == "**":
        yield from (file for file in _below(folder) if fits(file.name.split("/"), parts))
        return
    if not glob.has_magic(part) and rest:
        yield from _matching(f"{folder}{part}/", rest)
        return
    for name, size in _entries(folder):
        if not fnmatchcase(name, part) or is_left_out(name, hidden=part.startswith(".")):
            continue
        if rest and size is None:
            yield from _matching(f"{folder}{name}/", rest)
        elif not rest and size is not None:
            yield Found(folder + name, name, size)


def _below(folder: str) -> Iterator[Found]:
    """All files below a folder, whose address ends with a slash."""
    store, path = store_of(folder)
    if hasattr(store, "call_s3"):
        yield from (
            Found(folder + name, name, size) for name, size in _pages(store, folder, path) if not is_clutter(name)
        )
        return
    waiting = [""]
    while waiting:
        below = waiting.pop()
        folders: list[str] = []
        for name, size in _entries(folder + below):
            if is_left_out(name):
                continue
            if size is None:
                folders.append(f"{below}{name}/")
            else:
                yield Found(folder + below + name, below + name, size)
        waiting += reversed(folders)


def _entries(folder: str) -> list[tuple[str, int | None]]:
    """Names right in a folder, sorted, and sizes of files; folders have none."""
    store, path = store_of(folder)

    def entries() -> list[dict[str, Any]]:
        try:
            return list(store.ls(path, detail=True))
        except Exception as error:
            if is_not_there(error):
                return []
            raise

    root = path.rstrip("/")
    found: dict[str, int | None] = {}
    for entry in asked(folder, entries, InputError):
        name = entry["name"].rstrip("/").removeprefix(root).lstrip("/")
        if name and "/" not in name:
            found[name] = None if entry["type"] == "directory" else int(entry["size"] or 0)
    return sorted(found.items())


def _pages(store: Any, folder: str, path: str) -> Iterator[tuple[str, int]]:
    """Names below a folder of S3 and their sizes, a thousand at a time: millions do not fit into one answer."""
    bucket, _, prefix = path.partition("/")
    prefix = prefix.rstrip("/") + "/" if prefix else ""
    more: dict[str, str] = {}

    def page() -> dict[str, Any]:
        try:
            return dict(store.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=_PAGE, **more))
        except Exception as error:
            if is_not_there(error):
                return {}
            raise

    while True:
        answer = asked(folder, page, InputError)
        for entry in answer.get("Contents", ()):
            name = entry["Key"].removeprefix(prefix)
            if name and not name.endswith("/"):
                yield name, entry["Size"]
        if not answer.get("IsTruncated"):
            return
        more = {"ContinuationToken": answer["NextContinuationToken"]}
