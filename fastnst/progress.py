"""How long work tells how far it is: a bar on a terminal, a plain line every few seconds elsewhere, on stderr."""

import os
import sys
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

PLAIN_EVERY = 5.0  # seconds


class Pace:
    """How fast work goes now: over the later half of what was done, since beginnings are slow, 4 to 100 pieces."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.durations: deque[float] = deque(maxlen=100)
        self.count = 0
        self.skip()

    def skip(self) -> None:
        """The time since the last piece belongs to none."""
        self.last = self.clock()

    def tick(self) -> float:
        """One more piece is done; pieces a second."""
        now = self.clock()
        self.durations.append(now - self.last)
        self.last = now
        self.count += 1
        return self.speed

    @property
    def speed(self) -> float:
        """Pieces a second; 0 before the first is done."""
        # Pieces that are done ahead come several at once, so that a few durations say nothing.
        recent = list(self.durations)[-max((self.count + 1) // 2, 4) :]
        return len(recent) / max(sum(recent), 1e-9)


class Progress:
    """Counts to a total: `with Progress("training", 400, "step") as progress: progress.advance("loss 0.4")`.

    The unit "%" is for shares of one piece of work, of which there is no number a second to tell.
    """

    def __init__(self, title: str, total: int, unit: str, *, quiet: bool = False) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.quiet = quiet
        plain = os.environ.get("TERM") == "dumb" or os.environ.get("NO_COLOR")
        self.fancy = not quiet and sys.stderr.isatty() and not plain
        self.done = 0

    def __enter__(self) -> Self:
        self.pace = Pace()
        self.spoken = time.monotonic()
        if self.fancy:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            self.bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                console=Console(stderr=True, soft_wrap=True),  # names of files are not broken into lines
                redirect_stdout=sys.stdout.isatty(),  # else results would follow the bar to stderr
            )
            self.bar.start()
            self.task = self.bar.add_task(self.title, total=self.total, note="", left="")
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if self.fancy:
            self.bar.stop()

    def advance(self, note: str = "", rate: float | None = None) -> None:
        """One more is done."""
        self.at(self.done + 1, note, rate)

    def at(self, done: int, note: str = "", rate: float | None = None) -> None:
        """The number that is done; `rate` a second, where the work knows better than the time between two calls."""
        own = self.pace.tick() if done != self.done else self.pace.speed
        self.done = done
        rate = rate or own
        left = f"{clock((self.total - self.done) / rate)} left" if rate else ""
        if self.fancy:
            self.bar.update(self.task, completed=self.done, total=self.total, note=note, left=left)
            return
        now = time.monotonic()
        if self.quiet or (now - self.spoken < PLAIN_EVERY and self.done < self.total):
            return
        self.spoken = now
        if self.unit == "%":
            parts = [f"{self.title} {100 * self.done // self.total} %", note, left]
        else:
            parts = [f"{self.title} {self.unit} {self.done}/{self.total}", note, f"{rate:.2f} {self.unit}s/s", left]
        print(", ".join(part for part in parts if part), file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds, after an hour with hours."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
