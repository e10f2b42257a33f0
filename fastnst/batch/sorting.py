"""Rows sorted by input, one for each, in little memory, however many they are."""

import heapq
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import reduce
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

from fastnst.batch.rows import Row, to_line
from fastnst.errors import OutputError
from fastnst.files import make_folder, printable
from fastnst.storage.addresses import is_remote, local_path

# A row as it is sorted: its input, its code (None: painted), the output that is its own if there is one, its line.
Record = tuple[str, str | None, str | None, bytes]

_CHUNK = 50_000  # rows that are sorted in memory: about 50 MB
_WIDTH = 32  # sorted files that are open at once, and merged into one
_AT_ONCE = 256  # rows that are written to a file and read from it together

_input = itemgetter(0)


@contextmanager
def best_rows(rows: Iterable[Row], beside: str) -> "Iterator[Iterator[Record]]":
    """One row an input, sorted by input, of rows in the order they were written: painted before failed, then the last.

    What does not fit into memory is sorted in nameless files beside the path `beside`, or where the system has its
    temporary files if that is an address.
    """
    folder = None if is_remote(beside) else os.path.dirname(os.path.abspath(local_path(beside)))  # noqa: PTH100, PTH120
    if folder is not None:
        make_folder(Path(folder))
    with ExitStack() as stack:
        yield _Sorter(folder, stack).sorted(rows)


def _record(row: Row) -> Record:
    own = row.output if row.same_as is None else None
    return row.input, None if row.painted else row.code or "internal", own, to_line(row)


def _better(a: Record, b: Record) -> Record:
    """What rows.better says."""
    return a if a[1] is None and b[1] is not None else b


def _chunks(rows: Iterable[Row]) -> "Iterator[list[Record]]":
    """Rows in chunks, each sorted and with one row an input."""
    chunk: dict[str, Record] = {}
    for row in rows:
        record = _record(row)
        chunk[row.input] = _better(chunk[row.input], record) if row.input in chunk else record
        if len(chunk) == _CHUNK:
            yield [chunk[key] for key in sorted(chunk)]
            chunk = {}
    yield [chunk[key] for key in sorted(chunk)]


def _merged(sources: "Sequence[Iterator[Record]]") -> "Iterator[Record]":
    """Sorted rows of sorted sources, one an input; of equal ones, those of the first source come first."""
    if len(sources) == 1:
        yield from sources[0]
        return
    for _, same in groupby(heapq.merge(*sources, key=_input), key=_input):
        yield reduce(_better, same)


class _Sorter:
    """Chunks in files, of which _WIDTH become one of the next level, and so on."""

    def __init__(self, folder: str | None, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._levels: list[list[BinaryIO]] = []

    def sorted(self, rows: Iterable[Row]) -> "Iterator[Record]":
        last: list[Record] | None = None
        for chunk in _chunks(rows):
            if last is not None:
                self._add(0, self._spilled(last))
            last = chunk
        # Older files lie higher, and of equal inputs the last one counts.
        files = [_read(file) for level in reversed(self._levels) for file in level]
        yield from _merged([*files, iter(last or [])])

    def _add(self, at: int, file: BinaryIO) -> None:
        if at == len(self._levels):
            self._levels.append([])
        level = self._levels[at]
        level.append(file)
        if len(level) == _WIDTH:
            merged = self._spilled(_merged([_read(one) for one in level]))
            for one in level:
                one.close()
            level.clear()
            self._add(at + 1, merged)

    def _spilled(self, records: "Iterable[Record]") -> BinaryIO:
        """A file without a name that has these."""
        waiting = iter(records)
        try:
            file = self._stack.enter_context(tempfile.TemporaryFile(dir=self._folder))  # noqa: SIM115
            while some := list(islice(waiting, _AT_ONCE)):
                lines = [(*record[:3], record[3].decode()) for record in some]
                file.write(json.dumps(lines).encode() + b"\n")
            file.flush()
        except OSError as error:
            where = printable(self._folder or tempfile.gettempdir())
            reason = error.strerror or error
            raise OutputError(f"cannot sort a manifest in {where}: {reason}; make room there") from error
        return file


def _read(file: BinaryIO) -> "Iterator[Record]":
    file.seek(0)
    while line := file.readline():
        for *about, text in json.loads(line):
            yield about[0], about[1], about[2], text.encode()
