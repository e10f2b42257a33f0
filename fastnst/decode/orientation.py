"""Which way up a picture is stored: one tag, read from EXIF data or XMP of which all else may be damaged."""

import re
import struct
from typing import Any

from PIL import Image

_TAG = 0x0112
_XMP = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([1-8])\s*[\"'<]")
_XMP_SEARCHED = 1 << 20  # bytes
_LARGEST = 64  # bytes of one value; an orientation has one digit

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# TIFF's types of values, as struct has them: cameras write a SHORT, other programs whatever they like.
_TYPES = {
    **{1: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"},
    **{11: "f", 12: "d", 5: "II", 10: "ii", 2: "s"},
}


def upright(image: Image.Image) -> Image.Image:
    """A picture from a file, turned as EXIF says, or XMP where EXIF says nothing; the tags stay as they are."""
    return _turned(image, _stored(image.info))


def upright_in_memory(image: Image.Image) -> Image.Image:
    """An image of some program, turned as the tags say that it has now, which may not be those of its file."""
    image.load()  # by which Pillow turns a TIFF itself
    try:
        orientation = meant(image.getexif().get(_TAG))
    except Exception:  # whatever Pillow raises on damaged tags
        orientation = _stored(image.info)
    return _turned(image, orientation)


def _turned(image: Image.Image, orientation: int | None) -> Image.Image:
    turn = _TURNS.get(orientation or 1)
    return image if turn is None else image.transpose(turn)


def _stored(info: dict[Any, Any]) -> int | None:
    exif, xmp = info.get("exif"), info.get("xmp")
    found = exif_orientation(exif) if isinstance(exif, bytes) else None
    if found is None and isinstance(xmp, bytes) and (match := _XMP.search(xmp[:_XMP_SEARCHED])):
        return int(match[1])
    return found


def exif_orientation(exif: bytes) -> int | None:
    """The orientation, 1 to 8, that EXIF data has in its first directory; None if it says nothing that can be one."""
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 8:
        return None
    big = exif[2:4] in (b"+\0", b"\0+")  # BigTIFF
    start = _number(order, "Q" if big else "I", exif, 8 if big else 4)
    count = _number(order, "Q" if big else "H", exif, start)
    first, length = start + (8 if big else 2), 20 if big else 12
    for at in range(first, min(first + count * length, len(exif) - length + 1), length):
        if _number(order, "H", exif, at) == _TAG and (value := _value(order, exif, at, big)) is not None:
            return value
    return None


def _value(order: str, exif: bytes, at: int, big: bool) -> int | None:
    """What the directory's entry at a place says, if it can be an orientation."""
    kind, count = _number(order, "H", exif, at + 2), _number(order, "Q" if big else "I", exif, at + 4)
    code, inline = _TYPES.get(kind), 8 if big else 4
    if code is None or count < 1:
        return None
    text = f"{min(count, _LARGEST)}s" if code == "s" else code
    place = at + (12 if big else 8)
    if (count if code == "s" else struct.calcsize(order + code) * count) > inline:
        place = _number(order, "Q" if big else "I", exif, place)
    if place + struct.calcsize(order + text) > len(exif):
        return None
    values = struct.unpack_from(order + text, exif, place)
    return meant(values[0] if len(values) == 1 else _quotient(*values))


def meant(value: Any) -> int | None:
    """1 to 8 if a value of any type is that."""
    if isinstance(value, tuple):
        value = value[0] if value else None
    if isinstance(value, str):
        value = value.encode("ascii", "replace")
    if isinstance(value, bytes):
        digits = value.split(b"\0")[0].strip()
        value = int(digits) if digits.isdigit() else value[0] if len(value) == 1 else None
    try:
        return int(value) if value in range(1, 9) else None
    except (ArithmeticError, TypeError, ValueError):  # of fractions by zero
        return None


def _quotient(numerator: int, denominator: int) -> float | None:
    return numerator / denominator if denominator else None


def _number(order: str, code: str, data: bytes, at: int) -> int:
    """An integer at a place in the data; 0 behind its end."""
    size = struct.calcsize(order + code)
    return int(struct.unpack_from(order + code, data, at)[0]) if at + size <= len(data) else 0
