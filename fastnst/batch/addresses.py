"""Files wherever they are: local paths, and addresses such as s3://bucket/name, by fsspec."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def is_remote(name: str) -> bool:
    """Whether this is an address, SCHEME://..., and no local file of that name; file:// is none."""
    raise NotImplementedError


def read(place: str, start: int = 0, length: int | None = None) -> bytes:
    """Bytes of a file, all or some.

    Raises InputError if it is not there or may not be read, StorageError if the store did not answer in several tries,
    UnavailableError if a package for its kind of addresses is not installed.
    """
    raise NotImplementedError


def open_input(place: str) -> BinaryIO:
    """A file, open for reading from anywhere in it; raises what read raises."""
    raise NotImplementedError


def fetch(place: str, path: Path) -> None:
    """Copy a file, which may be larger than memory, to a local path; raises what read raises, and OutputError."""
    raise NotImplementedError


def exists(place: str) -> bool:
    """Whether a file is there; raises what read raises for stores that do not answer."""
    raise NotImplementedError


def write(place: str, data: bytes) -> None:
    """Put a whole file in place at once: nobody ever sees half of one.

    Raises OutputError if that is refused, StorageError if the store did not answer in several tries.
    """
    raise NotImplementedError


def upload(path: Path, place: str) -> None:
    """The same with the content of a local file, which may be larger than memory."""
    raise NotImplementedError


def remove(place: str) -> None:
    """Remove a file; one that is not there is no error."""
    raise NotImplementedError


def list_files(name: str) -> Iterator[tuple[str, int]]:
    """Addresses or paths of the files below a folder, or that fit a pattern, and their sizes in bytes, as they come.

    A folder that is not there has none. Raises what read raises.
    """
    raise NotImplementedError


def join(folder: str, kept: str) -> str:
    """The place of a name below a folder; OutputError for one that would lead out of it."""
    raise NotImplementedError
