"""Pillow's modes whose values have no range of their own, or that it does not convert, as modes that have one."""

import numpy as np
from PIL import Image

from fastnst.errors import InputError

# White in pictures of floats or of 32-bit integers. Pillow does not say which it is: its own conversions give 0..255,
# other programs 0..1 or 16 bits. A picture may go beyond by a quarter, as resizing with an overshooting filter does.
_WHITE = (1, 255, 65535)
_BEYOND = 0.25
_STEPS = {"La": ("LA", "RGBA"), "HSV": ("RGB",), "YCbCr": ("RGB",), "LAB": ("RGB",), "RGBX": ("RGB",)}


def with_range(image: Image.Image, name: str) -> Image.Image:
    """An image of any mode as one of a mode that to_srgb takes.

    Floats ("F") are 0..1, 0..255 or 16 bits, integers ("I") 0..255 or 16 bits, the least that holds the largest value.
    Raises InputError for values that are none of these.
    """
    if image.mode in ("F", "I"):
        return _gray(image, name)
    for mode in _STEPS.get(image.mode, ()):
        image = image.convert(mode)
    return image


def white_of(most: float, mode: str) -> int | None:
    """The least usual white of "F" or "I" for a largest value; None if that is beyond all of them."""
    return next((white for white in _WHITE if most <= white * (1 + _BEYOND) and (mode == "F" or white > 1)), None)


def _gray(image: Image.Image, name: str) -> Image.Image:
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"{name} has values that are NaN or infinite; replace them first")
    least, most = values.min(initial=0), values.max(initial=0)
    white = white_of(most, image.mode)
    if white is None or least < -_BEYOND * white:
        possible = "0..255 or 0..65535" if image.mode == "I" else "0..1, 0..255 or 0..65535"
        raise InputError(
            f"{name} has values from {least:g} to {most:g} but pictures of mode {image.mode} are {possible}; "
            "scale them first"
        )
    return Image.fromarray(np.rint(np.clip(values / white, 0, 1) * 255).astype(np.uint8))
