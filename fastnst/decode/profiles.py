"""Color profiles: pictures in whatever colors -> sRGB, by what a profile does and not by what it calls itself."""

import logging
import struct
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

from fastnst.errors import first_line

log = logging.getLogger(__name__)

# Bytes: as much as a JPEG can hold. Profiles of printing presses have some MB, others a few kB.
LIMIT = 255 * 65_519

_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
_SAME = 1  # levels by which profiles of sRGB differ from each other, by their tables and rounding


def of_gamma(gamma: float) -> bytes:
    """The profile of sRGB with a power as its curve, for a PNG that says by which power its values were made.

    Nothing for one that is about that of sRGB, as which nearly all that say so are meant, or is no power.
    """
    if not 0.1 <= gamma <= 10 or abs(gamma / (1 / 2.2) - 1) < 0.05:
        return b""
    profile = bytearray(_SRGB.tobytes())
    for at in range(132, 132 + 12 * struct.unpack_from(">I", profile, 128)[0], 12):
        name, start = struct.unpack_from(">4sI", profile, at)
        if name in (b"rTRC", b"gTRC", b"bTRC"):
            power = round(65_536 / gamma), 65_536, 0, 0, 0  # (a x + b)^power from d on
            struct.pack_into(">4s4xHH5i", profile, start, b"para", 3, 0, *power)
    return bytes(profile)


def to_rgb(image: Image.Image, profile: bytes, name: str) -> Image.Image:
    """An image without transparency, of mode L, I;16, RGB or what converts to it, as sRGB.

    A profile that cannot be used is ignored with a warning.
    """
    if len(profile) > LIMIT:
        log.warning("%s: its color profile of %d MiB is ignored; convert it to sRGB first", name, len(profile) >> 20)
        profile = b""
    try:
        if profile:
            return _transformed(image, ImageCms.ImageCmsProfile(BytesIO(profile)))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        log.warning("%s: its color profile is ignored (%s)", name, first_line(error).rstrip("."))
    if image.mode == "LAB":
        return _transformed(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
    return _plain(image)


def _transformed(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    image = _in_space(image, source.profile.xcolor_space.strip())
    # Without the optimizations for 16 bits, which lose what is darkest.
    exactly = ImageCms.Flags.NOOPTIMIZE if image.mode == "I;16" else ImageCms.Flags.NONE
    transform = ImageCms.ImageCmsTransform(source, _SRGB, image.mode, "RGB", flags=exactly)
    if _keeps(transform, image.mode):
        return _plain(image)
    if image.mode != "I;16":
        return transform.apply(image)
    table = transform.apply(Image.fromarray(np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)))
    return Image.fromarray(np.asarray(table).reshape(-1, 3)[np.asarray(image)])


def _in_space(image: Image.Image, space: str) -> Image.Image:
    """The image in the color space of its profile; ValueError if that is one of other colors."""
    if space == "RGB" and image.mode not in ("CMYK", "LAB"):
        return _plain(image)
    if space == "GRAY" and image.mode in ("L", "I;16"):
        return image
    if space == "GRAY" and image.mode == "RGB":  # palettes, and gray of 16 bits with transparency
        red, green, blue = image.split()
        if red.tobytes() == green.tobytes() == blue.tobytes():
            return red
    if {"CMYK": "CMYK", "Lab": "LAB"}.get(space) == image.mode:
        return image
    raise ValueError(f"it is one of {space} for a picture in {image.mode}")


def _keeps(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether colors stay as they are, but for rounding; tried on a grid of them."""
    if mode in ("L", "I;16"):
        levels = np.arange(256)
        given = levels.astype(np.uint8)[None] if mode == "L" else (levels * 257).astype(np.uint16)[None]
        expected = np.repeat(levels[None, :, None], 3, axis=2)
    elif mode == "RGB":
        levels = np.array([*range(0, 32, 4), *range(32, 256, 16), 255])  # closer where curves differ most
        expected = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
        given = expected.astype(np.uint8)
    else:
        return False
    made = np.asarray(transform.apply(Image.fromarray(given))).astype(int)
    return bool(np.abs(made - expected).max() <= _SAME)


def _plain(image: Image.Image) -> Image.Image:
    """RGB of the same values; 16 bits are scaled, where Pillow's own conversion clips to white."""
    if image.mode == "I;16":
        image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    return image.convert("RGB")
