"""Commands that measure: evaluate, benchmark."""

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from fastnst.cli.app import JsonVerbosity, app, benchmark
from fastnst.cli.tables import print_comparisons, print_evaluations
from fastnst.config import EvaluateOptions, StylizeBenchmark, TrainBenchmark
from fastnst.files import printable

if TYPE_CHECKING:
    from fastnst.benchmark import Comparison, OnRound


@app.command
def evaluate(
    styles: Annotated[list[str], Parameter(name="STYLE", consume_multiple=True)],
    /,
    *,
    options: EvaluateOptions,
    verbosity: JsonVerbosity = JsonVerbosity(),
) -> int:
    """Score styles on photos: losses, likeness, grids, and the L-BFGS iterations that do as well.

    Parameters
    ----------
    styles:
        names of bundled styles, or .safetensors or .onnx files
    """
    verbosity.start()
    from fastnst.evaluate import evaluate as run_evaluation
    from fastnst.evaluate import read_photos
    from fastnst.progress import Progress

    photos, failed = read_photos(options.content, options.size, options.photos)
    pieces = len(styles) * len(photos) * (1 + options.optimum + 2 * options.lbfgs)
    with Progress("evaluating", pieces, "picture", quiet=verbosity.quiet) as progress:
        evaluations = run_evaluation(styles, photos, options, progress.advance)
    if verbosity.as_json:
        errors = [{"input": printable(path), "error": error} for path, error in failed.items()]
        print(json.dumps({"styles": [one.to_json() for one in evaluations], "failed": errors}, allow_nan=False))
    else:
        print_evaluations(evaluations)
    for error in failed.values():
        print(f"fastnst: {error}", file=sys.stderr)
    return 1 if failed else 0


@benchmark.command(name="train")
def benchmark_train(
    options: TrainBenchmark = TrainBenchmark(),
    *,
    verbosity: JsonVerbosity = JsonVerbosity(),
) -> int:
    """Time a training step against a plain float32 loop, taking turns."""
    from fastnst.benchmark import benchmark_train as time_training

    return _compare(lambda on_round: [time_training(options, on_round)], options.rounds + 1, verbosity)


@benchmark.command(name="stylize")
def benchmark_stylize(
    options: StylizeBenchmark = StylizeBenchmark(),
    *,
    verbosity: JsonVerbosity = JsonVerbosity(),
) -> int:
    """Time stylizing with every preset and engine, taking turns."""
    from fastnst.benchmark import benchmark_stylize as time_stylizing

    return _compare(partial(time_stylizing, options), (options.rounds + 1) * len(options.size), verbosity)


def _compare(time: "Callable[[OnRound], Sequence[Comparison]]", rounds: int, verbosity: JsonVerbosity) -> int:
    verbosity.start()
    from fastnst.progress import Progress

    with Progress("timing", rounds, "round", quiet=verbosity.quiet) as progress:
        comparisons = time(lambda _: progress.advance())
    print_comparisons(comparisons, verbosity.as_json)
    return 0
