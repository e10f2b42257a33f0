"""After the network: how much of the stylized picture, whose colors, how large its strokes, and where.

Pixels are uint8 (H, W, 3) sRGB throughout. What needs the whole picture is a few numbers (ColorStatistics); everything
else works on bands of rows, so that memory beyond the pixels themselves does not grow with the height.

So each step rounds to 8 bits, up to five times in all. Against rounding once, after the last step, that was measured
inside the mask on castle.jpg and cat.jpg at 480 pixels, in the styles great-wave and night-cafe: with a stroke of 1.5,
strength 0.7 and colors by luma, values differ by 0.34 to 0.42 gray levels on average and by 3 at most, 1 % of them by
more than 1. With colors by histogram, which may stretch contrasts, it is 0.6 to 1.0 on average and 9 at most. Floats
between the steps would save that, at 12 bytes a pixel for each copy: 6 GB for 500 megapixels.
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor, ImageFilter

from fastnst.config import MaskOptions
from fastnst.errors import InputError, SizeError
from fastnst.files import printable
from fastnst.image import LUMA, SMALLEST, Picture, Pixels, read_picture

Plane = npt.NDArray[np.floating[Any]]  # float32 (H, W), 0..255
Floats = npt.NDArray[np.floating[Any]]  # float32 (H, W, 3), 0..255 and, before the gamut, beyond


# Luma of ITU-R BT.601, as in JPEG and in Gatys et al. 2016, "Preserving color in neural artistic style transfer".
_LUMA = np.array(LUMA, dtype=np.float32)

# natural_mix
_TONES = 0.6  # the exponent with which they lead
_STROKES = 1.2  # how much of their contrast is given back
_TEXTURE = 1.0  # how much sooner the photo's own goes: the exponent of what is left
_DETAIL = 3.0  # pixels: what is finer, by a Gaussian of this deviation, is a detail
_AREA = 16  # pixels: what is coarser is a tone

_STEPS = 3  # of sharpening, in enlarge
_BAND = 1 << 21  # bytes of float32 that one band of one picture takes, about


def cross_fade(content: Pixels, stylized: Pixels, strength: float) -> Pixels:
    """The weighted mean of both: strength 0 is the content, 1 the stylized picture."""
    if strength == 1:
        return stylized

    def mixed(before: Pixels, after: Pixels) -> Floats:
        return before + (after.astype(np.float32) - before) * np.float32(strength)

    return _in_bands(mixed, content, stylized)


def natural_mix(content: Pixels, stylized: Pixels, strength: float) -> Pixels:
    """Between the content, strength 0, and its stylized picture, 1, without the ghosts of a cross-fade.

    Tones lead: over areas the colors are nearer to the stylized ones than the strength says, details are not. Strokes
    keep their contrast, which the mean of two unlike textures loses. And of the photo's details those stay longest
    that the stylized picture has too, contours above all; texture that would show through the paint goes first.

    Source of the idea, to average what agrees and to select where it does not: Burt and Kolczynski 1993, "Enhanced
    image capture through fusion". Chosen by the loss of Johnson et al. 2016 and by eye.
    """
    if strength == 1:
        return stylized
    lead = np.float32(strength**_TONES - strength)
    tones = _Tones(content, stylized)

    def mixed(rows: slice, given: Pixels, stylized: Pixels) -> Floats:
        before, after = given.astype(np.float32), stylized.astype(np.float32)
        details = _mixed_details(before @ _LUMA, after @ _LUMA, strength)
        values: Floats = before + (after - before) * np.float32(strength) + lead * tones.of(rows) + details[..., None]
        return values

    return _in_bands_at(mixed, content, stylized, reach=2 * _reach(_DETAIL))


def fineness(strength: float) -> float:
    """How many times as large the photo is stylized for natural_mix: finer strokes for less strength, 1 to 1.25."""
    return min(2 - strength, 1.25)


def _mixed_details(given: Plane, stylized: Plane, strength: float) -> Plane:
    """What natural_mix adds to the luma of a cross-fade."""
    given, stylized = given - _blur(given, _DETAIL), stylized - _blur(stylized, _DETAIL)
    # Plus a little, so that differences of a few gray levels are no texture.
    few = np.float32(4)
    energies = [_blur(details * details, _DETAIL) + few for details in (given, stylized)]
    shared = np.maximum(_blur(given * stylized, _DETAIL), 0) + few
    unlike = 1 - shared / np.sqrt(energies[0] * energies[1])  # 0 where both have the same details
    rest = 1 - strength
    stronger, fainter = np.float32(_STROKES * strength**2 * rest), np.float32(rest - rest ** (1 + _TEXTURE))
    mixed: Plane = unlike * (stronger * stylized - fainter * given)
    return mixed


class _Tones:
    """How much brighter a stylized picture is over areas of 16 pixels, smooth in between, for any band of its rows."""

    def __init__(self, content: Pixels, stylized: Pixels) -> None:
        self.width = content.shape[1]
        small = [np.asarray(Image.fromarray(p).reduce(_AREA)).astype(np.float32) for p in (content, stylized)]
        self.planes = [Image.fromarray(plane) for plane in np.moveaxis(small[1] - small[0], 2, 0).copy()]

    def of(self, rows: slice) -> Floats:
        box = (0, rows.start / _AREA, self.width / _AREA, rows.stop / _AREA)
        size = (self.width, rows.stop - rows.start)
        resized = [np.asarray(plane.resize(size, Image.Resampling.BILINEAR, box)) for plane in self.planes]
        return np.stack(resized, axis=-1)


def stroke_scale(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """The (height, width) at which a picture is stylized so that strokes become 1 / scale as large.

    Raises InputError if that is too small for a network.
    """
    height, width = (max(1, round(side * scale)) for side in size)
    if min(height, width) < SMALLEST:
        raise SizeError(
            f"a picture of {size[1]}x{size[0]} pixels would be painted at {width}x{height} for such large strokes but "
            f"at least {SMALLEST}x{SMALLEST} are needed; choose a smaller --stroke"
        )
    return height, width


def enlarge(stylized: Pixels, size: tuple[int, int]) -> Pixels:
    """A stylized picture enlarged to (height, width), with edges as steep as if it had been stylized at that size.

    Differs from joint upsampling (Kopf et al. 2007) and the guided filter (He et al. 2013): nothing else guides it. A
    photo as the guide gives the paint its texture; a picture stylized at the full size has small strokes where these
    are large.
    Instead the luma is sharpened again and again within the range of its surroundings, like a shock filter (Osher and
    Rudin 1990), which makes edges steep without ringing.
    """
    height, width = size
    scale = max(height / stylized.shape[0], width / stylized.shape[1])
    enlarged = np.asarray(Image.fromarray(stylized).resize((width, height), Image.Resampling.BICUBIC))
    radius = max(1, round(scale / 2))
    amount = np.float32(1.5 * (scale - 1) / (scale - 0.5))  # found by the energy of the finest gradients

    def steeper(pixels: Pixels) -> Floats:
        colors = pixels.astype(np.float32)
        before = colors @ _LUMA
        low, high = _extreme(np.minimum, before, radius), _extreme(np.maximum, before, radius)
        luma = before
        for _ in range(_STEPS):
            luma = np.clip(luma + amount * (luma - _blur(luma, scale / 2)), low, high)
        return into_gamut(colors + (luma - before)[..., None])

    return _in_bands(steeper, enlarged, reach=_STEPS * _reach(scale / 2) + radius)


def keep_luma_colors(content: Pixels, stylized: Pixels) -> Pixels:
    """Brightness of the stylized picture, colors of the content.

    Source: Gatys et al. 2016, luminance-only transfer. Differs: a color that would leave the gamut is made paler
    until it fits, where clipping would change its brightness and its hue.
    """

    def recolored(given: Pixels, stylized: Pixels) -> Floats:
        before, after = given.astype(np.float32), stylized.astype(np.float32)
        return into_gamut(before + ((after - before) @ _LUMA)[..., None])

    return _in_bands(recolored, content, stylized)


@dataclass(frozen=True)
class ColorStatistics:
    """What a histogram match knows of a picture: the mean (3,) and the covariance (3, 3) of its colors, 0..1."""

    mean: npt.NDArray[np.float64]
    covariance: npt.NDArray[np.float64]

    @classmethod
    def of(cls, pixels: Pixels) -> "ColorStatistics":
        """Of uint8 (H, W, 3), summed band by band in integers, so exactly."""
        count, total, products = 0, np.zeros(3, np.int64), np.zeros((3, 3), np.int64)
        for rows in _bands(pixels.shape):
            colors = pixels[rows].reshape(-1, 3).astype(np.float64)
            count, total = count + len(colors), total + colors.sum(0).astype(np.int64)
            products = products + (colors.T @ colors).astype(np.int64)
        mean = total / count
        return cls(mean / 255, (products / count - np.outer(mean, mean)) / 255**2)


def keep_histogram_colors(content: Pixels, stylized: Pixels) -> Pixels:
    """The stylized picture with its mean color and color covariance moved to those of the content.

    Source: Gatys et al. 2016, color histogram matching with the symmetric matrix square root.
    """
    return match_colors(stylized, ColorStatistics.of(stylized), ColorStatistics.of(content))


def match_colors(pixels: Pixels, own: ColorStatistics, wanted: ColorStatistics) -> Pixels:
    """Pixels, a picture or a part of it, moved from the statistics of the whole picture to other ones."""
    roots = [_square_root(statistics.covariance) for statistics in (own, wanted)]
    matrix = np.linalg.solve(*roots).astype(np.float32)
    offset = (255 * (wanted.mean - own.mean @ np.linalg.solve(*roots))).astype(np.float32)
    return _in_bands(lambda stylized: into_gamut(stylized.astype(np.float32) @ matrix + offset), pixels)


def into_gamut(colors: Floats) -> Floats:
    """Colors outside 0..255 moved straight towards the gray of the same luma until they fit; the others stay."""
    luma = np.clip(colors @ _LUMA, 0, 255)[..., None]
    chroma = colors - luma
    farthest = chroma.max(-1, keepdims=True), -chroma.min(-1, keepdims=True)
    fits = np.ones_like(luma)
    for room, needed in zip((255 - luma, luma), farthest, strict=True):
        np.divide(room, needed, out=fits, where=needed * fits > room)
    fitted: Floats = luma + chroma * fits
    return fitted


def read_mask(options: MaskOptions, size: tuple[int, int]) -> Pixels:
    """The mask of a picture of (height, width): uint8 (H, W), 255 where it is stylized, its edge softened.

    A mask of another size but the same proportions is scaled; feather is in pixels of the picture.

    Raises InputError if it has other proportions or leaves nothing.
    """
    assert options.mask is not None
    return mask_of(read_picture(options.mask), options, size, f"the mask {printable(options.mask)}")


def mask_of(picture: Picture, options: MaskOptions, size: tuple[int, int], name: str = "the mask") -> Pixels:
    """The same of a mask that is decoded already; the messages call it by the name."""
    height, width = size
    if not _same_proportions(picture.size, size):
        raise InputError(
            f"{name} has {picture.size[1]}x{picture.size[0]} pixels but the picture {width}x{height}; "
            "give one of the same size or proportions"
        )
    mask = _pixels(picture.rgb @ _LUMA) if picture.alpha is None else picture.alpha
    mask = 255 - mask if options.invert_mask else mask
    if not mask.any():
        remedy = "leave out" if options.invert_mask else "make the shape white, or add"
        raise InputError(f"{name} leaves nothing to paint; {remedy} --invert-mask")
    # A triangle as the filter, which does not ring: around a shape there must be nothing.
    mask = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.BILINEAR))
    return np.asarray(Image.fromarray(mask).filter(ImageFilter.GaussianBlur(options.feather)))


def within_mask(stylized: Picture, around: Pixels | str, mask: Pixels) -> Picture:
    """The stylized picture where the mask (H, W) is white, elsewhere other pixels, a color, or nothing ("transparent").

    Only "transparent" touches the alpha.
    """
    alpha = stylized.alpha
    if isinstance(around, str) and around == "transparent":
        around = "white"  # below what is transparent, as everywhere
        alpha = mask if alpha is None else _pixels(alpha * (mask.astype(np.float32) / 255))
    if isinstance(around, str):
        around = np.broadcast_to(np.array(ImageColor.getrgb(around)[:3], np.uint8), stylized.rgb.shape)

    def inside(stylized: Pixels, around: Pixels, mask: Pixels) -> Floats:
        share = mask[..., None].astype(np.float32) / 255
        return around + (stylized.astype(np.float32) - around) * share

    return Picture(_in_bands(inside, stylized.rgb, around, mask), alpha)


def _same_proportions(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether (height, width) of the larger, scaled to the longer side of the smaller, is that within rounding."""
    small, large = sorted((a, b))
    scale = max(small) / max(large)
    return all(abs(side * scale - wanted) < 1 for side, wanted in zip(large, small, strict=True))


