"""A batch from its inputs to its manifest: what is there already, what is left, who paints it, and what came of it."""

import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fastnst.batch.cluster import open_cluster
from fastnst.batch.dedup import Engine, Twins
from fastnst.batch.flow import Flow
from fastnst.batch.here import Here
from fastnst.batch.inputs import items_of
from fastnst.batch.items import Item, output_name
from fastnst.batch.journal import Journal, Totals, manifest_name, only_batch
from fastnst.batch.manifest import check_format, manifests_in, read_rows
from fastnst.batch.on_ray import OnRay
from fastnst.batch.painter import Painter
from fastnst.batch.parts import refuse_parts, remove_orphans
from fastnst.batch.rows import Row
from fastnst.batch.settings import begin, save
from fastnst.batch.spec import Spec
from fastnst.batch.spool import Spool
from fastnst.batch.tasks import Task
from fastnst.config import BatchOptions
from fastnst.config.batch import HERE, LOCAL
from fastnst.errors import OutputError
from fastnst.files import printable
from fastnst.storage.addresses import is_remote, join, list_files, read

# What of the options says nothing of how pictures look.
_NO_SETTINGS = {"overwrite", "skip_existing", "fail_fast", "batch_size", "shard"}


@dataclass(frozen=True)
class Hooks:
    """What a caller hears: how many inputs are left and how many are settled, and rows as they come."""

    on_plan: Callable[[int, int], object] = lambda _, __: None
    on_rows: Callable[[Sequence[Row]], object] = lambda _: None
    on_read: Callable[[int], object] = lambda _: None  # with dedup, how many pictures were compared


@dataclass(frozen=True)
class Outcome:
    """What came of a run: of its inputs, and of the whole manifest."""

    painted: int
    failed: dict[str, int]  # by code
    settled: int  # what earlier runs painted, or found to be damaged
    seconds: float
    manifest: str
    totals: Totals
    actors: int


def run_batch(
    inputs: Sequence[str],
    spec: Spec,
    options: BatchOptions,
    hooks: Hooks = Hooks(),  # noqa: B008
) -> Outcome:
    """Paint what inputs stand for into the output folder, but for what is there, and write the manifest.

    Raises UsageError for inputs that collide, a column that is not there, or a folder that was painted with other
    settings; InputError if there is nothing to paint; OutputError for what would be overwritten or cannot be written;
    UnavailableError or ModuleNotFoundError for a cluster that does not answer or a package that is not installed.
    Whatever is raised, what was painted is in the journal, and the same call goes on.
    """
    started = time.perf_counter()
    painter = _opened(spec, options)
    place = options.manifest or join(spec.output, manifest_name(spec.tag))
    check_format(place)
    with only_batch(place):
        settings = _settings(spec, options)
        is_new = begin(spec.output, settings, place=place, tag=spec.tag, overwrite=spec.options.overwrite) is None
        with Journal(spec.output, place, whole=not spec.tag, retry_failed=options.retry_failed) as journal:
            listed = Spool(items_of(inputs, spec.output, spec.options, options.column))
            left = Spool(_to_paint(journal, listed, spec, is_new))
            if is_new:
                save(spec.output, settings)
            remove_orphans(spec.output, spec.tag, journal.parts)
            hooks.on_plan(len(left), len(listed) - len(left))
            actors = 0
            if len(left):
                with _engine(painter, spec, options) as (engine, actors):
                    _paint(engine, listed, left, spec, options, journal, hooks)
            counts, totals = journal.counts, journal.finish()
    return Outcome(
        counts.painted,
        dict(counts.failed),
        len(listed) - len(left),
        time.perf_counter() - started,
        place,
        totals,
        actors,
    )


