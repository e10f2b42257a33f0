"""What Pillow is asked for when a picture is decoded: one decoder, all of its pixels, in sRGB.

Pillow's errors, warnings and switches stay in here.
"""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from fastnst.decode import profiles
from fastnst.decode.formats import MAGIC, Foreign
from fastnst.decode.modes import white_of
from fastnst.decode.png import open_png
from fastnst.errors import FastnstError, InputError, SizeError, UnsupportedFormatError, first_line

log = logging.getLogger(__name__)

_Pixels = npt.NDArray[np.uint8]
_ROWS = 64  # of a picture at once
_LENIENT = ("JPEG", "PNG", "GIF", "TIFF", "BMP")  # whose decoders give what there is of a damaged file
_truncation, _filters = threading.Lock(), threading.Lock()  # Python's warning filters and Pillow's switch are global


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises on a damaged file into an InputError."""
    try:
        yield
    except FastnstError:
        raise
    except Foreign as error:
        raise UnsupportedFormatError(not_read(name, str(error))) from error
    except Image.DecompressionBombError as error:
        raise SizeError(f"{name} claims a size far beyond what is decoded; scale it down first") from error
    # Pillow raises OSError, ValueError, SyntaxError, EOFError, struct.error and others for damaged files.
    except (Exception, MemoryError) as error:
        raise InputError(f"{name} is damaged and cannot be decoded ({_reason(error)}); save it again") from error


def not_read(name: str, what: str) -> str:
    """The message that a picture is of a kind which is not decoded."""
    return f"{name} is a {what}, which is not read; convert it to one of {', '.join(MAGIC)}"


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
        if format == "PNG":
            return open_png(file)
        if format in ("WEBP", "GIF", "BMP"):
            return Image.open(file, formats=(format,))
        if format == "TIFF":
            from fastnst.decode.tiff import Tiff

            return Tiff(file)
        from fastnst.decode.decoders import Jpeg, open_in_container

        return Jpeg(file) if format == "JPEG" else open_in_container(file, format)


def draft(image: ImageFile.ImageFile, max_size: int | None, short_side: int | None) -> None:
    """Let the JPEG decoder skip detail that would be scaled away, keeping twice what is needed."""
    if image.format != "JPEG" or (max_size is None and short_side is None):
        return
    width, height = image.size
    kept = min(1.0, 2 * max_size / max(width, height) if max_size else short_side / min(width, height))  # type: ignore[operator]
    image.draft(None, (max(1, int(width * kept)), max(1, int(height * kept))))


def load(image: ImageFile.ImageFile, name: str, allow_truncated: bool | None) -> None:
    """Decode all pixels; where damaged parts are allowed they are gray. None is a caller that has no such option."""
    if not allow_truncated:
        try:
            image.load()
        except (Exception, MemoryError) as error:
            packed = getattr(image, "use_load_libtiff", False)  # libtiff gives nothing of it
            closed = isinstance(error, AssertionError) or "closed" in str(error)  # nothing is known of the file
            if allow_truncated is None or image.format not in _LENIENT or packed or closed:
                raise
            raise InputError(
                f"{name} is cut off or damaged ({_reason(error)}); save it again, "
                "or paint what is left of it with --allow-truncated"
            ) from error
        return
    with _truncation:
        before = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            image.load()
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before
    log.warning("%s: damaged parts, if any, are left gray", name)


def to_srgb(image: Image.Image, profile: bytes, name: str) -> tuple[_Pixels, _Pixels | None]:
    """An image of any mode and its profile, if any -> sRGB (H, W, 3) on white, and its transparency (H, W), if any."""
    colors, alpha = _without_transparency(image)
    rgb = np.asarray(profiles.to_rgb(colors, profile, name))
    if alpha is None or alpha.min() == 255:
        return np.ascontiguousarray(rgb), None
    # Colors under full transparency are arbitrary and must not bleed into what is stylized beside them.
    on_white = np.empty_like(rgb)
    for top in range(0, len(rgb), _ROWS):  # floats of all of it would take four times what the pixels do
        rows = slice(top, top + _ROWS)
        cover = alpha[rows, :, None].astype(np.float32) / 255
        on_white[rows] = np.rint(rgb[rows] * cover + 255 * (1 - cover)).astype(np.uint8)
    return on_white, alpha


def _without_transparency(image: Image.Image) -> tuple[Image.Image, _Pixels | None]:
    """The colors alone, gray still gray, in a mode that a profile can be applied to; and the transparency, if any."""
    key = image.info.get("transparency")
    if image.mode.startswith("I") or image.mode == "F":
        depth = _sixteen_bits(image)
        alpha = np.where(depth == key, 0, 255).astype(np.uint8) if isinstance(key, int) else None
        return Image.fromarray(depth), alpha
    if isinstance(key, tuple) and image.mode == "RGB" and max(key) > 255:  # of 16 bits, in an animation
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in key)
    if image.has_transparency_data:
        gray = image.mode in ("L", "LA", "La", "1")
        image = image.convert("LA" if gray else "RGBA")
        return image.convert("L" if gray else "RGB"), np.asarray(image.getchannel("A"))
    if image.mode in ("P", "PA", "1"):
        return image.convert("L" if image.mode == "1" else "RGB"), None
    return image, None


def _sixteen_bits(image: Image.Image) -> npt.NDArray[np.uint16]:
    """Whole numbers of 16 or more bits, and floats, as 0..65535.

    Beyond the usual whites that is all of 32 bits, or of floats the largest: a file need not be refused for that.
    """
    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        return values.astype(np.uint16)
    values = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)
    most = float(values.max())
    white = white_of(most, image.mode) or (most if image.mode == "F" else 2**31 - 1)
    return np.rint(np.clip(values / white, 0, 1) * 65_535).astype(np.uint16)
