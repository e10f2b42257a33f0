"""Manifests, and the journals that become them: read, sorted in little memory, written whole or not at all."""

import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fastnst.batch.own_files import names_in
from fastnst.batch.rows import Row, from_line
from fastnst.errors import InputError, UsageError
from fastnst.files import atomic_write, printable
from fastnst.storage.addresses import exists, is_remote, join, local_path, open_input, upload

FORMATS = (".jsonl", ".parquet")
JOURNAL = ".journal"  # after the name of a manifest: its rows so far, a file, or at an address a folder of objects

_NAME = re.compile(r"manifest(-\d+-of-\d+)?\.(jsonl|parquet)(\.journal)?")


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


def write_manifest(place: str, lines: Iterable[bytes]) -> None:
    """Write lines of rows as a manifest, JSON Lines or Parquet by its suffix; OutputError if that fails: then nothing.

    Other errors, also of what gives the lines, leave nothing, too.
    """
    suffix = check_format(place)
    with _written(place) as file:
        if suffix == ".parquet":
            from fastnst.batch.columns import write_parquet

            write_parquet(file, (row for line in lines for row in from_line(line)))
        else:
            file.writelines(lines)


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
