"""Results as text: tables of numbers, and values in a line."""

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from fastnst.files import printable

if TYPE_CHECKING:
    from fastnst.benchmark import Comparison, Speed
    from fastnst.finetune.epochs import EpochReport, Finetuned
    from fastnst.scores import Equivalent, Evaluation


def print_evaluations(evaluations: "Sequence[Evaluation]") -> None:
    """A table for each style, a row a photo, and one of the means if there are several."""
    limit = evaluations[0].iterations
    starts = ("from_noise", "from_content") if limit is not None else ()

    def row(name: str, numbers: "dict[str, float]", reached: "Callable[[str], Equivalent | None]") -> list[str]:
        counts = []
        for start in starts:
            result = reached(start)
            count = f"> {limit}" if result is None or result.iterations is None else f"{result.iterations:g}"
            counts.append(f"{count} ({result.evaluations:g})" if result is not None else "")
        return [printable(name), *(f"{value:.4g}" for value in numbers.values()), *counts]

    columns = [*evaluations[0].mean, *(f"L-BFGS {start.replace('_', ' ')}" for start in starts)]
    average = "mean, median" if starts else "mean"
    for one in evaluations:
        weights = ", ".join(f"{name} {value:g}" for name, value in vars(one.settings.weights).items())
        print(
            f"{printable(one.style)} ({printable(one.preset)}) on {printable(one.painting)} at "
            f"{one.settings.style_size} pixels, "
            f"{one.settings.loss} loss ({weights}), photos of {one.size}x{one.size}"
        )
        rows = [row(score.photo, score.numbers, partial(getattr, score)) for score in one.photos]
        print_table(["photo", *columns], rows, row(average, one.mean, one.median))
    if len(evaluations) > 1:
        print_table([average, *columns], [row(one.style, one.mean, one.median) for one in evaluations])


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], last: Sequence[str] = ()) -> None:
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


def print_comparisons(comparisons: "Sequence[Comparison]", as_json: bool) -> None:
    """A table for each setting that was timed, or everything as JSON."""
    if as_json:
        print(json.dumps([comparison.to_json() for comparison in comparisons]))
        return
    for comparison in comparisons:
        print(in_line({name: value for name, value in comparison.setting.items() if name != "networks"}))
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
            "gray levels off": lambda speed: "" if speed.gray_levels is None else f"{speed.gray_levels:.4f}",
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
        print_table(shown, list(zip(*(cells[name] for name in shown), strict=True)))


def in_line(value: Any) -> str:
    """A value of a file's header in one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {in_line(item)}" for key, item in value.items() if item not in (None, ""))
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else printable(str(value))


def in_short(report: "EpochReport") -> dict[str, str]:
    """An epoch as names and numbers."""
    numbers = {"loss": report.loss, "accuracy": report.accuracy, "cross-entropy": report.cross_entropy}
    return {"epoch": str(report.epoch), **{name: f"{value:.3g}" for name, value in numbers.items()}}


def print_finetuned(finetuned: "Finetuned") -> None:
    """A row an epoch, then what the held-out pictures were taken for."""
    meta = finetuned.meta
    rows = [[*in_short(one).values(), "kept" if one.epoch == meta.epoch else ""] for one in finetuned.epochs]
    print_table([*in_short(finetuned.epochs[0]), ""], rows)
    classes = [printable(name) for name in meta.classes]
    rows = [
        [name, *map(str, (training, held_out, *taken)), f"{taken[index] / held_out:.1%}"]
        for index, (name, training, held_out, taken) in enumerate(
            zip(classes, meta.training, meta.held_out, finetuned.confusion, strict=True)
        )
    ]
    total = ["", str(sum(meta.training)), str(sum(meta.held_out)), *[""] * len(classes), f"{meta.accuracy:.1%}"]
    print_table(["class", "training", "held out", *(f"as {name}" for name in classes), "right"], rows, total)
    print(printable(finetuned.path))
