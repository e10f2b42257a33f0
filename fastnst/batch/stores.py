"""Where paintings go: files in a tree, or parts of many, tars or Parquet files."""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fastnst.ahead import each_ahead
from fastnst.batch.paintings import Painting, sha256_of
from fastnst.batch.parts import ParquetStore, TarStore
from fastnst.batch.rows import Row
from fastnst.config.batch import StoreKind
from fastnst.errors import FastnstError, OutputError, StorageError
from fastnst.files import remove_leftovers
from fastnst.storage.addresses import is_remote, join, upload, write

_UPLOADS = 8  # at the same time: an address takes its time for each, however small

# What a disk says of one name that it does not take; all else concerns every painting.
_NAMES = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.EILSEQ, errno.EINVAL}


class Store(Protocol):
    """Puts paintings in place; small and picklable, so that it travels to actors."""

    def put(self, paintings: Iterable[Painting]) -> Iterator[Row]:
        """Put them in place, and give the row of each, in order, once it is: right then, or for a part at the end.

        Paintings are drawn as they are needed; those of one call become one part. One that failed gives a failed row,
        and so does one whose store does not answer (code "storage") or whose name the disk refuses (code "output").

        Raises OutputError for what concerns all of them: a full disk, no permission.
        """
        ...


def open_store(kind: StoreKind, output: str, tag: str = "") -> Store:
    """The store of an output folder, a local path or an address; `tag` is that of a shard, "3-of-8"."""
    match kind:
        case "files":
            return FileStore(output)
        case "tar":
            return TarStore(output, tag)
        case "parquet":
            return ParquetStore(output, tag)


@dataclass
class FileStore:
    """Each painting is a file, in the folders of its input."""

    output: str
    _visited: set[Path] = field(default_factory=set)

    def put(self, paintings: Iterable[Painting]) -> Iterator[Row]:
        if not is_remote(self.output):
            yield from map(self._put, paintings)
            return
        with closing(each_ahead(self._put, paintings, _UPLOADS, _UPLOADS)) as rows:
            yield from rows

    def _put(self, painting: Painting) -> Row:
        content = painting.content
        if isinstance(content, FastnstError):
            return painting.failed(content)
        try:
            place = join(self.output, painting.name)
            sha256 = sha256_of(content)
            if not is_remote(place):
                self._remove_leftovers(Path(place).parent)
            if isinstance(content, bytes):
                write(place, content)
            elif is_remote(place) or not _same(content, place):
                upload(content, place)
        except StorageError as error:
            return painting.failed(error)
        except OutputError as error:
            if not is_of_name(error):
                raise
            return painting.failed(error)
        return painting.row(painting.name, sha256)

    def _remove_leftovers(self, folder: Path) -> None:
        """Remove what killed processes left of files in a folder, before the first one is written there."""
        if folder not in self._visited:
            self._visited.add(folder)
            remove_leftovers(folder)


def _same(content: Path, place: str) -> bool:
    """Whether a file has been written right where it belongs."""
    return os.path.abspath(content) == os.path.abspath(place)  # noqa: PTH100


def is_of_name(error: OutputError) -> bool:
    """Whether only this name cannot be written, and others may be."""
    cause = error.__cause__
    # No error of the disk: a name that leads elsewhere. Of Unicode: a name that addresses cannot have.
    return cause is None or isinstance(cause, UnicodeError) or getattr(cause, "errno", None) in _NAMES
