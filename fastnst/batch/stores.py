"""Where paintings go: files in a tree, or parts of many, tars or Parquet files."""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from fastnst.batch.rows import Row
from fastnst.errors import FastnstError

StoreName = Literal["files", "tar", "parquet"]


@dataclass(frozen=True, slots=True)
class Painting:
    """What became of an input, on its way into a store.

    `content`: the encoded bytes, or the path of a local file that has them (a clip), or why there are none. `name` is
    what it is called below the output folder ("a/b.png"), `key` what the manifest calls the input.
    """

    key: str
    name: str
    content: bytes | Path | FastnstError
    seconds: float = 0.0
    frames: int | None = None
    problem: str | None = None


class Store(Protocol):
    """Puts paintings in place; small and picklable, so that it travels to actors."""

    def put(self, paintings: Iterable[Painting]) -> Iterator[Row]:
        """Put them in place, in order, and give the row of each once it is: right then, or for parts at the end.

        Paintings are drawn as they are needed. A painting that failed gives a failed row, and so does one whose store
        does not answer (code "storage") or whose name the disk refuses (code "output").

        Raises OutputError for what concerns all of them: a full disk, no permission.
        """
        ...


def open_store(kind: StoreName, output: str, tag: str = "") -> Store:
    """The store of an output folder, a local path or an address; `tag` is that of a shard, "3-of-8"."""
    raise NotImplementedError


def remove_orphans(output: str, tag: str, known: Container[str]) -> int:
    """Remove parts that no row speaks of, left by a process that died; how many. Call it with Journal.parts."""
    raise NotImplementedError


def new_folder_check(kind: StoreName, output: str) -> None:
    """OutputError if a new output folder has parts already."""
    raise NotImplementedError
