"""Clips frame by frame, in and out, in constant memory: video by PyAV, animated GIF, PNG and WebP by Pillow.

A clip is told by its first bytes, never by its name, and FFmpeg is given an open file and one container format: so no
playlist, script or address that a file or its name might hold is ever followed.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from PIL import Image

from fastnst.errors import FastnstError, InputError, OutputError
from fastnst.files import printable
from fastnst.image import Limits, Picture, Pixels, check_size, open_animation, open_regular, read_frame
from fastnst.video.animation import Frame, Writer, animation_writer

# The container formats that are read, by FFmpeg's name, and what their files begin with.
_CONTAINERS: dict[str, tuple[tuple[int, bytes], ...]] = {
    "mov": ((4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (4, b"wide"), (4, b"free"), (4, b"skip")),  # MP4 and QuickTime
    "matroska": ((0, b"\x1a\x45\xdf\xa3"),),  # and WebM
    "avi": ((8, b"AVI "),),
}
_STILL_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")  # pictures in an MP4 container
# Those written, by suffix: FFmpeg's name, encoder of the pictures with its options, of sound that cannot be copied.
# Without B-frames: MP4 counts its length in the order of decoding, which is another when frames last differently long.
_H264 = ("libx264", {"crf": "18", "preset": "medium", "bf": "0"})
_VP9 = ("libvpx-vp9", {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"})
VIDEOS: dict[str, tuple[str, tuple[str, dict[str, str]], str]] = {
    ".mp4": ("mp4", _H264, "aac"),
    ".mov": ("mov", _H264, "aac"),
    ".mkv": ("matroska", _H264, "aac"),
    ".webm": ("webm", _VP9, "libopus"),
}
STILL = Fraction(1, 10)  # seconds that browsers show a frame which says 0
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}  # AVCOL_SPC_* -> SWS_CS_*
_BT709, _BT601, _LIMITED, _FULL = 1, 5, 1, 2
_SCALING = 0x2 | 0x2000 | 0x40000  # SWS_BILINEAR, SWS_FULL_CHR_H_INT and SWS_ACCURATE_RND: color as it is
_TOLERANCE = 0.5  # seconds that a whole file may end before it says


@dataclass(frozen=True)
class Sound:
    """A packet of sound as it was read, and by how many seconds the clip begins later than its file."""

    packet: Any
    offset: Fraction


def is_video(data: bytes) -> str | None:
    """FFmpeg's name of the container format that begins with these 16 bytes, or None."""
    if data[4:8] == b"ftyp" and data[8:12] in _STILL_BRANDS:
        return None
    for name, marks in _CONTAINERS.items():
        if any(data[at : at + len(mark)] == mark for at, mark in marks):
            return name
    return None


