"""How long work tells how far it is: a bar on a terminal, a plain line every few seconds elsewhere, on stderr."""

import os
import sys
import time
from types import TracebackType
from typing import Self

PLAIN_EVERY = 5.0  # seconds


class Progress:
    """Counts to a total: `with Progress("training", 400, "step") as progress: progress.advance("loss 0.4")`."""

    def __init__(self, title: str, total: int, unit: str, *, quiet: bool = False) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.quiet = quiet
        self.fancy = not quiet and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self.done = 0

    def __enter__(self) -> Self:
        self.started = self.spoken = time.monotonic()
        if self.fancy:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self.bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                redirect_stdout=sys.stdout.isatty(),  # else results would follow the bar to stderr
                speed_estimate_period=120,
            )
            self.bar.start()
            self.task = self.bar.add_task(self.title, total=self.total, note="")
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if self.fancy:
            self.bar.stop()

    def start_at(self, done: int) -> None:
        """Work that was done by an earlier run and says nothing about the speed of this one."""
        self.done = self.before = done
        if self.fancy:
            self.bar.reset(self.task, completed=done, total=self.total)

    before = 0

    def advance(self, note: str = "") -> None:
        self.done += 1
        if self.fancy:
            self.bar.update(self.task, completed=self.done, note=note)
            return
        now = time.monotonic()
        if self.quiet or (now - self.spoken < PLAIN_EVERY and self.done < self.total):
            return
        self.spoken = now
        rate = (self.done - self.before) / max(now - self.started, 1e-9)
        left = (self.total - self.done) / rate if rate else 0
        parts = [
            f"{self.title} {self.unit} {self.done}/{self.total}",
            note,
            f"{rate:.2f} {self.unit}s/s",
            f"{_clock(left)} left",
        ]
        print(", ".join(part for part in parts if part), file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
