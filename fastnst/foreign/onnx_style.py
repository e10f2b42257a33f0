"""Another project's ONNX style behind fastnst's interface, whatever values, axes and sizes it has.

What cannot be read off the file is guessed: a test picture is stylized in each way, and a picture must come out.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fastnst.config import ChannelOrder, OnnxOptions, OnnxValues
from fastnst.errors import FastnstError, ModelError
from fastnst.files import printable
from fastnst.image import IMAGENET_MEAN, IMAGENET_STD, SAMPLE, Array, read_picture, resize, to_array

log = logging.getLogger(__name__)

_TEST_SIZE = 128, 160  # multiples of 32, which any network takes
_ODD_SIZE = 125, 131
_SIDES = range(16, 4097)  # of a fixed size
_SURPLUS = 32  # pixels that a result may be larger
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
_PLAUSIBLE = 0.1, 0.02  # at most so far beyond black and white on average, and at least such a deviation

_MEAN, _DEVIATION = (np.array(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
# What RGB 0..1 is subtracted from and then divided by.
_SCALES: dict[OnnxValues, tuple[Any, Any]] = {
    "1": (0.0, 1.0),
    "255": (0.0, 1 / 255),
    "signed": (0.5, 0.5),
    "imagenet": (_MEAN, _DEVIATION),
}
_CALLED: dict[OnnxValues, str] = {"1": "0..1", "255": "0..255", "signed": "-1..1", "imagenet": "by ImageNet's mean"}
# ONNX's names for that, in a file's metadata.
_RANGES: dict[str, OnnxValues] = {"NominalRange_0_255": "255", "Normalized_0_1": "1", "Normalized_1_1": "signed"}
_ORDERS: dict[str, ChannelOrder] = {"Bgr8": "bgr", "Rgb8": "rgb"}

Run = Callable[[Any], Any]  # what a network takes -> what it gives, in types and layouts of its own


@dataclass(frozen=True)
class End:
    """What a network declares of its input or its output; sides of any length are no integers."""

    type: str
    shape: Sequence[Any]


@dataclass(frozen=True)
class Convention:
    """What black and white are for a network, before and behind it, and the order of its channels."""

    takes: OnnxValues
    gives: OnnxValues
    order: ChannelOrder = "rgb"

    def feed(self, image: Array) -> Array:
        """RGB 0..1 (N, 3, H, W) -> what the network takes."""
        middle, scale = _SCALES[self.takes]
        return self._ordered(np.asarray((image - middle) / scale, np.float32))

    def read(self, stylized: Array) -> Array:
        """What the network gives -> RGB 0..1, not clipped."""
        middle, scale = _SCALES[self.gives]
        return np.asarray(self._ordered(stylized) * scale + middle, np.float32)

    def _ordered(self, image: Array) -> Array:
        return image[:, ::-1] if self.order == "bgr" else image


class Adapter:
    """An engine around a network that fastnst did not export: (N, 3, H, W) float32 RGB 0..1 -> the same.

    Raises ModelError if it does not take and give one picture, of one size but for a few pixels, or if what it makes of
    a test picture is none.
    """

    def __init__(
        self, run: Run, takes: End, gives: End, options: OnnxOptions, metadata: Mapping[str, str], source: Path | str
    ) -> None:
        self.run, self.takes, self.options, self.source = run, takes, options, source
        self.axis, self.size = _signature(takes, gives, source)
        self.multiple = 1
        try:
            self.convention = self._guess(gives, metadata)
            if None in self.size:
                self.multiple = self._find_multiple()
        except ModelError:
            raise
        except FastnstError as error:
            raise ModelError(
                f"{printable(source)} does not paint a test picture ({error}); it may be no style"
            ) from error
        log.warning("%s", self.description)

    def __call__(self, images: Array) -> Array:
        return np.concatenate([self._stylize(images[index : index + 1]) for index in range(len(images))])

    @property
    def description(self) -> str:
        """How the network is used, and how to say otherwise, in a line."""
        convention, shape = self.convention, ", ".join("?" if side is None else str(side) for side in self.takes.shape)
        gives = "" if convention.gives == convention.takes else f" and gives {_CALLED[convention.gives]}"
        taken = (
            f"{printable(self.source)} takes {self.takes.type[7:-1]} ({printable(shape)}) {convention.order.upper()} "
        )
        way = {"tile": "is cut into overlapping tiles of that size", "resize": "is scaled to that size and back"}
        fixed = "" if self.size == (None, None) else f"; a picture {way[self.options.onnx_fixed]}"
        return (
            f"{taken}{_CALLED[convention.takes]}{gives}{fixed}; override with --onnx-input, --onnx-output, --onnx-order"
            + (", --onnx-fixed" if fixed else "")
        )

    def _stylize(self, image: Array) -> Array:
        """(1, 3, H, W) -> the same, clipped."""
        height, width = image.shape[2:]
        fitting = self.size[0] or height, self.size[1] or width
        if (height, width) == fitting:
            stylized = self._whole(image)
        elif self.options.onnx_fixed == "resize":
            stylized = _scaled(self._whole(_scaled(image, *fitting)), height, width)
        else:
            stylized = tiled(self._whole, image, fitting)
        return np.clip(stylized, 0, 1)

    def _whole(self, image: Array) -> Array:
        """(1, 3, H, W) of a size the network takes, but for a multiple of pixels -> the same, not clipped."""
        height, width = image.shape[2:]
        surplus = [(0, -height % self.multiple), (0, -width % self.multiple)]
        padded = np.pad(image, [(0, 0), (0, 0), *surplus], mode="reflect") if self.multiple > 1 else image
        stylized = self.convention.read(self._run(padded, self.convention))
        self._check_size(stylized, padded)
        return stylized[..., :height, :width]

    def _run(self, image: Array, convention: Convention) -> Array:
        """(1, 3, H, W) RGB 0..1 -> (1, 3, H', W') as the network gives it."""
        given = convention.feed(image)
        kind = _TYPES[self.takes.type]
        if kind is np.uint8:
            given = np.rint(np.clip(given, 0, 255))
        given = np.moveaxis(given, 1, self.axis).astype(kind)
        if isinstance(self.takes.shape[0], int):
            given = np.repeat(given, self.takes.shape[0], axis=0)
        stylized = np.asarray(self.run(np.ascontiguousarray(given)))[:1]
        axes = [axis for axis in (self.axis, 1, 3) if stylized.ndim == 4 and stylized.shape[axis] == 3]
        if not axes or not len(stylized):
            raise ModelError(
                f"{printable(self.source)} turns a picture into numbers of shape {stylized.shape}, not into one"
            )
        return np.moveaxis(stylized.astype(np.float32), axes[0], 1)

    def _check_size(self, stylized: Array, image: Array) -> None:
        given, needed = stylized.shape[2:], image.shape[2:]
        if not all(0 <= a - b < _SURPLUS for a, b in zip(given, needed, strict=True)):
            sizes = f"{needed[1]}x{needed[0]} into one of {given[1]}x{given[0]}"
            raise ModelError(f"{printable(self.source)} turns a picture of {sizes}, which is of another size")

    def _guess(self, gives: End, metadata: Mapping[str, str]) -> Convention:
        """What is told by the options or the file, and of the rest what stylizes a test picture best."""
        told, stated = self.options, _RANGES.get(metadata.get("Image.NominalPixelRange", ""))
        order = told.onnx_order or _ORDERS.get(metadata.get("Image.BitmapPixelFormat", ""), "rgb")
        known_in = told.onnx_input or ("255" if self.takes.type == "tensor(uint8)" else stated)
        known_out = told.onnx_output or ("255" if gives.type == "tensor(uint8)" else stated)
        image = _test_picture(self.size, _TEST_SIZE)
        finite, best = False, (False, -np.inf, Convention("1", "1"))
        for takes in (known_in,) if known_in else ("1", "255", "signed", "imagenet"):
            if takes == "signed" and best[0] and best[2].takes == best[2].gives:
                break  # a network that takes and gives 0..1, or 0..255, needs no further guess
            raw = self._run(image, Convention(takes, takes, order))
            self._check_size(raw, image)
            if not np.isfinite(raw).all():
                continue
            finite = True
            best_here = (False, -np.inf, Convention(takes, takes, order))
            for values in (known_out,) if known_out else _SCALES:
                convention = Convention(takes, values, order)
                stylized = convention.read(raw)[..., : image.shape[2], : image.shape[3]]
                best_here = max(best_here, (*judge(stylized, image), convention), key=lambda one: one[:2])
            plausible, score, convention = best_here
            # Most networks take what they give. A better score must be one that is seen, not one of rounding.
            score = round(score + 0.1 * (convention.takes == convention.gives), 3)
            best = max(best, (plausible, score, convention), key=lambda one: one[:2])
        if not finite:
            raise ModelError(f"{printable(self.source)} paints a test picture without finite values; it may be damaged")
        if not best[0] and not (told.onnx_input and told.onnx_output):
            raise ModelError(
                f"{printable(self.source)} makes no picture of a test picture, in whichever values; "
                "if it is a style, say them with --onnx-input and --onnx-output"
            )
        return best[2]

    def _find_multiple(self) -> int:
        """Of how many pixels sides must be a multiple for the result to have at least the picture's size."""
        image = _test_picture(self.size, _ODD_SIZE)
        failure: FastnstError | None = None
        for self.multiple in (1, 2, 4, 8, 16, 32):
            try:
                self._whole(image)
            except FastnstError as error:
                failure = failure or error
            else:
                return self.multiple
        raise failure or AssertionError


