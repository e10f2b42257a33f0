"""Clips as items of a batch run: one goes whole, or in parts that any actor paints, and that are joined at the end."""

import io
import os
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

import fastnst
from fastnst.batch.items import Item, output_name
from fastnst.batch.own_files import names_in
from fastnst.batch.paintings import Painting
from fastnst.batch.rows import Row, digest
from fastnst.batch.stores import FileStore
from fastnst.config import ClipOptions, StylizeOptions
from fastnst.errors import FastnstError, InputError, first_line
from fastnst.files import is_folder
from fastnst.image import Limits
from fastnst.storage.addresses import (
    Seekable,
    exists,
    fetch,
    is_remote,
    local_path,
    open_input,
    remove,
    upload,
    version,
)
from fastnst.storage.addresses import join as place_of
from fastnst.stylize import Stylizer
from fastnst.video.lossless import PartError
from fastnst.video.parts import Part, join_parts, paint_part, plan_parts
from fastnst.video.read import open_clip
from fastnst.video.sources import Source
from fastnst.video.stylize import OnFrame, StylizedClip, stylize_opened

_PARTS = ".parts"  # the folder of painted parts below the output


@dataclass(frozen=True, slots=True)
class Piece:
    """What one task paints of a clip: all of it (no part), or one of several parts. Small, and can be pickled.

    `name` is where a painted part is kept, below the output.
    """

    item: Item
    part: Part | None = None
    name: str = ""


def cut(item: Item, clip: ClipOptions, seconds: float | None, settings: str = "") -> list[Piece]:
    """The pieces of a clip, in order, each about so many seconds long; one without a part if it stays whole.

    That is as plan_parts says. The same file and arguments give the same pieces. `settings` is what else paintings
    depend on: with others, no part of an earlier run is taken for one of this. Reads all of the file, but decodes
    nothing beyond its first frames.

    Raises InputError if it cannot be opened or read, StorageError if its store does not answer.
    """
    if seconds is None:
        return [Piece(item)]
    parts = plan_parts(_source(item), seconds, clip)
    if not parts:
        return [Piece(item)]
    known = (fastnst.__version__, settings, clip, version(item.place), item.start, item.length)
    folder = f"{_PARTS}/{digest(item.key).hex()}"
    names = [f"{folder}/{part.number}-{digest(repr((known, part))).hex()[:16]}" for part in parts]
    return [Piece(item, part, name) for part, name in zip(parts, names, strict=True)]


def missing(pieces: Sequence[Piece], output: str) -> list[Piece]:
    """Of the pieces of one clip, those that are not there yet below OUTPUT/.parts; a whole clip always is missing."""
    return [piece for piece in pieces if piece.part is None or not exists(place_of(output, piece.name))]


def paint(
    stylizer: Stylizer,
    piece: Piece,
    output: str,
    options: StylizeOptions,
    clip: ClipOptions,
    on_frame: OnFrame = lambda _, __: None,
) -> Row | None:
    """Paint a piece: a whole clip to its place below the output, a part to OUTPUT/.parts; both local or remote.

    The row of a whole clip; None for a part, which is left alone if it is there. Without a trace of what is interrupted
    by KeyboardInterrupt.

    Raises InputError for a clip that cannot be painted, StorageError if a store does not answer, OutputError if the
    output cannot be written, ModuleNotFoundError without PyAV.
    """
    started = time.perf_counter()
    item, part = piece.item, piece.part
    if part is None:
        name = output_name(item, options)
        with _written(place_of(output, name)) as target:
            with open_clip(_source(item), clip.start or 0, clip.end) as reader:
                painted = stylize_opened(stylizer, reader, target, options, clip, on_frame, keep=False)
            return _put(item, name, painted, output, time.perf_counter() - started)
    place = place_of(output, piece.name)
    if not exists(place):
        suffix = Path(output_name(item, options)).suffix.lower()
        with _written(place) as target:
            paint_part(stylizer, _source(item), part, target, suffix, options, clip, on_frame)
            if is_remote(place):
                upload(target, place)
    return None


