"""Short training runs that differ in their weights, side by side on one labeled sheet."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from signal import SIGTERM, Signals

from fastnst.checkpoint import CheckpointMeta, load_checkpoint
from fastnst.config import SweepConfig, TrainConfig, TrainOptions
from fastnst.errors import DivergedError, InputError, Interrupted, UsageError
from fastnst.files import check_output, printable, write_bytes
from fastnst.image import Picture, output_format, read_picture, write_picture
from fastnst.interrupt import SIGUSR1
from fastnst.sheet import arrange_table
from fastnst.stylize import Stylizer
from fastnst.train.loop import StepReport, train
from fastnst.train.photographs import open_photographs
from fastnst.train.start import start_file

log = logging.getLogger(__name__)

SWEPT = ("style_weight", "content_weight", "tv_weight", "style_size")
MOST = 60  # runs, so that the sheet is not wider than a JPEG can be
ROWS = 3

OnStep = Callable[[int, StepReport], None]


@dataclass(frozen=True)
class Sweep:
    """The sheet, and the names of the runs that diverged and left their column empty."""

    path: Path
    diverged: list[str]


def sweep(config: SweepConfig, on_step: OnStep | None = None) -> Sweep:
    """Train each combination of the values given, one after the other, and make a sheet; `on_step` sees run and step.

    Each row is a photo and what the runs make of it, each column a run, with its values and its last losses before
    weighing; the style stands in the corner. Checkpoints stay in a folder beside the sheet. Runs that are finished
    there are not done again, interrupted ones go on.

    Raises what train raises, except DivergedError; UsageError if the folder holds runs with other options.
    """
    output_format(config.output)
    check_output(config.output, overwrite=config.overwrite)
    runs = plan_runs(config)
    style = read_picture(config.style, max_size=config.tile_size)
    photos = list(_photos(config, runs[0]))
    _check_same_sweep(config, runs[0])

    rows: list[list[Picture | None]] = [[photo] for photo in photos]
    labels, diverged = [], []
    for index, run in enumerate(runs):
        values = _values(config, run)
        try:
            meta = _finish(run, index, len(runs), on_step)
        except DivergedError as error:
            log.warning("%s: %s", printable(run.output), error)
            diverged.append(run.style_name)
            labels.append("\n".join([*values, "diverged"]))
            for row in rows:
                row.append(None)
            continue
        labels.append("\n".join([*values, *_losses(meta)]))
        stylizer = Stylizer.open(run.output, engine="torch", device=run.device)
        for row, photo in zip(rows, photos, strict=True):
            row.append(stylizer.stylize_picture(photo))
    write_picture(arrange_table(style, labels, rows), config.output)
    return Sweep(config.output, diverged)


def plan_runs(config: SweepConfig) -> list[TrainConfig]:
    """The runs of a sweep; UsageError if there are too many, or for an invalid value."""
    options = {field.name: getattr(config, field.name) for field in fields(TrainOptions)}
    given = [dict.fromkeys(getattr(config, name)) or (None,) for name in SWEPT]
    runs = []
    for combination in product(*given):
        values = {name: value for name, value in zip(SWEPT, combination, strict=True) if value is not None}
        name = "-".join(f"{name.replace('_', '-')}-{value:.9g}" for name, value in values.items())
        runs.append(TrainConfig(**options, **values, output=_folder(config) / f"{name}.safetensors"))
    if len(runs) > MOST:
        raise UsageError(f"these values make {len(runs)} runs, but at most {MOST} fit on a sheet; give fewer")
    return runs


def _finish(run: TrainConfig, index: int, count: int, on_step: OnStep | None) -> CheckpointMeta:
    """What the checkpoint of a run says that is trained to its end, unless it was before."""
    if (meta := _finished(run)) is None:
        try:
            resume = run.state_path.exists()
            # What cannot go on starts again: nobody but the sweep has a use for it.
            train(
                replace(run, resume=resume, overwrite=not resume), on_step and (lambda report: on_step(index, report))
            )
        except Interrupted as error:
            raise _interrupted(Signals(error.exit_status - 128), index, count) from error
        meta = _finished(run)
        if meta is None:
            raise _interrupted(SIGUSR1 or SIGTERM, index, count)
    return meta


def _finished(run: TrainConfig) -> CheckpointMeta | None:
    if not run.output.exists():
        return None
    meta = load_checkpoint(run.output)[1]
    return meta if meta.steps == run.steps else None


def _interrupted(number: Signals, index: int, count: int) -> Interrupted:
    return Interrupted(
        f"stopped by {number.name} in run {index + 1} of {count}, which is saved; repeat the command to go on", number
    )


def _folder(config: SweepConfig) -> Path:
    return config.output.with_suffix("")


def _photos(config: SweepConfig, run: TrainConfig) -> Iterator[Picture]:
    """What is shown: the pictures that are given, or some that no run sees."""
    if config.photo:
        yield from (read_picture(path, max_size=config.tile_size) for path in config.photo)
        return
    photographs = open_photographs(run, (config.output, _folder(config)))
    trained = map(photographs.trained, range(min(ROWS, photographs.count)))
    for photo in photographs.held_out[:ROWS] or trained:
        yield photographs.read(photo, max_size=config.tile_size)


def _check_same_sweep(config: SweepConfig, run: TrainConfig) -> None:
    """Columns are to be compared, so all of them have all but the swept options in common, in every later call too."""
    values = run.to_json()
    names = [field.name for field in fields(TrainOptions) if field.name != "workers"]
    now = {f"--{name.replace('_', '-')}": values[name] for name in names}
    now["painting"] = hashlib.sha256(config.style.read_bytes()).hexdigest()
    start = start_file(run)
    now["initial weights"] = load_checkpoint(start)[1].digest if start else None
    path = _folder(config) / "sweep.json"
    if not path.exists():
        write_bytes(path, json.dumps(now, indent=2).encode())
        return
    try:
        before = json.loads(path.read_bytes())
        changed = [name for name in now if before.get(name, now[name]) != now[name]]  # an older one had fewer options
    except (ValueError, AttributeError) as error:
        raise InputError(f"{printable(path)} is damaged; remove its folder, or choose another --output") from error
    if changed:
        folder, what = printable(path.parent), ", ".join(changed)
        raise UsageError(f"the runs in {folder} differ in {what}; remove that folder, or choose another --output")


def _values(config: SweepConfig, run: TrainConfig) -> list[str]:
    """A line for each option that differs between the runs, or for all that are given if none does."""
    given = [name for name in SWEPT if getattr(config, name)]
    names = [name for name in given if len(set(getattr(config, name))) > 1] or given
    return [f"{name.replace('_', ' ')} {getattr(run, name):g}" for name in names]


def _losses(meta: CheckpointMeta) -> list[str]:
    """Before weighing, or runs with different weights could not be compared."""
    return [
        f"{name} loss {meta.losses[name] / meta.weights[name]:.3g}"
        for name in ("content", "style")
        if meta.weights[name]
    ]
