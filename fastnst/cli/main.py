"""The command line: one sub-command per public function; each parses, calls and prints. No image code here.

Results go to stdout, everything else to stderr. Exit statuses: 0 done, 1 finished but an item failed (or a bug), 2
wrong usage, 3 environment, 4 input, 5 output, 6 diverged, 130 and 143 interrupted.
"""

import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from cyclopts import App, CycloptsError, Parameter

import fastnst
from fastnst.config import (
    LISTED,
    ClipOptions,
    DreamConfig,
    EvaluateOptions,
    ExportOptions,
    FeatureOptions,
    FilterOptions,
    FinetuneConfig,
    FormsBenchmark,
    ImportOptions,
    OnnxOptions,
    OptimizeConfig,
    ReconstructConfig,
    StylizeBenchmark,
    StylizeOptions,
    SweepConfig,
    TradeoffConfig,
    TrainBenchmark,
    TrainConfig,
)
from fastnst.device import Device
from fastnst.errors import DivergedError, FastnstError, InputError, Interrupted, UnavailableError, UsageError
from fastnst.files import is_folder, show
from fastnst.train.ranks import Ranks

if TYPE_CHECKING:
    from fastnst.benchmark import Comparison, OnRound, Speed
    from fastnst.evaluate import Equivalent, Evaluation
    from fastnst.finetune.training import EpochReport, Finetuned
    from fastnst.optimize.gatys import OnStep, OptimizeReport
    from fastnst.stylize import Job, Stylizer

# Optional packages -> the extra that brings them.
EXTRAS = {
    "onnxruntime": "cpu",
    "torch": "train",
    "torchvision": "train",
    "tensorboard": "train",
    "onnx": "train",
    "onnxscript": "train",
    "safetensors": "train",
    "filelock": "train",
    "av": "video",
}

app = App(
    name="fastnst",
    version=fastnst.__version__,
    help=(
        "Train a network to paint in one style, paint any picture in one pass, export it to ONNX.\n\n"
        "First painting: fastnst stylize photo.jpg -o painting.jpg"
    ),
    version_flags=["--version", "-V"],
    help_flags=["--help", "-h"],
    default_parameter=Parameter(negative_iterable=(), consume_multiple=True),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)


benchmark = App(name="benchmark", help="Time training and painting on this machine.")
app.command(benchmark)
visualize = App(name="visualize", help="Look inside the loss network: its filters, and its features of a picture.")
app.command(visualize)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Talk:
    """How much is said on stderr."""

    verbose: Annotated[bool, Parameter(name=("--verbose", "-v"), negative="")] = False
    """say more, and show where errors come from"""
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"), negative="")] = False
    """say nothing but errors"""

    def start(self) -> None:
        level = logging.INFO if self.verbose else logging.ERROR if self.quiet else logging.WARNING
        logging.basicConfig(level=level, format="fastnst: %(message)s", stream=sys.stderr, force=True)


@app.command
def train(config: TrainConfig, *, talk: Talk = Talk()) -> int:
    """Train a network to paint like one painting.

    The checkpoint, its resume state and a folder with metrics.jsonl, TensorBoard events and previews are written as
    training goes, report.html at the end. Ctrl-C saves; --resume continues. Started by torchrun, several GPUs train one
    network.
    """
    first = Ranks.from_environment().first
    talk = talk if first else replace(talk, quiet=True)
    talk.start()
    from fastnst.progress import Progress
    from fastnst.train.loop import StepReport
    from fastnst.train.loop import train as run_training
    from fastnst.train.report import leave_report

    with Progress("training", config.steps, "step", quiet=talk.quiet) as progress:

        def on_step(report: StepReport) -> None:
            progress.start_at(report.step)
            losses = f"content {report.content:.3g} style {report.style:.3g} total {report.total:.3g}"
            images = report.images // (report.step + 1)  # a step
            progress.advance(f"{losses}, {report.images_per_second:.1f} images/s", report.images_per_second / images)

        try:
            path = run_training(config, on_step)
        except (DivergedError, Interrupted) as error:
            if first:
                leave_report(config, str(error))
            raise
        if first:
            print(show(path), flush=True)
    if first:
        leave_report(config)
    return 0


