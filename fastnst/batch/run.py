"""A batch from its inputs to its manifest: what is there already, what is left, who paints it, and what came of it."""

import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

from fastnst.batch.cluster import open_cluster
from fastnst.batch.dedup import Twins
from fastnst.batch.flow import Flow
from fastnst.batch.here import Here
from fastnst.batch.inputs import items_of
from fastnst.batch.items import Item, output_name
from fastnst.batch.journal import Journal, Totals, manifest_name
from fastnst.batch.lease import only_batch
from fastnst.batch.manifest import check_format, manifests_in, read_rows
from fastnst.batch.on_ray import OnRay
from fastnst.batch.painter import Painter
from fastnst.batch.parts import refuse_parts, remove_orphans
from fastnst.batch.rows import Row
from fastnst.batch.settings import begin, save
from fastnst.batch.spec import Spec
from fastnst.batch.spool import Spool
from fastnst.batch.tasks import Copies, Runner, Task
from fastnst.config import BatchOptions
from fastnst.config.batch import HERE, LOCAL
from fastnst.errors import OutputError, UsageError
from fastnst.files import printable
from fastnst.storage.addresses import is_remote, join, list_files, read
from fastnst.video.stylize import check_pictures

# What of the options says nothing of how pictures look.
_NO_SETTINGS = {"overwrite", "skip_existing", "fail_fast", "batch_size", "shard"}


@dataclass(frozen=True)
class Hooks:
    """What a caller hears."""

    on_plan: Callable[[int, int], object] = lambda _, __: None  # how many inputs are left, and how many are settled
    on_rows: Callable[[Sequence[Row]], object] = lambda _: None  # what became of some


@dataclass(frozen=True)
class Outcome:
    """What came of a run: of its own inputs, and, in `totals`, of all that are in the manifest."""

    painted: int
    failed: dict[str, int]  # by code
    settled: int  # what earlier runs painted, or found to be damaged
    seconds: float
    actors: int
    manifest: str
    totals: Totals


def run_batch(inputs: Sequence[str], spec: Spec, options: BatchOptions, hooks: Hooks = Hooks()) -> Outcome:
    """Paint what inputs stand for into the output folder, but for what is there, and write the manifest.

    Raises UsageError for inputs that collide, a column that is not there, or a folder that was painted with other
    settings; InputError if there is nothing to paint; OutputError for what would be overwritten or cannot be written;
    UnavailableError or ModuleNotFoundError for a cluster that does not answer or a package that is not installed.
    Whatever is raised, what was painted is in the journal, and the same call goes on.
    """
    started = time.perf_counter()
    place = options.manifest or join(spec.output, manifest_name(spec.tag))
    check_format(place)
    painter = _opened(spec, options)
    settings = _settings(spec, options)
    with ExitStack() as stack:
        stack.enter_context(only_batch(place))
        known = begin(spec.output, settings, place=place, tag=spec.tag, overwrite=spec.options.overwrite)
        listed = stack.enter_context(closing(Spool(items_of(inputs, spec.output, spec.options, options.column))))
        _check_clips(listed, spec, options)
        journal = stack.enter_context(
            Journal(spec.output, place, whole=not spec.tag, retry_failed=options.retry_failed)
        )
        left = stack.enter_context(closing(Spool(_to_paint(journal, listed, spec, is_new=known is None))))
        hooks.on_plan(len(left), len(listed) - len(left))
        actors = 0
        if len(left):
            works = len(left) > left.failed  # else there is nothing but rows to write
            with _runner(painter, spec, options) if works else nullcontext((Here(painter), 0)) as (runner, actors):
                if known is None:
                    save(spec.output, settings)
                remove_orphans(spec.output, spec.tag, journal.parts)
                _Run(runner, spec, options, settings, journal, hooks).paint(listed, left)
        counts, totals = journal.counts, journal.finish()
    settled, seconds = len(listed) - len(left), time.perf_counter() - started
    return Outcome(counts.painted, dict(counts.failed), settled, seconds, actors, place, totals)


def _opened(spec: Spec, options: BatchOptions) -> Painter:
    """A painter whose style is open, so that what is wrong with that is told before anything else happens."""
    painter = Painter(spec)
    if spec.device != "cuda" or options.address in (HERE, LOCAL):  # else the GPUs may be on other machines only
        painter.stylizer  # noqa: B018
    return painter


def _settings(spec: Spec, options: BatchOptions) -> dict[str, Any]:
    """What all pictures of a folder have in common, as the command line calls it."""
    styles = [*(spec.style or ()), *([spec.outside] if spec.outside is not None else [])]
    settings: dict[str, Any] = {"--style": [_fingerprint(style) for style in styles], "--store": options.store}
    settings |= {"--mix": spec.mix, "--engine": spec.engine}
    for group in (spec.options, spec.clip, spec.onnx):
        for one in fields(group):
            value = getattr(group, one.name)
            if one.name not in _NO_SETTINGS and value != one.default:
                name = "--" + one.name.replace("_", "-")
                settings[name] = _fingerprint(str(value)) if isinstance(value, Path) else value
    return settings


