"""Clips through a style: read, stylized and written at the same time, with a bounded number of frames in between."""

import glob
import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from fastnst.ahead import each_ahead, read_ahead
from fastnst.config import ClipOptions, StylizeOptions
from fastnst.decode.formats import looks_like_image
from fastnst.errors import Interrupted, UsageError
from fastnst.files import atomic_write, check_output, is_folder, printable
from fastnst.folder import Job, is_many
from fastnst.image import open_regular, resize
from fastnst.stylize import Hooks, Stylizer
from fastnst.video.containers import HEAD, is_video
from fastnst.video.cuts import CutDetector, SmoothedStatistics
from fastnst.video.frames import Frame, Sound
from fastnst.video.movie import VIDEOS, VideoWriter
from fastnst.video.read import Reader, open_clip
from fastnst.video.write import ANIMATIONS, Writer, open_writer

log = logging.getLogger(__name__)

_GIF_UNIT, _FASTEST_GIF = Fraction(1, 100), 2  # seconds; browsers show what is shorter for a tenth of a second

OnFrame = Callable[[int, int], None]  # the number of frames stylized, and about how many there are


@dataclass(frozen=True)
class StylizedClip:
    """How a clip went: its file, the number of its frames, and what was wrong with the input, if anything.

    `seconds` is how long its parts took before they were joined.
    """

    path: Path
    frames: int
    problem: str | None
    seconds: float = 0.0


def plan_clip(inputs: Sequence[str], output: str, options: StylizeOptions, clip: ClipOptions) -> Job | None:
    """The one clip to stylize and where to, its output checked; None for a picture, or what goes to a folder as files.

    A clip is a video, by its first bytes, or what goes to a .gif, or with frames="all" to a .png or .webp. A video that
    goes to a folder keeps its name and, where it can be written, its kind.

    Raises UsageError for invalid inputs or outputs, OutputError for an output that exists or cannot be written.
    """
    suffix = "" if output == "-" or is_folder(output) or output.endswith("/") else Path(output).suffix.lower()
    moving = suffix in VIDEOS or suffix == ".gif" or (options.frames == "all" and suffix in ANIMATIONS)
    if not moving and (len(inputs) != 1 or is_many(inputs[0])):
        return None
    videos = [name for name in inputs if begins_a_video(name)]
    if not (moving or videos):
        check_pictures(output, options, clip)
        return None
    _check_single(inputs, output, videos)
    source, target = Path(inputs[0]), Path(output)
    if not moving:
        _check_folder(source, output, suffix)
        target = target / (source.name if source.suffix.lower() in VIDEOS else f"{source.stem}.mp4")
    elif not videos and _is_jpeg(source):
        raise UsageError(f"{printable(source)} is one picture; name the output .jpg, .png or .webp")
    if target.suffix.lower() in VIDEOS:
        import av  # noqa: F401 (missed now, not after the work)
    elif options.frames == "reject" and not videos:
        raise UsageError(f"--frames reject refuses animations, but {printable(target)} is one; leave one of them out")
    if not (options.skip_existing and os.path.lexists(target)):
        check_output(target, overwrite=options.overwrite)
    return Job(source, target)


def check_pictures(output: str, options: StylizeOptions, clip: ClipOptions) -> None:
    """UsageError for options of clips where no clip is."""
    if clip != ClipOptions(batch_size=clip.batch_size):
        raise UsageError("--start and --end cut clips; give a video, or name the output .mp4 or .gif")
    if options.frames == "all":
        raise UsageError(f"--frames all makes an animation; name it .gif, .png, .webp or .mp4, not {printable(output)}")


def _check_single(inputs: Sequence[str], output: str, videos: Sequence[str]) -> None:
    """UsageError unless there is one input, a file."""
    if len(inputs) != 1 or inputs[0] == "-" or is_folder(inputs[0]) or (not videos and glob.has_magic(inputs[0])):
        clip = printable(videos[0] if videos else output)
        raise UsageError(f"give one clip at a time, as a file; {clip} is one")


def _check_folder(source: Path, output: str, suffix: str) -> None:
    """UsageError unless the output of a video that is not named like a clip may be a folder."""
    if suffix in ANIMATIONS:
        raise UsageError(f"{printable(source)} is a video; name the output .mp4, or add --frames all for an animation")
    if suffix or output in ("", "-"):
        names = ", ".join([*VIDEOS, *ANIMATIONS])
        raise UsageError(f"cannot write a clip to {printable(output) or 'nothing'}: the name must end in {names}")


def begins_a_video(name: str | Path) -> bool:
    """Whether a file is a video by its first bytes."""
    if name == "-" or not os.path.isfile(name):  # noqa: PTH113
        return False
    with suppress(Exception), open_regular(Path(name)) as file:
        return is_video(file.read(HEAD)) is not None
    return False


def _is_jpeg(path: Path) -> bool:
    with open_regular(path) as file:
        return looks_like_image(file.read(HEAD)) == "JPEG"


def stylize_clip(
    stylizer: Stylizer,
    job: Job,
    options: StylizeOptions,
    clip: ClipOptions = ClipOptions(),  # noqa: B008
    on_frame: OnFrame = lambda _, __: None,
) -> StylizedClip:
    """Stylize a clip into a file; frames keep their times, sound comes with them.

    SIGINT and SIGTERM finish the file with what is stylized, under the name of `part_of`, and raise Interrupted.

    Raises InputError if there is nothing to stylize, OutputError if it cannot be written: then nothing is left.
    """
    with open_clip(Path(job.source), clip.start or 0, clip.end) as reader:
        return stylize_opened(stylizer, reader, Path(job.target), options, clip, on_frame)


