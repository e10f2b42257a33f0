"""What became of each input, safe on disk as it comes, and in the end the manifest of the run."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastnst.batch.rows import Row

if TYPE_CHECKING:
    from fastnst.batch.items import Item


@dataclass
class Totals:
    """How many inputs were painted, and how many failed for which reason (their codes)."""

    painted: int = 0
    failed: "Counter[str]" = field(default_factory=Counter)

    def add(self, row: Row) -> None:
        raise NotImplementedError


def manifest_name(tag: str = "") -> str:
    """What a run's manifest is called below the output folder: manifest.jsonl, or, of shard "3-of-8", after it."""
    raise NotImplementedError


@contextmanager
def only_batch(output: str, place: str) -> Iterator[None]:
    """Keep other runs from writing the same manifest; OutputError at once if one does."""
    raise NotImplementedError
    yield


class Journal:
    """Rows as they come. Use as a context manager: whatever ends the block, what was added is kept for the next run.

    `counts` are the rows added in this run; `parts` the names of tars and Parquet files that rows speak of.
    """

    counts: Totals
    parts: set[str]

    @classmethod
    def open(cls, output: str, place: str, *, whole: bool = True, retry_failed: bool = False) -> "Journal":
        """Read every manifest and journal of an output folder, and go on with the one at `place`.

        `place` is a path or an address that ends with .jsonl or .parquet. `whole`: the run is no shard, and its
        manifest gets the rows of all others, too.

        Raises InputError for one that is damaged, naming the line; OutputError if nothing can be written there.
        """
        raise NotImplementedError

    def is_settled(self, key: str) -> bool:
        """Whether an earlier run painted this input, or found that it cannot be painted (but with retry_failed)."""
        raise NotImplementedError

    def pending(self, items: "Iterable[Item]") -> "Iterator[Item]":
        """The items that are not settled, in order."""
        raise NotImplementedError

    def refuse_taken(self, key: str, name: str) -> None:
        """UsageError if an earlier run painted the output `name`, relative to the folder, from another input."""
        raise NotImplementedError

    def add(self, rows: Sequence[Row]) -> None:
        """Keep rows, all of them or, if the process dies right now, none; those of one part belong into one call.

        Raises OutputError if the disk is full or the like.
        """
        raise NotImplementedError

    def finish(self) -> Totals:
        """Make the manifest of all rows, sorted by input, and remove the journal; what the whole manifest counts."""
        raise NotImplementedError

    def __enter__(self) -> "Journal":
        raise NotImplementedError

    def __exit__(self, *_: object) -> None:
        raise NotImplementedError