@app.command
def sweep(config: SweepConfig, *, talk: Talk = Talk()) -> int:
    """Train short runs with different weights, and show them on one labelled sheet.

    Several values with commas between them are tried one after the other, those of several options in every
    combination. Ctrl-C saves; the same command goes on.
    """
    talk.start()
    from fastnst.progress import Progress
    from fastnst.train.loop import StepReport
    from fastnst.train.sweep import plan_runs
    from fastnst.train.sweep import sweep as run_sweep

    count = len(plan_runs(config))
    with Progress("training", count * config.steps, "step", quiet=talk.quiet) as progress:

        def on_step(run: int, report: StepReport) -> None:
            progress.start_at(run * config.steps + report.step)
            rate = report.images_per_second / config.batch_size
            progress.advance(f"run {run + 1} of {count}, content {report.content:.3g} style {report.style:.3g}", rate)

        found = run_sweep(config, on_step)
    print(show(found.path))
    return 1 if found.diverged else 0


@app.command
def stylize(
    inputs: Annotated[list[str], Parameter(name="INPUT", consume_multiple=True)],
    /,
    *,
    output: Annotated[str, Parameter(alias="-o")],
    style: Annotated[list[str] | None, Parameter(alias="-s", consume_multiple=False)] = None,
    mix: Annotated[tuple[float, ...], LISTED, Parameter(show_default=False)] = (),
    engine: Literal["auto", "torch", "onnx"] = "auto",
    device: Device = "auto",
    options: StylizeOptions = StylizeOptions(),  # noqa: B008
    onnx: OnnxOptions = OnnxOptions(),  # noqa: B008
    clip: ClipOptions = ClipOptions(),  # noqa: B008
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    seed: int = 0,  # noqa: ARG001
    talk: Talk = Talk(),
) -> int:
    """Paint pictures, or a clip, in a style.

    Parameters
    ----------
    inputs:
        pictures, folders or glob patterns, - is standard input; or one video or animation
    output:
        a .jpg, .png or .webp file, or a folder, - is standard output; for a clip .mp4, .mov, .mkv, .webm or .gif
    style:
        name of a bundled style, or a .safetensors or .onnx file; with --mask, a second one paints what is outside
        [default: the nicest bundled one]
    mix:
        shares of several styles, such as 0.7,0.3: one painting between those that were trained from the same start
    engine:
        what runs the network; auto is ONNX Runtime where it is installed
    device:
        where it runs
    as_json:
        print what was written and what failed as JSON
    seed:
        accepted everywhere; painting uses no chance
    """
    talk.start()
    from fastnst.progress import Progress
    from fastnst.stylize import Stylizer, check_styles, plan, run
    from fastnst.video.paint import plan_clip

    check_styles(style or [], options, mix or None)
    inside: str | list[str] | None = style
    outside = None
    if style and not mix:
        inside, outside = style[0], style[1] if len(style) == 2 else None
    open_style = partial(
        Stylizer.open, inside, mix=mix or None, outside=outside, engine=engine, device=device, onnx=onnx
    )
    if output == "-" and sys.stdout.isatty():
        raise UsageError("a picture will not be written to a terminal; add > painting.png")
    if (job := plan_clip(inputs, output, options, clip)) is not None:
        if options.skip_existing and os.path.lexists(job.target):
            return 0
        return _paint_clip(open_style(), job, options, clip, as_json, talk)
    jobs = plan(inputs, output, options)
    single = len(jobs) == 1 and len(inputs) == 1 and not is_folder(inputs[0])
    failed: list[dict[str, str]] = []
    written: list[str] = []
    if jobs:
        stylizer = open_style()
        with ExitStack() as stack:
            progress: Progress | None = None

            def on_share(share: float) -> None:
                nonlocal progress
                if progress is None:
                    progress = stack.enter_context(Progress("painting", 100, "%", quiet=talk.quiet))
                if int(100 * share) > progress.done:
                    progress.start_at(int(100 * share) - 1)
                    progress.advance()

            if not single:
                progress = stack.enter_context(Progress("painting", len(jobs), "picture", quiet=talk.quiet))
            for outcome in run(stylizer, jobs, options, on_share if single else None):
                if not single and progress is not None:
                    progress.advance()
                if outcome.error is not None and single:
                    raise outcome.error
                if outcome.error is not None:
                    failed.append({"input": show(outcome.job.source), "error": str(outcome.error)})
                    print(f"fastnst: {outcome.error}", file=sys.stderr)
                    continue
                written.append(show(outcome.job.target))
                if outcome.job.target != "-" and not as_json:
                    print(show(outcome.job.target), flush=True)
    if as_json:
        print(json.dumps({"written": written, "failed": failed}), file=sys.stderr if output == "-" else sys.stdout)
    if failed:
        print(f"fastnst: {len(written)} of {len(jobs)} pictures painted, {len(failed)} failed", file=sys.stderr)
    return 1 if failed else 0


