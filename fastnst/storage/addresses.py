"""Files wherever they are: local paths, and addresses such as s3://bucket/name, by fsspec."""

import errno
import io
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from fastnst.errors import InputError, OutputError, UsageError
from fastnst.files import atomic_write, is_folder, printable, write_bytes
from fastnst.listing import files_below, files_matching
from fastnst.storage.remote import ADDRESS, asked, is_not_there, is_whole, send, store_of
from fastnst.storage.remote_files import files_at

_LOCAL = ("file", "local")
_AHEAD = 1 << 20  # bytes of a remote file that are read at once


def is_remote(name: str) -> bool:
    """Whether this is an address, SCHEME://..., and no local file of that name; file:// is none.

    Raises UsageError for addresses within addresses (zip://a.jpg::s3://...).
    """
    match = ADDRESS.match(name)
    if match is None or match[1].lower() in _LOCAL or os.path.lexists(name):
        if match is None and "::" in name and "://" in name and not os.path.lexists(name):
            raise _chained(name)
        return False
    if "::" in name and ADDRESS.match(name.rpartition("::")[2]):
        raise _chained(name)
    return True


def _chained(name: str) -> UsageError:
    return UsageError(f"{printable(name)} is one address within another, which is not read; unpack it first")


def local_path(name: str) -> str:
    """The local path that a name means, which file:// may begin."""
    match = ADDRESS.match(name)
    return name[match.end() :] if match and match[1].lower() in _LOCAL and not os.path.lexists(name) else name


def read(place: str, start: int = 0, length: int | None = None) -> bytes:
    """Bytes of a file, all or some; fewer if it ends before.

    Raises InputError if it is not there or may not be read, StorageError if the store did not answer in several tries,
    UnavailableError if a package for its kind of addresses is not installed, or without credentials.
    """
    if length == 0:
        return b""
    return asked(place, lambda: _read(place, start, length), InputError)


def _read(place: str, start: int, length: int | None) -> bytes:
    if not is_remote(place):
        with open(local_path(place), "rb") as file:
            file.seek(start)
            return file.read(-1 if length is None else length)
    store, path = store_of(place)
    end = None if length is None else start + length
    try:
        # Also from 0 on: of whole files, s3fs asks for the size first.
        data = bytes(store.cat_file(path, start=start, end=end))
    except Exception as error:
        # No range of an empty file can be had.
        if getattr(error, "errno", None) != errno.EINVAL and getattr(error, "status", None) != 416:
            raise
        if start > 0 or store.info(path)["size"]:
            raise
        return b""
    # A web server that knows no ranges sends all of it.
    return data if length is None or len(data) <= length else data[start:end]


def open_input(place: str, ahead: int = _AHEAD) -> BinaryIO:
    """A file, open for reading from anywhere in it; of a remote one `ahead` bytes are read at once.

    Raises what read raises, also later.
    """
    if not is_remote(place):
        return asked(place, lambda: open(local_path(place), "rb"), InputError)
    store, path = store_of(place)
    size = asked(place, lambda: store.info(path)["size"], InputError)
    return cast(BinaryIO, io.BufferedReader(_Ranges(place, size), ahead))


class Seekable(io.RawIOBase):
    """A file of a known size that is read from wherever one went in it; what is read, a subclass says in readinto."""

    def __init__(self, size: int) -> None:
        self.size, self.at = size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.at, os.SEEK_END: self.size}[whence]
        return self.at

    def tell(self) -> int:
        return self.at


class _Ranges(Seekable):
    """A remote file, read range by range."""

    def __init__(self, place: str, size: int) -> None:
        super().__init__(size)
        self.place = place

    def readinto(self, buffer: Any) -> int:
        data = read(self.place, self.at, max(0, min(len(buffer), self.size - self.at)))
        buffer[: len(data)] = data
        self.at += len(data)
        return len(data)


def fetch(place: str, path: Path) -> None:
    """Copy a file, which may be larger than memory, to a local path; raises what read raises, and OutputError."""
    with open_input(place, 8 << 20) as file, atomic_write(path) as copy:
        shutil.copyfileobj(file, copy, 8 << 20)


