"""What a file is: a picture, a clip, one of these that fastnst does not read, or neither.

First bytes decide. Only of what has none to tell by, a damaged or foreign file, is the name taken into account.
"""

import os
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path

from fastnst.decode.formats import MAGIC, looks_like_image
from fastnst.errors import FastnstError, InputError, UnsupportedFormatError
from fastnst.files import printable
from fastnst.image import SUFFIXES, Limits, open_regular, read_size

_RAW_SUFFIXES = {
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".k25", ".kdc", ".mef"),
    *(".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
}
PICTURE_SUFFIXES = {
    *SUFFIXES,
    *_RAW_SUFFIXES,
    *(".jpe", ".jfif", ".apng", ".gif", ".avif", ".avifs", ".heic", ".heics", ".heif", ".heifs", ".hif", ".jxl"),
    *(".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".jxr", ".wdp", ".tif", ".tiff", ".bmp", ".dib", ".tga", ".qoi", ".dds"),
    *(".pnm", ".ppm", ".pgm", ".pbm", ".pfm", ".exr", ".psd", ".psb", ".xcf", ".kra", ".ora", ".svg", ".svgz"),
}
CLIP_SUFFIXES = {
    *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".divx", ".wmv", ".asf", ".flv", ".f4v"),
    *(".mpg", ".mpeg", ".m2v", ".vob", ".m2ts", ".mts", ".ogv", ".mxf", ".rm", ".rmvb"),
}
_SOUND_SUFFIXES = {".m4a", ".m4b", ".m4r", ".mka", ".weba", ".3ga", ".f4a"}  # in containers of clips


class Kind(Enum):
    """What is done with a file among others."""

    PICTURE = auto()  # it is stylized
    CLIP = auto()  # so is it
    UNREADABLE = auto()  # a picture or a clip, but one that cannot be read, which is reported
    OTHER = auto()  # it is left alone


def kind_of(path: Path, is_clip: Callable[[Path], bool] = lambda _: False) -> Kind:
    """What a file is; `is_clip` tells a video by its first bytes. One that is not there is UNREADABLE."""
    if not os.path.exists(path):  # noqa: PTH110 (for what exists raises before Python 3.14)
        return Kind.UNREADABLE
    suffix = path.suffix.lower()
    start = _first_bytes(path)
    format = looks_like_image(start)
    if format in MAGIC and not (_is_raw(path) and format == "TIFF"):
        return Kind.PICTURE
    if path.name.startswith("._"):  # what macOS keeps beside a file of that name on other systems' disks
        return Kind.OTHER
    if is_foreign_picture(path, start) or suffix in PICTURE_SUFFIXES:
        return Kind.UNREADABLE
    if is_clip(path):
        return Kind.OTHER if suffix in _SOUND_SUFFIXES or start[4:11] in (b"ftypM4A", b"ftypM4B") else Kind.CLIP
    return Kind.UNREADABLE if suffix in CLIP_SUFFIXES else Kind.OTHER


def is_foreign_picture(path: Path, start: bytes | None = None) -> bool:
    """Whether it is a picture of a format that fastnst does not read, or by its name should be."""
    start = _first_bytes(path) if start is None else start
    if (format := looks_like_image(start)) in MAGIC:
        return _is_raw(path)
    drawing = start.lstrip(b"\xef\xbb\xbf\r\n\t ").startswith((b"<svg", b"<?xml")) and b"<svg" in start
    return format is not None or drawing or path.suffix.lower() in PICTURE_SUFFIXES - SUFFIXES.keys()


def why_unreadable(path: Path) -> FastnstError:
    """What to tell of an UNREADABLE file."""
    name = printable(path)
    if _is_raw(path) and looks_like_image(_first_bytes(path)) in (None, "TIFF"):
        return UnsupportedFormatError(f"{name} is a raw photograph, which fastnst does not read; develop it to a JPEG")
    try:
        read_size(path, Limits())
    except UnsupportedFormatError as error:
        if path.suffix.lower() in CLIP_SUFFIXES:
            return UnsupportedFormatError(f"{name} is not a video fastnst reads; convert it to MP4")
        return error
    except FastnstError as error:
        return error
    return InputError(f"{name} cannot be read; convert it to one of {', '.join(MAGIC)}")


def _is_raw(path: Path) -> bool:
    """Whether it is named like a raw photograph, which begins like a TIFF but has a small preview there."""
    return path.suffix.lower() in _RAW_SUFFIXES


def _first_bytes(path: Path) -> bytes:
    """Enough to tell a format by; none of what cannot be read."""
    try:
        with open_regular(path) as file:
            return bytes(file.read(512))
    except (FastnstError, OSError):
        return b""
