"""Commands that optimize pixels or look inside a network: optimize, reconstruct, tradeoff, dream, visualize."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from fastnst.cli.app import JsonVerbosity, Verbosity, app, visualize
from fastnst.config import DreamConfig, FeatureOptions, FilterOptions, OptimizeConfig, ReconstructConfig, TradeoffConfig
from fastnst.errors import InputError, UsageError
from fastnst.files import printable

if TYPE_CHECKING:
    from fastnst.optimize.gatys import OnStep, OptimizeReport


@app.command
def optimize(config: OptimizeConfig, *, verbosity: Verbosity = Verbosity()) -> int:
    """Paint one picture by optimizing its pixels: slow, no training, every knob of Gatys et al. 2015.

    Ctrl-C ends it early and saves the picture as it is then.
    """
    verbosity.start()
    from fastnst.optimize.gatys import optimize as run_optimization
    from fastnst.optimize.gatys import pairs

    runs = [config] if config.pairs is None else pairs(config)
    failed = 0
    for number, run in enumerate(runs, start=1):
        title = "optimizing" if len(runs) == 1 else f"optimizing {number} of {len(runs)}"
        try:
            with _descent(title, len(run.sides) * run.iterations, verbosity) as on_step:
                print(printable(run_optimization(run, on_step)), flush=True)
        except InputError as error:
            if config.pairs is None:
                raise
            failed += 1
            print(f"fastnst: {error}", file=sys.stderr)
    return 1 if failed else 0


@app.command
def reconstruct(config: ReconstructConfig, *, verbosity: Verbosity = Verbosity()) -> int:
    """Show what layers of the loss network keep of a picture: its content, its texture, or a sheet of all depths."""
    verbosity.start()
    from fastnst.optimize.reconstruct import DEPTHS, TEXTURES
    from fastnst.optimize.reconstruct import reconstruct as run_reconstruction

    count = 1 if config.layer or config.style_layers else len(DEPTHS) + len(TEXTURES)
    with _descents("reconstructing", count, config.iterations, verbosity) as on_step:
        print(printable(run_reconstruction(config, on_step)))
    return 0


@app.command
def tradeoff(config: TradeoffConfig, *, verbosity: Verbosity = Verbosity()) -> int:
    """Show content against style: one photo in one style at several ratios, on a labeled sheet."""
    verbosity.start()
    from fastnst.optimize.tradeoff import tradeoff as run_tradeoff

    count = 0 if config.networks else len(config.ratios) * len(config.depths)
    with _descents("optimizing", count, config.iterations, verbosity) as on_step:
        print(printable(run_tradeoff(config, on_step)))
    return 0


@contextmanager
def _descents(
    title: str, count: int, iterations: int, verbosity: Verbosity
) -> "Iterator[Callable[[int, OptimizeReport], None]]":
    """Progress of several descents, one after the other."""
    with _descent(title, count * iterations, verbosity) as on_step:
        yield lambda number, report: on_step(replace(report, step=number * iterations + report.step))


@contextmanager
def _descent(title: str, total: int, verbosity: Verbosity) -> "Iterator[OnStep]":
    """Progress of a descent."""
    from fastnst.progress import Progress

    with Progress(title, total, "iteration", quiet=verbosity.quiet) as progress:

        def on_step(report: "OptimizeReport") -> None:
            if report.step:
                losses = f"content {report.content:.3g} style {report.style:.3g} total {report.total:.3g}"
                progress.at(report.step, f"{report.scale} pixels, {losses}")

        yield on_step


@app.command
def dream(
    config: DreamConfig,
    *,
    verbosity: JsonVerbosity = JsonVerbosity(),
) -> int:
    """Dream of a picture: amplify what a network sees in it (DeepDream).

    Ctrl-C writes what was dreamed so far.
    """
    verbosity.start()
    from fastnst.dream.deepdream import Step, planned_steps
    from fastnst.dream.deepdream import dream as run_dream
    from fastnst.progress import Progress

    to_stdout = str(config.output) == "-"
    if to_stdout and sys.stdout.isatty():
        raise UsageError("a picture will not be written to a terminal; add > dream.png")
    planned = planned_steps(config)
    with Progress("dreaming", sum(planned) * config.octaves, "step", quiet=verbosity.quiet) as progress:

        def on_step(frame: int, step: Step) -> None:
            done = sum(planned[:frame]) * config.octaves + (step.octave - 1) * planned[frame]
            of_frame = f"frame {frame + 1} of {config.zoom}, " if config.zoom else ""
            note = f"{of_frame}octave {step.octave} of {config.octaves}, loss {step.loss:.3g}"
            progress.at(done + step.step, note)

        dreamed = run_dream(config, on_step)
    if verbosity.as_json:
        octaves = [vars(octave) for octave in dreamed.octaves]
        out = sys.stderr if to_stdout else sys.stdout
        print(json.dumps({"output": printable(dreamed.path), "octaves": octaves}), file=out)
    elif not to_stdout:
        print(printable(dreamed.path))
    return 0


@visualize.command(name="filters")
def visualize_filters(
    options: FilterOptions,
    *,
    verbosity: Verbosity = Verbosity(),
) -> int:
    """Draw what each filter of a layer looks for, on a labeled sheet.

    Ctrl-C writes the sheet as it is then.
    """
    verbosity.start()
    from fastnst.dream.filters import filter_sheet, planned_filters
    from fastnst.progress import Progress

    total = len(planned_filters(options)) * options.iterations
    with Progress("drawing", total, "step", quiet=verbosity.quiet) as progress:

        def on_step(filters: int) -> None:
            progress.at(progress.done + filters)

        path = filter_sheet(options, on_step)
    print(printable(path))
    return 0


@visualize.command(name="features")
def visualize_features(options: FeatureOptions, *, verbosity: Verbosity = Verbosity()) -> int:
    """Show where in a picture the filters of a layer find what they look for, on a labeled sheet."""
    verbosity.start()
    from fastnst.dream.filters import feature_sheet

    print(printable(feature_sheet(options)))
    return 0
