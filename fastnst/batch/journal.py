"""What became of each input, safe on disk as it comes, and in the end the manifest of the run."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from fastnst.batch.lines import LocalLines, RemoteLines
from fastnst.batch.manifest import (
    JOURNAL,
    check_format,
    manifests_in,
    read_journal,
    read_rows,
    write_manifest,
)
from fastnst.batch.rows import Row, to_journal_line
from fastnst.batch.settled import Settled
from fastnst.batch.sorting import Record, best_rows
from fastnst.errors import FastnstError, UsageError
from fastnst.files import printable
from fastnst.storage.addresses import exists, is_remote, local_path

if TYPE_CHECKING:
    from fastnst.batch.items import Item

log = logging.getLogger(__name__)

_AT_ONCE = 4096  # items that are looked up together


@dataclass
class Totals:
    """How many inputs were painted, and how many failed for which reason (their codes)."""

    painted: int = 0
    failed: "Counter[str]" = field(default_factory=Counter)

    def add(self, row: Row) -> Row:
        self.count(None if row.painted else row.code or "internal")
        return row

    def count(self, code: str | None) -> None:
        """One more failed for this reason, or was painted."""
        if code is None:
            self.painted += 1
        else:
            self.failed[code] += 1

    def lines(self, records: "Iterable[Record]") -> Iterator[bytes]:
        """The lines of sorted rows, which are counted."""
        for _, code, _, line in records:
            self.count(code)
            yield line

    def to_json(self) -> "dict[str, Any]":
        return {"painted": self.painted, "failed": self.failed.total(), "codes": dict(sorted(self.failed.items()))}


def _plain(place: str) -> str:
    """One spelling of a place."""
    return place if is_remote(place) else os.path.abspath(local_path(place))  # noqa: PTH100


def manifest_name(tag: str = "") -> str:
    """What a run's manifest is called below the output folder: manifest.jsonl, or that of a shard, "3-of-8"."""
    return f"manifest-{tag}.jsonl" if tag else "manifest.jsonl"


class Journal(AbstractContextManager["Journal"]):
    """Rows as they come; whatever ends the block, what was added is kept for the next run.

    `counts` are the rows added in this run; `parts` the names of tars and Parquet files that rows speak of.
    """

    def __init__(self, output: str, place: str, *, whole: bool = True, retry_failed: bool = False) -> None:
        """Read every manifest and journal of an output folder, and go on with the one at `place`.

        `place` is a path or an address that ends with .jsonl or .parquet. `whole`: the run is no shard, and its
        manifest gets the rows of all others, too. The journal is a file beside the manifest that is appended to; at an
        address, a folder of objects.

        Raises InputError for one that is damaged, naming the line; OutputError if nothing can be written there.
        """
        check_format(place)
        self.place, self.counts, self.parts = place, Totals(), set[str]()
        self._output, self._whole = output, whole
        self._lines = (RemoteLines if is_remote(place) else LocalLines)(place + JOURNAL)
        others = self._others()
        self._is_new = bool(self._lines.objects() or (whole and others) or not exists(place))
        self._found = Totals()
        self._settled = Settled(self._noted(self._rows(others)), retry_failed=retry_failed)

    def _others(self) -> list[str]:
        """The manifests and journals of other runs."""
        own = {_plain(self.place), _plain(self.place + JOURNAL)}
        return [name for name in manifests_in(self._output) if _plain(name) not in own]

    def _rows(self, others: Sequence[str]) -> Iterator[Row]:
        """All rows; those of this run's own manifest, and then of its journal, are the last, which count."""
        for place in (*others, *([self.place] if exists(self.place) else [])):
            yield from read_rows(place)
        yield from read_journal(self._lines.objects())

    def _noted(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            self._note_part(row)
            yield self._found.add(row)

    def _note_part(self, row: Row) -> None:
        part, several, _ = (row.output or "").partition("::")
        if several:
            self.parts.add(part)

    def is_settled(self, key: str) -> bool:
        """Whether an earlier run painted this input, or found that it cannot be painted (but with retry_failed)."""
        settled, _ = next(self._settled.among([key]))
        return settled

    def pending(self, items: "Iterable[Item]", is_gone: "Callable[[Item], bool]" = lambda _: False) -> "Iterator[Item]":
        """The items that are not settled, in order, and those that were painted but whose painting `is_gone`."""
        waiting = iter(items)
        while group := list(islice(waiting, _AT_ONCE)):
            settled = self._settled.among([item.key for item in group])
            for item, (done, painted) in zip(group, settled, strict=True):
                if not done or (painted and is_gone(item)):
                    yield item

    def refuse_taken(self, key: str, name: str) -> None:
        """UsageError if an earlier run painted the output `name`, relative to the folder, from another input."""
        if not self._settled.is_taken(key, name):
            return
        for row in self._rows(self._others()):
            if row.output == name and row.input != key and row.same_as is None:
                raise UsageError(
                    f"{printable(key)} would become {printable(name)}, which an earlier run painted from "
                    f"{printable(row.input)}; name inputs as then, or choose another output folder"
                )

    def add(self, rows: Sequence[Row]) -> None:
        """Keep rows, all of them or, if the process dies right now, none; those of one part belong into one call.

        At an address they are kept for up to 15 seconds first. Raises OutputError if the disk is full or the like.
        """
        if not rows:
            return
        self._is_new = True
        self._lines.append(to_journal_line(rows), len(rows))
        for row in rows:
            self._note_part(self.counts.add(row))

    def finish(self) -> Totals:
        """Make the manifest of all rows, sorted by input, and remove the journal; what the whole manifest counts.

        If that fails the journal stays, and the next run does it.
        """
        self._lines.flush()
        if not self._is_new:
            return self._found
        totals = Totals()
        with best_rows(self._rows(self._others() if self._whole else []), self.place) as records:
            write_manifest(self.place, totals.lines(records))
        self._lines.remove()
        return totals

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            self._lines.close()
        except FastnstError as problem:
            if error is None:
                raise
            log.error("%s", problem)  # what ends the run is told in the end
