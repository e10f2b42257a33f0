"""Pictures: files <-> uint8 (H, W, 3) sRGB <-> float32 (1, 3, H, W) 0..1, with every odd file somebody owns.

The gate comes before the decoder: length, magic bytes, size, and only then pixels.
"""

import logging
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from fastnst.decode.formats import HEAD, MAGIC, looks_like_image
from fastnst.decode.modes import with_range
from fastnst.decode.orientation import upright, upright_in_memory
from fastnst.decode.pillow import decoding, draft, load, not_read, open_image, quiet, to_srgb
from fastnst.decode.png import clear_deep_color, deep_color_is_transparent
from fastnst.errors import FastnstError, InputError, OutputError, SizeError, UnsupportedFormatError, UsageError
from fastnst.files import printable, write_bytes, write_stdout

log = logging.getLogger(__name__)

Pixels = npt.NDArray[np.uint8]  # (H, W, 3) or, for alpha, (H, W); sRGB 0..255
Array = npt.NDArray[np.float32]  # (N, 3, H, W) RGB 0..1

# What is written, by the suffix of the output.
SUFFIXES = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}

# A photograph that exports and unknown networks are tried on.
SAMPLE = Path(__file__).parent / "sample.jpg"

# Red, green and blue in luma (ITU-R BT.601).
LUMA = (0.299, 0.587, 0.114)
# Mean and standard deviation of ImageNet, RGB 0..1: torchvision's networks and some other projects want them.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

SMALLEST = 16  # pixels a side; below that reflection and instance statistics have nothing to work with

Frames = Literal["first", "all", "reject"]


@dataclass(frozen=True)
class Limits:
    """What is refused before any pixel is decoded; sides and pixels bound the memory, bytes bound the reading."""

    pixels: int = 50_000_000
    side: int = 16_384
    smallest: int = SMALLEST
    size: int = 256 << 20  # bytes of the file
    remedy: str = "scale it down first"


# What Pillow opens at all; a style image is scaled down at once, so memory is no reason to refuse it.
_LARGEST_STYLE = Limits(pixels=178_000_000, side=65_535, size=1 << 30)


@dataclass(frozen=True)
class Picture:
    """sRGB pixels (H, W, 3) uint8, composited on white where transparent, and the transparency itself (H, W) if any."""

    rgb: Pixels
    alpha: Pixels | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.rgb.shape[0], self.rgb.shape[1]

    def to_pil(self) -> Image.Image:
        image = Image.fromarray(self.rgb)
        if self.alpha is not None:
            image.putalpha(Image.fromarray(self.alpha))
        return image


def to_array(rgb: Pixels) -> Array:
    """uint8 (H, W, 3) 0..255 -> float32 (1, 3, H, W) 0..1."""
    return np.ascontiguousarray(rgb.transpose(2, 0, 1)[None], dtype=np.float32) / np.float32(255)


