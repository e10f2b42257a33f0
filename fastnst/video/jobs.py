"""Pictures and clips among the files of one command: which is which, and all of them stylized in order."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from itertools import groupby
from pathlib import Path

from fastnst.config import ClipOptions, StylizeOptions
from fastnst.errors import FastnstError, Interrupted, OutputError, UnavailableError
from fastnst.files import printable
from fastnst.folder import Job, Outcome, plan, run
from fastnst.nets.bands import OnProgress
from fastnst.stylize import Stylizer
from fastnst.video.movie import VIDEOS
from fastnst.video.stylize import OnFrame, begins_a_video, check_pictures, stylize_clip


def plan_jobs(inputs: Sequence[str], output: str, options: StylizeOptions, clip: ClipOptions) -> list[Job]:
    """What to stylize and where to, as folder.plan says; a video keeps its kind where it can be written.

    Raises what folder.plan raises, and UsageError for options of clips where there is none, unless in another shard.
    """
    jobs = plan(inputs, output, options, clip_suffix)
    if not any(job.clip for job in jobs):
        clip = ClipOptions() if options.shard is not None else clip
        check_pictures(output, options, clip)
    elif not all(job.clip for job in jobs):
        check_pictures(output, options, ClipOptions())
    return jobs


def clip_suffix(path: Path) -> str | None:
    """The suffix of what becomes of a video; None for another file."""
    if not begins_a_video(path):
        return None
    suffix = path.suffix.lower()
    return suffix if suffix in VIDEOS else ".mp4"


def run_jobs(
    stylizer: Stylizer,
    jobs: Sequence[Job],
    options: StylizeOptions,
    clip: ClipOptions,
    on_progress: OnProgress | None = None,
    on_frame: OnFrame = lambda _, __: None,
) -> Iterator[Outcome]:
    """Stylize pictures and clips in order; what fails is reported and the others go on, unless fail_fast.

    `on_progress` gets the share of a picture in bands that is done, `on_frame` the frames of a clip. Problems of the
    output, and Interrupted, are raised.
    """

    def stylized(job: Job) -> Outcome:
        return _stylize_clip(stylizer, job, options, clip, on_frame)

    for moving, group in groupby(jobs, key=lambda job: job.clip):
        some = list(group)
        with closing(_each(stylized, some) if moving else run(stylizer, some, options, on_progress)) as outcomes:
            for outcome in outcomes:
                yield outcome
                if outcome.error is not None and options.fail_fast:
                    return


def _each(stylized: Callable[[Job], Outcome], jobs: Sequence[Job]) -> Generator[Outcome]:
    yield from map(stylized, jobs)


def _stylize_clip(
    stylizer: Stylizer, job: Job, options: StylizeOptions, clip: ClipOptions, on_frame: OnFrame
) -> Outcome:
    try:
        return Outcome(job, problem=stylize_clip(stylizer, job, options, clip, on_frame).problem)
    except (OutputError, Interrupted):
        raise
    except ModuleNotFoundError as error:
        name = printable(job.source)
        return Outcome(
            job,
            UnavailableError(f'{name} is a video, which needs the package {error.name}; pip install "fastnst[video]"'),
        )
    except FastnstError as error:
        return Outcome(job, error)
