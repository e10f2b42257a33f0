"""Tables in Parquet: which rows they have, and the bytes of one, read a few rows at a time."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from fastnst.batch.items import Item, Ours
from fastnst.batch.lists import Base
from fastnst.batch.table_rows import bytes_item, chosen_column, path_item, suffix_for
from fastnst.errors import InputError
from fastnst.files import printable
from fastnst.storage.addresses import open_input, read

_BUFFER = 1 << 20  # bytes of a column that are read at once
_AT_ONCE = 8  # rows with bytes that are decoded at once
_KEPT = 64  # rows of those that were passed last, for readers that are not quite in order


def items_of_parquet(place: str, column: str | None, ours: Ours) -> Iterator[Item]:
    """The rows of a table whose column has texts, bytes, or struct<bytes, path> as Hugging Face makes them.

    Bytes have no suffix of their own; all of a table get the one of its first picture. Raises UsageError for a column
    that is not there or has something else, InputError if this is no table.
    """
    with _opened(place) as file:
        kinds = {field.name: _kind(field.type) for field in file.schema_arrow}
        usable = [name for name, kind in kinds.items() if kind]
        column = chosen_column(place, column, usable, [name for name in kinds if name not in usable])
        if kinds[column] == "text":
            yield from _paths(place, file, column, ours)
        else:
            yield from _bytes(place, file, column, kinds[column], ours)


@contextmanager
def _opened(place: str) -> Iterator[Any]:
    """A file of pyarrow; what it says of damage is an InputError."""
    import pyarrow
    import pyarrow.parquet

    with closing(open_input(place)) as source:
        try:
            with pyarrow.parquet.ParquetFile(source, buffer_size=_BUFFER, pre_buffer=False) as file:
                yield file
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:  # OSError of what cannot be parsed, too
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{printable(place)} is damaged or no Parquet ({reason}); write it again") from error


def _kind(kind: Any) -> str:
    """What a column has: "text", "bytes", "struct" (of bytes, and perhaps a path), or "" for anything else."""
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind):
        return "bytes"
    if types.is_struct(kind):
        fields = {field.name: _kind(field.type) for field in kind}
        return "struct" if fields.get("bytes") == "bytes" else ""
    return ""


def _paths(place: str, file: Any, column: str, ours: Ours) -> Iterator[Item]:
    base, row = Base.of(place), 0
    for batch in file.iter_batches(4096, columns=[column]):
        for name in batch.column(0).to_pylist():
            item = path_item(place, base, row, name)
            if ours(item.kept):
                yield item
            row += 1


def _bytes(place: str, file: Any, column: str, kind: str, ours: Ours) -> Iterator[Item]:
    """Rows with bytes, of which only the first few are read here."""
    suffix, row = _suffix(file, column), 0
    names = _names(file, column, kind)
    where = f"{column}.bytes" if kind == "struct" else column
    for group in range(file.num_row_groups):
        for at in range(file.metadata.row_group(group).num_rows):
            item = bytes_item(place, row, next(names), suffix, row=(group, at), column=where)
            if ours(item.kept):
                yield item
            row += 1


def _names(file: Any, column: str, kind: str) -> Iterator[object]:
    """What each row is called, None where that is not said."""
    named = kind == "struct" and any(
        field.name == "path" and _kind(field.type) == "text" for field in file.schema_arrow.field(column).type
    )
    if not named:
        while True:
            yield None
    for batch in file.iter_batches(4096, columns=[f"{column}.path"]):
        yield from (value and value["path"] for value in batch.column(0).to_pylist())


def _suffix(file: Any, column: str) -> str:
    for batch in file.iter_batches(_AT_ONCE, columns=[column]):
        for value in batch.column(0).to_pylist():
            data = value.get("bytes") if isinstance(value, dict) else value
            if data:
                return suffix_for(data)
    return ""


class _Rows:
    """The rows of one row group, decoded in order: going on is cheap, going far back begins anew."""

    def __init__(self, place: str, column: str, group: int) -> None:
        self.source = place, column, group
        self.begin()

    def begin(self) -> None:
        """Go back to the first row."""
        self.values = self._values()
        self.at, self.kept = 0, deque[Any](maxlen=_KEPT)

    def _values(self) -> Iterator[Any]:
        place, column, group = self.source
        with _opened(place) as file:
            for batch in file.iter_batches(_AT_ONCE, row_groups=[group], columns=[column]):
                yield from batch.column(0).to_pylist()

    def __getitem__(self, row: int) -> Any:
        if row < self.at - len(self.kept):
            self.begin()
        while self.at <= row:
            self.kept.append(next(self.values, None))
            self.at += 1
        return self.kept[row - self.at]


_lock = threading.Lock()
_last: list[_Rows] = []  # of this process, which is given rows that lie side by side


def parquet_content(item: Item) -> bytes:
    """The bytes in a row of a table, or of the file that it names instead.

    Raises InputError if it has neither, StorageError as addresses.read does.
    """
    group, row = item.row or (0, 0)
    source = (item.place, (item.column or "").removesuffix(".bytes"), group)
    with _lock:
        if not _last or _last[0].source != source:
            _last[:] = [_Rows(*source)]
        try:
            value = _last[0][row]
        except BaseException:
            _last.clear()
            raise
    if isinstance(value, dict):
        path = value.get("path")
        value = value.get("bytes")
        if value is None and isinstance(path, str) and path:
            return read(Base.of(item.place).place(path))
    if value is None:
        raise InputError(f"{printable(item.key)} has no picture; fill it in, or leave the row out")
    return bytes(value)