def _square_root(covariance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    # A little of every color, so that gray pictures keep an invertible matrix.
    values, vectors = np.linalg.eigh(covariance + 1e-5 * np.eye(3))
    return np.asarray((vectors * np.sqrt(values)) @ vectors.T)


def _bands(shape: tuple[int, ...]) -> Iterator[slice]:
    """Rows of a picture (H, W, ...) in bands."""
    height = max(1, _BAND // (12 * shape[1]))
    yield from (slice(top, min(top + height, shape[0])) for top in range(0, shape[0], height))


def _in_bands(function: Callable[..., npt.NDArray[np.floating[Any]]], *pictures: Pixels, reach: int = 0) -> Pixels:
    """A function of pictures (H, W, ...) that looks `reach` rows far, computed band by band, clipped and rounded."""
    return _in_bands_at(lambda _, *parts: function(*parts), *pictures, reach=reach)


def _in_bands_at(function: Callable[..., npt.NDArray[np.floating[Any]]], *pictures: Pixels, reach: int = 0) -> Pixels:
    """The same for a function that is told which rows it is given."""
    height = len(pictures[0])
    result = np.empty_like(pictures[0], order="C")
    for rows in _bands(pictures[0].shape):
        top, bottom = max(0, rows.start - reach), min(height, rows.stop + reach)
        values = function(slice(top, bottom), *(picture[top:bottom] for picture in pictures))
        result[rows] = _pixels(values[rows.start - top : rows.stop - top])
    return result


def _reach(deviation: float) -> int:
    """How many pixels far _blur looks."""
    return math.ceil(2.5 * deviation)


def _blur(plane: Plane, deviation: float) -> Plane:
    """A Gaussian of a deviation in pixels; borders are repeated."""
    offsets = np.arange(-_reach(deviation), _reach(deviation) + 1)
    weights = np.exp(-(offsets**2) / (2 * deviation**2)).astype(np.float32)
    weights /= weights.sum()
    for axis in (0, 1):
        shifted = _shifted(plane, len(offsets) // 2, axis)
        plane = sum(weight * part for weight, part in zip(weights, shifted, strict=True))
    return plane


def _extreme(function: np.ufunc, plane: Plane, radius: int) -> Plane:
    """The minimum or maximum of the square of 2 * radius + 1 pixels around each."""
    for axis in (0, 1):
        plane = functools.reduce(function, _shifted(plane, radius, axis))
    return plane


def _shifted(plane: Plane, radius: int, axis: int) -> Iterator[Plane]:
    """The plane moved by -radius to radius pixels along an axis; borders are repeated."""
    margin = [(0, 0), (0, 0)]
    margin[axis] = (radius, radius)
    padded, length = np.pad(plane, margin, mode="edge"), plane.shape[axis]
    for start in range(2 * radius + 1):
        yield padded[start : start + length] if axis == 0 else padded[:, start : start + length]


def _pixels(values: npt.NDArray[np.floating[Any]]) -> Pixels:
    pixels: Pixels = np.rint(np.clip(values, 0, 255)).astype(np.uint8)
    return pixels