def _paint_clip(
    stylizer: "Stylizer", job: "Job", options: StylizeOptions, clip: ClipOptions, as_json: bool, talk: Talk
) -> int:
    from fastnst.progress import Progress
    from fastnst.video.paint import paint_clip

    with Progress("painting", 1, "frame", quiet=talk.quiet) as progress:

        def on_frame(done: int, total: int) -> None:
            progress.start_at(done - 1)
            progress.total = total
            progress.advance()

        painted = paint_clip(stylizer, job, options, clip, on_frame)
    path = show(painted.path)
    failed = [{"input": show(job.source), "error": painted.problem}] if painted.problem else []
    print(json.dumps({"written": [path], "frames": painted.frames, "failed": failed}) if as_json else path)
    return 1 if failed else 0


@app.command
def styles(*, as_json: Annotated[bool, Parameter(name="--json", negative="")] = False, talk: Talk = Talk()) -> int:
    """List the bundled styles, one a line, its name first.

    Parameters
    ----------
    as_json:
        print a list of objects instead
    """
    talk.start()
    from fastnst.styles import DEFAULT_STYLE, bundled_styles

    found = bundled_styles()
    if as_json:
        print(
            json.dumps(
                [
                    {"name": s.name, "credit": s.credit, "preset": s.preset, "default": s.name == DEFAULT_STYLE}
                    for s in found
                ]
            )
        )
        return 0
    for style in found:
        mark = "  (default)" if style.name == DEFAULT_STYLE else ""
        print(f"{style.name:<16}  {style.credit}{mark}")
    return 0


@app.command
def sheet(
    photo: Path,
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    style: Annotated[list[str] | None, Parameter(alias="-s", consume_multiple=True)] = None,
    engine: Literal["auto", "torch", "onnx"] = "auto",
    device: Device = "auto",
    tile_size: int = 480,
    overwrite: bool = False,
    talk: Talk = Talk(),
) -> int:
    """Paint one photo in all bundled styles, on one labelled sheet.

    Parameters
    ----------
    photo:
        the picture to paint; - is standard input
    output:
        the sheet, a .jpg, .png or .webp file
    style:
        styles or files to show instead of all bundled ones
    engine:
        what runs the networks
    device:
        where they run
    tile_size:
        longer side of each painting on the sheet, pixels
    overwrite:
        replace an existing sheet
    """
    talk.start()
    from fastnst.sheet import paint_sheet

    print(
        show(paint_sheet(photo, output, style, engine=engine, device=device, tile_size=tile_size, overwrite=overwrite))
    )
    return 0


