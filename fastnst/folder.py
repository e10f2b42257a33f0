"""Many files through a style: which goes where, and the run that reads, stylizes and writes pictures in order."""

import glob
import logging
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TypeVar

from fastnst.ahead import each_ahead
from fastnst.config import StylizeOptions
from fastnst.errors import FastnstError, InputError, UsageError
from fastnst.files import check_output, is_folder, printable, write_bytes, write_stdout
from fastnst.image import SUFFIXES, Picture, encode_picture, output_format
from fastnst.kinds import CLIP_SUFFIXES, PICTURE_SUFFIXES, Kind, kind_of, why_unreadable
from fastnst.listing import Listing, entries_in, files_below, files_matching
from fastnst.nets.bands import OnProgress
from fastnst.shard import Shard
from fastnst.stylize import Hooks, Stylizer, read_content

log = logging.getLogger(__name__)

IN_HAND = 3  # pictures being read, stylized or written

P = TypeVar("P", bound=PurePath)

# The suffix of what becomes of a clip, or None for a file that is none.
ClipSuffix = Callable[[Path], str | None]


@dataclass(frozen=True)
class Job:
    """One picture, or a clip, to stylize and where to put it; "-" is standard input or output.

    `error` is to be reported of what cannot be stylized, as is known before.
    """

    source: Path | str
    target: Path | str
    clip: bool = False
    error: FastnstError | None = None


@dataclass(frozen=True)
class Outcome:
    """A job that is done: written, or failed for a reason; or written with a problem, such as a clip that was cut."""

    job: Job
    error: FastnstError | None = None
    problem: str | None = None


def plan(
    inputs: Sequence[str], output: str, options: StylizeOptions, clip_suffix: ClipSuffix = lambda _: None
) -> list[Job]:
    """What to stylize and where to, with every output checked, before any work is done.

    Inputs are files, folders (searched recursively), glob patterns, or "-". One file goes to a file if the output is
    named like a picture, else into a folder. Of several, and of all in a folder, pictures and clips are taken by their
    first bytes, what is named like one but is none is reported, and the rest is left alone. With a shard there may be
    nothing for this one.

    Raises UsageError for outputs that collide or are invalid, InputError if there is nothing to stylize, OutputError
    for an output that exists already or cannot be written.
    """
    several = len(inputs) != 1 or is_many(inputs[0])
    suffix = "" if is_folder(output) or output.endswith("/") else Path(output).suffix.lower()
    if output == "-" or suffix in SUFFIXES:
        if several:
            raise UsageError(f"several pictures cannot all go to {printable(output)}; name a folder")
        job = Job(_source(inputs[0]), output if output == "-" else Path(output))
        jobs = [job] if is_in_share(Path(Path(inputs[0]).name), options) else []
    else:
        if output == "" or (suffix and not several):
            output_format(output)  # says which names are possible
        jobs, others = _folder_jobs(inputs, Path(output), options, clip_suffix)
        if not jobs and not others:
            brackets = any(is_many(name) and not is_folder(name) and "[" in name for name in inputs)
            hint = " (in a pattern [...] stands for one character, and [[] for a bracket)" if brackets else ""
            names = ", ".join(map(printable, inputs))
            raise InputError(f"no pictures in {names}; give files or folders with pictures{hint}")
    return _check_targets(jobs, options)


def run(
    stylizer: Stylizer, jobs: Sequence[Job], options: StylizeOptions, on_progress: OnProgress | None = None
) -> Generator[Outcome]:
    """Stylize the jobs in order; a picture that fails is reported and the others go on, unless fail_fast.

    While one is stylized, others are read and written. `on_progress` gets the share of a picture in bands that is done.
    Problems of the output, such as a full disk, concern every picture and are raised.
    """
    stopped, busy = threading.Event(), list[float]()
    hooks = Hooks(on_progress=on_progress, on_busy=busy.append, stopped=stopped.is_set)
    started = time.perf_counter()

    def work(job: Job) -> FastnstError | None:
        if job.error is not None:
            return job.error
        try:
            stylized = stylizer.stylize_picture(read_content(job.source, options), options, hooks)
        except FastnstError as error:
            return error
        if not stopped.is_set():
            write(stylized, job.target, options)
        return None

    # With fail_fast, none of those after the one that fails.
    count = 1 if options.fail_fast else IN_HAND
    with closing(each_ahead(work, jobs, count, count)) as errors:
        try:
            for job, error in zip(jobs, errors, strict=True):
                yield Outcome(job, error)
                if error is not None and options.fail_fast:
                    return
        finally:
            stopped.set()
    taken = time.perf_counter() - started
    log.info("the network was busy for %.1f of %.1f seconds (%.0f %%)", sum(busy), taken, 100 * sum(busy) / taken)


def write(picture: Picture, target: Path | str, options: StylizeOptions) -> None:
    """Encode a picture into a file, atomically, or onto standard output."""
    if isinstance(target, Path):
        write_bytes(target, encode_picture(picture, output_format(target), options.quality))
    else:
        format = SUFFIXES["." + options.format] if options.format else output_format(target)
        write_stdout(encode_picture(picture, format, options.quality))


def is_many(name: str) -> bool:
    """Whether an input is a folder or a pattern, which stand for any number of files."""
    return name != "-" and (is_folder(name) or (glob.has_magic(name) and not os.path.lexists(name)))


def _source(name: str) -> Path | str:
    return name if name == "-" else Path(name)


