"""After the network: how much of the painting, whose colors, and where. Pixels are uint8 (H, W, 3) sRGB throughout."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor, ImageFilter

from fastnst.config import MaskOptions
from fastnst.errors import InputError
from fastnst.files import show
from fastnst.image import Picture, Pixels, read_picture

# Luma of ITU-R BT.601, as in JPEG and in Gatys et al. 2016, "Preserving color in neural artistic style transfer".
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def blend(content: Pixels, stylized: Pixels, strength: float) -> Pixels:
    """Cross-fade: strength 0 is the content, 1 the stylized picture."""
    if strength == 1:
        return stylized
    return _pixels(content + (stylized.astype(np.float32) - content) * strength)


def keep_luma_colors(content: Pixels, stylized: Pixels) -> Pixels:
    """Brightness of the stylized picture, colors of the content.

    Source: Gatys et al. 2016, luminance-only transfer.
    """
    given, painted = content.astype(np.float32), stylized.astype(np.float32)
    return _pixels(given + ((painted - given) @ _LUMA)[..., None])


def keep_histogram_colors(content: Pixels, stylized: Pixels) -> Pixels:
    """The stylized picture with its mean color and color covariance moved to those of the content.

    Source: Gatys et al. 2016, color histogram matching with the symmetric matrix square root.
    """
    given, painted = content.reshape(-1, 3).astype(np.float64) / 255, stylized.reshape(-1, 3).astype(np.float64) / 255
    root_given, root_painted = _square_root(_covariance(given)), _square_root(_covariance(painted))
    matched = (painted - painted.mean(0)) @ np.linalg.solve(root_painted, root_given) + given.mean(0)
    return _pixels(matched.reshape(stylized.shape) * 255)


def read_mask(options: MaskOptions, size: tuple[int, int], max_size: int | None = None) -> Pixels:
    """The mask of a picture of (height, width): uint8 (H, W), 255 where it is painted, its edge softened.

    Raises InputError if it is of another size or paints nothing.
    """
    assert options.mask is not None
    name = show(options.mask)
    picture = read_picture(options.mask)
    scale = min(1.0, max_size / max(picture.size)) if max_size else 1.0
    height, width = (max(1, round(side * scale)) for side in picture.size)
    if (height, width) != size:
        needed_height, needed_width = size
        raise InputError(
            f"the mask {name} has {width}x{height} pixels but the picture {needed_width}x{needed_height}; "
            "give one of the same size"
        )
    mask = _pixels(picture.rgb @ _LUMA) if picture.alpha is None else picture.alpha
    mask = 255 - mask if options.invert_mask else mask
    if not mask.any():
        remedy = "leave out" if options.invert_mask else "make the shape white, or add"
        raise InputError(f"the mask {name} leaves nothing to paint; {remedy} --invert-mask")
    # A triangle as the filter, which does not ring: around a shape there must be nothing.
    mask = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.BILINEAR))
    return np.asarray(Image.fromarray(mask).filter(ImageFilter.GaussianBlur(options.feather)))


def within_mask(painted: Picture, content: Picture, mask: Pixels, background: str) -> Picture:
    """The painting where the mask is white, the background elsewhere: a color, the photo, or nothing."""
    share = mask.astype(np.float32) / 255
    alpha = painted.alpha
    if background == "transparent":
        background = "white"  # below what is transparent, as everywhere
        alpha = mask if alpha is None else _pixels(alpha * share)
    color = content.rgb if background == "photo" else np.array(ImageColor.getrgb(background)[:3])
    around = np.broadcast_to(color, painted.rgb.shape).astype(np.float32)
    return Picture(_pixels(around + (painted.rgb - around) * share[..., None]), alpha)


def _covariance(colors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    # A little of every color, so that grey pictures keep an invertible matrix.
    return np.asarray(np.cov(colors, rowvar=False) + 1e-5 * np.eye(3))


def _square_root(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(values)) @ vectors.T)


def _pixels(values: npt.NDArray[np.floating[Any]]) -> Pixels:
    pixels: Pixels = np.rint(np.clip(values, 0, 255)).astype(np.uint8)
    return pixels
