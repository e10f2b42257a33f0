"""Pictures: files <-> uint8 (H, W, 3) sRGB <-> float32 (1, 3, H, W) 0..1, with every odd file somebody owns.

The gate comes before the decoder: length, magic bytes, size, and only then pixels.
"""

import logging
import os
import stat
import struct
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageFile, ImageOps

from fastnst.errors import FastnstError, InputError, OutputError, UnsupportedFormatError, UsageError
from fastnst.files import printable, write_bytes, write_stdout

log = logging.getLogger(__name__)

Pixels = npt.NDArray[np.uint8]  # (H, W, 3) or, for alpha, (H, W); sRGB 0..255
Array = npt.NDArray[np.float32]  # (N, 3, H, W) RGB 0..1

# What is decoded, by the bytes a file begins with; the name of a file means nothing.
MAGIC: dict[str, tuple[tuple[int, bytes], ...]] = {
    "JPEG": ((0, b"\xff\xd8\xff"),),
    "PNG": ((0, b"\x89PNG\r\n\x1a\n"),),
    "WEBP": ((0, b"RIFF"), (8, b"WEBP")),
    "GIF": ((0, b"GIF8"),),
    "AVIF": ((4, b"ftypavi"),),
}
# What is written, by the suffix of the output.
SUFFIXES = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}

# A photograph that exports and unknown networks are tried on.
SAMPLE = Path(__file__).parent / "sample.jpg"

# Mean and standard deviation of ImageNet, RGB 0..1: torchvision's networks and some other projects want them.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

SMALLEST = 16  # pixels a side; below that reflection and instance statistics have nothing to work with

Frames = Literal["first", "all", "reject"]
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
_PROFILE_LIMIT = 1 << 20  # bytes; real profiles are a few kB, large CMYK ones under 1 MiB
_truncation, _filters = threading.Lock(), threading.Lock()  # Python's warning filters and Pillow's switch are global


@dataclass(frozen=True)
class Limits:
    """What is refused before any pixel is decoded; sides and pixels bound the memory, bytes bound the reading."""

    pixels: int = 50_000_000
    side: int = 16_384
    smallest: int = SMALLEST
    size: int = 256 << 20  # bytes of the file
    remedy: str = "scale it down first"


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
    return decode_picture(_read_file(Path(path), limits), printable(path), limits=limits, **options)


def decode_picture(
    data: bytes,
    name: str = "image",
    *,
    limits: Limits | None = None,
    max_size: int | None = None,
    short_side: int | None = None,
    allow_truncated: bool = False,
    frames: Frames = "first",
) -> Picture:
    """Bytes of a JPEG, PNG, WebP, GIF or AVIF -> upright sRGB pixels; the first frame of an animation.

    `max_size` scales the longer side down to that many pixels. `short_side` lets a JPEG be decoded at a half, a
    quarter or an eighth as long as its shorter side keeps that many pixels: faster, for crops.

    Raises UnsupportedFormatError for other bytes, InputError if damaged, too large, too small, or animated with
    frames="reject".
    """
    limits = limits or Limits()
    format = _check_gate(data, name, limits)
    with _decoding(name):
        image = _open(BytesIO(data), format)
        _check_dimensions(image, name, limits)
        if frames == "reject" and getattr(image, "is_animated", False):
            raise InputError(f"{name} is an animation; give one picture, or use --frames first")
        profile = image.info.get("icc_profile") or b""
        if len(profile) > _PROFILE_LIMIT:
            raise InputError(f"{name} carries a color profile of {len(profile)} bytes; save it without the profile")
        _draft(image, max_size, short_side)
        _load(image, name, allow_truncated)
        picture = _normalize(_upright(image), profile, name)
    return picture if max_size is None else shrink(picture, max_size)


def from_pil(image: Image.Image) -> Picture:
    """A PIL image of any mode, upright by its EXIF tag and converted by its profile, as a Picture."""
    with _decoding("image"):
        picture = _normalize(_upright(image), image.info.get("icc_profile") or b"", "image")
    _check_smallest(*picture.size, "image", Limits())
    return picture


def shrink(picture: Picture, max_size: int) -> Picture:
    """Scale down, never up, so that the longer side has at most `max_size` pixels."""
    height, width = picture.size
    scale = max_size / max(height, width)
    if scale >= 1:
        return picture
    size = max(1, round(height * scale)), max(1, round(width * scale))
    _check_smallest(*size, f"image scaled down to {max_size} pixels", Limits())
    return resize(picture, *size)


# What Pillow opens at all; a style image is scaled down at once, so memory is no reason to refuse it.
_LARGEST_STYLE = Limits(pixels=178_000_000, side=65_535, size=1 << 30)


def read_style(path: Path, size: int) -> Picture:
    """A style image with a longer side of `size` pixels, as the loss sees it; a very large one is no error.

    Raises InputError if it is unusable.
    """
    usual = Limits()
    if str(path) == "-":
        return scale_longer(read_picture(path), size)
    height, width = read_size(path, _LARGEST_STYLE)
    large = height * width > usual.pixels or max(height, width) > usual.side or path.stat().st_size > usual.size
    if not large:
        return scale_longer(read_picture(path), size)
    log.warning("%s has %dx%d pixels and is scaled down to %d", printable(path), width, height, size)
    return scale_longer(read_picture(path, limits=_LARGEST_STYLE, max_size=size), size)


def scale_longer(picture: Picture, size: int) -> Picture:
    """The picture with a longer side of so many pixels."""
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
    _write(encode_picture(picture, output_format(path), quality), path)


def _write(data: bytes, path: Path) -> None:
    if str(path) == "-":
        write_stdout(data)
    else:
        write_bytes(path, data)


