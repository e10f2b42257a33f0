"""Manifests, and the journals that become them: read, sorted in little memory, written whole or not at all."""

import heapq
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import reduce
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from fastnst.batch.own_files import names_in
from fastnst.batch.rows import Row, better, from_line, to_line
from fastnst.errors import InputError, OutputError, UsageError
from fastnst.files import atomic_write, make_folder, printable
from fastnst.storage.addresses import exists, is_remote, join, local_path, open_input, upload

FORMATS = (".jsonl", ".parquet")
JOURNAL = ".journal"  # after the name of a manifest: its rows so far, a file, or at an address a folder of objects

_NAME = re.compile(r"manifest(-\d+-of-\d+)?\.(jsonl|parquet)(\.journal)?")
_CHUNK = 50_000  # rows that are sorted in memory: about 50 MB
_WIDTH = 32  # sorted files that are open at once, and merged into one


def check_format(place: str) -> str:
    """The suffix of a manifest's name; UsageError if it is none of those that tell the format."""
    suffix = Path(place).suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(f"{printable(place)} must end with .jsonl or .parquet, which says how a manifest is written")
    return suffix


def manifests_in(output: str) -> list[str]:
    """The manifests and journals right in an output folder, sorted; the name of a remote journal is its folder."""
    names = {name.partition("/")[0] for name in names_in(output, "manifest")}
    return [join(output, name) for name in sorted(names) if _NAME.fullmatch(name)]


def read_rows(place: str) -> Iterator[Row]:
    """The rows of a manifest or of a journal, in its order.

    Of a journal, what a process that died did not write to the end of the line is left out. Raises InputError for one
    that is damaged, not there, or of a newer fastnst.
    """
    if place.endswith(JOURNAL):
        yield from read_journal(journal_objects(place))
    elif check_format(place) == ".parquet":
        from fastnst.batch.columns import read_parquet

        with open_input(place) as file:
            yield from read_parquet(file, place)
    else:
        yield from _rows_of_lines(place)


def read_journal(objects: Iterable[str]) -> Iterator[Row]:
    """The rows of the files that a journal is made of."""
    for place in objects:
        yield from _rows_of_lines(place, torn=True)


def journal_objects(place: str) -> list[str]:
    """The files that a journal is made of, in the order they were written."""
    if not is_remote(place):
        return [place] if exists(place) else []
    folder, _, name = place.rpartition("/")
    return [join(folder, found) for found in names_in(folder, name + "/")]


def _rows_of_lines(place: str, torn: bool = False) -> Iterator[Row]:
    with open_input(place) as file:
        for number, line in enumerate(file, 1):
            if torn and not line.endswith(b"\n"):
                return
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if not line.strip():
                continue
            try:
                rows = from_line(line)
            except ValueError as error:
                if torn and b"\0" in line and not any(file):  # what a power cut leaves on some disks
                    return
                raise InputError(
                    f"line {number} of {printable(place)} {error}; correct or remove the line, or use the version of "
                    "fastnst that wrote it"
                ) from error
            yield from rows


@contextmanager
def best_rows(rows: Iterable[Row], beside: str) -> Iterator[Iterator[Row]]:
    """One row an input, sorted by input, of rows in the order they were written: painted before failed, then the last.

    What does not fit into memory is sorted in nameless files beside the path `beside`, or where the system has its
    temporary files if that is an address.
    """
    folder = None if is_remote(beside) else os.path.dirname(os.path.abspath(local_path(beside)))  # noqa: PTH100, PTH120
    if folder is not None:
        make_folder(Path(folder))
    with ExitStack() as stack:
        yield _sorted(_chunks(rows), folder, stack)


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows in chunks, each sorted and with one row an input."""
    chunk: dict[str, Row] = {}
    for row in rows:
        chunk[row.input] = better(chunk[row.input], row) if row.input in chunk else row
        if len(chunk) == _CHUNK:
            yield _ordered(chunk)
            chunk = {}
    yield _ordered(chunk)


def _ordered(chunk: dict[str, Row]) -> list[Row]:
    return [chunk[key] for key in sorted(chunk)]


def _sorted(chunks: Iterator[list[Row]], folder: str | None, stack: ExitStack) -> Iterator[Row]:
    """All rows of sorted chunks; all but the last lie in files, of which _WIDTH become one, and so on."""
    levels: list[list[BinaryIO]] = []
    last: list[Row] = []
    for number, chunk in enumerate(chunks):
        if number:
            _add_file(levels, 0, _spilled(last, folder, stack), folder, stack)
        last = chunk
    # Older files lie higher, and of equal keys merging gives those of the first one first.
    files = [_rows_in(file) for level in reversed(levels) for file in level]
    yield from _merged([*files, iter(last)])


def _add_file(levels: list[list[BinaryIO]], at: int, file: BinaryIO, folder: str | None, stack: ExitStack) -> None:
    if at == len(levels):
        levels.append([])
    levels[at].append(file)
    if len(levels[at]) == _WIDTH:
        merged = _spilled(_merged([_rows_in(file) for file in levels[at]]), folder, stack)
        for file in levels[at]:
            file.close()
        levels[at] = []
        _add_file(levels, at + 1, merged, folder, stack)


def _merged(sources: Sequence[Iterator[Row]]) -> Iterator[Row]:
    rows = heapq.merge(*sources, key=lambda row: row.input)
    for _, same in groupby(rows, key=lambda row: row.input):
        yield reduce(better, same)


def _spilled(rows: Iterable[Row], folder: str | None, stack: ExitStack) -> BinaryIO:
    """A file without a name that has these rows."""
    try:
        file = stack.enter_context(tempfile.TemporaryFile(dir=folder))  # noqa: SIM115
        for row in rows:
            file.write(to_line(row))
        file.flush()
    except OSError as error:
        where = printable(folder or tempfile.gettempdir())
        raise OutputError(f"cannot sort a manifest in {where}: {error.strerror or error}; make room there") from error
    return file


def _rows_in(file: BinaryIO) -> Iterator[Row]:
    file.seek(0)
    for line in file:
        yield from from_line(line)


def write_manifest(place: str, rows: Iterable[Row]) -> None:
    """Write rows as a manifest, JSON Lines or Parquet by its suffix; OutputError if that fails, and then nothing."""
    suffix = check_format(place)
    with _written(place) as file:
        if suffix == ".parquet":
            from fastnst.batch.columns import write_parquet

            write_parquet(file, rows)
        else:
            for row in rows:
                file.write(to_line(row))


@contextmanager
def _written(place: str) -> Iterator[BinaryIO]:
    """A file that takes its place, at a path or an address, when the block ends well."""
    if not is_remote(place):
        with atomic_write(Path(local_path(place))) as file:
            yield file
        return
    with tempfile.TemporaryDirectory(prefix="fastnst.") as folder:
        path = Path(folder, "manifest")
        with open(path, "wb") as file:
            yield file
        upload(path, place)