@app.command
def export(
    checkpoint: Path,
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    options: ExportOptions = ExportOptions(),  # noqa: B008
    talk: Talk = Talk(),
) -> int:
    """Write a checkpoint as one ONNX file, checked against torch before it appears.

    Parameters
    ----------
    checkpoint:
        a trained .safetensors file
    output:
        the .onnx file
    """
    talk.start()
    from fastnst.export import export as run_export

    report = run_export(checkpoint, output, options)
    grey = report.largest_difference * 255
    rounding = ", rounding to 8 bits included" if report.uint8 else ""
    print(
        f"{show(report.path)}: {report.size / 1e6:.2f} MB, largest difference to torch {grey:.4f} of 255 grey levels"
        f"{rounding}"
    )
    return 0


@app.command(name="import")
def import_model(
    source: Annotated[Path, Parameter(name="FOREIGN")],
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    options: ImportOptions = ImportOptions(),  # noqa: B008
    talk: Talk = Talk(),
) -> int:
    """Turn weights that another project trained into a checkpoint, without running its code.

    Reads those of pytorch/examples, rrmina, gordicaleksa, igreat, eriklindernoren, yakhyo and abhiskk (.pth, .model),
    and of lengstrom (a deeplearn.js folder, or .npz).

    Parameters
    ----------
    source:
        the file or folder of weights
    output:
        the .safetensors file
    """
    talk.start()
    from fastnst.foreign.convert import import_model as run_import

    found = run_import(source, output, options)
    widths = ", ".join(map(str, found.net.channels))
    print(
        f"{show(found.path)}: a network of {found.project}, {widths} channels, {found.net.blocks} blocks, "
        f"{found.parameters / 1e6:.2f} M parameters"
    )
    return 0


@app.command
def info(
    file: Path,
    /,
    *,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    talk: Talk = Talk(),
) -> int:
    """Say what a checkpoint or ONNX file holds.

    Parameters
    ----------
    file:
        a .safetensors or .onnx file
    as_json:
        print everything as JSON
    """
    talk.start()
    from fastnst.info import describe

    found = describe(file)
    if as_json:
        print(json.dumps(found))
        return 0
    for name, value in found.items():
        print(f"{name}: {_inline(value)}")
    return 0


@app.command
def evaluate(
    styles: Annotated[list[str], Parameter(name="STYLE", consume_multiple=True)],
    /,
    *,
    options: EvaluateOptions,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    talk: Talk = Talk(),
) -> int:
    """Score styles on photos: losses, likeness, grids, and the L-BFGS iterations that do as well.

    Parameters
    ----------
    styles:
        names of bundled styles, or .safetensors or .onnx files
    as_json:
        print everything as JSON
    """
    talk.start()
    from fastnst.evaluate import evaluate as run_evaluation
    from fastnst.evaluate import read_photos
    from fastnst.progress import Progress

    photos, failed = read_photos(options.content, options.size, options.photos)
    pieces = len(styles) * len(photos) * (3 if options.lbfgs else 1)
    with Progress("evaluating", pieces, "picture", quiet=talk.quiet) as progress:
        found = run_evaluation(styles, photos, options, progress.advance)
    if as_json:
        errors = [{"input": show(path), "error": error} for path, error in failed.items()]
        print(json.dumps({"styles": [one.to_json() for one in found], "failed": errors}, allow_nan=False))
    else:
        _print_evaluations(found)
    for error in failed.values():
        print(f"fastnst: {error}", file=sys.stderr)
    return 1 if failed else 0


