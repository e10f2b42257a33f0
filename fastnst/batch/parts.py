"""Parts of an output folder that hold many paintings each: tars as WebDataset has them, or Parquet files."""

import hashlib
import io
import itertools
import json
import os
import re
import secrets
import tarfile
import tempfile
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, ClassVar, Protocol

from PIL import Image, UnidentifiedImageError

from fastnst.batch.columns import to_text
from fastnst.batch.own_files import SETTINGS, names_in
from fastnst.batch.paintings import Painting, sha256_of
from fastnst.batch.rows import Row
from fastnst.errors import FastnstError, OutputError, StorageError
from fastnst.files import make_folder, move, printable, sync
from fastnst.storage.addresses import exists, is_remote, join, local_path, remove, upload

_GROUP = 64 << 20  # bytes of paintings that are in memory for Parquet
_LARGEST = 2_000_000_000  # bytes of one in Parquet, whose offsets have 32 bits
_PART = re.compile(r"part-(?:(\d+-of-\d+)-)?[0-9a-f]{12}\.(?:tar|parquet)")
_HALF = re.compile(r"\.part-(?:(\d+-of-\d+)-)?[0-9a-f]{12}\.tmp")


def parts_in(output: str) -> list[str]:
    """The names of the parts right in an output folder, and of those that were not finished."""
    return [name for beginning in ("part-", ".part-") for name in names_in(output, beginning) if _match(name)]


def tag_of(part: str) -> str:
    """The shard that wrote a part, "3-of-8", or ""."""
    match = _match(part)
    return (match[1] or "") if match else ""


def _match(part: str) -> "re.Match[str] | None":
    return _PART.fullmatch(part) or _HALF.fullmatch(part)


def remove_orphans(output: str, tag: str, known: Container[str]) -> int:
    """Remove the parts of a shard (or of a run that is none: "") that no row speaks of; how many.

    A process that died left them. Call it with Journal.parts, before painting and after it.
    """
    orphans = [part for part in parts_in(output) if tag_of(part) == tag and part not in known]
    for part in orphans:
        remove(join(output, part))
    return len(orphans)


def refuse_parts(output: str) -> None:
    """OutputError if a folder that has no batch.json has parts: another program's, or what is left of a batch."""
    parts = parts_in(output)
    if parts and not exists(join(output, SETTINGS)):  # which another shard may have written by now
        raise OutputError(
            f"{printable(output)} has {parts[0]} already, but no batch.json; choose another folder, or add --overwrite"
        )


class _Writer(Protocol):
    """Writes one part."""

    def __init__(self, file: BinaryIO) -> None: ...

    def add(self, painting: Painting, content: bytes | Path, sha256: str) -> str:
        """Add one; what it is called within the part."""
        ...

    def close(self) -> None:
        """Write the end of the part."""
        ...


@dataclass(frozen=True)
class _PartStore:
    """All paintings of one `put` become one part, named by their inputs, in place at once or not at all."""

    output: str
    tag: str = ""
    suffix: ClassVar[str]
    writer: ClassVar[type[_Writer]]

    def put(self, paintings: Iterable[Painting]) -> Iterator[Row]:
        # Rows of what failed, and what is in the part: with its name there and its digest.
        done: list[Row | tuple[Painting, str, str]] = []
        with self._unfinished() as path:
            try:
                with open(path, "xb") as file:
                    with closing(self.writer(file)) as writer:
                        done.extend(self._added(writer, painting) for painting in paintings)
                    sync(file)
            except OSError as error:
                raise OutputError(f"cannot write {printable(path)}: {error.strerror or error}; make room") from error
            yield from self._in_place(path, done)

    def _added(self, writer: _Writer, painting: Painting) -> Row | tuple[Painting, str, str]:
        if isinstance(painting.content, FastnstError):
            return painting.failed(painting.content)
        sha256 = sha256_of(painting.content)
        try:
            return painting, writer.add(painting, painting.content, sha256), sha256
        except OutputError as error:
            return painting.failed(error)

    def _in_place(self, path: Path, done: "Sequence[Row | tuple[Painting, str, str]]") -> list[Row]:
        """Move a part to where it belongs, if it has anything; the rows of all."""
        keys = [one[0].key for one in done if not isinstance(one, Row)]
        part = f"part-{self.tag}{'-' * bool(self.tag)}{_digest(keys)}{self.suffix}"
        try:
            if keys:
                self._move(path, join(self.output, part))
        except StorageError as error:
            return [one if isinstance(one, Row) else one[0].failed(error) for one in done]
        return [one if isinstance(one, Row) else one[0].row(f"{part}::{one[1]}", one[2]) for one in done]

    def _move(self, path: Path, place: str) -> None:
        if is_remote(place):
            upload(path, place)
            return
        try:
            move(path, Path(place))
        except OSError as error:
            raise OutputError(f"cannot write {printable(place)}: {error.strerror or error}; make room") from error

    @contextmanager
    def _unfinished(self) -> Iterator[Path]:
        """The path of a part that is being written: beside the others, or a temporary file if these are remote."""
        if is_remote(self.output):
            with tempfile.TemporaryDirectory(prefix="fastnst.") as elsewhere:
                yield Path(elsewhere, "part")
            return
        folder = Path(local_path(self.output))
        make_folder(folder)
        # Not called as other temporary files are: a run on another machine, which cannot see this process, would take
        # it for what a dead one left if a large picture took its time.
        path = folder / f".part-{self.tag}{'-' * bool(self.tag)}{secrets.token_hex(6)}.tmp"
        try:
            yield path
        finally:
            with suppress(OSError):
                path.unlink()  # what was not moved