def stylize_opened(
    stylizer: Stylizer,
    reader: Reader,
    target: Path,
    options: StylizeOptions,
    clip: ClipOptions,
    on_frame: OnFrame = lambda _, __: None,
    *,
    keep: bool = True,
) -> StylizedClip:
    """The same for an open clip; without `keep`, nothing is left of what is interrupted, by KeyboardInterrupt."""
    with atomic_write(target, part_of(target)) as file:
        writer = open_writer(file, target.suffix.lower(), reader.format, options.quality)
        thinned = target.suffix.lower() == ".gif" and reader.format.rate is not None
        items = _thinned(reader) if thinned else iter(reader)
        pipeline = Pipeline(stylizer, reader, writer, options, clip, on_frame)
        frames = pipeline.run(items, target if keep else None)
    if reader.problem:
        log.warning("%s", reader.problem)
    return StylizedClip(target, frames, reader.problem)


def part_of(target: Path) -> Path:
    """Where the beginning of a clip is kept when stylizing was interrupted."""
    return target.with_name(f"{target.stem}.part{target.suffix}")


def _thinned(items: Iterable[Frame | Sound]) -> Iterator[Frame | Sound]:
    """Items of a video, less the frames that a GIF could not show in time."""
    last: Frame | None = None
    for item in items:
        if isinstance(item, Sound):
            yield item
            continue
        if last is None:
            last = item
            continue
        until = replace(last, length=item.start - last.start)
        if until.ticks(_GIF_UNIT)[1] < _FASTEST_GIF:
            last = replace(last, length=item.end - last.start)
        else:
            yield until
            last = item
    if last is not None:
        yield last


class Pipeline:
    """A clip on its way: a thread reads ahead and one writes, in between frames are stylized.

    Of a part of a clip, frames that begin before `shown` are painted but not written, and all have `size`, that of the
    clip's first.
    """

    def __init__(
        self,
        stylizer: Stylizer,
        reader: Reader,
        writer: Writer,
        options: StylizeOptions,
        clip: ClipOptions,
        on_frame: OnFrame,
        shown: Fraction | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        self.stylizer, self.reader, self.writer, self.options = stylizer, reader, writer, options
        self.batch_size, self.on_frame = clip.batch_size, on_frame
        self.cut = CutDetector()
        self.smoothed = [SmoothedStatistics(clip.smooth) for _ in range(2)] if clip.smooth else []
        self.hooks = Hooks(on_moments=self.smoothed[0], outside_moments=self.smoothed[1]) if clip.smooth else Hooks()
        self.shown, self.size = shown, size
        self.written = 0
        self.failure: BaseException | None = None  # of writing

    def run(self, items: Iterator[Frame | Sound], target: Path | None) -> int:
        """Stylize all of it and make the file complete; the number of its frames.

        When that is interrupted, what there is becomes complete in the place of the target, if given.
        """
        limit = 2 * self.batch_size + 2
        try:
            with (
                closing(read_ahead(items, limit)) as incoming,
                # What is stylized is written, even if the work is interrupted.
                closing(each_ahead(self._write, self._stylized(incoming), 1, limit, finish=True)) as written,
            ):
                for _ in written:
                    pass
        except KeyboardInterrupt as error:
            if self.failure is not None:
                raise self.failure from None
            if self.written == 0 or target is None:
                raise
            self.writer.close()
            raise self._interrupted(error, target) from None
        self.writer.close()
        return self.written

    def _stylized(self, items: Iterable[Frame | Sound]) -> Iterator[Frame | Sound]:
        """The same items with stylized pictures."""
        done = 0
        for batch in self._batches(items):
            if isinstance(batch, Sound):
                yield batch
                continue
            pictures = self.stylizer.stylize_pictures([frame.picture for frame in batch], self.options, self.hooks)
            for frame, picture in zip(batch, pictures, strict=True):
                if self.shown is not None and frame.start < self.shown:
                    continue
                self.size = self.size or picture.size
                if picture.size != self.size:  # a video may change its size on the way, a file has one
                    picture = resize(picture, *self.size)
                yield replace(frame, picture=picture)
                done += 1
                self.on_frame(done, max(done, self.reader.frames))

    def _batches(self, items: Iterable[Frame | Sound]) -> Iterator[list[Frame] | Sound]:
        """Frames of one size and scene that are stylized at once; a new scene forgets the statistics of the one before.

        Sound does not wait for the frames around it.
        """
        batch: list[Frame] = []
        for item in items:
            if isinstance(item, Sound):
                yield item
                continue
            cut = bool(self.smoothed) and self.cut(item.picture.rgb)
            if batch and (cut or batch[0].picture.size != item.picture.size):
                yield batch
                batch = []
            if cut:
                for smoothed in self.smoothed:
                    smoothed.reset()
            batch.append(item)
            if len(batch) == self.batch_size:
                yield batch
                batch = []
        if batch:
            yield batch

    def _write(self, item: Frame | Sound) -> None:
        if self.failure is not None:
            return
        try:
            if isinstance(item, Frame):
                self.writer.write(item)
                self.written += 1
            elif isinstance(self.writer, VideoWriter):
                self.writer.sound(item)
        except BaseException as error:
            self.failure = error
            raise

    def _interrupted(self, error: KeyboardInterrupt, target: Path) -> Interrupted:
        number = error.args[0] if error.args else signal.SIGINT
        return Interrupted(
            f"stopped by {signal.Signals(number).name} after {self.written} of about {self.reader.frames} frames; "
            f"they are in {printable(part_of(target))}",
            number,
        )
