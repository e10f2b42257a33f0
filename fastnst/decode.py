"""What Pillow is asked for when a picture is decoded: one decoder, all of its pixels, upright, in sRGB.

Pillow's errors, warnings and switches stay in here.
"""

import logging
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageFile, ImageOps

from fastnst.errors import FastnstError, InputError, first_line

log = logging.getLogger(__name__)

_Pixels = npt.NDArray[np.uint8]
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
_truncation, _filters = threading.Lock(), threading.Lock()  # Python's warning filters and Pillow's switch are global


@contextmanager
def decoding(name: str) -> Iterator[None]:
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
    text = first_line(error)
    return "header unreadable" if "cannot identify image file" in text else text.rstrip(".")


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings from Pillow, of sizes (our own limit is stricter and is checked next) and of damaged metadata."""
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def open_image(file: Any, format: str) -> ImageFile.ImageFile:
    """Read the header, with no decoder but the one that the magic bytes name."""
    with quiet():
        return Image.open(file, formats=(format,))


def draft(image: ImageFile.ImageFile, max_size: int | None, short_side: int | None) -> None:
    """Let the JPEG decoder skip detail that would be scaled away, keeping twice what is needed."""
    if image.format != "JPEG" or (max_size is None and short_side is None):
        return
    width, height = image.size
    kept = min(1.0, 2 * max_size / max(width, height) if max_size else short_side / min(width, height))  # type: ignore[operator]
    image.draft(None, (max(1, int(width * kept)), max(1, int(height * kept))))


def load(image: ImageFile.ImageFile, name: str, allow_truncated: bool) -> None:
    """Decode all pixels; where damaged parts are allowed they are gray."""
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


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF tag says."""
    try:
        with quiet():
            return ImageOps.exif_transpose(image)
    except (OSError, ValueError, TypeError, SyntaxError, KeyError, struct.error, OverflowError, ZeroDivisionError):
        log.info("an unreadable EXIF block was ignored")
        return image


def to_srgb(image: Image.Image, profile: bytes, name: str) -> tuple[_Pixels, _Pixels | None]:
    """An image of any mode and its profile, if any -> sRGB (H, W, 3) on white, and its transparency (H, W), if any."""
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
    rgb = np.asarray(_by_profile(image, profile, name))
    if alpha is None or alpha.min() == 255:
        return np.ascontiguousarray(rgb), None
    # Colors under full transparency are arbitrary and must not bleed into what is stylized beside them.
    cover = alpha[..., None].astype(np.float32) / 255
    return np.rint(rgb * cover + 255 * (1 - cover)).astype(np.uint8), alpha


def _by_profile(image: Image.Image, profile: bytes, name: str) -> Image.Image:
    """The image in sRGB; a profile that cannot be used is ignored."""
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
