"""Manifests of shards made into one."""

import glob
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from fastnst.batch.journal import Totals
from fastnst.batch.manifest import JOURNAL, check_format, journal_objects, read_rows, write_manifest
from fastnst.batch.rows import Row, digest
from fastnst.batch.sorting import Record, best_rows
from fastnst.errors import InputError, OutputError, UsageError
from fastnst.files import check_output, printable
from fastnst.storage.addresses import exists, is_remote, list_files, local_path


def merge_manifests(manifests: Sequence[str], output: str, *, overwrite: bool = False) -> Totals:
    """Write the rows of several manifests as one, sorted by input; how many inputs were painted and failed.

    `manifests` are local or remote files, or patterns of them. Of several rows of one input, that of a painting counts,
    else the last one.

    Raises InputError for a manifest that is damaged or not there, UsageError if two inputs were painted as one output,
    OutputError if `output` exists or cannot be written.
    """
    check_format(output)
    places = list(dict.fromkeys(chain.from_iterable(map(_places, manifests))))
    if is_remote(output):
        if not overwrite and exists(output):
            raise OutputError(f"{printable(output)} exists already; add --overwrite or choose another name")
    else:
        check_output(Path(local_path(output)), overwrite=overwrite)
    totals, outputs = Totals(), _Outputs()
    with best_rows(chain.from_iterable(map(read_rows, places)), output) as records:
        # What is written is thrown away if two inputs turn out to be one output.
        write_manifest(output, totals.lines(outputs.checked(records, places)))
    return totals


def _places(name: str) -> list[str]:
    """The manifests that a name or a pattern stands for."""
    if name.endswith(JOURNAL):
        if not journal_objects(name):
            raise InputError(f"{printable(name)} is not there; check the name")
        return [name]
    check_format(name)
    if exists(name) or not glob.has_magic(name):
        return [name]
    if is_remote(name):
        found = sorted(address for address, _ in list_files(name))
    else:
        found = sorted(glob.glob(local_path(name), recursive=True))
    if not found:
        raise InputError(f"no manifests fit {printable(name)}; give .jsonl or .parquet files that fastnst batch wrote")
    return found


class _Outputs:
    """Finds two inputs that were painted as one output: 16 bytes a row."""

    def __init__(self) -> None:
        self._digests = bytearray()

    def checked(self, records: "Iterable[Record]", places: Sequence[str]) -> "Iterator[Record]":
        """The rows themselves; after the last one, UsageError if there are such inputs."""
        for record in records:
            if record[2] is not None:
                self._digests += digest(record[2])
            yield record
        digests = np.sort(np.frombuffer(self._digests, "S16"))
        twice = digests[1:][digests[1:] == digests[:-1]]
        if len(twice):
            self._refuse(bytes(twice[0]).ljust(16, b"\0"), places)

    def _refuse(self, twice: bytes, places: Sequence[str]) -> None:
        rows = chain.from_iterable(map(read_rows, places))
        same = {row.input: row.output for row in rows if _is_painting(row) and digest(row.output or "") == twice}
        one, other = sorted(same)[:2]
        raise UsageError(
            f"{printable(one)} and {printable(other)} were both painted as {printable(same[one])}; merge manifests of "
            "one output folder only, and paint one of the two into another"
        )


def _is_painting(row: Row) -> bool:
    """Whether its output is its own."""
    return row.output is not None and row.same_as is None