class VideoReader:
    """A video, its frames upright and in sRGB, with its sound; iterating gives both in the order of the file, once.

    `rate` is frames a second, all times are multiples of `time_base`, `aspect` is the width of a pixel over its height.
    `loop` is how often an animation of it repeats: 0 is forever, None not at all. Once everything is read, `problem`
    says what was missing or damaged, if anything.
    """

    transparent = False
    loop: int | None = 0

    def __init__(self, path: Path, container: str, start: Fraction = Fraction(0), end: Fraction | None = None) -> None:
        import av

        self.name = printable(path)
        self.problem: str | None = None
        self.start, self.end = start, end
        with ExitStack() as stack:
            file = stack.enter_context(open_regular(path))
            # The file is open already and may lead to no other.
            options = {"protocol_whitelist": "none", "format_whitelist": f"{container},mp4,webm"}
            try:
                self.container = stack.enter_context(
                    av.open(file, format=container, container_options=options, metadata_errors="replace")
                )
            except (av.FFmpegError, OSError, ValueError) as error:
                raise self._damaged(error) from error
            self.stream = self._find_pictures()
            self.sounds = list(self.container.streams.audio)
            self.rate: Fraction = self.stream.average_rate or self.stream.guessed_rate or Fraction(25)
            # Matroska rounds to milliseconds, from which the true times of a steady rate can be told.
            fine = Fraction(1, math.lcm(self.stream.time_base.denominator, self.rate.numerator))
            self.rounded = self.stream.time_base == Fraction(1, 1000) and fine >= Fraction(1, 1_000_000)
            self.time_base = fine if self.rounded else self.stream.time_base
            self.aspect = Fraction(1)
            self.origin = Fraction(self.container.start_time or 0, 1_000_000)
            self.length = Fraction(self.container.duration, 1_000_000) if self.container.duration else None
            if self.length is not None and start >= self.length:
                raise InputError(f"{self.name} is {float(self.length):.2f} s long; --start must be less")
            self.closing = stack.pop_all()

    def _find_pictures(self) -> Any:
        if not self.container.streams.video:
            raise InputError(f"{self.name} has no pictures, only {_kinds(self.container)}; give a video")
        stream = self.container.streams.video[0]
        stream.thread_type = "AUTO"
        if stream.codec_context is None:
            raise InputError(f"{self.name} is in a format that cannot be decoded; convert it to H.264 first")
        if stream.width and stream.height:
            check_size(stream.height, stream.width, self.name, Limits())
        return stream

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.close()

    @property
    def frames(self) -> int:
        """By the length, since not every file has them counted."""
        if self.length is None:
            return int(self.stream.frames) or 1
        last = min(self.length, self.end) if self.end is not None else self.length
        whole = not self.start and self.end is None and self.stream.frames
        return int(self.stream.frames) if whole else max(1, round((last - self.start) * self.rate))

    def __iter__(self) -> Iterator[Frame | Sound]:
        import av

        if self.start:
            self.container.seek(int((self.start + self.origin) * 1_000_000))  # to the key frame before
        held: Frame | None = None  # until the next one says how long it is shown
        shown = False
        for item in self._decoded():
            if isinstance(item, Sound):
                yield item
                continue
            decoded: av.VideoFrame = item
            at = self._time(decoded)
            if held is not None and at <= held.start:
                continue  # twice the same moment
            if held is not None:
                for frame in self._between(held, at, shown):
                    yield frame
                    shown = True
            if self.end is not None and at >= self.end:
                held = None
                break
            length = Fraction(decoded.duration or 0) * self.stream.time_base
            if self.rounded and abs(length - 1 / self.rate) <= self.stream.time_base:
                length = 1 / self.rate
            held = Frame(Picture(self._upright(decoded)), at, length or 1 / self.rate)
        if held is not None:
            for frame in self._between(held, held.start + held.length, shown):
                yield frame
                shown = True
        if not shown:
            where = " between --start and --end" if self.start or self.end is not None else ""
            raise InputError(f"{self.name} has no frame that can be decoded{where}{self._because()}")

    def _between(self, frame: Frame, until: Fraction, shown: bool) -> Iterator[Frame]:
        """The part of a frame that is within the times asked for, which begin at zero."""
        first, last = max(frame.start, self.start), until if self.end is None else min(until, self.end)
        if last <= first or (frame.start < first and 2 * (until - first) < until - frame.start):
            return  # less than half of one before the start is no frame
        if self.start and not shown:
            first = self.start
        yield Frame(frame.picture, first - self.start, last - first)

    def _decoded(self) -> Iterator[Any]:
        """Decoded frames, and sound within the times asked for, in the order of the file."""
        import av

        seen = at = Fraction(0)  # how far the file went, and the newest packet's time
        enough = False
        packets = self.container.demux([self.stream, *self.sounds])
        while not enough:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, ValueError) as error:
                self._blame(error)
                break
            if packet is None:
                break
            if packet.pts is not None:
                at = packet.pts * packet.time_base - self.origin
                seen = max(seen, at + (packet.duration or 0) * packet.time_base)
            if packet.stream is not self.stream:
                middle = at + (packet.duration or 0) * packet.time_base / 2
                begun = not self.start or at >= self.start  # encoders put some silence before the beginning
                if packet.pts is not None and begun and (self.end is None or middle < self.end):
                    yield Sound(packet, self.origin + self.start)
                continue
            try:
                for frame in packet.decode():
                    enough = self.end is not None and self._time(frame) >= self.end
                    yield frame
            except av.EOFError:
                break
            except (av.FFmpegError, ValueError) as error:
                self._blame(error)
        if enough:
            return
        missing = 0 if self.length is None else float(self.length - seen)
        if missing > _TOLERANCE and (self.end is None or self.end > seen):
            self.problem = f"{self.name} was cut off: {missing:.1f} of {float(self.length or 0):.1f} s are missing"

    def _time(self, frame: Any) -> Fraction:
        at: Fraction = Fraction(frame.pts or 0) * (frame.time_base or self.stream.time_base) - self.origin
        steady = round(at * self.rate) / self.rate
        return steady if self.rounded and abs(steady - at) <= Fraction(1, 1000) else at

    def _upright(self, frame: Any) -> Pixels:
        """sRGB as it is to be shown."""
        matrix = _MATRICES.get(int(frame.colorspace), _BT709 if frame.height >= 720 else _BT601)
        full = int(frame.color_range) == _FULL or frame.format.name.startswith(("yuvj", "rgb", "gbr", "bgr"))
        rgb = frame.reformat(
            format="rgb24",
            src_colorspace=matrix,
            dst_colorspace=_BT709,
            src_color_range=_FULL if full else _LIMITED,
            dst_color_range=_FULL,
            interpolation=_SCALING,
        )
        pixels: Pixels = rgb.to_ndarray()
        turn = next((data for data in frame.side_data if data.type.name == "DISPLAYMATRIX"), None)
        ratio = self.stream.codec_context.sample_aspect_ratio or Fraction(1)
        self.aspect = ratio if ratio > 0 else Fraction(1)
        if turn is None:
            return pixels
        a, b, _, c, d, *_ = np.frombuffer(bytes(turn), dtype=np.int32).tolist()
        if abs(c) > abs(a):  # rows are shown as columns
            self.aspect = 1 / self.aspect
            pixels, a, d = pixels.transpose(1, 0, 2), c, b
        return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])

    def _blame(self, error: Exception) -> None:
        self.problem = self.problem or f"{self.name} is damaged ({_reason(error)}); what could be read is painted"

    def _because(self) -> str:
        return f": {self.problem}" if self.problem else ""

    def _damaged(self, error: Exception) -> FastnstError:
        return InputError(f"{self.name} is damaged and cannot be opened ({_reason(error)}); save it again")


