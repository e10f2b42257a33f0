"""Clips written frame by frame, in constant memory: GIF, APNG and WebP around frames of Pillow."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from PIL import GifImagePlugin, Image

from fastnst.errors import UsageError
from fastnst.files import atomic_write, printable, write_stdout
from fastnst.image import Picture, Pixels, encode_picture
from fastnst.video.frames import ClipFormat, Frame
from fastnst.video.loops import plays
from fastnst.video.movie import VIDEOS, VideoWriter

ANIMATIONS = (".gif", ".png", ".webp")


class Writer(Protocol):
    """An animation or a video that is being written into a file; close makes it complete."""

    def write(self, frame: Frame) -> None: ...
    def close(self) -> None: ...


def open_writer(file: BinaryIO, suffix: str, clip: ClipFormat, quality: int) -> Writer:
    """A writer of the kind that a suffix in VIDEOS or ANIMATIONS asks for; `quality` is that of WebP.

    None keeps frames, where Pillow would gather all of an animation first.
    """
    if suffix in VIDEOS:
        return VideoWriter(file, suffix, clip)
    if suffix == ".gif":
        return GifWriter(file, clip.loop)
    if suffix == ".png":
        return PngWriter(file, clip.loop, clip.transparent)
    return WebpWriter(file, clip.loop, clip.transparent, quality)


def check_animation(path: Path) -> None:
    """UsageError if no animation is written under such a name; ModuleNotFoundError for MP4 without PyAV."""
    if path.suffix.lower() == ".mp4":
        import av  # noqa: F401
    elif str(path) != "-" and path.suffix.lower() not in ANIMATIONS:
        raise UsageError(f"{printable(path)} does not end in {', '.join(ANIMATIONS)} or .mp4; name the animation so")


def write_animation(path: Path, frames: Sequence[Pixels], rate: float, hold: float = 0) -> None:
    """Write frames of one size, `rate` a second, the last one held for some seconds; loops where the format can.

    "-" is an APNG onto standard output.

    Raises UsageError for another suffix, OutputError if it cannot be written.
    """
    check_animation(path)
    suffix = ".png" if str(path) == "-" else path.suffix.lower()
    video = suffix in VIDEOS
    if video:  # whose players may not hold a frame
        frames, hold = [*frames, *[frames[-1]] * round(hold * rate)], 0
    exact = Fraction(rate).limit_denominator(1000)
    with _opened(path) as file:
        writer = open_writer(file, suffix, ClipFormat(exact, 1 / exact), 85)
        for number, pixels in enumerate(frames, start=1):
            held = Fraction(hold if number == len(frames) else 0)
            picture = Picture(_even(pixels) if video else pixels)
            writer.write(Frame(picture, (number - 1) / exact, 1 / exact + held))
        writer.close()


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A file, written atomically, or standard output."""
    if str(path) == "-":
        buffer = BytesIO()
        yield buffer
        write_stdout(buffer.getvalue())
    else:
        with atomic_write(path) as file:
            yield file


def _even(pixels: Pixels) -> Pixels:
    """With even sides, which H.264 wants that every player shows."""
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


class GifWriter:
    """A GIF, each frame with its own 256 colors."""

    def __init__(self, file: BinaryIO, loop: int | None) -> None:
        self.file, self.loop = file, loop if loop is None else min(loop, 0xFFFF)
        self.begun = False

    def write(self, frame: Frame) -> None:
        height, width = frame.picture.size
        if not self.begun:
            self.begun = True
            self.file.write(struct.pack("<6sHHBBB", b"GIF89a", width, height, 0x70, 0, 0))
            if self.loop is not None:
                self.file.write(struct.pack("<BBB11sBBHB", 0x21, 0xFF, 11, b"NETSCAPE2.0", 3, 1, self.loop, 0))
        alpha = frame.picture.alpha
        image = Image.fromarray(frame.picture.rgb).quantize(256 if alpha is None else 255)
        palette = (image.getpalette() or [])[:768]
        options: dict[str, Any] = {"disposal": 1}
        if alpha is not None:
            indices = np.array(image)
            indices[alpha < 128] = 255
            image = Image.fromarray(indices)
            options = {"disposal": 2, "transparency": 255}
        image = image if image.mode == "P" else image.convert("L")
        image.putpalette(palette + [0] * (768 - len(palette)))
        _, hundredths = frame.ticks(Fraction(1, 100))
        for piece in GifImagePlugin.getdata(image, duration=hundredths * 10, include_color_table=True, **options):
            self.file.write(piece)

    def close(self) -> None:
        self.file.write(b";")