@app.command
def optimize(config: OptimizeConfig, *, talk: Talk = Talk()) -> int:
    """Paint one picture by optimizing its pixels: slow, no training, every knob of Gatys et al. 2015.

    Ctrl-C ends it early and saves the painting as it is then.
    """
    talk.start()
    from fastnst.optimize.gatys import optimize as run_optimization
    from fastnst.optimize.gatys import pairs

    runs = [config] if config.pairs is None else pairs(config)
    failed = 0
    for number, run in enumerate(runs, start=1):
        title = "painting" if len(runs) == 1 else f"painting {number} of {len(runs)}"
        try:
            with _descent(title, len(run.sides) * run.iterations, talk) as on_step:
                print(show(run_optimization(run, on_step)), flush=True)
        except InputError as error:
            if config.pairs is None:
                raise
            failed += 1
            print(f"fastnst: {error}", file=sys.stderr)
    return 1 if failed else 0


@app.command
def reconstruct(config: ReconstructConfig, *, talk: Talk = Talk()) -> int:
    """Show what layers of the loss network keep of a picture: its content, its texture, or a sheet of all depths."""
    talk.start()
    from fastnst.optimize.reconstruct import DEPTHS, TEXTURES
    from fastnst.optimize.reconstruct import reconstruct as run_reconstruction

    count = 1 if config.layer or config.style_layers else len(DEPTHS) + len(TEXTURES)
    with _descents("reconstructing", count, config.iterations, talk) as on_step:
        print(show(run_reconstruction(config, on_step)))
    return 0


@app.command
def tradeoff(config: TradeoffConfig, *, talk: Talk = Talk()) -> int:
    """Show content against style: one photo and one painting at several ratios, on a labelled sheet."""
    talk.start()
    from fastnst.optimize.tradeoff import tradeoff as run_tradeoff

    count = 0 if config.networks else len(config.ratios) * len(config.depths)
    with _descents("painting", count, config.iterations, talk) as on_step:
        print(show(run_tradeoff(config, on_step)))
    return 0


@contextmanager
def _descents(title: str, count: int, iterations: int, talk: Talk) -> "Iterator[Callable[[int, OptimizeReport], None]]":
    """Progress of several descents, one after the other."""
    with _descent(title, count * iterations, talk) as on_step:
        yield lambda number, report: on_step(replace(report, step=number * iterations + report.step))


@contextmanager
def _descent(title: str, total: int, talk: Talk) -> "Iterator[OnStep]":
    """Progress of a descent."""
    from fastnst.progress import Progress

    with Progress(title, total, "iteration", quiet=talk.quiet) as progress:

        def on_step(report: "OptimizeReport") -> None:
            if report.step:
                progress.start_at(report.step - 1)
                losses = f"content {report.content:.3g} style {report.style:.3g} total {report.total:.3g}"
                progress.advance(f"{report.scale} pixels, {losses}")

        yield on_step