def to_pixels(array: npt.NDArray[np.floating[Any]]) -> Pixels:
    """float (1, 3, H, W) or (3, H, W) -> uint8 (H, W, 3): clipped to 0..1, rounded, never truncated.

    Raises FastnstError if a value is not finite: a cast would turn it into a wrong color.
    """
    if not np.isfinite(array).all():
        raise FastnstError("the network painted values that are not numbers; train or export the style again")
    planes = array.reshape(array.shape[-3:])
    pixels: Pixels = np.rint(np.clip(planes, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    return pixels


def read_picture(path: Path | str, *, limits: Limits | None = None, **options: Any) -> Picture:
    """Decode a file, or standard input for "-"; see decode_picture for options and errors."""
    limits = limits or Limits()
    if str(path) == "-":
        return decode_picture(sys.stdin.buffer.read(limits.size + 1), "standard input", limits=limits, **options)
    return decode_picture(read_file(Path(path), limits), printable(path), limits=limits, **options)


def decode_picture(
    data: bytes,
    name: str = "image",
    *,
    limits: Limits | None = None,
    max_size: int | None = None,
    short_side: int | None = None,
    allow_truncated: bool | None = None,
    frames: Frames = "first",
) -> Picture:
    """Bytes of a picture in one of the formats in MAGIC -> upright sRGB pixels; the first frame of an animation.

    `max_size` scales the longer side down to that many pixels. `short_side` lets a JPEG be decoded at a half, a
    quarter or an eighth as long as its shorter side keeps that many pixels: faster, for crops.
    `allow_truncated` decodes what is left of a damaged file; if it is False, and not None, the error names it.

    Raises UnsupportedFormatError for other bytes, InputError if damaged, too large, too small, or animated with
    frames="reject".
    """
    limits = limits or Limits()
    format = _check_gate(data, name, limits)
    with decoding(name):
        image = open_image(BytesIO(data), format)
        check_size(image.height, image.width, name, limits)
        if frames == "reject" and getattr(image, "is_animated", False):
            raise InputError(f"{name} is an animation; give one picture, or use --frames first")
        profile, deep = _profile(image), deep_color_is_transparent(image)
        draft(image, max_size, short_side)
        load(image, name, allow_truncated)
        decoded = clear_deep_color(image, BytesIO(data)) if deep else image
        picture = Picture(*to_srgb(upright(decoded), profile, name))
    return picture if max_size is None else shrink(picture, max_size, name)


def from_pil(image: Image.Image) -> Picture:
    """A PIL image of any mode, upright by its EXIF tag and converted by its profile, as a Picture."""
    with decoding("image"):
        # Pillow's Lab is already converted to sRGB by its own white.
        profile = b"" if image.mode == "LAB" else _profile(image)
        picture = Picture(*to_srgb(with_range(upright_in_memory(image), "image"), profile, "image"))
    _check_smallest(*picture.size, "image", Limits())
    return picture


def shrink(picture: Picture, max_size: int, name: str = "image") -> Picture:
    """Scale down, never up, so that the longer side has at most `max_size` pixels."""
    height, width = picture.size
    scale = max_size / max(height, width)
    if scale >= 1:
        return picture
    size = max(1, round(height * scale)), max(1, round(width * scale))
    _check_smallest(*size, f"{name} scaled down to {max_size} pixels", Limits())
    return resize(picture, *size)


def read_style(path: Path, size: int) -> Picture:
    """A style image with a longer side of `size` pixels, as the loss sees it; a very large one is no error.

    Raises InputError if it is unusable.
    """
    style = _read_style(path, size)
    if style.alpha is not None and not style.alpha.any():
        raise InputError(f"{printable(path)} is fully transparent, so there is no style to see; give it a background")
    return scale_longer(style, size)


def _read_style(path: Path, size: int) -> Picture:
    """The picture in about its own size, or a very large one in that which is needed."""
    usual = Limits()
    if str(path) == "-":
        return read_picture(path)
    height, width = read_size(path, _LARGEST_STYLE)
    large = height * width > usual.pixels or max(height, width) > usual.side or path.stat().st_size > usual.size
    if not large:
        return read_picture(path)
    log.warning("%s has %dx%d pixels and is scaled down to %d", printable(path), width, height, size)
    return read_picture(path, limits=_LARGEST_STYLE, max_size=size)


def scale_longer(picture: Picture, size: int) -> Picture:
    """The picture with a longer side of `size` pixels."""
    scale = size / max(picture.size)
    return resize(picture, *(max(1, round(side * scale)) for side in picture.size))


def resize(picture: Picture, height: int, width: int) -> Picture:
    """Scale to exactly this size (Lanczos)."""

    def scaled(pixels: Pixels) -> Pixels:
        return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))

    return replace(picture, rgb=scaled(picture.rgb), alpha=None if picture.alpha is None else scaled(picture.alpha))


def output_format(path: Path | str) -> str:
    """The format an output's suffix asks for; standard output is PNG. UsageError for any other suffix."""
    if str(path) == "-":
        return "PNG"
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"cannot write {printable(path)}: the name must end in {', '.join(SUFFIXES)}")
    return SUFFIXES[suffix]


def encode_picture(picture: Picture, format: str, quality: int = 92) -> bytes:
    """Picture -> bytes of a JPEG, PNG or WebP in sRGB without any metadata; JPEG puts transparency on white."""
    image = picture.to_pil()
    if format == "JPEG" and image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    options = {
        "PNG": {"compress_level": 6},
        "JPEG": {"quality": quality, "subsampling": 0},
        "WEBP": {"quality": quality},
    }
    buffer = BytesIO()
    try:
        image.save(buffer, format, **options[format])
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot encode a picture of {image.width}x{image.height} as {format}: {error}") from error
    return buffer.getvalue()


