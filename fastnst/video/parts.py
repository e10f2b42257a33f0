"""A long clip cut at key frames into parts that are painted apart, and joined into the file that it becomes in one go.

Parts hold painted frames without loss, and the clip is encoded once, when they are joined: so the file is the same as
in one go. What encoders make of a frame depends on all before it, across key frames: of parts encoded apart and joined,
frames were 2.0 gray levels from those in one go on average, 3.3 at most (H.264, parts of 50 frames of 640x360, painted
by great-wave-tiny). It costs disk, 7 times the finished clip while it is made, and one process does all encoding.
"""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np

from fastnst.ahead import read_ahead
from fastnst.config import ClipOptions, StylizeOptions
from fastnst.errors import InputError
from fastnst.files import atomic_write
from fastnst.image import Picture, shrink
from fastnst.stylize import Stylizer
from fastnst.video.containers import JOINED
from fastnst.video.cuts import CutDetector
from fastnst.video.frames import Frame, Sound, Stretch
from fastnst.video.lossless import LosslessReader, LosslessWriter
from fastnst.video.movie import Encodable, VideoWriter
from fastnst.video.read import VideoReader, open_clip
from fastnst.video.sources import Source
from fastnst.video.stylize import OnFrame, Pipeline, StylizedClip
from fastnst.video.times import Splices, packets_of

