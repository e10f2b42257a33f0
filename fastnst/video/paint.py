"""Clips through a style: decode -> paint -> encode, each in its own thread, with a bounded number of frames between."""

import glob
import logging
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from fastnst.config import ClipOptions, StylizeOptions
from fastnst.errors import Interrupted, UsageError
from fastnst.files import atomic_write, check_output, is_folder, printable
from fastnst.folder import Job
from fastnst.image import Pixels, looks_like_image, open_regular, resize
from fastnst.nets.bands import Vector
from fastnst.stylize import Hooks, Stylizer
from fastnst.video.animation import KINDS, Frame, Writer
from fastnst.video.clip import VIDEOS, Reader, Sound, VideoWriter, is_video, open_clip, open_writer

log = logging.getLogger(__name__)

_FASTEST_GIF = Fraction(2, 100)  # seconds; browsers show what is shorter for a tenth of a second
_PATIENCE = 0.1  # seconds between looks at whether the other side is still there
# At a cut so large a share of the pixels has another color, and a frame differs by so many gray levels on average, and
# by so many times what the frames before differed.
_CUT_COLORS, _CUT_LEVELS, _CUT_TIMES = 0.3, 12.0, 2.0

T = TypeVar("T")
OnFrame = Callable[[int, int], None]  # frames painted, and about how many there are


@dataclass(frozen=True)
class Painted:
    """How a clip went: its file, its frames, and what was wrong with the input, if anything."""

    path: Path
    frames: int
    problem: str | None


def plan_clip(inputs: Sequence[str], output: str, options: StylizeOptions, clip: ClipOptions) -> Job | None:
    """The clip to paint and where to, its output checked; None if the inputs are to be painted as pictures.

    A clip is a video, by its first bytes, or what goes to a .gif, or with frames="all" to a .png or .webp. A video that
    goes to a folder keeps its name and, where it can be written, its kind.

    Raises UsageError for what cannot be meant, OutputError for an output that exists or cannot be written.
    """
    suffix = "" if output == "-" or is_folder(output) or output.endswith("/") else Path(output).suffix.lower()
    moving = suffix in VIDEOS or suffix == ".gif" or (options.frames == "all" and suffix in KINDS)
    videos = [name for name in inputs if _begins_a_video(name)]
    if not (moving or videos):
        if clip != ClipOptions(batch_size=clip.batch_size):
            raise UsageError("--start and --end cut clips; give a video, or name the output .mp4 or .gif")
        if options.frames == "all":
            raise UsageError(
                f"--frames all makes an animation; name it .gif, .png, .webp or .mp4, not {printable(output)}"
            )
        return None
    if len(inputs) != 1 or inputs[0] == "-" or is_folder(inputs[0]) or (not videos and glob.has_magic(inputs[0])):
        raise UsageError(
            f"give one clip at a time, as a file; {printable(videos[0]) if videos else printable(output)} is one"
        )
    source = Path(inputs[0])
    target = Path(output)
    if not moving:
        if suffix in KINDS:
            raise UsageError(
                f"{printable(source)} is a video; name the output .mp4, or add --frames all for an animation"
            )
        if suffix or output in ("", "-"):
            names = ", ".join([*VIDEOS, *KINDS])
            raise UsageError(f"cannot write a clip to {printable(output) or 'nothing'}: the name must end in {names}")
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


def paint_clip(
    stylizer: Stylizer,
    job: Job,
    options: StylizeOptions,
    clip: ClipOptions = ClipOptions(),  # noqa: B008
    on_frame: OnFrame = lambda _, __: None,
) -> Painted:
    """Paint a clip into a file; frames keep their times, sound comes with them.

    SIGINT and SIGTERM finish the file with what is painted, under the name of `part_of`, and raise Interrupted.

    Raises InputError if there is nothing to paint, OutputError if it cannot be written: then nothing is left.
    """
    target = Path(job.target)
    with open_clip(Path(job.source), clip.start or 0, clip.end) as reader:
        with atomic_write(target, part_of(target)) as file:
            writer = open_writer(file, target.suffix.lower(), reader, options.quality)
            done = _Pipeline(stylizer, reader, writer, options, clip, on_frame).run(target)
        if reader.problem:
            log.warning("%s", reader.problem)
        return Painted(target, done, reader.problem)


