"""A listing of any length, kept in a file that has no name, so that it is made once and its length is known."""

import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import astuple, replace
from itertools import islice
from typing import Any, BinaryIO

from fastnst.batch.items import Item
from fastnst.errors import OutputError

_AT_ONCE = 1000


class Spool:
    """Items in order, any number of times, until it is closed."""

    def __init__(self, items: Iterable[Item]) -> None:
        """Draw them all; OutputError if there is no room for them."""
        self.count = self.clips = self.failed = 0
        self._file: BinaryIO = tempfile.TemporaryFile(prefix="fastnst.")  # noqa: SIM115 (open as long as this is)
        try:
            self._keep(iter(items))
        except BaseException as error:
            self.close()
            if not isinstance(error, OSError):
                raise
            where = tempfile.gettempdir()
            raise OutputError(
                f"cannot keep the listing in {where}: {error.strerror or error}; make room there"
            ) from error

    def _keep(self, waiting: Iterator[Item]) -> None:
        while some := list(islice(waiting, _AT_ONCE)):
            self._file.write(json.dumps([astuple(item) for item in some]).encode() + b"\n")
            self.count += len(some)
            self.clips += sum(item.clip for item in some)
            self.failed += sum(item.error is not None for item in some)
        self._file.flush()

    def close(self) -> None:
        """Give the room on the disk back."""
        self._file.close()

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Item]:
        position, left = 0, self.count
        while left:
            self._file.seek(position)  # another iteration may have moved it
            some = [_item(values) for values in json.loads(self._file.readline())]
            position, left = self._file.tell(), left - len(some)
            yield from some


def _item(values: list[Any]) -> Item:
    item = Item(*values)
    return item if item.row is None else replace(item, row=(item.row[0], item.row[1]))  # JSON knows no tuples
