"""Commands that train: train, sweep, finetune."""

import json
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from fastnst.cli.app import JsonVerbosity, Verbosity, app
from fastnst.cli.tables import in_short, print_finetuned
from fastnst.config import FinetuneConfig, SweepConfig, TrainConfig
from fastnst.errors import DivergedError, Interrupted
from fastnst.files import printable
from fastnst.train.ranks import Ranks

if TYPE_CHECKING:
    from fastnst.finetune.epochs import EpochReport


@app.command
def train(config: TrainConfig, *, verbosity: Verbosity = Verbosity()) -> int:
    """Train a network to paint in the style of one picture.

    The checkpoint, its resume state and a folder with metrics.jsonl, TensorBoard events and previews are written as
    training goes, report.html at the end. Ctrl-C saves; --resume continues. Started by torchrun, several GPUs train one
    network.
    """
    first = Ranks.from_environment().first
    verbosity = verbosity if first else replace(verbosity, quiet=True)
    verbosity.start()
    from fastnst.progress import Progress
    from fastnst.train.loop import StepReport
    from fastnst.train.loop import train as run_training
    from fastnst.train.report import leave_report

    with Progress("training", config.steps, "step", quiet=verbosity.quiet) as progress:

        def on_step(report: StepReport) -> None:
            losses = f"content {report.content:.3g} style {report.style:.3g} total {report.total:.3g}"
            images = report.images // (report.step + 1)  # a step
            note = f"{losses}, {report.images_per_second:.1f} images/s"
            progress.at(report.step + 1, note, report.images_per_second / images)

        try:
            path = run_training(config, on_step)
        except (DivergedError, Interrupted) as error:
            if first:
                leave_report(config, str(error))
            raise
        if first:
            print(printable(path), flush=True)
    if first:
        leave_report(config)
    return 0


@app.command
def sweep(config: SweepConfig, *, verbosity: Verbosity = Verbosity()) -> int:
    """Train short runs with different weights, and show them on one labeled sheet.

    Several values with commas between them are tried one after the other, those of several options in every
    combination. Ctrl-C saves; the same command goes on.
    """
    verbosity.start()
    from fastnst.progress import Progress
    from fastnst.train.loop import StepReport
    from fastnst.train.sweep import plan_runs
    from fastnst.train.sweep import sweep as run_sweep

    count = len(plan_runs(config))
    with Progress("training", count * config.steps, "step", quiet=verbosity.quiet) as progress:

        def on_step(run: int, report: StepReport) -> None:
            rate = report.images_per_second / config.batch_size
            note = f"run {run + 1} of {count}, content {report.content:.3g} style {report.style:.3g}"
            progress.at(run * config.steps + report.step + 1, note, rate)

        report = run_sweep(config, on_step)
    print(printable(report.path))
    return 1 if report.diverged else 0


@app.command
def finetune(
    config: FinetuneConfig,
    *,
    verbosity: JsonVerbosity = JsonVerbosity(),
) -> int:
    """Make a loss network that knows your pictures, from a folder of them for each class.

    What it writes is for --vgg of train and others. The best epoch on held-out pictures is kept; Ctrl-C saves the best
    so far.
    """
    verbosity.start()
    from fastnst.finetune.training import finetune as run_finetuning
    from fastnst.progress import Progress

    shown: Progress | None = None
    with ExitStack() as stack:

        def on_progress(title: str, total: int, newest: "EpochReport | None") -> None:
            nonlocal shown
            if shown is None or shown.title != title:
                stack.close()
                unit = "picture" if title == "looking" else "step"
                shown = stack.enter_context(Progress(title, total, unit, quiet=verbosity.quiet))
            shown.advance(", ".join(f"{name} {text}" for name, text in in_short(newest).items()) if newest else "")

        report = run_finetuning(config, on_progress)
    if verbosity.as_json:
        print(json.dumps(report.to_json(), allow_nan=False))
    else:
        print_finetuned(report)
    return 0
