"""What is handed to a process that paints, and what it gives back: plain values that can be pickled."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from fastnst.batch.clips import Piece
from fastnst.batch.items import Item
from fastnst.batch.rows import Row


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures to paint."""

    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip, or a part of one, to paint."""

    piece: Piece


@dataclass(frozen=True, slots=True)
class Join:
    """The parts of a clip, all painted, to put together."""

    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Contents:
    """Pictures whose contents are to be told apart."""

    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Copies:
    """Pictures that look like others, and what these became."""

    pairs: tuple[tuple[Item, Row], ...]


Work = Pictures | Clip | Join | Contents | Copies


@dataclass(frozen=True, slots=True)
class Task:
    """Work with a number that no other task of the run has."""

    number: int
    work: Work


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a task: rows for the manifest, for Contents a digest of each item (None: it cannot be read).

    `error` is what ends the run, such as a full disk or a style that cannot be opened.
    """

    number: int
    rows: tuple[Row, ...] = ()
    digests: tuple[bytes | None, ...] = ()
    error: Exception | None = None


class Runner(Protocol):
    """Does tasks, on Ray or here, in waves of about so many inputs."""

    wave: int

    def paint(self, tasks: list[Task]) -> Iterator[Done]: ...


def items_of_work(work: Work) -> list[Item]:
    """The inputs of a task."""
    match work:
        case Pictures(items) | Contents(items):
            return list(items)
        case Clip(piece):
            return [piece.item]
        case Join(pieces):
            return [pieces[0].item]
        case Copies(pairs):
            return [item for item, _ in pairs]


def blocks(items: Iterable[Item], size: int) -> Iterator[tuple[Item, ...]]:
    """Items in portions of this size, in order; a clip is a portion of its own."""
    block: list[Item] = []
    for item in items:
        if item.clip:
            yield (item,)
            continue
        block.append(item)
        if len(block) == size:
            yield tuple(block)
            block = []
    if block:
        yield tuple(block)