_FORGOTTEN = 0.03  # share of a frame in smoothed statistics that does not show
_USUAL = 16  # frames after which a detector of cuts knows what is usual
_INSTANT = Fraction(1, 10**9)  # seconds
_IN_HAND = 4  # frames


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a clip. `size` is the height and width of the clip's first frame, which all frames get.

    With smoothing, frames of `warmth`, before the part, are painted first, and not kept.
    """

    number: int
    stretch: Stretch
    frames: int
    size: tuple[int, int]
    warmth: Stretch | None = None


def plan_parts(source: Path | Source, seconds: float, clip: ClipOptions) -> list[Part]:
    """Parts of a clip, in order, that begin with key frames and are about so many seconds long; none if it stays whole.

    Whole stay clips that are not longer, have no other key frame, or are animations; and those where a reader that
    begins in the middle could not tell the times of frames: without times in their file, with times that are twice the
    same or missing, of B-frames in AVI and WMV, of recordings that were joined. Reads all of the file.

    Raises InputError for what cannot be opened.
    """
    with open_clip(source, clip.start or 0, clip.end) as reader:
        if not isinstance(reader, VideoReader) or (reader.said is not None and reader.said <= seconds):
            return []
        start, end = reader.start, reader.end
        times = _frame_times(reader)
    cuts = _cuts(times, Fraction(seconds).limit_denominator(10**6), start, end)
    if not cuts:
        return []
    starts = [at for at, _ in times]
    shown = [number for number, at in enumerate(starts) if at >= start and (end is None or at < end)]
    bounds = [shown[0], *(starts.index(cut) for cut in cuts), shown[-1] + 1]
    size = _first_size(source, clip)
    return [
        Part(
            number,
            Stretch(starts[first] if number else None, None if number == len(cuts) else starts[last]),
            last - first,
            size,
            _warmth(starts, first, shown[0], clip.smooth) if number and clip.smooth else None,
        )
        for number, (first, last) in enumerate(pairwise(bounds))
    ]


def _frame_times(reader: VideoReader) -> list[tuple[Fraction, bool]]:
    """When each frame begins, in the order of showing, and whether it is a key frame; none if that is not certain."""
    import av

    clock = reader.clock
    if clock.stamps == "none" or clock.delay:
        return []
    splices, times = Splices(reader.kind in JOINED), list[tuple[Fraction, bool]]()
    try:
        for packet in splices(packets_of(reader.container)):
            if packet.stream.index != reader.stream.index or not packet.size or packet.is_discard:
                continue
            stamp = packet.pts if clock.stamps == "pts" else packet.dts
            if stamp is None:
                return []
            times.append((reader.times.start(stamp, packet.time_base), packet.is_keyframe))
    except (av.FFmpegError, ValueError):
        pass  # of a clip that is damaged, what can be read is painted
    reader.check()
    times.sort()
    return [] if splices.shift or any(a[0] == b[0] for a, b in pairwise(times)) else times


def _cuts(
    times: Sequence[tuple[Fraction, bool]], seconds: Fraction, start: Fraction, end: Fraction | None
) -> list[Fraction]:
    """Where to cut: at key frames so many seconds behind the one before, and at least half as many before the end."""
    cuts = list[Fraction]()
    last = max(start, times[0][0]) if times else start
    until = min(at for at in (times[-1][0], end) if at is not None) if times else start
    for (before, _), (at, is_key) in pairwise(times):
        if is_key and before >= start and at - last >= seconds and until - at >= seconds / 2:
            cuts.append(at)
            last = at
    return cuts


def _first_size(source: Path | Source, clip: ClipOptions) -> tuple[int, int]:
    with open_clip(source, clip.start or 0, clip.end) as reader:
        return next(item.picture.size for item in reader if isinstance(item, Frame))


def _warmth(starts: Sequence[Fraction], first: int, shown: int, smooth: float) -> Stretch:
    """The frames before one that smoothing and the detector of cuts remember, as far as they are shown."""
    remembered = first - math.ceil(math.log(_FORGOTTEN) / math.log(smooth)) - _USUAL
    return Stretch(starts[remembered] if remembered > shown else None, starts[first])


def paint_part(
    stylizer: Stylizer,
    source: Path | Source,
    part: Part,
    target: Path,
    suffix: str,
    options: StylizeOptions,
    clip: ClipOptions,
    on_frame: OnFrame = lambda _, __: None,
) -> None:
    """Paint a part of a clip that will be of a kind in VIDEOS, and keep it in a file.

    Raises what stylize_clip raises; but no frames are no error, and when it is interrupted, nothing is left.
    """
    started = time.perf_counter()
    begin = part.stretch.start if part.warmth is None else _scene(source, part.warmth, clip)
    with (
        open_clip(source, clip.start or 0, clip.end, Stretch(begin, part.stretch.end)) as reader,
        atomic_write(target) as file,
    ):
        writer = LosslessWriter(file, suffix, reader.format.time_base)
        shown = None if part.stretch.start is None else part.stretch.start - reader.start
        size = part.size
        if options.max_size is not None:
            size = shrink(Picture(np.empty((*size, 3), np.uint8)), options.max_size).size
        pipeline = Pipeline(
            stylizer, reader, writer, options, clip, lambda done, _: on_frame(done, part.frames), shown, size
        )
        pipeline.run(iter(reader), None)
        writer.finish(reader.problem, time.perf_counter() - started)


def _scene(source: Path | Source, warmth: Stretch, clip: ClipOptions) -> Fraction | None:
    """Where the scene begins that the frame behind some others belongs to, or the first of these."""
    begin, cut = warmth.start, CutDetector()
    until = (warmth.end or 0) + _INSTANT
    with open_clip(source, clip.start or 0, clip.end, Stretch(warmth.start, until)) as reader:
        for item in reader:
            if isinstance(item, Frame) and cut(item.picture.rgb):
                begin = item.start + reader.start
    return begin


def join_parts(source: Path | Source, parts: Iterable[Path], target: Path, clip: ClipOptions) -> StylizedClip:
    """Make one file of the painted parts of a clip, which are drawn one by one, with the sound of the clip itself.

    Raises InputError if there is no frame in them, PartError for one that is not whole, OutputError for a target that
    cannot be written.
    """
    with open_clip(source, clip.start or 0, clip.end) as reader, atomic_write(target) as file:
        writer = VideoWriter(file, target.suffix.lower(), reader.format)
        kept, count = list[LosslessReader](), 0
        with closing(read_ahead(_frames(parts, kept), _IN_HAND)) as frames:
            for item in _together(frames, _sounds(reader), reader.format.time_base):
                if isinstance(item, Sound):
                    writer.sound(item)
                else:
                    writer.encode(item)
                    count += 1
        problem = next((part.problem for part in kept if part.problem is not None), reader.problem)
        if not count:
            raise InputError(f"{reader.name} has no frame that can be decoded" + (f": {problem}" if problem else ""))
        writer.close()
    return StylizedClip(target, count, problem, sum(part.seconds for part in kept))


def _frames(parts: Iterable[Path], kept: list[LosslessReader]) -> Iterator[Encodable]:
    """The frames of parts, one part after the other; `kept` is what they were read with."""
    for path in parts:
        kept.append(LosslessReader(path))
        yield from kept[-1]


def _sounds(reader: object) -> Iterator[Sound]:
    return reader.sounds() if isinstance(reader, VideoReader) else iter(())


def _together(frames: Iterable[Encodable], sounds: Iterator[Sound], unit: Fraction) -> Iterator[Encodable | Sound]:
    """Frames with the sound that begins before them in front of them."""
    sound = next(sounds, None)
    for frame in frames:
        while sound is not None and _begin(sound) <= frame.start * unit:
            yield sound
            sound = next(sounds, None)
        yield frame
    if sound is not None:
        yield sound
    yield from sounds


def _begin(sound: Sound) -> Fraction:
    return Fraction(sound.packet.pts * sound.packet.time_base - sound.offset)
