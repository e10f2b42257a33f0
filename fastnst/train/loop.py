"""Training a transformer network in one style: a config in, a checkpoint out, resumable at any moment.

Here are the loop and what is decided between two steps; the step itself is in `run`, saving and resuming in `resume`.
"""

import json
import logging
import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from fastnst.checkpoint import TrainState, previous_state
from fastnst.config import TrainConfig
from fastnst.crops import Crops, report_unusable
from fastnst.device import torch_device
from fastnst.errors import DivergedError, Interrupted, OutputError, StorageError
from fastnst.files import printable, remove_leftovers, write_bytes
from fastnst.interrupt import IN_TIME, OUT_OF_TIME, Deadline, caught_signals, only_run, reason_name
from fastnst.logs import RunLogs, StepReport, shows_preview
from fastnst.progress import Pace
from fastnst.train.photographs import open_photographs
from fastnst.train.ranks import Ranks
from fastnst.train.resume import capture, check_outputs, description, forget_state, own_files, restore, resume, save
from fastnst.train.run import CAUTION, NotFinite, TrainingRun
from fastnst.train.start import CROPS

__all__ = ["StepReport", "TrainConfig", "train"]

log = logging.getLogger(__name__)

FAILED_SAVES = 3  # periodic saves that may fail in a row, say on a full disk, before the run gives up
ROLLBACKS = 3  # how often a run that diverges may go back

OnStep = Callable[[StepReport], None]


def train(config: TrainConfig, on_step: OnStep | None = None) -> Path:
    """Train as the config says and return the checkpoint's path; `on_step` sees every step.

    Checkpoints, the resume state, metrics.jsonl, TensorBoard events and previews are written as it goes. SIGINT,
    SIGTERM and SIGUSR1 finish the step, save and raise Interrupted (SIGUSR1, and a time limit: return). A loss or
    gradient that is not finite goes back to the last good state, with a lower learning rate, up to three times. Under
    torchrun, all processes train one network; the first one writes, and each calls its own `on_step`.

    Source: Johnson et al. 2016. Differs: see TransformerNet and PerceptualLoss, and the learning rate falls by default.

    Raises OutputError if the output exists, cannot be written or belongs to a run in progress, InputError for unusable
    data, UsageError for a resume with another config, UnavailableError if not even one crop fits into memory,
    DivergedError if going back did not help.
    """
    deadline = Deadline(config.time_limit)
    ranks = Ranks.from_environment()
    device = ranks.device(torch_device(config.device))
    with ExitStack() as stack:
        stack.enter_context(ranks.connected(device))
        if ranks.first:
            output, logs = config.output, config.log_folder
            stack.enter_context(only_run(output.with_name(f".{output.name}.lock"), printable(output)))
            stack.enter_context(only_run(logs / ".lock", printable(logs)))
            check_outputs(config)
            for folder in (output.parent, logs, logs / "previews"):
                remove_leftovers(folder)
        photographs = open_photographs(config, own_files(config), ranks)
        if ranks.first:
            report_unusable(photographs, "bad_images.txt")
        run = TrainingRun(config, device, ranks)
        start = resume(run, photographs) if config.resume else 0
        if ranks.first and not config.resume:
            forget_state(config)
        ranks.check_same(description(run, photographs), "options, style images, photographs or versions of torch")
        return _Loop(run, photographs, deadline, on_step).go(start)


