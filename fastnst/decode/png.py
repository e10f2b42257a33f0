"""PNG files opened past what is beside the picture: texts and profiles of any size, and a transparent color in 16 bits.

Pillow refuses a file for texts or a profile that become large when inflated, so it does not see them.
"""

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile

from fastnst.decode import profiles

_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_HIDDEN = (*_TEXTS, b"iCCP")
_XMP, _EXIF = b"XML:com.adobe.xmp", (b"Raw profile type exif", b"Raw profile type APP1")
_TEXT_LIMIT = 1 << 20  # bytes of a text that are read; what turns a picture stands near its beginning


@dataclass
class _Chunks:
    """Where the chunks of a file are that make the picture, from start to stop, and what is taken from the others."""

    kept: list[tuple[int, int]] = field(default_factory=list)
    info: dict[str, bytes] = field(default_factory=dict)

    def keep(self, start: int, stop: int) -> None:
        if self.kept and self.kept[-1][1] == start:
            start = self.kept.pop()[0]
        self.kept.append((start, stop))


class _Spliced(io.RawIOBase):
    """Parts of a file as if nothing were between them."""

    def __init__(self, file: BinaryIO, parts: Sequence[tuple[int, int]]) -> None:
        self.file, self.parts = file, parts
        self.starts = np.cumsum([0, *(stop - start for start, stop in parts)])
        self.at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = max(0, offset + (0, self.at, int(self.starts[-1]))[whence])
        return self.at

    def readinto(self, buffer: Any) -> int:
        if self.at >= self.starts[-1]:
            return 0
        part = int(np.searchsorted(self.starts, self.at, side="right")) - 1
        start, stop = self.parts[part]
        start += self.at - int(self.starts[part])
        self.file.seek(start)
        data = self.file.read(min(len(buffer), stop - start))
        buffer[: len(data)] = data
        self.at += len(data)
        return len(data)


def open_png(file: BinaryIO) -> ImageFile.ImageFile:
    """Read the header; `info` gets the profile, XMP and EXIF data as with other formats, however large they are."""
    chunks = _scan(file)
    image = Image.open(io.BufferedReader(_Spliced(file, chunks.kept)), formats=("PNG",))
    image.info.update({name: value for name, value in chunks.info.items() if name not in image.info})
    if not image.info.get("icc_profile") and "srgb" not in image.info and "gamma" in image.info:
        image.info["icc_profile"] = profiles.of_gamma(image.info["gamma"])
    # Gray of 2 and 4 bits is scaled to 8 when it is decoded, but the color that is transparent is not.
    scale = {"L;2": 85, "L;4": 17}.get(_raw_mode(image), 1)
    if isinstance(key := image.info.get("transparency"), int) and image.mode == "L":
        image.info["transparency"] = key * scale
    return image


def deep_color_is_transparent(image: Image.Image) -> bool:
    """Whether a color of 16 bits a channel is transparent, of which an image in Pillow's 8 bits has lost half."""
    return image.format == "PNG" and "transparency" in image.info and _raw_mode(image) == "RGB;16B"


def clear_deep_color(image: Image.Image, file: BinaryIO) -> Image.Image:
    """A decoded image of 16 bits a channel with the transparent color of its file made transparent."""
    low = open_png(file)
    # The lower bytes, which are where the upper ones of the other byte order would be.
    low.tile = [tile._replace(args="RGB;16L") for tile in low.tile]
    low.load()
    depth = np.asarray(image).astype(np.uint16) << 8 | np.asarray(low)
    clear = (depth == np.array(image.info["transparency"], dtype=np.uint16)).all(axis=-1)
    opaque = Image.fromarray(np.asarray(image))
    opaque.putalpha(Image.fromarray(np.where(clear, 0, 255).astype(np.uint8)))
    opaque.info = {name: value for name, value in image.info.items() if name != "transparency"}
    return opaque


def _raw_mode(image: Image.Image) -> str:
    tiles = getattr(image, "tile", None)
    return str(tiles[0].args) if tiles else ""


def _scan(file: BinaryIO) -> _Chunks:
    """Walk over the chunks up to the last; where that is not possible, all that follows is kept as it is."""
    chunks = _Chunks()
    end = file.seek(0, io.SEEK_END)
    chunks.keep(0, 8)
    at = 8
    while at + 12 <= end:
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        following = at + 12 + length
        if kind not in _HIDDEN:
            chunks.keep(at, min(following, end))
        elif following <= end:
            _take(chunks.info, kind, file, length)
        at = following
        if kind == b"IEND":
            break
    if at < end:
        chunks.keep(at, end)
    return chunks


def _take(info: dict[str, bytes], kind: bytes, file: BinaryIO, length: int) -> None:
    """Keep what tells colors or orientation, and is not larger than that ever is."""
    limit = profiles.LIMIT + 1 if kind == b"iCCP" else _TEXT_LIMIT
    name, _, rest = file.read(min(length, limit)).partition(b"\0")
    if kind == b"iCCP":
        info.setdefault("icc_profile", _inflated(rest[1:], limit))
    elif name == _XMP:
        info.setdefault("xmp", _text(kind, rest))
    elif name in _EXIF:
        info.setdefault("exif", _unhexed(_text(kind, rest)))


def _text(kind: bytes, rest: bytes) -> bytes:
    """The beginning of a text, behind its keyword."""
    if kind == b"tEXt":
        return rest
    if kind == b"zTXt":
        return _inflated(rest[1:], _TEXT_LIMIT)
    text = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    return _inflated(text, _TEXT_LIMIT) if rest[:1] == b"\1" else text


def _inflated(data: bytes, limit: int) -> bytes:
    """At most so many bytes of what zlib packed; nothing if it is damaged."""
    try:
        return zlib.decompressobj().decompress(data, limit)
    except zlib.error:
        return b""


def _unhexed(text: bytes) -> bytes:
    """EXIF data as ImageMagick writes it into texts: a line with its kind, one with its length, and hexadecimal."""
    lines = text.strip().split(b"\n", 2)
    try:
        return bytes.fromhex(lines[2].decode("ascii")) if len(lines) == 3 else b""
    except ValueError:
        return b""