def join(pieces: Sequence[Piece], output: str, options: StylizeOptions, clip: ClipOptions) -> Row:
    """Join the parts of one clip, all of which are painted, into its output, and remove them; its row.

    Raises what paint raises. A part that is gone or damaged is a StorageError, and the next run paints it again.
    """
    started = time.perf_counter()
    item = pieces[0].item
    name = output_name(item, options)
    fetched: dict[Path, str] = {}
    with _written(place_of(output, name)) as target, closing(_fetched(pieces, output, fetched)) as paths:
        try:
            painted = join_parts(_source(item), paths, target, clip)
        except PartError as error:
            remove(fetched[error.path])
            raise
        return _put(item, name, painted, output, time.perf_counter() - started)


def _put(item: Item, name: str, painted: StylizedClip, output: str, seconds: float) -> Row:
    """Put a painted clip in its place, after which no part of it is needed."""
    painting = Painting(item.key, name, painted.path, seconds + painted.seconds, painted.frames, painted.problem)
    (row,) = _store(output).put([painting])
    if row.painted:
        _remove_parts(item, output)
    return row


@cache
def _store(output: str) -> FileStore:
    """Kept, since it looks into each folder once."""
    return FileStore(output)


def _fetched(pieces: Sequence[Piece], output: str, fetched: dict[Path, str]) -> Generator[Path]:
    """The painted parts as local files, one after the other, and where each is; of remote ones, one at a time is here.

    Raises StorageError for one that is gone.
    """
    for piece in pieces:
        place = place_of(output, piece.name)
        with _written(place) as path:
            fetched[path] = place
            if is_remote(place):
                try:
                    fetch(place, path)
                except InputError as error:
                    raise PartError(path, f"cannot be fetched ({first_line(error)})") from error
            yield path


def _remove_parts(item: Item, output: str) -> None:
    """Remove all that is kept of a clip, also by runs that were interrupted and had other settings."""
    folder = f"{_PARTS}/{digest(item.key).hex()}"
    if is_remote(output):
        for name in names_in(output, folder + "/"):
            remove(place_of(output, name))
        return
    place = Path(place_of(output, folder))
    for path in place.iterdir() if is_folder(place) else ():
        remove(os.fspath(path))
    for empty in (place, place.parent):
        with suppress(OSError):  # parts of other clips are in it
            empty.rmdir()


@contextmanager
def _written(place: str) -> Iterator[Path]:
    """Where to write a file that belongs in a place: right there, or into a temporary file, to be uploaded."""
    if not is_remote(place):
        yield Path(local_path(place))
        return
    with tempfile.TemporaryDirectory(prefix="fastnst.") as folder:
        yield Path(folder, "clip" + Path(place).suffix)


def _source(item: Item) -> Path | Source:
    """The clip of an item, to be opened any number of times."""
    alone = item.start == 0 and item.length is None and item.row is None and item.column is None
    return Path(local_path(item.place)) if alone and not is_remote(item.place) else _Source(item)


class _Source:
    """The clip of an item that is no local file: at an address, or in an archive or a table."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.refused: FastnstError | None = None

    def __str__(self) -> str:
        return self.item.key

    def check(self) -> None:
        """Raise what reading was refused, if it was."""
        if self.refused is not None:
            raise self.refused

    def open(self) -> BinaryIO:
        """The whole clip as a file."""
        if self.item.row is not None or self.item.column is not None:
            from fastnst.batch.tables import read_item

            return io.BytesIO(read_item(self.item, Limits().size))
        return io.BufferedReader(_Window(open_input(self.item.place), self), 1 << 20)


class _Window(Seekable):
    """A clip within an open file, from its beginning there; notes what the file refuses."""

    def __init__(self, file: BinaryIO, source: _Source) -> None:
        self.file, self.source = file, source
        self.first = source.item.start
        length = source.item.length
        super().__init__(file.seek(0, io.SEEK_END) - self.first if length is None else length)

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        try:
            self.file.seek(self.first + self.at)
            data = self.file.read(max(0, min(len(buffer), self.size - self.at)))
        except FastnstError as error:
            self.source.refused = error
            raise
        buffer[: len(data)] = data
        self.at += len(data)
        return len(data)

    def close(self) -> None:
        self.file.close()
        super().close()