def _settings(spec: Spec, options: BatchOptions) -> dict[str, Any]:
    """What all pictures of a folder have in common, as the command line calls it."""
    settings: dict[str, Any] = {"--store": options.store, "--mix": spec.mix, "--engine": spec.engine}
    settings["--style"] = [_fingerprint(style) for style in (*(spec.style or ()), spec.outside) if style is not None]
    for group in (spec.options, spec.clip, spec.onnx):
        for one in fields(group):
            value = getattr(group, one.name)
            if one.name not in _NO_SETTINGS and value != one.default:
                known = _fingerprint(str(value)) if isinstance(value, Path) else value
                settings["--" + one.name.replace("_", "-")] = known
    return settings


def _fingerprint(style: object) -> str:
    """A name for a style or a mask that is another for other content."""
    name = str(style)
    if not os.path.isfile(name):  # noqa: PTH113
        return name
    return f"{Path(name).name} {hashlib.sha256(read(name)).hexdigest()[:16]}"


def _to_paint(journal: Journal, listed: Spool, spec: Spec, is_new: bool) -> Iterator[Item]:
    """What no run settled yet; raises for outputs that would be overwritten, or are another input's."""
    files = spec.store == "files"
    careful = files and not spec.options.overwrite and (is_new or spec.options.skip_existing)
    there = _existing(spec.output) if careful else None
    if is_new and not files:
        refuse_parts(spec.output)
    for item in journal.pending(listed):
        name = output_name(item, spec.options)
        if there is not None and item.error is None and there(name):
            if spec.options.skip_existing:
                continue
            raise OutputError(
                f"{printable(join(spec.output, name))} exists already; add --overwrite or --skip-existing, "
                "or choose another folder"
            )
        if files and item.error is None:
            journal.refuse_taken(item.key, name)
        yield item


def _existing(output: str) -> Callable[[str], bool]:
    """Whether a name is there below an output folder; one at an address is listed once."""
    if not is_remote(output):
        return lambda name: os.path.lexists(join(output, name))
    found = {address for address, _ in list_files(output)}
    return lambda name: join(output, name) in found


def _opened(spec: Spec, options: BatchOptions) -> Painter:
    """A painter whose style is open, so that what is wrong with that is told before anything else happens."""
    painter = Painter(spec)
    if spec.device != "cuda" or options.address in (HERE, LOCAL):  # else the GPUs may be on other machines only
        painter.stylizer  # noqa: B018
    return painter


@contextmanager
def _engine(painter: Painter, spec: Spec, options: BatchOptions) -> Iterator[tuple[Engine, int]]:
    """Who paints, and how many they are."""
    if options.address == HERE:
        yield Here(painter), 1
        return
    wants_gpu = spec.device == "cuda" or painter.stylizer.engine.on_gpu
    painter.close()
    with open_cluster(options, wants_gpu=wants_gpu) as cluster:
        yield OnRay(cluster, spec.carried(cluster.cpus, cluster.gpus), secrets.token_hex(8)), cluster.actors


def _paint(
    engine: Engine, listed: Spool, left: Spool, spec: Spec, options: BatchOptions, journal: Journal, hooks: Hooks
) -> None:
    size = options.block_size if options.store == "files" else options.part_size
    twins = Twins()
    if options.dedup:
        twins = Twins.find(engine, listed, spec.options, size, hooks.on_read)
        for row in _earlier(spec.output):
            twins.note(row)
    flow = Flow(spec, twins.firsts(left), size, options.split)

    def keep(rows: Sequence[Row]) -> bool:
        """Whether the run goes on."""
        journal.add(rows)
        for row in rows:
            twins.note(row)
        hooks.on_rows(rows)
        return not (spec.options.fail_fast and any(not row.painted for row in rows))

    while wave := flow.wave(engine.wave):
        tasks = {task.number: task for task in wave}
        for done in engine.paint(wave):
            if not keep(flow.done(tasks[done.number], done)):
                return
    if not keep(flow.rows):
        return
    copies = enumerate(twins.copies(left, size))
    for done in engine.paint([Task(number, work) for number, work in copies]):
        if done.error is not None:
            raise done.error
        keep(done.rows)


def _earlier(output: str) -> Iterator[Row]:
    for place in manifests_in(output):
        yield from read_rows(place)