def _print_evaluations(found: "Sequence[Evaluation]") -> None:
    limit = found[0].iterations
    starts = ("from_noise", "from_content") if limit is not None else ()

    def row(name: str, numbers: "dict[str, float]", reached: "Callable[[str], Equivalent | None]") -> list[str]:
        counts = []
        for start in starts:
            result = reached(start)
            count = f"> {limit}" if result is None or result.iterations is None else f"{result.iterations:g}"
            counts.append(f"{count} ({result.evaluations:g})" if result is not None else "")
        return [show(name), *(f"{value:.4g}" for value in numbers.values()), *counts]

    columns = [*found[0].mean, *(f"L-BFGS {start.replace('_', ' ')}" for start in starts)]
    average = "mean, median" if starts else "mean"
    for one in found:
        weights = ", ".join(f"{name} {value:g}" for name, value in vars(one.settings.weights).items())
        print(
            f"{show(one.style)} ({show(one.preset)}) on {show(one.painting)} at {one.settings.style_size} pixels, "
            f"{one.settings.loss} loss ({weights}), photos of {one.size}x{one.size}"
        )
        rows = [row(score.photo, score.numbers, partial(getattr, score)) for score in one.photos]
        _print_table(["photo", *columns], rows, row(average, one.mean, one.median))
    if len(found) > 1:
        _print_table([average, *columns], [row(one.style, one.mean, one.median) for one in found])


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], last: Sequence[str] = ()) -> None:
    """Numbers under their names, the first column text."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    if last:
        table.add_section()
        table.add_row(*map(Text, last))
    # What is not a terminal has no width that the table would have to fit.
    Console(width=None if sys.stdout.isatty() else 200).print(table)


@benchmark.command(name="train")
def benchmark_train(
    options: TrainBenchmark = TrainBenchmark(),  # noqa: B008
    *,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    talk: Talk = Talk(),
) -> int:
    """Time a training step against a plain float32 loop, taking turns.

    Parameters
    ----------
    as_json:
        print everything as JSON
    """
    from fastnst.benchmark import benchmark_train as time_training

    return _compare(lambda on_round: [time_training(options, on_round)], options.rounds + 1, as_json, talk)


@benchmark.command(name="stylize")
def benchmark_stylize(
    options: StylizeBenchmark = StylizeBenchmark(),  # noqa: B008
    *,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    talk: Talk = Talk(),
) -> int:
    """Time painting with every preset and engine, taking turns.

    Parameters
    ----------
    as_json:
        print everything as JSON
    """
    from fastnst.benchmark import benchmark_stylize as time_painting

    return _compare(partial(time_painting, options), (options.rounds + 1) * len(options.size), as_json, talk)


@benchmark.command(name="forms")
def benchmark_forms(
    options: FormsBenchmark = FormsBenchmark(),  # noqa: B008
    *,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    talk: Talk = Talk(),
) -> int:
    """Time ways to write a network as ONNX, on the processor, against torch.onnx.export as it comes, taking turns.

    Parameters
    ----------
    as_json:
        print everything as JSON
    """
    from fastnst.benchmark import benchmark_forms as time_forms

    return _compare(partial(time_forms, options), (options.rounds + 1) * len(options.size), as_json, talk)


def _compare(time: "Callable[[OnRound], Sequence[Comparison]]", rounds: int, as_json: bool, talk: Talk) -> int:
    talk.start()
    from fastnst.progress import Progress

    with Progress("timing", rounds, "round", quiet=talk.quiet) as progress:
        found = time(lambda _: progress.advance())
    _print_comparisons(found, as_json)
    return 0


def _print_comparisons(found: "Sequence[Comparison]", as_json: bool) -> None:
    if as_json:
        print(json.dumps([comparison.to_json() for comparison in found]))
        return
    for comparison in found:
        print(_inline({name: value for name, value in comparison.setting.items() if name != "networks"}))
        for preset, size in comparison.setting.get("networks", {}).items():
            print(f"  {preset}: {size['parameters']:,} parameters, {size['multiply_adds'] / 1e9:.3g} G multiply-adds")
        references = list(dict.fromkeys(ratio.reference for ratio in comparison.ratios))
        columns: dict[str, Callable[[Speed], str]] = {
            "": lambda speed: speed.name,
            "seconds": lambda speed: f"{speed.seconds:.4f}",
            "fastest": lambda speed: f"{speed.fastest:.4f}",
            "slowest": lambda speed: f"{speed.slowest:.4f}",
            "images/s": lambda speed: f"{speed.images_per_second:.2f}",
            "peak memory": lambda speed: "" if speed.peak_memory is None else f"{speed.peak_memory / 1e6:.0f} MB",
            "grey levels off": lambda speed: "" if speed.grey_levels is None else f"{speed.grey_levels:.4f}",
        }
        cells = {name: [cell(speed) for speed in comparison.speeds] for name, cell in columns.items()}
        spread = {
            (ratio.name, ratio.reference): f"{ratio.median:.2f} ({ratio.lowest:.2f} to {ratio.highest:.2f})"
            for ratio in comparison.ratios
        }
        for reference in references:
            ratios = [spread.get((speed.name, reference), "") for speed in comparison.speeds]
            cells[f"times as fast as {reference}"] = ratios
        shown = [name for name, values in cells.items() if any(values)]
        _print_table(shown, list(zip(*(cells[name] for name in shown), strict=True)))


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_inline(item)}" for key, item in value.items() if item not in (None, ""))
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else show(str(value))


@app.command
def finetune(
    config: FinetuneConfig,
    *,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    talk: Talk = Talk(),
) -> int:
    """Make a loss network that knows your pictures, from a folder of them for each class.

    What it writes is for --vgg of train and others. The best epoch on held-out pictures is kept; Ctrl-C saves the best
    so far.

    Parameters
    ----------
    as_json:
        print everything as JSON
    """
    talk.start()
    from fastnst.finetune.training import finetune as run_finetuning
    from fastnst.progress import Progress

    shown: Progress | None = None
    with ExitStack() as stack:

        def on_progress(title: str, total: int, newest: "EpochReport | None") -> None:
            nonlocal shown
            if shown is None or shown.title != title:
                stack.close()
                unit = "picture" if title == "looking" else "step"
                shown = stack.enter_context(Progress(title, total, unit, quiet=talk.quiet))
            shown.advance(", ".join(f"{name} {text}" for name, text in _in_short(newest).items()) if newest else "")

        found = run_finetuning(config, on_progress)
    if as_json:
        print(json.dumps(found.to_json(), allow_nan=False))
    else:
        _print_finetuned(found)
    return 0


def _in_short(report: "EpochReport") -> dict[str, str]:
    numbers = {"loss": report.loss, "accuracy": report.accuracy, "cross-entropy": report.cross_entropy}
    return {"epoch": str(report.epoch), **{name: f"{value:.3g}" for name, value in numbers.items()}}


def _print_finetuned(found: "Finetuned") -> None:
    meta = found.meta
    rows = [[*_in_short(one).values(), "kept" if one.epoch == meta.epoch else ""] for one in found.epochs]
    _print_table([*_in_short(found.epochs[0]), ""], rows)
    classes = [show(name) for name in meta.classes]
    rows = [
        [name, *map(str, (training, held_out, *taken)), f"{taken[index] / held_out:.1%}"]
        for index, (name, training, held_out, taken) in enumerate(
            zip(classes, meta.training, meta.held_out, found.confusion, strict=True)
        )
    ]
    total = ["", str(sum(meta.training)), str(sum(meta.held_out)), *[""] * len(classes), f"{meta.accuracy:.1%}"]
    _print_table(["class", "training", "held out", *(f"as {name}" for name in classes), "right"], rows, total)
    print(show(found.path))


@app.command
def dream(
    config: DreamConfig,
    *,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    talk: Talk = Talk(),
) -> int:
    """Dream of a picture: amplify what a network sees in it (DeepDream).

    Ctrl-C writes what was dreamed so far.

    Parameters
    ----------
    as_json:
        print the output and how each octave went as JSON
    """
    talk.start()
    from fastnst.dream.deepdream import Step, planned_steps
    from fastnst.dream.deepdream import dream as run_dream
    from fastnst.progress import Progress

    to_stdout = str(config.output) == "-"
    if to_stdout and sys.stdout.isatty():
        raise UsageError("a picture will not be written to a terminal; add > dream.png")
    planned = planned_steps(config)
    with Progress("dreaming", sum(planned) * config.octaves, "step", quiet=talk.quiet) as progress:

        def on_step(frame: int, step: Step) -> None:
            done = sum(planned[:frame]) * config.octaves + (step.octave - 1) * planned[frame]
            progress.start_at(done + step.step - 1)
            of_frame = f"frame {frame + 1} of {config.zoom}, " if config.zoom else ""
            progress.advance(f"{of_frame}octave {step.octave} of {config.octaves}, loss {step.loss:.3g}")

        found = run_dream(config, on_step)
    if as_json:
        octaves = [vars(octave) for octave in found.octaves]
        out = sys.stderr if to_stdout else sys.stdout
        print(json.dumps({"output": show(found.path), "octaves": octaves}), file=out)
    elif not to_stdout:
        print(show(found.path))
    return 0


@visualize.command(name="filters")
def visualize_filters(
    options: FilterOptions,
    *,
    talk: Talk = Talk(),
) -> int:
    """Draw what each filter of a layer looks for, on a labelled sheet.

    Ctrl-C writes the sheet as it is then.
    """
    talk.start()
    from fastnst.dream.filters import filter_sheet, planned_filters
    from fastnst.progress import Progress

    total = len(planned_filters(options)) * options.iterations
    with Progress("drawing", total, "step", quiet=talk.quiet) as progress:

        def on_step(filters: int) -> None:
            progress.start_at(progress.done + filters - 1)
            progress.advance()

        path = filter_sheet(options, on_step)
    print(show(path))
    return 0


@visualize.command(name="features")
def visualize_features(options: FeatureOptions, *, talk: Talk = Talk()) -> int:
    """Show where in a picture the filters of a layer find what they look for, on a labelled sheet."""
    talk.start()
    from fastnst.dream.filters import feature_sheet

    print(show(feature_sheet(options)))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status."""
    tokens = _spell_hyphens(sys.argv[1:] if argv is None else argv)
    verbose = "-v" in tokens or "--verbose" in tokens
    if os.environ.get("NO_COLOR"):
        from rich.console import Console

        app.console = Console(color_system=None)  # bold help is escape sequences too
    try:
        if not tokens:
            raise UsageError("no command given; see fastnst --help")
        return int(app(tokens, exit_on_error=False, print_error=False) or 0)
    except CycloptsError as error:
        return _fail(UsageError(show(" ".join(str(error).split()).rstrip(".")) + "; see --help"), verbose)
    except FastnstError as error:
        return _fail(error, verbose)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            return _bug()
        missing = UnavailableError(
            f'this needs the package {error.name}, which is not installed; run: pip install "fastnst[{extra}]"'
        )
        return _fail(missing, verbose)
    except KeyboardInterrupt as error:
        number = error.args[0] if error.args else signal.SIGINT
        return _fail(Interrupted(f"stopped by {signal.Signals(number).name}", number), verbose)
    except OSError as error:
        return _bug() if error.filename is not None or error.errno is None else _stdout_failed(error)
    except Exception:
        return _bug()


