"""From items to tasks, in waves, and from what became of tasks to rows; a clip in parts is joined in the end."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count

from fastnst.batch import clips
from fastnst.batch.clips import Piece
from fastnst.batch.items import Item
from fastnst.batch.rows import Row, failed
from fastnst.batch.spec import Spec
from fastnst.batch.tasks import Clip, Done, Join, Pictures, Task, Work, blocks, items_of_work
from fastnst.errors import FastnstError


@dataclass
class _Parts:
    """A clip that is cut: its pieces, and how many of them are not painted yet."""

    pieces: list[Piece]
    missing: int
    failed: bool = False


@dataclass
class Flow:
    """The work of a run, drawn wave by wave, of which some arises from what is done."""

    spec: Spec
    items: Iterator[Item]
    size: int  # pictures in a task
    split: float | None = None  # seconds of a part of a clip
    settings: str = ""  # that parts of clips depend on

    def __post_init__(self) -> None:
        self._numbers = count()
        self._parts: dict[str, _Parts] = {}
        self._ready: deque[Join] = deque()
        self._works = self._of_items()
        self._told: list[Row] = []  # of what fails before anybody paints it

    def wave(self, pictures: int) -> list[Task]:
        """Tasks with about so many inputs; none when all is done."""
        tasks, inputs = list[Task](), 0
        while inputs < pictures:
            work: Work | None = self._ready.popleft() if self._ready else next(self._works, None)
            if work is None:
                break
            tasks.append(Task(next(self._numbers), work))
            inputs += len(items_of_work(work))
        return tasks

    def told(self) -> list[Row]:
        """The rows of what failed while the last wave was drawn, each once."""
        told, self._told = self._told, []
        return told

    def done(self, task: Task, done: Done) -> list[Row]:
        """The rows of a task; raises what ends the run."""
        if done.error is not None:
            raise done.error
        rows = list(done.rows)
        if isinstance(task.work, Clip) and (parts := self._parts.get(task.work.piece.item.key)) is not None:
            rows = rows if not parts.failed else []  # one row for a clip, however many of its parts fail
            self._part_done(parts, bool(done.rows))
        return rows

    def _part_done(self, parts: _Parts, failed: bool) -> None:
        parts.missing -= 1
        parts.failed = parts.failed or failed
        if parts.missing == 0:
            del self._parts[parts.pieces[0].item.key]
            if not parts.failed:
                self._ready.append(Join(tuple(parts.pieces)))

    def _of_items(self) -> Iterator[Work]:
        for block in blocks(self._paintable(), self.size):
            if block[0].clip:
                yield from self._of_clip(block[0])
            else:
                yield Pictures(block)

    def _paintable(self) -> Iterable[Item]:
        for item in self.items:
            if item.error is None:
                yield item
            else:
                self._told.append(failed(item.key, item.error, item.code or "unusable_input"))

    def _of_clip(self, item: Item) -> Iterator[Work]:
        if self.split is None:
            yield Clip(Piece(item))
            return
        try:
            pieces = clips.cut(item, self.spec.clip, self.split, self.settings)
        except FastnstError as error:
            self._told.append(failed(item.key, error, error.code))
            return
        if len(pieces) == 1:
            yield Clip(pieces[0])
            return
        missing = clips.missing(pieces, self.spec.output)
        if not missing:
            yield Join(tuple(pieces))
            return
        self._parts[item.key] = _Parts(pieces, len(missing))
        yield from map(Clip, missing)
