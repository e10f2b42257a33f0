"""A manifest as Parquet: columns for tools that read tables."""

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO

from fastnst.batch.rows import OPTIONAL, REQUIRED, Row, from_json, to_json
from fastnst.errors import InputError
from fastnst.files import printable

if TYPE_CHECKING:
    import pyarrow as pa

_GROUP = 50_000  # rows that are in memory at once

# Parquet's text is UTF-8, which names of files need not be: surrogates are \udcff there, and so is \u itself.
_UNWRITABLE = re.compile("[\ud800-\udfff]|\\\\u")
_WRITTEN = re.compile(r"\\u([0-9a-f]{4})")


def schema() -> "pa.Schema":
    """The columns of a manifest."""
    import pyarrow as pa

    kinds = {"seconds": pa.float64(), "frames": pa.int64()}
    return pa.schema([(name, kinds.get(name, pa.string())) for name in (*REQUIRED, *OPTIONAL)])


def write_parquet(file: BinaryIO, rows: Iterable[Row]) -> None:
    """Write rows as a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns, waiting = schema(), iter(rows)
    with pq.ParquetWriter(file, columns) as writer:
        while group := [_each_text(to_json(row), to_text) for row in islice(waiting, _GROUP)]:
            writer.write_table(pa.Table.from_pylist(group, columns))


def read_parquet(file: BinaryIO, name: str) -> Iterator[Row]:
    """The rows of a Parquet file; InputError if it is damaged or no manifest."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        for batch in pq.ParquetFile(file).iter_batches(_GROUP):
            for value in batch.to_pylist():
                number += 1
                yield from_json(_each_text(_without_none(value), from_text))
    except ValueError as error:  # pyarrow's own is one, too
        about = f"is not a Parquet file that can be read: {error}" if isinstance(error, pa.ArrowException) else error
        raise InputError(f"row {number} of {printable(name)} {about}; use another manifest") from error
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{printable(name)} is damaged: {error}; use another manifest") from error


def _without_none(value: "dict[str, Any]") -> "dict[str, Any]":
    return {name: one for name, one in value.items() if one is not None or name in REQUIRED}


def _each_text(value: "dict[str, Any]", change: Any) -> "dict[str, Any]":
    return {name: change(one) if isinstance(one, str) else one for name, one in value.items()}


def to_text(text: str) -> str:
    """A name as Parquet can have it: what is no Unicode as \\udcff, as in JSON."""
    return _UNWRITABLE.sub(lambda match: f"\\u{ord(match[0]):04x}" if len(match[0]) == 1 else "\\u005cu", text)


def from_text(text: str) -> str:
    """What to_text was given."""
    return _WRITTEN.sub(lambda match: chr(int(match[1], 16)), text)