def _digest(keys: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(keys)).encode()).hexdigest()[:12]


class _TarWriter:
    def __init__(self, file: BinaryIO) -> None:
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self._keys: set[str] = set()

    def add(self, painting: Painting, content: bytes | Path, sha256: str) -> str:  # noqa: ARG002
        name = self._name(painting.name)
        info = tarfile.TarInfo(name)  # of nobody, and of no time
        info.mode = 0o644
        if isinstance(content, bytes):
            info.size = len(content)
            self._tar.addfile(info, io.BytesIO(content))
        else:
            with open(content, "rb") as file:
                info.size = os.fstat(file.fileno()).st_size
                self._tar.addfile(info, file)
        return name

    def _name(self, name: str) -> str:
        """One that makes a sample of its own: WebDataset takes what is before the first dot for its key."""
        path = PurePosixPath(name)
        stem = path.stem.replace(".", "_")
        for number in itertools.count(2):
            key = path.with_name(stem).as_posix()
            if key not in self._keys:
                break
            stem = f"{path.stem.replace('.', '_')}_{number}"
        self._keys.add(key)
        return key + path.suffix

    def close(self) -> None:
        self._tar.close()


class TarStore(_PartStore):
    """Parts as tars that WebDataset reads; the same paintings make the same bytes."""

    suffix = ".tar"
    writer = _TarWriter


class _ParquetWriter:
    def __init__(self, file: BinaryIO) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        text, count = pa.string(), pa.int32()
        fields = {"input": text, "name": text, "bytes": pa.binary(), "width": count, "height": count, "sha256": text}
        self._schema = pa.schema(fields.items())
        self._parquet = pq.ParquetWriter(file, self._schema)
        self._waiting: list[dict[str, Any]] = []
        self._count = self._bytes = 0

    def add(self, painting: Painting, content: bytes | Path, sha256: str) -> str:
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        if size > _LARGEST:
            raise OutputError(f"{printable(painting.key)} is painted as {size} bytes, too many for Parquet; store tars")
        if self._bytes + size > _GROUP:
            self._flush()
        data = content if isinstance(content, bytes) else content.read_bytes()
        width, height = _size(data)
        names = {"input": to_text(painting.key), "name": to_text(painting.name)}
        self._waiting.append({**names, "bytes": data, "width": width, "height": height, "sha256": sha256})
        self._bytes += size
        self._count += 1
        return str(self._count - 1)

    def _flush(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._parquet.write_table(pa.Table.from_pylist(self._waiting, self._schema))
        self._waiting, self._bytes = [], 0

    def close(self) -> None:
        self._flush()
        self._parquet.close()


class ParquetStore(_PartStore):
    """Parts as Parquet files: a row has input, name, bytes, width and height (of pictures), and sha256."""

    suffix = ".parquet"
    writer = _ParquetWriter


def _size(data: bytes) -> "tuple[int, int] | tuple[None, None]":
    """Width and height of a painted picture; a video has none here."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.size
    except UnidentifiedImageError:
        return None, None
