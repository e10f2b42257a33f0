"""Pictures of the same content: which they are, so that one of them is painted and the others become the same."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import PurePosixPath

from fastnst.batch.items import Item, output_name
from fastnst.batch.rows import Row
from fastnst.batch.tasks import Contents, Runner, Task, blocks
from fastnst.config import StylizeOptions
from fastnst.errors import FastnstError
from fastnst.files import printable

_SIZE = 16  # bytes of a digest
_UNREADABLE = b"\0" * _SIZE  # which is like no other, and is told when it is painted


class Twins:
    """Of pictures with the same content and kind of output, the first in the listing stands for the others.

    Memory is 16 bytes for each picture and about 300 for each that looks like another.
    """

    def __init__(self) -> None:
        self.first_of: dict[str, str] = {}  # key -> that of the first
        self.rows: dict[str, Row | None] = {}  # what became of the first ones

    @classmethod
    def find(
        cls,
        runner: Runner,
        items: Iterable[Item],
        options: StylizeOptions,
        size: int,
        on_read: Callable[[int], object] = lambda _: None,
    ) -> "Twins":
        """Read all pictures, `size` in a task; clips are like no other. `on_read` hears how many were read."""
        twins, seen = cls(), dict[bytes, str]()
        pictures = (item for item in items if not item.clip)
        while wave := list(islice(blocks(pictures, size), max(1, runner.wave // size))):
            tasks = [Task(number, Contents(block)) for number, block in enumerate(wave)]
            digests: dict[int, tuple[bytes | None, ...]] = {}
            for done in runner.paint(tasks):
                if done.error is not None:
                    raise done.error
                digests[done.number] = done.digests
                on_read(len(done.digests))
            for number, block in enumerate(wave):
                for item, digest in zip(block, digests[number], strict=True):
                    twins._add(item, digest or _UNREADABLE, options, seen)
        return twins

    def _add(self, item: Item, digest: bytes, options: StylizeOptions, seen: dict[bytes, str]) -> None:
        if digest == _UNREADABLE:
            return
        kind = PurePosixPath(output_name(item, options)).suffix.encode()
        first = seen.setdefault(digest + kind, item.key)
        if first != item.key:
            self.first_of[item.key] = first
            self.rows.setdefault(first, None)

    def note(self, row: Row) -> None:
        """What became of a picture, which may stand for others."""
        if row.input in self.rows:
            self.rows[row.input] = row

    def firsts(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items that look like none before them."""
        return (item for item in items if item.key not in self.first_of)

    def told(self, items: Iterable[Item]) -> Iterator[tuple[Item, Row]]:
        """The other items, and what became of the ones that they look like."""
        for item in items:
            if (first := self.first_of.get(item.key)) is not None:
                if (row := self.rows[first]) is None:
                    raise FastnstError(f"nothing became of {printable(first)}; run this again")
                yield item, row
