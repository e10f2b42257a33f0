"""Items of tables, and the bytes of any item: of a file, a part of one, a row of a table."""

from collections.abc import Iterator
from pathlib import Path

from fastnst.batch.items import Item, Ours, suffix_of
from fastnst.batch.json_lines import items_of_json, json_content
from fastnst.batch.parquet import items_of_parquet, parquet_content
from fastnst.errors import FastnstError, InputError
from fastnst.files import printable
from fastnst.image import Limits, read_file
from fastnst.storage.addresses import is_remote, local_path, read

TABLES = (".parquet", ".jsonl", ".ndjson")


def items_of_table(place: str, column: str | None, ours: Ours) -> Iterator[Item]:
    """The rows of a table in Parquet or JSON Lines; raises what items_of_parquet and items_of_json do."""
    yield from (items_of_parquet if suffix_of(place) == ".parquet" else items_of_json)(place, column, ours)


def read_item(item: Item, most: int) -> bytes:
    """All bytes of an item; of a file that has more than `most`, one more than that.

    Raises InputError if it is not there or has no bytes, StorageError if its store does not answer, UnavailableError
    if a package is missing; and the error that an item has from the beginning.
    """
    if item.error is not None:
        raise known_error(item)
    if item.row is not None:
        return parquet_content(item)
    if item.column is not None:
        return json_content(item.place, read(item.place, item.start, item.length), item.column)
    if item.length is None and item.start == 0 and not is_remote(item.place):
        return read_file(Path(local_path(item.place)), Limits(size=most))
    length = most + 1 if item.length is None else min(item.length, most + 1)
    data = read(item.place, item.start, length)
    if item.length is not None and len(data) < length:
        raise InputError(f"{printable(item.key)} is cut off: {printable(item.place)} became shorter; copy it again")
    return data


def known_error(item: Item) -> FastnstError:
    """The error of an item that has one."""
    error = InputError(item.error or "")
    error.code = item.code or InputError.code
    return error