def part_of(target: Path) -> Path:
    """Where the beginning of a clip is kept when painting was interrupted."""
    return target.with_name(f"{target.stem}.part{target.suffix}")


class _Pipeline:
    """Reading and writing in threads of their own, painting in between."""

    def __init__(
        self,
        stylizer: Stylizer,
        reader: Reader,
        writer: Writer,
        options: StylizeOptions,
        clip: ClipOptions,
        on_frame: OnFrame,
    ) -> None:
        self.stylizer, self.reader, self.writer, self.options = stylizer, reader, writer, options
        self.batch_size, self.on_frame = clip.batch_size, on_frame
        self.cut = CutDetector()
        self.smoothed = [SmoothedStatistics(clip.smooth) for _ in range(2)] if clip.smooth else []
        self.hooks = Hooks(on_moments=self.smoothed[0], outside_moments=self.smoothed[1]) if clip.smooth else Hooks()
        self.size: tuple[int, int] | None = None  # of the painted frames
        self.done = 0

    def run(self, target: Path) -> int:
        """Paint all of it and make the file complete; how many frames there were."""
        incoming = _Conveyor(self._thinned(target), 2 * self.batch_size + 2)
        outgoing: _Outlet = _Outlet(self._write, 2 * self.batch_size + 2)
        try:
            try:
                self._paint_all(incoming, outgoing)
                outgoing.finish()
            except KeyboardInterrupt as error:
                incoming.stop()
                if self.done == 0:
                    raise
                outgoing.finish()
                self.writer.close()
                number = error.args[0] if error.args else signal.SIGINT
                name = signal.Signals(number).name
                raise Interrupted(
                    f"stopped by {name} after {self.done} of about {self.reader.frames} frames; "
                    f"they are in {printable(part_of(target))}",
                    number,
                ) from None
            self.writer.close()
        finally:
            incoming.stop()
            outgoing.stop()
        return self.done

    def _thinned(self, target: Path) -> Iterator[Frame | Sound]:
        """What is read, less the frames of a fast video that a GIF could not show in time."""
        last: Frame | None = None
        for item in self.reader:
            if target.suffix.lower() != ".gif" or self.reader.rate is None or isinstance(item, Sound):
                yield item
            elif last is None:
                last = item
            elif round(item.start * 100) - round(last.start * 100) < _FASTEST_GIF * 100:
                last = replace(last, length=item.start + item.length - last.start)
            else:
                yield replace(last, length=item.start - last.start)
                last = item
        if last is not None:
            yield last

    def _paint_all(self, items: Iterable[Frame | Sound], outgoing: "_Outlet") -> None:
        batch: list[Frame] = []
        for item in items:
            if isinstance(item, Sound):
                outgoing.put(item)
                continue
            if self.smoothed and self.cut(item.picture.rgb):
                if batch:
                    self._paint(batch, outgoing)
                    batch = []
                for smoothed in self.smoothed:
                    smoothed.reset()
            if batch and batch[0].picture.size != item.picture.size:
                self._paint(batch, outgoing)
                batch = []
            batch.append(item)
            if len(batch) == self.batch_size:
                self._paint(batch, outgoing)
                batch = []
        if batch:
            self._paint(batch, outgoing)

    def _paint(self, batch: Sequence[Frame], outgoing: "_Outlet") -> None:
        pictures = self.stylizer.stylize_pictures([frame.picture for frame in batch], self.options, self.hooks)
        for frame, picture in zip(batch, pictures, strict=True):
            self.size = self.size or picture.size
            if picture.size != self.size:  # a video may change its size on the way, a file has one
                picture = resize(picture, *self.size)
            outgoing.put(replace(frame, picture=picture))
            self.done += 1
            self.on_frame(self.done, max(self.done, self.reader.frames))

    def _write(self, item: Frame | Sound) -> None:
        if isinstance(item, Frame):
            self.writer.write(item)
        elif isinstance(self.writer, VideoWriter):
            self.writer.sound(item)


