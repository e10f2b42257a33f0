"""Clips read frame by frame, in constant memory: videos by PyAV; animations as animations.py does it.

A clip is told by its first bytes, never by its name, and FFmpeg is given an open file and one container format: so no
playlist, script or address that a file or its name might hold is ever followed.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np

from fastnst.decode.formats import looks_like_image
from fastnst.errors import FastnstError, InputError, UnsupportedFormatError
from fastnst.files import printable
from fastnst.image import Limits, Picture, Pixels, check_size
from fastnst.video.animations import AnimationReader
from fastnst.video.containers import (
    CLIPS,
    HEAD,
    JOINED,
    LENGTH_IS_END,
    WITHOUT_LENGTH,
    WITHOUT_SHOWING_TIMES,
    ends_early,
    is_video,
)
from fastnst.video.frames import BT601, BT709, FULL, LIMITED, SCALING, ClipFormat, Frame, Sound, Stretch, Timeline
from fastnst.video.sources import Source, opened
from fastnst.video.times import Beginning, Clock, Splices, first_sound, look_at, packets_of, seek

_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}  # AVCOL_SPC_* -> SWS_CS_*
_TOLERANCE = 0.5  # seconds that a whole file may end before it says
_DELAY = 0.15  # seconds of sound before the beginning that encoders need at most
_INTERLEAVED = 10  # seconds that sound may lie behind its pictures
_COVER = 0x400  # AV_DISPOSITION_ATTACHED_PIC


class VideoReader:
    """A video, its frames upright and in sRGB, with its sound; iterating gives both in the order of the file, once.

    Once everything is read, `problem` says what was missing or damaged, if anything. Of a `stretch`, no sound is read,
    and no frame at all is no error.
    """

    def __init__(
        self,
        path: Path | Source,
        container: str,
        start: Fraction = Fraction(0),
        end: Fraction | None = None,
        stretch: Stretch | None = None,
    ) -> None:
        self.path, self.name = path, printable(path)
        self.problem: str | None = None
        self.start, self.end, self.stretch = start, end, stretch
        self.seen = Fraction(0)  # how far the file goes
        self.early = False  # whether the file ends before it should
        self.over = False  # whether frames behind the end asked for have come
        self.kind = container
        with ExitStack() as stack:
            self.container = self._open(path, stack)
            self.stream = _find_pictures(self.container, self.name)
            looked = self._open(path, stack)  # apart, since not every file allows to go back
            pictures = looked.streams[self.stream.index]
            beginning, sounds = look_at(looked, pictures, trusted=container not in WITHOUT_SHOWING_TIMES)
            self.counted = int(self.stream.frames)  # 0 if the file does not say
            rate: Fraction = self.stream.average_rate or self.stream.guessed_rate or Fraction(25)
            origin = _origin(self.container, beginning)
            self.times = Timeline(self.stream.time_base, rate, origin)
            self.clock = Clock(self.times, beginning)
            self.goal: Fraction | None = None  # where to seek, if at all
            begins = (stretch and stretch.start) or start
            if begins and self.clock.stamps != "none":
                self.goal, sounds = first_sound(looked, pictures, begins + origin)
            sounds = () if stretch else sounds
            self.format = ClipFormat(rate=rate, time_base=self.times.time_base, sounds=sounds)
            self.late = max(origin, Fraction(0)) if container in LENGTH_IS_END else Fraction(0)
            self.said = Fraction(self.container.duration, 1_000_000) if self.container.duration else None
            self.length = self.said if self.said is None or self.said <= self.late else self.said - self.late
            if self.said is not None and start >= self.said:
                raise InputError(f"{self.name} is {float(self.length or 0):.2f} s long; --start must be less")
            self.closing = stack.pop_all()

    def _open(self, path: Path | Source, stack: ExitStack) -> Any:
        import av

        file = stack.enter_context(opened(path))
        self.early = ends_early(file, self.kind)
        file.seek(0)
        # The file is open already and may lead to no other.
        options = {"protocol_whitelist": "none", "format_whitelist": f"{self.kind},mp4,webm"}
        try:
            return stack.enter_context(
                av.open(file, format=self.kind, container_options=options, metadata_errors="replace")
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            raise self._damaged(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.close()

    @property
    def frames(self) -> int:
        """The number of frames by the length, since not every file has them counted."""
        if self.length is None:
            return self.counted or 1
        last = min(self.length, self.end) if self.end is not None else self.length
        whole = not self.start and self.end is None and self.counted
        return self.counted if whole else max(1, round((last - self.start) * self.times.rate))

    def __iter__(self) -> Iterator[Frame | Sound]:
        if self.goal is not None:
            seek(self.container, self.goal)
        shown = False
        for item in self._timed():
            part = self._asked_for(item, first=not shown) if isinstance(item, Frame) else item
            if part is not None:
                shown = shown or isinstance(part, Frame)
                yield part
        self.check()
        if not shown and self.stretch is None:
            where = " between --start and --end" if self.start or self.end is not None else ""
            because = f": {self.problem}" if self.problem else ""
            raise InputError(f"{self.name} has no frame that can be decoded{where}{because}")

    def sounds(self) -> Iterator[Sound]:
        """The sound alone, instead of iterating; no picture is decoded."""
        for item in self._decoded(pictures=False):
            if isinstance(item, Sound):
                yield item
        self.check()

    def check(self) -> None:
        """Raise what a source refused to be read, without which a clip would seem to end there."""
        if not isinstance(self.path, Path):
            self.path.check()

    def _asked_for(self, frame: Frame, first: bool) -> Frame | None:
        """The part of a frame that is within the times asked for, which begin at zero."""
        if self.stretch is not None and self.stretch.start is not None:
            if frame.start < self.stretch.start:
                return None
            first = False
        hidden = self.start - frame.start
        if 2 * hidden > frame.length:
            return None  # less than half of one before the start is no frame
        if first and self.start and hidden < 0:
            frame = replace(frame, start=self.start, length=frame.end - self.start)
        return frame.within(self.start, self.end)

    def _timed(self) -> Iterator[Frame | Sound]:
        """Frames up to the end asked for, each shown until the next one; and sound in between."""
        held: Frame | None = None  # until the next one says how long it is shown
        for item in self._decoded():
            if isinstance(item, Sound):
                yield item
                continue
            start = self.clock.start(item)
            if held is not None:
                yield replace(held, length=start - held.start)
            self.over = self._is_behind(start)
            if self.over:
                held = None
                continue
            pixels, aspect = _upright(item, self.stream.codec_context.sample_aspect_ratio)
            held = Frame(Picture(pixels), start, self.times.length(item.duration), aspect)
        if held is not None:
            yield held

    def _is_behind(self, start: Fraction) -> bool:
        """Whether a frame begins behind what is asked for."""
        last = self.end if self.stretch is None else self.stretch.end
        return any(end is not None and start >= end for end in (last, self.end))

    def _decoded(self, pictures: bool = True) -> Iterator[Any]:
        """Decoded frames of PyAV, if any, and sound within the times asked for, in the order of the file."""
        silent = {sound.stream.index for sound in self.format.sounds}  # which may still be heard
        for packet in self._packets():
            if packet.stream.index == self.stream.index:
                if not pictures:
                    self.over = packet.pts is not None and self._is_behind(self._span(packet)[0])
                yield from () if self.over or not pictures else self._frames(packet)
            elif packet.stream.index in silent and packet.pts is not None:
                start, length = self._span(packet)
                if self._is_heard(start, length):
                    yield Sound(packet, self.times.origin + self.start)
                elif self.end is not None and start >= self.end:
                    silent.discard(packet.stream.index)
            if self.over and (not silent or self.seen > (self.end or 0) + _INTERLEAVED):
                return

    def _frames(self, packet: Any) -> Iterator[Any]:
        """The frames that a packet completes, up to the first behind the end asked for."""
        import av

        try:
            for frame in self.stream.decode(packet):  # a damaged file may give the packet another stream
                if not self.over:
                    yield frame
        except av.EOFError:
            pass
        except (av.FFmpegError, ValueError) as error:
            self._blame(error)

    def _packets(self) -> Iterator[Any]:
        """Packets up to where the file is damaged; those of other streams tell how long it is."""
        import av

        last = None
        try:
            for packet in Splices(self.kind in JOINED)(packets_of(self.container)):
                if packet.size:
                    last = packet
                if packet.pts is not None and packet.time_base:
                    start, length = self._span(packet)
                    self.seen = max(self.seen, start + length)
                yield packet
        except (av.FFmpegError, ValueError) as error:
            self._blame(error)
        self._check_length(last is not None and last.is_corrupt)

    def _span(self, packet: Any) -> tuple[Fraction, Fraction]:
        """Start and length of a packet, seconds."""
        unit: Fraction = packet.time_base
        return packet.pts * unit - self.times.origin, (packet.duration or 0) * unit

    def _is_heard(self, start: Fraction, length: Fraction) -> bool:
        # Without a start, encoders put some silence before the beginning.
        if start < (self.start or -_DELAY):
            return False
        return self.end is None or start + length / 2 < self.end

    def _check_length(self, within_packet: bool) -> None:
        """Whether all is there that the file says it has."""
        said = Fraction(0) if self.said is None or self.kind in WITHOUT_LENGTH else self.said
        missing = float(said - self.seen - self.late)
        if self.end is not None and self.end <= self.seen:
            return
        if missing > _TOLERANCE:
            self.problem = f"{self.name} was cut off: {missing:.1f} of {float(self.length or 0):.1f} s are missing"
        elif within_packet or self.early:
            self.problem = self.problem or f"{self.name} was cut off near its end"

    def _blame(self, error: Exception) -> None:
        self.problem = self.problem or f"{self.name} is damaged ({reason(error)}); what could be read is painted"

    def _damaged(self, error: Exception) -> FastnstError:
        return InputError(f"{self.name} is damaged and cannot be opened ({reason(error)}); save it again")


def _find_pictures(container: Any, name: str) -> Any:
    """The first stream of moving pictures; covers of albums are none."""
    streams = container.streams.video
    if not streams:
        raise InputError(f"{name} has no pictures, only {_kinds(container)}; give a video")
    stream = next((stream for stream in streams if not stream.disposition & _COVER), streams[0])
    stream.thread_type = "AUTO"
    if stream.codec_context is None:
        raise InputError(f"{name} is in a format that cannot be decoded; convert it to H.264 first")
    if stream.width and stream.height:
        check_size(stream.height, stream.width, name, Limits())
    return stream


def _origin(container: Any, beginning: Beginning) -> Fraction:
    """The time of the file at which the clip begins: with the first frame, or with sound before it."""
    shown = Fraction(container.start_time or 0, 1_000_000) if beginning.shown is None else beginning.shown
    heard: list[Fraction] = [
        sound.start_time * sound.time_base for sound in container.streams.audio if sound.start_time is not None
    ]
    # Sound before zero is what its encoder needs, unless pictures are there too.
    return min([shown, *(max(start, Fraction(0)) for start in heard)])


def _upright(frame: Any, aspect: Fraction | None) -> tuple[Pixels, Fraction]:
    """A decoded frame in sRGB as it is to be shown, and the width of its pixels over their height."""
    matrix = _MATRICES.get(int(frame.colorspace), BT709 if frame.height >= 720 else BT601)
    full = int(frame.color_range) == FULL or frame.format.name.startswith(("yuvj", "rgb", "gbr", "bgr"))
    rgb = frame.reformat(
        format="rgb24",
        src_colorspace=matrix,
        dst_colorspace=BT709,
        src_color_range=FULL if full else LIMITED,
        dst_color_range=FULL,
        interpolation=SCALING,
    )
    pixels: Pixels = rgb.to_ndarray()
    aspect = aspect if aspect and aspect > 0 else Fraction(1)
    turn = next((data for data in frame.side_data if data.type.name == "DISPLAYMATRIX"), None)
    if turn is None:
        return pixels, aspect
    a, b, _, c, d, *_ = np.frombuffer(bytes(turn), dtype=np.int32).tolist()
    if abs(c) > abs(a):  # rows are shown as columns
        pixels, aspect, a, d = pixels.transpose(1, 0, 2), 1 / aspect, c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]), aspect


Reader = VideoReader | AnimationReader


def open_clip(
    path: Path | Source,
    start: float | Fraction = 0,
    end: float | Fraction | None = None,
    stretch: Stretch | None = None,
) -> Reader:
    """Open a video or an animation (a picture is one frame), to be read between two times in seconds.

    Of a video, a stretch reads only the frames that begin in it, with the times they have in the whole.

    Raises InputError for what is neither, has no pictures, is damaged, too large or too small; ModuleNotFoundError for
    a video without PyAV.
    """
    with opened(path) as file:
        head = file.read(HEAD)
    container = is_video(head)
    if head and container is None and looks_like_image(head) is None:
        raise UnsupportedFormatError(
            f"{printable(path)} is neither a clip nor a picture that fastnst reads; clips are {CLIPS}; convert it first"
        )
    times = (Fraction(start).limit_denominator(10**6), None if end is None else Fraction(end).limit_denominator(10**6))
    return AnimationReader(path, *times) if container is None else VideoReader(path, container, *times, stretch)


def reason(error: Exception) -> str:
    """What FFmpeg says of a failure, in one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(text.splitlines()[0]).rstrip(".")


def _kinds(container: Any) -> str:
    return ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
