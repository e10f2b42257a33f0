"""Tasks in this process, without Ray: the whole listing, or the share of it that --shard gives."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import groupby

from fastnst.batch.painter import Painter
from fastnst.batch.tasks import Done, Pictures, Task


class Here:
    """Paints in this process."""

    wave = 10_000

    def __init__(self, painter: Painter) -> None:
        self.painter = painter

    def paint(self, tasks: Sequence[Task]) -> Iterator[Done]:
        """What became of each task, in order; raises what Painter.do raises."""
        for pictures, group in groupby(tasks, key=lambda task: isinstance(task.work, Pictures)):
            if not pictures:
                yield from map(self.painter.do, group)
                continue
            some = list(group)
            blocks = [task.work.items for task in some if isinstance(task.work, Pictures)]
            with closing(self.painter.paint_blocks(blocks)) as painted:
                for task, rows in zip(some, painted, strict=True):
                    yield Done(task.number, tuple(rows))