def exists(place: str) -> bool:
    """Whether a file is there; raises what read raises for stores that do not answer."""
    if not is_remote(place):
        return os.path.isfile(local_path(place))  # noqa: PTH113
    store, path = store_of(place)

    def there() -> bool:
        try:
            return bool(store.info(path)["type"] == "file")
        except Exception as error:
            if is_not_there(error):
                return False
            raise

    return asked(place, there, InputError)


def version(place: str) -> tuple[int, str]:
    """The size of a file in bytes, and what changes when it is replaced; raises what read raises."""
    if not is_remote(place):
        found = asked(place, lambda: os.stat(local_path(place)), InputError)
        return found.st_size, str(found.st_mtime_ns)
    store, path = store_of(place)
    about = asked(place, lambda: store.info(path), InputError)
    marks = (
        about.get(name) for name in ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "created")
    )
    return int(about["size"] or 0), str(next(filter(None, marks), ""))


def write(place: str, data: bytes) -> None:
    """Put a whole file in place at once: nobody ever sees half of one. Missing folders are made, buckets are not.

    Raises OutputError if that is refused, StorageError if the store did not answer in several tries.
    """
    if not is_remote(place):
        write_bytes(Path(local_path(place)), data)
        return
    _put(place, lambda store, path: send(store, "pipe_file", len(data), path, data))


def upload(path: Path, place: str) -> None:
    """The same with the content of a local file, which may be larger than memory."""
    if not is_remote(place):
        with open(path, "rb") as file, atomic_write(Path(local_path(place))) as copy:
            shutil.copyfileobj(file, copy, 8 << 20)
        return
    size = path.stat().st_size
    _put(place, lambda store, to: send(store, "put_file", size, os.fspath(path), to))


def _put(place: str, put: Any) -> None:
    store, path = store_of(place)
    if is_whole(place):
        asked(place, lambda: put(store, path), OutputError)
        return
    folder, slash, _ = path.rpartition("/")
    temporary = f"{folder}{slash}.fastnst.{os.getpid()}.{secrets.token_hex(4)}.tmp"

    def put_beside() -> None:
        if folder:
            store.makedirs(folder, exist_ok=True)
        try:
            put(store, temporary)
            store.mv(temporary, path)
        except BaseException:
            with suppress(Exception):
                store.rm_file(temporary)
            raise

    asked(place, put_beside, OutputError)


def remove(place: str) -> None:
    """Remove a file; one that is not there is no error. Raises what write raises."""

    def gone() -> None:
        try:
            if is_remote(place):
                store, path = store_of(place)
                store.rm_file(path)
            else:
                os.remove(local_path(place))  # noqa: PTH107
        except Exception as error:
            if not is_not_there(error):
                raise

    asked(place, gone, OutputError)


def list_files(name: str) -> Iterator[tuple[str, int]]:
    """Paths or addresses of the files below a folder, or that fit a pattern, and their sizes in bytes, as they come.

    Hidden files and clutter are left out. A folder that is not there has no files. Raises what read raises.
    """
    if is_remote(name):
        yield from ((found.address, found.size) for found in files_at(name))
        return
    path = Path(local_path(name))
    listing = files_below(path) if is_folder(path) else files_matching(os.fspath(path))
    for file in listing.files:
        with suppress(OSError):  # one that is gone again
            yield os.fspath(file), os.stat(file).st_size


def join(folder: str, kept: str) -> str:
    """The place of a posix name below a folder; OutputError for a name that would lead out of it."""
    parts = kept.split("/")
    foreign = os.sep != "/" and (os.sep in kept or ":" in kept)
    if "" in (kept, parts[0]) or "\0" in kept or ".." in parts or foreign:
        raise OutputError(f"{printable(kept)} is no name within {printable(folder)}; rename it")
    if is_remote(folder):
        return (folder if folder.endswith("/") else folder + "/") + kept
    return os.path.join(local_path(folder), *parts)  # noqa: PTH118