class PngWriter:
    """An animated PNG: the frames' own PNG data, taken over chunk by chunk."""

    def __init__(self, file: BinaryIO, loop: int | None, transparent: bool = False) -> None:
        self.file, self.plays, self.transparent = file, plays(loop, 0x7FFFFFFF), transparent
        self.frames = 0
        self.numbers: Iterator[int] = count()

    def write(self, frame: Frame) -> None:
        image = frame.picture.to_pil().convert("RGBA" if self.transparent else "RGB")
        buffer = BytesIO()
        image.save(buffer, "PNG", compress_level=6)
        chunks = list(_chunks(buffer.getvalue()[8:], ">", 4))
        if self.frames == 0:
            self.file.write(buffer.getvalue()[:8])
            self._chunk(b"IHDR", chunks[0][1])
            self.counted = self.file.tell()
            self._chunk(b"acTL", struct.pack(">II", 0, self.plays))
        length = frame.length.limit_denominator(1000)
        if length.numerator > 65_535:
            length = Fraction(min(round(length), 65_535))
        control = struct.pack(">IIIIIHHBB", next(self.numbers), *image.size, 0, 0, *length.as_integer_ratio(), 0, 0)
        self._chunk(b"fcTL", control)
        data = b"".join(body for kind, body in chunks if kind == b"IDAT")
        if self.frames == 0:
            self._chunk(b"IDAT", data)
        else:
            self._chunk(b"fdAT", struct.pack(">I", next(self.numbers)) + data)
        self.frames += 1

    def close(self) -> None:
        self._chunk(b"IEND", b"")
        self.file.seek(self.counted)
        self._chunk(b"acTL", struct.pack(">II", self.frames, self.plays))
        self.file.seek(0, 2)

    def _chunk(self, kind: bytes, body: bytes) -> None:
        self.file.write(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))


class WebpWriter:
    """An animated WebP: the frames' own WebP data, taken over chunk by chunk."""

    def __init__(self, file: BinaryIO, loop: int | None, transparent: bool = False, quality: int = 92) -> None:
        self.file, self.plays, self.transparent, self.quality = file, plays(loop, 0xFFFF), transparent, quality
        self.begun = False

    def write(self, frame: Frame) -> None:
        height, width = frame.picture.size
        size = _uint24(width - 1) + _uint24(height - 1)
        if not self.begun:
            self.begun = True
            flags = 0x02 | (0x10 if self.transparent else 0)
            self.file.write(b"RIFF\0\0\0\0WEBP")
            self.file.write(_riff(b"VP8X", bytes([flags, 0, 0, 0]) + size))
            self.file.write(_riff(b"ANIM", struct.pack("<IH", 0, self.plays)))
        encoded = encode_picture(frame.picture, "WEBP", self.quality)
        kept = (b"ALPH", b"VP8 ", b"VP8L")
        data = b"".join(_riff(kind, body) for kind, body in _chunks(encoded[12:], "<", 0) if kind in kept)
        _, length = frame.ticks(Fraction(1, 1000))
        head = bytes(6) + size + _uint24(min(length, 0xFFFFFF)) + b"\x02"  # replaces what was there
        self.file.write(_riff(b"ANMF", head + data))

    def close(self) -> None:
        length = self.file.tell()
        self.file.seek(4)
        self.file.write(struct.pack("<I", length - 8))
        self.file.seek(0, 2)


def _chunks(data: bytes, order: str, trailer: int) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of each chunk of a PNG (big-endian, length first, checksum behind) or a WebP."""
    at = 0
    while at + 8 <= len(data):
        if order == ">":
            length, kind = struct.unpack_from(">I4s", data, at)
        else:
            kind, length = struct.unpack_from("<4sI", data, at)
        yield kind, data[at + 8 : at + 8 + length]
        at += 8 + length + trailer + (length % 2 if order == "<" else 0)


def _riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _uint24(value: int) -> bytes:
    return value.to_bytes(3, "little")