def looks_like_image(data: bytes) -> str | None:
    """The format whose magic bytes these are, or None."""
    for format, marks in MAGIC.items():
        if all(data[at : at + len(mark)] == mark for at, mark in marks):
            return format
    return None


def read_size(path: Path, limits: Limits) -> tuple[int, int]:
    """Height and width from a file's header alone, refused like in decode_picture."""
    with open_regular(path) as file, _decoding(printable(path)):
        format = _check_gate(file.read(16), printable(path), limits)
        file.seek(0)
        image = _open(file, format)
        _check_dimensions(image, printable(path), limits)
        return image.height, image.width


def open_animation(file: BinaryIO, name: str) -> Image.Image:
    """An open animation, or one picture, whose frames read_frame decodes; refused like in decode_picture."""
    limits = Limits()
    format = _check_gate(file.read(16), name, limits)
    file.seek(0)
    with _decoding(name):
        image = _open(file, format)
        _check_dimensions(image, name, limits)
    return image


def read_frame(image: Image.Image, number: int, name: str) -> tuple[Picture, float]:
    """One frame of an open animation, the next or a later one, and how long it is shown, milliseconds.

    Raises InputError if it is damaged.
    """
    with _decoding(name), _quiet():
        image.seek(number)
        image.load()
        return _normalize(image, image.info.get("icc_profile") or b"", name), image.info.get("duration") or 0


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


def _read_file(path: Path, limits: Limits) -> bytes:
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
    if format is None:
        raise UnsupportedFormatError(f"{name} is not a picture fastnst reads; convert it to one of {', '.join(MAGIC)}")
    return format


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises on a damaged file into an InputError."""
    try:
        yield
    except FastnstError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{name} claims a size far beyond what is decoded; scale it down first") from error
    # Pillow raises OSError, ValueError, SyntaxError, EOFError, struct.error and others for damaged files.
    except (Exception, MemoryError) as error:
        raise InputError(f"{name} is damaged and cannot be decoded ({_reason(error)}); save it again") from error


def _reason(error: BaseException) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return "header unreadable" if "cannot identify image file" in text else text.rstrip(".")


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings from Pillow, of sizes (our own limit is stricter and is checked next) and of damaged metadata."""
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _open(file: Any, format: str) -> ImageFile.ImageFile:
    # Only the one decoder that the magic bytes name.
    with _quiet():
        return Image.open(file, formats=(format,))


def check_size(height: int, width: int, name: str, limits: Limits) -> None:
    """InputError if so many pixels are more, or fewer, than are decoded."""
    if width * height > limits.pixels or max(width, height) > limits.side:
        raise InputError(
            f"{name} is {width}x{height} pixels but at most {limits.pixels / 1e6:g} million and "
            f"{limits.side} a side are decoded; {limits.remedy}"
        )
    _check_smallest(height, width, name, limits)


def _check_dimensions(image: Image.Image, name: str, limits: Limits) -> None:
    check_size(image.height, image.width, name, limits)


def _check_smallest(height: int, width: int, name: str, limits: Limits) -> None:
    if min(height, width) < limits.smallest:
        least = f"{limits.smallest}x{limits.smallest}"
        raise InputError(f"{name} is {width}x{height} pixels but at least {least} are needed; enlarge it first")


def _draft(image: ImageFile.ImageFile, max_size: int | None, short_side: int | None) -> None:
    """Let the JPEG decoder skip detail that would be scaled away, keeping twice what is needed."""
    if image.format != "JPEG" or (max_size is None and short_side is None):
        return
    width, height = image.size
    kept = min(1.0, 2 * max_size / max(width, height) if max_size else short_side / min(width, height))  # type: ignore[operator]
    image.draft(None, (max(1, int(width * kept)), max(1, int(height * kept))))


def _load(image: ImageFile.ImageFile, name: str, allow_truncated: bool) -> None:
    if not allow_truncated:
        image.load()
        return
    with _truncation:
        before = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            image.load()
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before
    log.warning("%s: damaged parts, if any, are left gray", name)


def _upright(image: Image.Image) -> Image.Image:
    try:
        with _quiet():
            return ImageOps.exif_transpose(image)
    except (OSError, ValueError, TypeError, SyntaxError, KeyError, struct.error, OverflowError, ZeroDivisionError):
        log.info("an unreadable EXIF block was ignored")
        return image


def _normalize(image: Image.Image, profile: bytes, name: str) -> Picture:
    """Any mode -> sRGB on white, and alpha."""
    if image.mode.startswith("I") or image.mode == "F":
        # 16 bits: scaled, because Pillow's own conversion clips to white.
        depth = np.asarray(image, dtype=np.float64)
        image = Image.fromarray(np.rint(np.clip(depth / 257, 0, 255)).astype(np.uint8))
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"))
        image = image.convert("RGB")
    elif image.mode in ("P", "1", "PA"):
        image = image.convert("RGB" if image.mode != "1" else "L")
    rgb = np.asarray(_to_srgb(image, profile, name))
    if alpha is None or alpha.min() == 255:
        return Picture(np.ascontiguousarray(rgb))
    # Colors under full transparency are arbitrary and must not bleed into what is painted beside them.
    cover = alpha[..., None].astype(np.float32) / 255
    return Picture(np.rint(rgb * cover + 255 * (1 - cover)).astype(np.uint8), alpha)


def _to_srgb(image: Image.Image, profile: bytes, name: str) -> Image.Image:
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            if not ImageCms.getProfileDescription(source).startswith("sRGB"):
                converted = ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
                if converted is not None:
                    return converted
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
            log.warning("%s: its color profile is ignored (%s)", name, _reason(error))
    return image.convert("RGB")