def write_picture(picture: Picture, path: Path, quality: int = 92) -> None:
    """Encode by the suffix and write atomically, or a PNG onto standard output for "-"."""
    data = encode_picture(picture, output_format(path), quality)
    if str(path) == "-":
        write_stdout(data)
    else:
        write_bytes(path, data)


def read_size(path: Path, limits: Limits) -> tuple[int, int]:
    """Height and width from a file's header alone, refused like in decode_picture."""
    with open_regular(path) as file, decoding(printable(path)):
        format = _check_gate(file.read(HEAD), printable(path), limits)
        file.seek(0)
        image = open_image(file, format)
        check_size(image.height, image.width, printable(path), limits)
        return image.height, image.width


def open_animation(file: BinaryIO, name: str) -> Image.Image:
    """An open animation, or one picture, whose frames read_frame decodes; refused like in decode_picture."""
    limits = Limits()
    format = _check_gate(file.read(HEAD), name, limits)
    file.seek(0)
    with decoding(name):
        image = open_image(file, format)
        check_size(image.height, image.width, name, limits)
    return image


def read_frame(image: Image.Image, number: int, name: str) -> tuple[Picture, float]:
    """One frame of an open animation, the next or a later one, and how long it is shown, milliseconds.

    Raises InputError if it is damaged.
    """
    with decoding(name), quiet():
        image.seek(number)
        image.load()
        return Picture(*to_srgb(upright(image), _profile(image), name)), image.info.get("duration") or 0


@contextmanager
def open_regular(path: Path) -> Iterator[Any]:
    """Open an ordinary file for reading; never waits on a pipe or a device. InputError if it is none."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise InputError(f"{printable(path)} is not an ordinary file; give a picture file")
        file = open(path, "rb")  # noqa: SIM115
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read {printable(path)}: {reason}; check the name and the permissions") from error
    with file:
        yield file


def read_file(path: Path, limits: Limits) -> bytes:
    """All bytes of a file, or one more than the limits allow; InputError if it cannot be read."""
    with open_regular(path) as file:
        try:
            return bytes(file.read(limits.size + 1))
        except OSError as error:
            raise InputError(f"cannot read {printable(path)}: {error.strerror or error}") from error


def _check_gate(data: bytes, name: str, limits: Limits) -> str:
    """The format of these bytes, if they are worth opening."""
    if not data:
        raise InputError(f"{name} is empty; give a picture")
    if len(data) > limits.size:
        raise InputError(f"{name} has more than {limits.size >> 20} MiB; save it smaller first")
    format = looks_like_image(data)
    if format == "HEIF" and not find_spec("pi_heif"):
        raise UnsupportedFormatError(
            f"{name} is a HEIC picture, for which pi-heif is needed; pip install 'fastnst[heic]', or convert it to JPEG"
        )
    if format is None:
        raise UnsupportedFormatError(f"{name} is not a picture fastnst reads; convert it to one of {', '.join(MAGIC)}")
    if format not in MAGIC:
        raise UnsupportedFormatError(not_read(name, format))
    return format


def check_size(height: int, width: int, name: str, limits: Limits) -> None:
    """InputError for a height or a width, or a number of pixels, that is not decoded."""
    if width * height > limits.pixels or max(width, height) > limits.side:
        raise SizeError(
            f"{name} is {width}x{height} pixels but at most {limits.pixels / 1e6:g} million and "
            f"{limits.side} a side are decoded; {limits.remedy}"
        )
    _check_smallest(height, width, name, limits)


def _check_smallest(height: int, width: int, name: str, limits: Limits) -> None:
    if min(height, width) < limits.smallest:
        least = f"{limits.smallest}x{limits.smallest}"
        raise SizeError(f"{name} is {width}x{height} pixels but at least {least} are needed; enlarge it first")


def _profile(image: Image.Image) -> bytes:
    """An image's color profile; empty without one."""
    profile = image.info.get("icc_profile")
    return profile if isinstance(profile, bytes) else b""