class _Loop:
    """Steps, and what is written and decided between them."""

    def __init__(self, run: TrainingRun, photographs: Crops[Any], deadline: Deadline, on_step: OnStep | None):
        self.run, self.photographs, self.deadline, self.on_step = run, photographs, deadline, on_step
        self.config, self.ranks = run.config, run.ranks
        self.pace = Pace()
        self.failed_saves = 0
        self.unusable = len(photographs.problems())  # before training finds more
        self.logs: RunLogs | None = None
        self.good: deque[TrainState] = deque(maxlen=2)  # states to go back to
        self.went_back = False  # to the newest of them

    def go(self, step: int) -> Path:
        """Train from this step to the end, or until something stops it; the checkpoint's path."""
        config = self.config
        with ExitStack() as stack:
            received = stack.enter_context(caught_signals())
            if self.ranks.first:
                self.logs = stack.enter_context(RunLogs(config, self.photographs, step))
            if step == 0 and self.run.limited:
                self._fold_droplets()
            self.good.append(capture(self.run, step))
            if step == config.steps:  # the run was killed between its last resume state and the checkpoint
                self._write(self.good[-1])
            while step < config.steps:
                try:
                    if stopped := self._steps(step, received):
                        return stopped
                    step = config.steps
                except NotFinite as problem:
                    step = self._go_back(problem)
            self._preview(config.steps)
            if self.ranks.first:  # the checkpoint is there now; one state stays, to go on with more steps
                self._tell_of_damage()
                previous_state(config.state_path).unlink(missing_ok=True)
        return config.output

    def _tell_of_damage(self) -> None:
        """Say how many photographs turned out unusable when it was their turn."""
        if found := len(self.photographs.problems()) - self.unusable:
            where = printable(self.config.log_folder / "bad_images.txt")
            log.warning("%d photographs could not be used, and others took their places: see %s", found, where)

    def _steps(self, start: int, received: list[int]) -> Path | None:
        """All steps from start on; the checkpoint's path if the run is to stop before the last."""
        config, run, ranks = self.config, self.run, self.ranks
        images = config.batch_size * ranks.count  # a step
        batches = self.photographs.batches(
            start, config.steps, config.batch_size, config.workers, ranks.rank, ranks.count
        )
        self.pace.skip()
        for step in range(start, config.steps):
            pixels = self._next(batches, step)
            if shows_preview(step, config.preview_every):
                self._preview(step)
                if step % config.preview_every:  # the early ones get rarer, so they say nothing about the time left
                    self.pace.skip()

            losses = run.step(step, pixels)

            done = step + 1
            speed = self.pace.tick() * images
            report = StepReport(
                step, done * images, **losses._asdict(), lr=run.learning_rate(step), images_per_second=speed
            )
            if self.logs:
                self.logs.write(report)
            if self.on_step is not None:
                self.on_step(report)

            self.deadline.step()
            late = done < config.steps and self.deadline.near
            reason = ranks.highest(received[0] if received else OUT_OF_TIME if late else 0)
            if reason or done % config.save_every == 0 or done == config.steps:
                self._save(done)
            if reason:
                return _stopped(reason, done, config)
        return None

    def _fold_droplets(self) -> None:
        """Set the norms of a start with droplets anew, each rank by its share of the first photographs."""
        config, ranks = self.config, self.ranks
        steps = math.ceil(CROPS / (config.batch_size * ranks.count))
        batches = self.photographs.batches(0, steps, config.batch_size, config.workers, ranks.rank, ranks.count)
        pixels = np.concatenate([self._next(batches, 0) for _ in range(steps)])
        self.run.fold_droplets(pixels[: math.ceil(CROPS / ranks.count)])

    def _next(self, batches: Iterator[npt.NDArray[np.uint8]], step: int) -> npt.NDArray[np.uint8]:
        """The crops of this step; if a store does not give them, to this rank or another, all save and stop."""
        problem = None
        try:
            pixels = next(batches)
        except StorageError as error:
            problem = error
        if self.ranks.highest(problem is not None):
            if self.good and step > self.good[-1].values["step"]:
                self._save(step)
            what = problem or "another process did not get its photographs"
            how = f"stopped after step {step} and saved; continue with --resume" if step else "no step is done"
            raise StorageError(f"{what} ({how})") from problem
        return pixels

    def _preview(self, step: int) -> None:
        if self.logs:
            self.logs.preview(step, self.run.net)

    def _save(self, step: int) -> None:
        """Keep the state in memory, to go back to, and on disk."""
        self.good.append(capture(self.run, step))
        self.went_back = False
        self._write(self.good[-1])

    def _write(self, state: TrainState) -> None:
        """A full disk costs a save, or two, but not the last."""
        if not self.logs:
            return
        try:
            with self.deadline.saving():
                self.logs.flush()  # first, so that a run killed in between has no step without its line in metrics
                save(self.run, state, self.photographs)
            self.failed_saves = 0
        except OutputError as error:
            self.failed_saves += 1
            if state.values["step"] == self.config.steps or self.failed_saves == FAILED_SAVES:
                raise
            log.warning("%s; training goes on, the last good checkpoint stays", error)

    def _go_back(self, problem: NotFinite) -> int:
        """Return to the last good state, or the one before if that was no good either, and learn more slowly."""
        run = self.run
        if run.rollbacks == ROLLBACKS:
            _give_up(problem, self.config, self.ranks)
        if self.went_back and len(self.good) > 1:
            self.good.pop()
        self.went_back = True
        state = self.good[-1]
        step, rollbacks = int(state.values["step"]), run.rollbacks + 1
        restore(run, state)
        run.rollbacks = rollbacks
        if self.logs:
            log.warning(
                "%s; back to step %d with the learning rate times %g (%d of %d times)",
                *(problem, step, CAUTION**rollbacks, rollbacks, ROLLBACKS),
            )
            self.logs.rewind(step)
            if step:
                self._write(capture(run, step))  # or a run killed and resumed now would do the undone steps once more
            else:
                forget_state(self.config)
        return step


def _give_up(problem: NotFinite, config: TrainConfig, ranks: Ranks) -> NoReturn:
    path = config.log_folder / "diverged.json"
    if ranks.first:
        try:
            write_bytes(path, json.dumps(problem.details, indent=2).encode())
        except OutputError as error:
            log.warning("%s", error)
    raise DivergedError(
        f"{problem} (details in {printable(path)}), and going back {ROLLBACKS} times did not help; "
        "the last good checkpoint, if any, stays: lower --learning-rate, or use --precision fp32"
    )


def _stopped(reason: int, step: int, config: TrainConfig) -> Path:
    name = reason_name(reason)
    message = f"stopped by {name} after step {step} and saved; continue with --resume"
    if reason in IN_TIME:
        log.warning("%s", message)
        return config.output
    raise Interrupted(message, reason)
