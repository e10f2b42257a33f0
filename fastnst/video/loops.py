"""How often an animation repeats, of which every format has its own count: of plays, of repeats, or of time."""

import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

from PIL import Image

_FOREVER, _ONCE = 0, None


def repeats(image: Image.Image, file: BinaryIO) -> int | None:
    """How often an open animation is repeated after it was played: 0 is forever, None not at all.

    A format that cannot say, or a file that does not, repeats forever, as browsers show it; a GIF then stops.
    """
    loop: Any = image.info.get("loop")
    if image.format == "GIF":
        return loop if isinstance(loop, int) else _ONCE
    if image.format == "AVIF":
        file.seek(0)
        return _by_edit_list(file.read())
    plays = loop if isinstance(loop, int) else 0
    return {0: _FOREVER, 1: _ONCE}.get(plays, plays - 1)


def plays(loop: int | None, most: int) -> int:
    """Repeats as the number of times that an animation is played, where 0 is forever."""
    return 1 if loop is None else min(loop + 1, most) if loop else 0


def _by_edit_list(data: bytes) -> int | None:
    """The repeats of an AVIF: its first track lasts as long as all of them, or forever; ISO/IEC 14496-12, 8.6.6."""
    track = _inside(_inside(data, b"moov"), b"trak")
    head, edits = _inside(track, b"tkhd"), _inside(_inside(track, b"edts"), b"elst")
    try:
        wide = edits[0] == 1
        repeated = edits[3] & 1
        (length,) = struct.unpack_from(">Q" if wide else ">I", edits, 8)
        wide = head[0] == 1
        (lasts,) = struct.unpack_from(">Q" if wide else ">I", head, 28 if wide else 20)
    except (IndexError, struct.error):
        return _FOREVER
    if not repeated:
        return _ONCE
    if lasts == (1 << (64 if wide else 32)) - 1 or not length:
        return _FOREVER
    return -(-lasts // length) - 1 or _ONCE


def _inside(data: bytes, kind: bytes) -> bytes:
    """The body of the first box of a kind in an ISO container; empty if there is none."""
    return next((body for name, body in _boxes(data) if name == kind), b"")


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1 and at + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        if size == 0:
            size = len(data) - at
        if size < head:
            return
        yield name, data[at + head : at + size]
        at += size