def _fingerprint(style: object) -> str:
    """A name for a style or a mask that is another for other content."""
    name = str(style)
    if not os.path.isfile(name):  # noqa: PTH113
        return name
    return f"{Path(name).name} {hashlib.sha256(read(name)).hexdigest()[:16]}"


def _check_clips(listed: Spool, spec: Spec, options: BatchOptions) -> None:
    """UsageError for options of clips where there is none, in no shard."""
    if listed.clips or spec.tag:
        return
    check_pictures(spec.output, spec.options, replace(spec.clip, smooth=0.0))
    given = {"--split": options.split, "--smooth": spec.clip.smooth}
    if useless := [name for name, value in given.items() if value]:
        raise UsageError(f"{useless[0]} is for clips, of which there is none among the inputs; leave it out")


def _to_paint(journal: Journal, listed: Spool, spec: Spec, *, is_new: bool) -> Iterator[Item]:
    """What no run settled yet; raises for outputs that would be overwritten, or are another input's."""
    files, skip = spec.store == "files", spec.options.skip_existing
    careful = files and not spec.options.overwrite and (is_new or skip)
    there = _existing(spec.output) if careful else lambda _: False
    if is_new and not files:
        refuse_parts(spec.output)
    for item in journal.pending(listed, _is_gone(spec)):
        name = output_name(item, spec.options)
        if item.error is None and there(name):
            if skip:
                continue
            raise OutputError(
                f"{printable(join(spec.output, name))} exists already; add --overwrite or --skip-existing, "
                "or choose another folder"
            )
        if files and item.error is None:
            journal.refuse_taken(item.key, name)
        yield item


def _is_gone(spec: Spec) -> Callable[[Item], bool]:
    """Whether a file that was painted was removed since; at an address, where that takes a request each, none was."""
    if spec.store != "files" or is_remote(spec.output):
        return lambda _: False
    return lambda item: not os.path.lexists(join(spec.output, output_name(item, spec.options)))


def _existing(output: str) -> Callable[[str], bool]:
    """Whether a name is there below an output folder; one at an address is listed once."""
    if not is_remote(output):
        return lambda name: os.path.lexists(join(output, name))
    found = {address for address, _ in list_files(output)}
    return lambda name: join(output, name) in found


@contextmanager
def _runner(painter: Painter, spec: Spec, options: BatchOptions) -> Iterator[tuple[Runner, int]]:
    """Who paints, and how many they are."""
    if options.address == HERE:
        yield Here(painter), 1
        return
    wants_gpu = spec.device == "cuda" or painter.stylizer.engine.on_gpu
    painter.close()
    with open_cluster(options, wants_gpu=wants_gpu) as cluster:
        yield OnRay(cluster, spec.carried(cluster.cpus, cluster.gpus), secrets.token_hex(8)), cluster.actors


@dataclass
class _Run:
    """What is left of a listing, through a runner into a journal."""

    runner: Runner
    spec: Spec
    options: BatchOptions
    settings: Mapping[str, Any]
    journal: Journal
    hooks: Hooks

    def paint(self, listed: Spool, left: Spool) -> None:
        """Paint it all, or up to the first failure with fail_fast; raises what concerns all of it."""
        size = self.options.block_size if self.options.store == "files" else self.options.part_size
        self.twins = self._twins(listed, size) if self.options.dedup else Twins()
        flow = Flow(self.spec, self.twins.firsts(left), size, self.options.split, json.dumps(self.settings))
        wave = flow.wave(self.runner.wave)
        while self._keep(flow.told()) and wave:
            tasks = {task.number: task for task in wave}
            for done in self.runner.paint(wave):
                if not self._keep(flow.done(tasks[done.number], done)):
                    return
            wave = flow.wave(self.runner.wave)
        if wave:
            return
        self._paint_twins(left, size)

    def _paint_twins(self, left: Spool, size: int) -> None:
        """The rows of pictures that look like others; where these became files, copies of them."""
        told = self.twins.told(left)
        while some := tuple(islice(told, self.runner.wave)):
            copied = [(item, row) for item, row in some if row.painted and self.spec.store == "files"]
            same = [(item, row) for item, row in some if not (row.painted and self.spec.store == "files")]
            self._keep([replace(row, input=item.key, seconds=0.0, same_as=row.input) for item, row in same])
            works = [Copies(tuple(copied[start : start + size])) for start in range(0, len(copied), size)]
            for done in self.runner.paint([Task(number, work) for number, work in enumerate(works)]):
                if done.error is not None:
                    raise done.error
                self._keep(done.rows)

    def _twins(self, listed: Spool, size: int) -> Twins:
        twins = Twins.find(self.runner, listed, self.spec.options, size)
        for place in manifests_in(self.spec.output):
            for row in read_rows(place):
                twins.note(row)
        return twins

    def _keep(self, rows: Sequence[Row]) -> bool:
        """Put rows into the journal; whether the run goes on."""
        self.journal.add(rows)
        for row in rows:
            self.twins.note(row)
        self.hooks.on_rows(rows)
        return not (self.spec.options.fail_fast and any(not row.painted for row in rows))
