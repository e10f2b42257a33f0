"""Many pictures through a style: which file goes where, and the run that reads, stylizes and writes them in order."""

import glob
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from fastnst.ahead import each_ahead
from fastnst.config import StylizeOptions
from fastnst.errors import FastnstError, InputError, UsageError
from fastnst.files import check_output, is_folder, printable, write_bytes, write_stdout
from fastnst.formats import HEAD
from fastnst.image import SUFFIXES, Picture, encode_picture, looks_like_image, output_format
from fastnst.nets.bands import OnProgress
from fastnst.stylize import Hooks, Stylizer, read_content

log = logging.getLogger(__name__)

IN_HAND = 3  # pictures being read, stylized or written
_PICTURE_SUFFIXES = {*SUFFIXES, ".gif", ".avif"}


@dataclass(frozen=True)
class Job:
    """One picture to stylize and where to put it; "-" is standard input or output."""

    source: Path | str
    target: Path | str


@dataclass(frozen=True)
class Outcome:
    """A job that is done: written, or failed for a reason."""

    job: Job
    error: FastnstError | None = None


def plan(inputs: Sequence[str], output: str, options: StylizeOptions) -> list[Job]:
    """What to stylize and where to, with every output checked, before any work is done.

    Inputs are files, folders (searched recursively), glob patterns, or "-". One file goes to a file if the output is
    named like a picture, else into a folder.

    Raises UsageError for outputs that collide or are invalid, InputError if there is nothing to stylize, OutputError
    for an output that exists already or cannot be written.
    """
    several = len(inputs) != 1 or _is_many(inputs[0])
    suffix = "" if is_folder(output) or output.endswith("/") else Path(output).suffix.lower()
    if output == "-" or suffix in SUFFIXES:
        if several:
            raise UsageError(f"several pictures cannot all go to {printable(output)}; name a folder")
        jobs = [Job(_source(inputs[0]), output if output == "-" else Path(output))]
    else:
        if output == "" or (suffix and not several):
            output_format(output)  # says which names are possible
        jobs = _folder_jobs(inputs, Path(output), options)
        if not jobs:
            raise InputError(f"no pictures in {', '.join(map(printable, inputs))}; give files or folders with pictures")
    return _check_targets(jobs, options)


def run(
    stylizer: Stylizer, jobs: Sequence[Job], options: StylizeOptions, on_progress: OnProgress | None = None
) -> Iterator[Outcome]:
    """Stylize the jobs in order; a picture that fails is reported and the others go on, unless fail_fast.

    While one is stylized, others are read and written. `on_progress` gets the share of a picture in bands that is done.
    Problems of the output, such as a full disk, concern every picture and are raised.
    """
    stopped, busy = threading.Event(), list[float]()
    hooks = Hooks(on_progress=on_progress, on_busy=busy.append, stopped=stopped.is_set)
    started = time.perf_counter()

    def work(job: Job) -> FastnstError | None:
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


def _source(name: str) -> Path | str:
    return name if name == "-" else Path(name)


def _is_many(name: str) -> bool:
    return name != "-" and (is_folder(name) or (glob.has_magic(name) and not os.path.lexists(name)))


def _folder_jobs(inputs: Sequence[str], output: Path, options: StylizeOptions) -> list[Job]:
    jobs = []
    for name in inputs:
        if name == "-":
            raise UsageError("standard input cannot go into a folder; name a file with -o, or use -o -")
        if _is_many(name) and not is_folder(name):
            jobs += [
                Job(path, _target(path.name, path, output, options))
                for path in map(Path, sorted(glob.glob(name, recursive=True)))
                if _is_picture(path)
            ]
        elif is_folder(name):
            for path in _pictures_below(Path(name), output):
                jobs.append(Job(path, _target(path.relative_to(name), path, output, options)))
        else:
            jobs.append(Job(Path(name), _target(Path(name).name, Path(name), output, options)))
    return jobs


def _pictures_below(folder: Path, output: Path) -> list[Path]:
    """Pictures in a folder and below, except those an earlier run left in the output folder."""
    pictures = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _same(Path(root, name), output))
        pictures += [path for name in sorted(names) if _is_picture(path := Path(root, name))]
    return pictures


def _same(a: Path, b: Path) -> bool:
    return a.exists() and b.exists() and a.samefile(b)


def _is_picture(path: Path) -> bool:
    """By name or by first bytes: a damaged .jpg is a picture that will fail, a text file is none."""
    if path.suffix.lower() in _PICTURE_SUFFIXES:
        return not path.is_dir()
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return looks_like_image(file.read(HEAD)) is not None
    except OSError:
        return False


def _target(relative: str | Path, source: Path, output: Path, options: StylizeOptions) -> Path:
    suffix = "." + options.format if options.format else source.suffix.lower()
    if suffix not in SUFFIXES:
        suffix = ".png"
    kept = Path(relative)
    if kept.suffix.lower() == suffix:
        return output / kept
    if kept.suffix.lower() in _PICTURE_SUFFIXES:
        return output / kept.with_suffix(suffix)
    return output / kept.with_name(kept.name + suffix)


def _check_targets(jobs: list[Job], options: StylizeOptions) -> list[Job]:
    """Refuse collisions and existing outputs; leave out finished ones with skip_existing."""
    seen: dict[Path, Job] = {}
    for job in jobs:
        if isinstance(job.target, str):
            continue
        if job.target in seen:
            both = f"{printable(seen[job.target].source)} and {printable(job.source)}"
            raise UsageError(f"{both} would both become {printable(job.target)}; paint them into different folders")
        seen[job.target] = job
    if options.skip_existing:
        jobs = [job for job in jobs if isinstance(job.target, str) or not os.path.lexists(job.target)]
    for job in jobs:
        if isinstance(job.target, Path):
            check_output(job.target, overwrite=options.overwrite)
    return jobs