def run() -> NoReturn:
    """The console script: main, and a stdout that is flushed or given up without a traceback."""
    signal.signal(signal.SIGTERM, _terminated)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115
    status = main()
    try:
        sys.stdout.flush()
    except OSError as error:
        status = _stdout_failed(error)
    sys.exit(status)


def _spell_hyphens(tokens: Sequence[str]) -> list[str]:
    """A lone hyphen, which cyclopts takes for an option, as -o=- or behind -- where it takes it for a name."""
    spelled: list[str] = []
    names: list[str] = []
    for word in tokens:
        if word == "-" and spelled and spelled[-1] in ("-o", "--output"):
            spelled[-1] += "=-"
        else:
            (names if word == "-" else spelled).append(word)
    return spelled + ["--"] * (bool(names) and "--" not in spelled) + names


def _fail(error: FastnstError, verbose: bool) -> int:
    print(f"fastnst: {error}", file=sys.stderr)
    if verbose:
        traceback.print_exc()
    return error.exit_status


def _stdout_failed(error: OSError) -> int:
    # What could not be written must not be tried again, with a complaint, while Python shuts down.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return 1
    print(f"fastnst: cannot write to standard output: {error.strerror}; make room there", file=sys.stderr)
    return 5


def _bug() -> int:
    traceback.print_exc()
    print("fastnst: this is a bug in fastnst; please report it with the lines above", file=sys.stderr)
    return 1


def _terminated(number: int, _: object) -> None:
    # No Exception, which the handlers around decoders and engines would take for a damaged picture.
    raise KeyboardInterrupt(number)
