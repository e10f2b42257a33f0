"""Commands that stylize: stylize, styles, sheet."""

import json
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from fastnst.cli.app import JsonVerbosity, Verbosity, app
from fastnst.config import ClipOptions, OnnxOptions, SheetConfig, StyleOptions, StylizeOptions
from fastnst.errors import UsageError
from fastnst.files import printable, refuse_address

if TYPE_CHECKING:
    from fastnst.folder import Job, Outcome
    from fastnst.nets.bands import OnProgress
    from fastnst.stylize import Stylizer


@app.command
def stylize(
    inputs: Annotated[list[str], Parameter(name="INPUT", consume_multiple=True)],
    /,
    *,
    output: Annotated[str, Parameter(alias="-o")],
    style: StyleOptions = StyleOptions(),
    options: StylizeOptions = StylizeOptions(),
    onnx: OnnxOptions = OnnxOptions(),
    clip: ClipOptions = ClipOptions(),
    seed: int = 0,  # noqa: ARG001
    verbosity: JsonVerbosity = JsonVerbosity(),
) -> int:
    """Stylize pictures and clips.

    Parameters
    ----------
    inputs:
        pictures, videos, folders or glob patterns, - is standard input; or one animation
    output:
        a .jpg, .png or .webp file, or a folder, - is standard output; for one clip .mp4, .mov, .mkv, .webm or .gif
    seed:
        accepted everywhere; nothing here is drawn at random
    """
    verbosity.start()
    from fastnst.folder import is_in_share, is_many
    from fastnst.stylize import Stylizer, inside_and_outside
    from fastnst.video.jobs import plan_jobs
    from fastnst.video.stylize import plan_clip

    for name in (*inputs, output):
        refuse_address(name)
    inside, outside = inside_and_outside(style.style, options, style.mix or None)
    open_style = partial(
        Stylizer.open,
        inside,
        mix=style.mix or None,
        outside=outside,
        engine=style.engine,
        device=style.device,
        onnx=onnx,
    )
    if output == "-" and sys.stdout.isatty():
        raise UsageError("a picture will not be written to a terminal; add > painting.png")
    if (job := plan_clip(inputs, output, options, clip)) is not None:
        there = options.skip_existing and os.path.lexists(job.target)
        if there or not is_in_share(PurePath(PurePath(inputs[0]).name), options):
            return 0
        return _stylize_clip(open_style(), job, options, clip, verbosity)
    jobs = plan_jobs(inputs, output, options, clip)
    single = len(jobs) == 1 and len(inputs) == 1 and not is_many(inputs[0])
    with closing(_stylize_jobs(open_style, jobs, options, clip, single, verbosity)) as outcomes:
        return _report_outcomes(outcomes, len(jobs), output, verbosity)


def _stylize_jobs(
    open_style: "Callable[[], Stylizer]",
    jobs: "list[Job]",
    options: StylizeOptions,
    clip: ClipOptions,
    single: bool,
    verbosity: JsonVerbosity,
) -> "Generator[Outcome]":
    """What became of each job; progress counts them, or the shares of a single one whose failure is raised."""
    from fastnst.progress import Progress
    from fastnst.video.jobs import run_jobs

    if not jobs:  # all outputs exist
        return
    stylizer = open_style()
    if single:
        with _shares(verbosity) as on_progress:
            for outcome in run_jobs(stylizer, jobs, options, clip, on_progress):
                if outcome.error is not None:
                    raise outcome.error
                yield outcome
        return
    unit = "file" if any(job.clip for job in jobs) else "picture"
    with Progress("stylizing", len(jobs), unit, quiet=verbosity.quiet) as progress:

        def on_frame(done: int, total: int) -> None:
            progress.at(progress.done, f"frame {done} of {total}")

        for outcome in run_jobs(stylizer, jobs, options, clip, on_frame=on_frame):
            progress.advance()
            yield outcome


@contextmanager
def _shares(verbosity: JsonVerbosity) -> "Iterator[OnProgress]":
    """Progress of one picture in bands, which begins with the first of them: other pictures show none."""
    from fastnst.progress import Progress

    with ExitStack() as stack:
        progress: Progress | None = None

        def on_progress(share: float) -> None:
            nonlocal progress
            if progress is None:
                progress = stack.enter_context(Progress("stylizing", 100, "%", quiet=verbosity.quiet))
            if int(100 * share) > progress.done:
                progress.at(int(100 * share))

        yield on_progress


def _report_outcomes(outcomes: "Iterable[Outcome]", count: int, output: str, verbosity: JsonVerbosity) -> int:
    """Print each result as it comes, and a summary; the exit status."""
    written: list[str] = []
    failed: list[dict[str, str]] = []
    units = "pictures"
    for outcome in outcomes:
        units = "files" if outcome.job.clip else units
        if (problem := outcome.error or outcome.problem) is not None:
            failed.append({"input": printable(outcome.job.source), "error": str(problem)})
        if outcome.error is not None:
            print(f"fastnst: {outcome.error}", file=sys.stderr)
            continue
        written.append(printable(outcome.job.target))
        if outcome.job.target != "-" and not verbosity.as_json:
            print(printable(outcome.job.target), flush=True)
    if verbosity.as_json:
        print(json.dumps({"written": written, "failed": failed}), file=sys.stderr if output == "-" else sys.stdout)
    if failed:
        print(f"fastnst: {len(written)} of {count} {units} painted, {len(failed)} failed", file=sys.stderr)
    return 1 if failed else 0


def _stylize_clip(
    stylizer: "Stylizer", job: "Job", options: StylizeOptions, clip: ClipOptions, verbosity: JsonVerbosity
) -> int:
    from fastnst.progress import Progress
    from fastnst.video.stylize import stylize_clip

    with Progress("stylizing", 1, "frame", quiet=verbosity.quiet) as progress:

        def on_frame(done: int, total: int) -> None:
            progress.total = total
            progress.at(done)

        stylized = stylize_clip(stylizer, job, options, clip, on_frame)
    path = printable(stylized.path)
    failed = [{"input": printable(job.source), "error": stylized.problem}] if stylized.problem else []
    print(json.dumps({"written": [path], "frames": stylized.frames, "failed": failed}) if verbosity.as_json else path)
    return 1 if failed else 0


@app.command
def styles(*, verbosity: JsonVerbosity = JsonVerbosity()) -> int:
    """List the bundled styles, one a line, its name first."""
    verbosity.start()
    from fastnst.styles import DEFAULT_STYLE, bundled_styles

    bundled = bundled_styles()
    if verbosity.as_json:
        print(
            json.dumps(
                [
                    {"name": s.name, "credit": s.credit, "preset": s.preset, "default": s.name == DEFAULT_STYLE}
                    for s in bundled
                ]
            )
        )
        return 0
    width = max(len(style.name) for style in bundled)
    for style in bundled:
        mark = "  (default)" if style.name == DEFAULT_STYLE else ""
        print(f"{style.name:<{width}}  {style.credit}{mark}")
    return 0


@app.command
def sheet(config: SheetConfig, *, verbosity: Verbosity = Verbosity()) -> int:
    """Stylize one photo in all bundled styles, on one labeled sheet."""
    verbosity.start()
    from fastnst.sheet import stylize_sheet

    print(printable(stylize_sheet(config)))
    return 0