def _folder_jobs(
    inputs: Sequence[str], output: Path, options: StylizeOptions, clip_suffix: ClipSuffix
) -> tuple[list[Job], bool]:
    """What becomes of files, folders and patterns, each once: stylized or reported; the rest is left alone.

    And whether there are files for other shards.
    """
    if "-" in inputs:
        raise UsageError("standard input cannot go into a folder; name a file with -o, or use -o -")
    if len(inputs) == 1 and not is_many(inputs[0]):
        kept = Path(Path(inputs[0]).name)
        ours = is_in_share(kept, options)
        return [Job(Path(inputs[0]), output / painted_name(kept, options))] if ours else [], not ours
    jobs: dict[tuple[Path, Path], Job] = {}
    others = False
    for name in each_folder_once(inputs):
        listing = listed(name, output, alone=len(inputs) == 1)
        for path in listing.files:
            kept = path.relative_to(name) if is_folder(name) else Path(path.name)
            if not is_in_share(kept, options):
                others = True
            elif (job := _job(path, kept, output, options, clip_suffix)) is not None:
                jobs.setdefault((path, kept), job)
        for path, reason in listing.unreadable.items():
            if not is_in_share(path, options):
                others = True
                continue
            error = InputError(f"{printable(path)} is left out: {reason}; make it readable, or remove it")
            jobs.setdefault((path, path), Job(path, output, error=error))
    return list(jobs.values()), others


def each_folder_once(inputs: Sequence[str]) -> list[str]:
    """The inputs without links to folders that are there, too, or to one that they are in: what a shell makes of *."""
    real = [Path(name) for name in inputs if is_folder(name) and not os.path.islink(name)]  # noqa: PTH114
    linked = [name for name in inputs if is_folder(name) and os.path.islink(name)]  # noqa: PTH114
    twice = {name for name in linked if any(_same(Path(name), path) for path in [*real, *_above(name, inputs)])}
    return [name for name in inputs if name not in twice]


def _above(name: str, inputs: Sequence[str]) -> Iterable[Path]:
    """The folders that an input is in; none if it is the only one."""
    return Path(os.path.realpath(os.path.dirname(name) or "."), "x").parents if len(inputs) > 1 else ()  # noqa: PTH120


def listed(name: str, output: Path, *, alone: bool) -> Listing:
    """The files that an input stands for; those an earlier run left in the output folder are none."""
    path = Path(name)
    if not alone and is_named_by_a_shell(name, output):
        log.info("%s is left out; name it alone to stylize it", printable(path))
        return Listing()
    if is_folder(name):
        return files_below(path, [output])
    return files_matching(name, [output]) if is_many(name) else Listing([path])


def is_named_by_a_shell(name: str, output: Path) -> bool:
    """Whether what is there is clutter or the output: nobody but a shell, whose * has everything, names it."""
    path = Path(name)
    return os.path.lexists(path) and (_is_clutter(path) or _same(path, output))


def _is_clutter(path: Path) -> bool:
    """Whether something that is there would be left out of the folder it is in, but for names that hide it."""
    try:
        return not path.name.startswith(".") and path not in entries_in(path.parent)
    except OSError:
        return False


def _same(a: Path, b: Path) -> bool:
    return a.exists() and b.exists() and a.samefile(b)


def _job(path: Path, kept: Path, output: Path, options: StylizeOptions, clip_suffix: ClipSuffix) -> Job | None:
    """What becomes of a file among others, which is called `kept` in the output folder; None if it is left alone."""
    match kind_of(path, lambda path: clip_suffix(path) is not None):
        case Kind.PICTURE:
            return Job(path, output / painted_name(kept, options))
        case Kind.CLIP:
            return Job(path, output / clip_name(kept, clip_suffix(path) or ""), clip=True)
        case Kind.UNREADABLE:
            return Job(path, output, error=why_unreadable(path))
    log.info("%s is neither a picture nor a clip and is left alone", printable(path))
    return None


def is_in_share(kept: PurePath, options: StylizeOptions) -> bool:
    """Whether what is called `kept` below the input is in the shard of the options; always without one."""
    return options.shard is None or Shard.parse(options.shard).has(share_name(kept.as_posix()))


def share_name(kept: str) -> str:
    """What decides in which shard a file is: its name below the input, without the suffix of pictures and clips.

    So what would have the same name once it is painted is in the same shard, which finds that and refuses it.
    """
    name, suffix = os.path.splitext(kept)  # noqa: PTH122
    while suffix.lower() in PICTURE_SUFFIXES or suffix.lower() in CLIP_SUFFIXES:
        name, suffix = os.path.splitext(name)  # noqa: PTH122
    return name + suffix


def painted_name(kept: P, options: StylizeOptions) -> P:
    """What a picture that is called `kept` is called once it is painted."""
    suffix = "." + options.format if options.format else kept.suffix.lower()
    if suffix not in SUFFIXES:
        suffix = ".png"
    if kept.suffix.lower() == suffix:
        return kept
    if kept.suffix.lower() in PICTURE_SUFFIXES:
        return kept.with_suffix(suffix)
    return kept.with_name(kept.name + suffix)


def clip_name(kept: P, suffix: str) -> P:
    """The same of a clip, whose suffix will be another or the same."""
    return kept if kept.suffix.lower() == suffix else kept.with_suffix(suffix)


def _check_targets(jobs: list[Job], options: StylizeOptions) -> list[Job]:
    """Refuse collisions and existing outputs; leave out finished ones with skip_existing."""
    seen: dict[Path, Job] = {}
    for job in jobs:
        if isinstance(job.target, str) or job.error is not None:
            continue
        if job.target in seen:
            both = f"{printable(seen[job.target].source)} and {printable(job.source)}"
            raise UsageError(f"{both} would both become {printable(job.target)}; paint them into different folders")
        seen[job.target] = job
    if options.skip_existing:
        jobs = [job for job in jobs if job.error or job.target == "-" or not os.path.lexists(job.target)]
    for job in jobs:
        if isinstance(job.target, Path) and job.error is None:
            check_output(job.target, overwrite=options.overwrite)
    return jobs