class _Conveyor(Generic[T]):
    """Items made ahead in a thread; an error there is raised here, in its turn."""

    def __init__(self, items: Iterable[T], size: int) -> None:
        self.waiting: queue.Queue[Any] = queue.Queue(size)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._fill, args=(items,), daemon=True)
        self.thread.start()

    def _fill(self, items: Iterable[T]) -> None:
        try:
            for item in items:
                self._put((item, None))
                if self.stopping.is_set():
                    return
            self._put((None, StopIteration()))
        except BaseException as error:
            self._put((None, error))

    def _put(self, item: Any) -> None:
        while not self.stopping.is_set():
            with suppress(queue.Full):
                self.waiting.put(item, timeout=_PATIENCE)
                return

    def __iter__(self) -> Iterator[T]:
        while True:
            item, error = self.waiting.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join()


class _Outlet:
    """Items taken by a thread; an error there is raised by the next call."""

    def __init__(self, take: Callable[[Any], None], size: int) -> None:
        self.take = take
        self.waiting: queue.Queue[Any] = queue.Queue(size)
        self.stopping = threading.Event()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._empty, daemon=True)
        self.thread.start()

    def _empty(self) -> None:
        try:
            while not self.stopping.is_set():
                with suppress(queue.Empty):
                    item = self.waiting.get(timeout=_PATIENCE)
                    if item is None:
                        return
                    self.take(item)
        except BaseException as error:
            self.error = error

    def put(self, item: Any) -> None:
        while self.thread.is_alive():
            with suppress(queue.Full):
                self.waiting.put(item, timeout=_PATIENCE)
                return
        self._check()

    def finish(self) -> None:
        """Wait until everything is taken."""
        self.put(None)
        self.thread.join()
        self._check()

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join()

    def _check(self) -> None:
        if self.error is not None:
            raise self.error


class CutDetector:
    """Whether a frame begins another scene than the frame before it; a pan, a fade and noise do not.

    At a cut two things change at once: which colors there are, which movement within a scene leaves alone, and where
    they are, by more than the frames before did, which the slow change of all colors in a fade does not.
    """

    def __init__(self) -> None:
        self.before: tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]] | None = None
        self.usual = 0.0

    def __call__(self, rgb: Pixels) -> bool:
        """Whether this frame, uint8 (H, W, 3), is the first of a scene; the very first is none."""
        small = np.asarray(Image.fromarray(rgb).resize((48, 48), Image.Resampling.BOX))
        thumbnail = small.reshape(16, 3, 16, 3, 3).mean((1, 3), dtype=np.float32)
        cells = (small.reshape(-1, 3) >> 5) @ np.array([64, 8, 1])  # of 8x8x8 colors
        colors = np.bincount(cells, minlength=512) / len(cells)
        before, self.before = self.before, (thumbnail, colors)
        if before is None:
            return False
        change = float(np.abs(thumbnail - before[0]).mean())
        other = float(np.abs(colors - before[1]).sum()) / 2
        if other > _CUT_COLORS and change > max(_CUT_LEVELS, _CUT_TIMES * self.usual):
            self.usual = 0.0
            return True
        self.usual += (change - self.usual) / 4
        return False


class SmoothedStatistics:
    """The statistics of each normalization layer, averaged over the frames of a scene: what is lit stays lit.

    An exponential average: `smooth` is the share of the past, 0 is none. Reset at cuts.
    """

    def __init__(self, smooth: float) -> None:
        if not 0 <= smooth < 1:
            raise UsageError(f"--smooth is {smooth} but must be at least 0 and less than 1")
        self.smooth = smooth
        self.averages: dict[str, tuple[Vector, Vector]] = {}

    def __call__(self, layer: str, mean: Vector, variance: Vector) -> tuple[Vector, Vector]:
        """The average with those of the frame that is painted now, arrays of one shape per layer."""
        if layer in self.averages:
            old_mean, old_variance = self.averages[layer]
            mean = self.smooth * old_mean + (1 - self.smooth) * mean
            variance = self.smooth * old_variance + (1 - self.smooth) * variance
        self.averages[layer] = mean, variance
        return mean, variance

    def reset(self) -> None:
        """Forget the scene before a cut."""
        self.averages.clear()


def _begins_a_video(name: str) -> bool:
    if name == "-" or not os.path.isfile(name):  # noqa: PTH113
        return False
    with suppress(Exception), open_regular(Path(name)) as file:
        return is_video(file.read(16)) is not None
    return False


def _is_jpeg(path: Path) -> bool:
    with open_regular(path) as file:
        return looks_like_image(file.read(16)) == "JPEG"