class AnimationReader:
    """An animated GIF, PNG or WebP, read like a VideoReader; another picture is one frame."""

    rate: Fraction | None = None
    time_base = Fraction(1, 1000)
    aspect = Fraction(1)
    transparent = True

    def __init__(self, path: Path, start: Fraction = Fraction(0), end: Fraction | None = None) -> None:
        self.name = printable(path)
        self.problem: str | None = None
        self.sounds: list[Any] = []
        self.start, self.end = start, end
        with ExitStack() as stack:
            self.image = open_animation(stack.enter_context(open_regular(path)), self.name)
            self.frames = getattr(self.image, "n_frames", 1)
            loop = self.image.info.get("loop")
            # PNG and WebP count how often it is played, GIF how often it is repeated, if it is at all.
            self.loop = None if loop == 1 and self.image.format != "GIF" else loop
            self.closing = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.close()

    def __iter__(self) -> Iterator[Frame]:
        at = Fraction(0)
        shown = False
        first = 1 if self.image.info.get("default_image") and self.frames > 1 else 0  # what old programs show of a PNG
        for number in range(first, self.frames):
            try:
                picture, milliseconds = read_frame(self.image, number, self.name)
            except InputError as error:
                if not shown:
                    raise
                self.problem = f"{error}; {number - first} of {self.frames - first} frames could be read"
                return
            until = at + (Fraction(milliseconds).limit_denominator(1000) / 1000 or STILL)
            begin, finish = max(at, self.start), until if self.end is None else min(until, self.end)
            if finish > begin:
                yield Frame(picture, begin - self.start, finish - begin)
                shown = True
            at = until
            if self.end is not None and at >= self.end:
                break
        if not shown:
            raise InputError(f"{self.name} is {float(at):.2f} s long and has no frame between --start and --end")


Reader = VideoReader | AnimationReader


def open_clip(path: Path, start: float = 0, end: float | None = None) -> Reader:
    """Open a video or an animation (a picture is one frame), to be read between two times in seconds.

    Raises InputError for what is neither, has no pictures, is damaged, too large or too small; ModuleNotFoundError for
    a video without PyAV.
    """
    with open_regular(path) as file:
        container = is_video(file.read(16))
    times = (Fraction(start).limit_denominator(10**6), None if end is None else Fraction(end).limit_denominator(10**6))
    return AnimationReader(path, *times) if container is None else VideoReader(path, container, *times)


def open_writer(file: BinaryIO, suffix: str, reader: Reader, quality: int) -> Writer:
    """A writer of the kind that a suffix in VIDEOS or of an animation asks for, with what is to be kept of a reader."""
    if suffix in VIDEOS:
        return VideoWriter(file, suffix, reader)
    return animation_writer(file, suffix, reader.loop, reader.transparent, quality)