def judge(stylized: Array, image: Array) -> tuple[bool, float]:
    """Whether this can be a stylized version of an image, both (1, 3, H, W) RGB 0..1, and how much it looks like one.

    A stylized image has contrast, hardly leaves the range, and is bright where the image is.
    """
    clipped = np.clip(stylized, 0, 1)
    beyond, deviation = float(np.abs(stylized - clipped).mean()), float(clipped.std((2, 3)).mean())
    coarse = [_scaled(part.mean(1, keepdims=True), 16, 16).ravel() for part in (clipped, image)]
    a, b = (part - part.mean() for part in coarse)
    likeness = float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum() + 1e-9))
    return beyond <= _PLAUSIBLE[0] and deviation >= _PLAUSIBLE[1], deviation - 3 * beyond + 0.2 * likeness


def tiled(stylize: Callable[[Array], Array], image: Array, size: tuple[int, int]) -> Array:
    """Stylize (1, 3, H, W) in overlapping tiles of one size, blended smoothly where they overlap.

    A network that normalizes by instance gives each tile a contrast of its own.
    """
    height, width = image.shape[2:]
    missing = [(0, max(0, side - there)) for side, there in zip(size, (height, width), strict=True)]
    image = np.pad(image, [(0, 0), (0, 0), *missing], mode="reflect")
    ramps = [_ramp(side, side // 3) for side in size]
    weight = ramps[0][:, None] * ramps[1][None, :]
    total, weights = np.zeros(image.shape), np.zeros(image.shape[2:])
    for top in _starts(image.shape[2], size[0]):
        for left in _starts(image.shape[3], size[1]):
            rows, columns = slice(top, top + size[0]), slice(left, left + size[1])
            total[..., rows, columns] += weight * stylize(image[..., rows, columns])
            weights[rows, columns] += weight
    return np.asarray((total / weights)[..., :height, :width], np.float32)


def _starts(length: int, tile: int) -> list[int]:
    """Where tiles begin that overlap by at least a third."""
    count = -(-(length - tile) // (tile - tile // 3)) + 1
    return [round(start) for start in np.linspace(0, length - tile, count)]


def _ramp(length: int, overlap: int) -> npt.NDArray[np.float64]:
    """Weights along a tile: rising from its ends over the overlap, never 0."""
    from_end = np.minimum(np.arange(length), np.arange(length)[::-1]) + 0.5
    rising: npt.NDArray[np.float64] = np.sin(np.pi / 2 * np.minimum(1, from_end / overlap)) ** 2
    return rising


def _scaled(image: Array, height: int, width: int) -> Array:
    """(1, C, H, W) scaled to a size."""
    channels = [Image.fromarray(np.ascontiguousarray(channel, np.float32)) for channel in image[0]]
    scaled = [channel.resize((width, height), Image.Resampling.LANCZOS) for channel in channels]
    return np.stack([np.asarray(channel) for channel in scaled])[None]


def _test_picture(fixed: tuple[int | None, int | None], free: tuple[int, int]) -> Array:
    height, width = (a or b for a, b in zip(fixed, free, strict=True))
    return to_array(resize(read_picture(SAMPLE), height, width).rgb)


def _signature(takes: End, gives: End, source: object) -> tuple[int, tuple[int | None, int | None]]:
    """The axis of the channels and the fixed height and width; ModelError unless it takes and gives one picture."""
    for end, verb in ((takes, "takes"), (gives, "gives")):
        if end.type not in _TYPES:
            needed = "float, float16 or uint8"
            raise ModelError(f"{printable(source)} {verb} {end.type} but a style {verb} a picture as {needed}")
    shape = list(takes.shape)
    axis = next((axis for axis in (1, 3) if len(shape) == 4 and shape[axis] == 3), None)
    if axis is None:
        raise ModelError(
            f"{printable(source)} takes {printable(shape)} but a style takes a picture, (N, 3, H, W) or (N, H, W, 3)"
        )
    sides = shape[2:] if axis == 1 else shape[1:3]
    height, width = (side if isinstance(side, int) and side > 0 else None for side in sides)
    if not all(side is None or side in _SIDES for side in (height, width)):
        raise ModelError(f"{printable(source)} takes pictures of {width}x{height} only, which no style is for")
    return axis, (height, width)