class VideoWriter:
    """H.264 in MP4, QuickTime or Matroska, VP9 in WebM; sound is copied where the container can hold it.

    H.264 with one color for 2x2 pixels, which everything plays, has even sides; odd sizes have a color for each pixel.
    VP9 has any size.
    """

    def __init__(self, file: BinaryIO, suffix: str, reader: Reader) -> None:
        import av

        self.format, self.encoder, self.sound_encoder = VIDEOS[suffix]
        self.reader = reader
        self.container = av.open(file, "w", format=self.format)
        self.stream: Any = None
        self.waiting: list[Sound] = []  # for the first frame, without which there is no header
        self.tracks: dict[int, Any] = {}

    def _start(self, height: int, width: int) -> None:
        reader, (name, options) = self.reader, self.encoder
        rate = (reader.rate or Fraction(25)).limit_denominator(1_000_000)
        self.stream = self.container.add_stream(name, rate=rate, options=dict(options))
        self.stream.width, self.stream.height = width, height
        odd = height % 2 or width % 2
        self.stream.pix_fmt = "yuv444p" if odd and name == "libx264" else "yuv420p"
        context = self.stream.codec_context
        context.time_base = reader.time_base
        context.flags |= 0x100  # AV_CODEC_FLAG_FRAME_DURATION: how long the last frame lasts
        context.sample_aspect_ratio = reader.aspect
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = _LIMITED, 1, 1, 1
        for sound in reader.sounds:
            if sound.codec_context is None:
                continue
            if sound.codec_context.name in self.container.supported_codecs:
                track = self.container.add_stream_from_template(sound)
            else:
                samples = 48_000 if self.sound_encoder == "libopus" else sound.rate
                layout = {1: "mono", 2: "stereo"}.get(sound.layout.nb_channels, sound.layout.name)
                track = self.container.add_stream(self.sound_encoder, rate=samples, layout=layout)
            self.tracks[sound.index] = track

    def write(self, frame: Frame) -> None:
        """One more frame, all of one size; OutputError if it cannot be encoded."""
        with self._encoding():
            self._write(frame)

    def sound(self, sound: Sound) -> None:
        """One more packet of sound; OutputError if it cannot be kept."""
        with self._encoding():
            self._sound(sound)

    def close(self) -> None:
        with self._encoding():
            if self.stream is not None:
                self.container.mux(self.stream.encode())
                for track in self.tracks.values():
                    if track.codec_context.is_encoder:
                        self.container.mux(track.encode())
            self.container.close()

    @contextmanager
    def _encoding(self) -> Iterator[None]:
        import av

        try:
            yield
        except OSError:
            raise  # of the file
        except (av.FFmpegError, ValueError) as error:
            raise OutputError(f"a clip of this size and sound cannot be written ({_reason(error)})") from error

    def _write(self, frame: Frame) -> None:
        import av

        if self.stream is None:
            self._start(*frame.picture.size)
            waiting, self.waiting = self.waiting, []
            for sound in waiting:
                self._sound(sound)
        base = self.reader.time_base
        pixels = av.VideoFrame.from_ndarray(_on_white(frame.picture), format="rgb24")
        encoded = pixels.reformat(
            format=self.stream.pix_fmt,
            src_colorspace=_BT709,
            dst_colorspace=_BT709,
            src_color_range=_FULL,
            dst_color_range=_LIMITED,
            interpolation=_SCALING,
        )
        encoded.pts, encoded.time_base = round(frame.start / base), base
        encoded.duration = round((frame.start + frame.length) / base) - encoded.pts
        encoded.colorspace, encoded.color_range = 1, _LIMITED
        encoded.color_primaries, encoded.color_trc = 1, 1
        self.container.mux(self.stream.encode(encoded))

    def _sound(self, sound: Sound) -> None:
        if self.stream is None:
            self.waiting.append(sound)
            return
        packet = sound.packet
        track = self.tracks.get(packet.stream.index)
        if track is None:
            return
        shift = round(sound.offset / packet.time_base)
        packet.pts -= shift
        packet.dts = packet.pts if packet.dts is None else packet.dts - shift
        if track.codec_context.is_encoder:
            self.container.mux([made for decoded in packet.decode() for made in track.encode(decoded)])
        else:
            packet.stream = track
            self.container.mux(packet)


def _on_white(picture: Picture) -> Pixels:
    if picture.alpha is None:
        return np.ascontiguousarray(picture.rgb)
    image = Image.alpha_composite(Image.new("RGBA", picture.size[::-1], "white"), picture.to_pil())
    return np.asarray(image.convert("RGB"))


def _kinds(container: Any) -> str:
    return ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(text.splitlines()[0]).rstrip(".")
