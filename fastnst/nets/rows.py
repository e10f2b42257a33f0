"""Rows of a picture or of a layer that are read a few at a time: computed, stored, summed; borders around them.

What runs a layer's convolution is given to them; in which order they are read is not their matter, but from the top to
the bottom.
"""

import math
from abc import abstractmethod
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastnst.image import Array, Pixels
from fastnst.nets.grain import grain
from fastnst.nets.spec import DEBAND_CONTRAST, DEBAND_WINDOW, Layer, NetConfig

HALF_RANGE = 1024  # what is stored in half precision is scaled to; it has room for 64 times as much

Vector = npt.NDArray[np.float64]
Affine = tuple[Array, Array]  # scale and shift of each channel


class Convolve(Protocol):
    """Runs a layer's convolution on rows of its input, with whatever an engine has."""

    def __call__(self, layer: Layer, rows: Array, affine: Affine | None, relu: bool) -> Array:
        """(i, h, w) with borders in place -> (o, h', w'), 2x2 blocks spread but none cut off.

        First, each channel is scaled and shifted, and then goes through ReLU, as far as asked for.
        """
        ...


class Rows:
    """Something of (channels, height, width) that is read a few rows at a time, from the top to the bottom."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        self.channels, self.height, self.width = channels, height, width
        self.affine: Affine | None = None  # still to be applied to what is read
        self.relu = False  # as well

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width

    @abstractmethod
    def read(self, a: int, b: int) -> Array:
        """Rows a to b, exclusive, as (channels, b - a, width)."""

    def activated(self, a: int, b: int) -> Array:
        """The same, scaled, shifted and through ReLU as still to be done."""
        return _activated(self.read(a, b), self.affine, self.relu)


class ComputedRows(Rows):
    """Rows of which those that are read again are not computed again."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__(channels, height, width)
        self._first = 0
        self._block: Array | None = None

    def read(self, a: int, b: int) -> Array:
        if self._block is None or not self._first <= a <= self._first + self._block.shape[1]:
            self._first, self._block = a, self.compute(a, b)
        end = self._first + self._block.shape[1]
        if b > end:
            block = np.concatenate([self._block[:, a - self._first :], self.compute(end, b)], axis=1)
            self._first, self._block = a, block
        return self._block[:, a - self._first : b - self._first]

    @abstractmethod
    def compute(self, a: int, b: int) -> Array:
        """Rows a to b, anew."""


class PictureRows(ComputedRows):
    """What a network sees of a picture."""

    def __init__(self, rgb: Pixels, config: NetConfig) -> None:
        if config.padding == "same":
            height, width = (-side % config.factor for side in rgb.shape[:2])
            rgb = np.pad(rgb, ((0, height), (0, width), (0, 0)), mode="reflect")
        for step in config.mirrors:
            rgb = np.pad(rgb, ((step, step), (step, step), (0, 0)), mode="reflect")
        super().__init__(3, *rgb.shape[:2])
        self.rgb, self.config = rgb, config

    def compute(self, a: int, b: int) -> Array:
        values = self.rgb[a:b].astype(np.float32) / np.float32(255)
        if self.config.even_out:
            values += np.clip(self._means(a, b) - values, -DEBAND_CONTRAST, DEBAND_CONTRAST)
        rows = values.transpose(2, 0, 1) - np.float32(self.config.center)
        if self.config.grain:
            rows += np.float32(self.config.grain) * grain(b - a, self.width, a)
        return rows

    def _means(self, a: int, b: int) -> Array:
        """Means around each value of rows a to b, of what there is of the window within the picture, (h, W, 3) 0..1."""
        margin = DEBAND_WINDOW // 2
        above, below = max(0, margin - a), max(0, b + margin - self.height)
        around = np.pad(self.rgb[max(0, a - margin) : b + margin], ((above, below), (margin, margin), (0, 0)))
        # In whole numbers: no rounding, and adding is all it takes.
        sums = _window_sums(_window_sums(around.astype(np.uint16), 1).astype(np.uint32), 0)
        rows, columns = (_window_counts(size)[:, None] for size in (self.height, self.width))
        counts = rows[a:b, None] * columns
        means: Array = sums.astype(np.float32) / (counts * np.float32(255))
        return means


class StoredRows(Rows):
    """Rows in memory, in single precision; or in half, as distances from about the mean of each channel.

    Of half precision, what is read are those distances: `scaled` says what becomes of them.
    """

    def __init__(self, values: npt.NDArray[np.float32 | np.float16]) -> None:
        channels, height, width = values.shape
        super().__init__(channels, height, width)
        self.values = values
        self.origin: Array = np.zeros((channels, 1, 1), np.float32)
        self.unit = 1.0  # of the distances, a power of two

    def read(self, a: int, b: int) -> Array:
        return self.values[:, a:b].astype(np.float32, copy=False)

    def write(self, a: int, rows: Array) -> None:
        """Put rows (channels, h, width) at row a, below all that was written before."""
        place = self.values[:, a : a + rows.shape[1]]
        if place.dtype == np.float32:
            place[...] = rows
            return
        if a == 0:
            self.origin = np.einsum("chw->c", rows)[:, None, None] / np.float32(rows[0].size)
        try:
            with np.errstate(over="raise"):
                self._put(rows, place)
        except FloatingPointError:
            unit = 2.0 ** math.ceil(math.log2(float(np.abs(rows - self.origin).max()) / HALF_RANGE))
            self.values[:, :a] *= np.float16(self.unit / unit)
            self.unit = unit
            self._put(rows, place)

    def _put(self, rows: Array, place: npt.NDArray[np.float32 | np.float16]) -> None:
        distance = rows if self.unit == 1 else rows / np.float32(self.unit)
        np.subtract(distance, self.origin / np.float32(self.unit), out=place, casting="unsafe")

    def scaled(self, scale: Vector, shift: Vector) -> Affine:
        """The affine of what is read, for one of the rows themselves."""
        return columns(scale * self.unit, shift + scale * self.origin[:, 0, 0])


class OverwrittenRows(ComputedRows):
    """Stored rows as they were before others were written over them, behind the reader."""

    def __init__(self, rows: Rows) -> None:
        assert isinstance(rows, StoredRows)
        super().__init__(*rows.shape)
        self.rows, self.affine, self.relu = rows, rows.affine, rows.relu
        self._read = 0

    def compute(self, a: int, b: int) -> Array:
        assert a >= self._read, "these rows are gone"
        self._read = b
        return self.rows.read(a, b).copy()


class CroppedRows(Rows):
    """A part of others, from this many rows and columns on."""

    def __init__(self, source: Rows, height: int, width: int, start: int) -> None:
        super().__init__(source.channels, height, width)
        self.source, self.affine, self.relu, self.start = source, source.affine, source.relu, start

    def read(self, a: int, b: int) -> Array:
        return self.source.read(self.start + a, self.start + b)[..., self.start : self.start + self.width]


class LayerRows(ComputedRows):
    """What a layer makes of other rows, before its norm."""

    def __init__(self, source: Rows, layer: Layer, convolve: Convolve) -> None:
        super().__init__(layer.outputs, layer.output_side(source.height), layer.output_side(source.width))
        self.source, self.layer, self.convolve = source, layer, convolve

    def compute(self, a: int, b: int) -> Array:
        layer = self.layer
        shift = int(layer.shifted)
        # Rows of the convolution itself: with upsampling, each of them makes two.
        first, last = (a, b) if layer.upsample is None else ((a + shift) // 2, (b + shift + 1) // 2)
        before, _ = layer.pads
        top = first * layer.stride - before
        made = self.convolve(layer, *self._rows(top, (last - 1) * layer.stride - before + layer.applied))
        if layer.upsample is None:
            return made
        start = a + shift - 2 * first
        return made[:, start : start + b - a, shift : shift + self.width]

    def _rows(self, a: int, b: int) -> tuple[Array, Affine | None, bool]:
        """Rows a to b of the source, those beyond it and the columns beside it as the layer's border says."""
        source, layer = self.source, self.layer
        above, below = max(0, -a), max(0, b - source.height)
        # A reflection may be of rows that are not among those asked for.
        low = max(0, min(a, source.height - 1 - below if below else a))
        high = min(source.height, max(b, above + 1 if above else b))
        rows, affine, relu = source.read(low, high), source.affine, source.relu
        if layer.border == "zero":  # of what is beyond, not of what would become of it
            rows, affine, relu = _activated(rows, affine, relu), None, False
        rows = _bordered(rows, layer.border, (above, below), layer.pads)
        skipped = a - (low - above)
        return rows[:, skipped : skipped + b - a], affine, relu


class SumRows(ComputedRows):
    """What goes around a residual block and what comes out of it."""

    def __init__(self, around: Rows, inside: Rows, skip: float) -> None:
        super().__init__(*inside.shape)
        self.around, self.inside, self.skip = around, inside, np.float32(skip)

    def compute(self, a: int, b: int) -> Array:
        inside = self.inside.activated(a, b)
        return self.skip * self.around.activated(a, b) + inside


def columns(scale: Vector, shift: Vector) -> Affine:
    """Scale and shift of each channel, in single precision and as (C, 1, 1)."""
    return scale.astype(np.float32)[:, None, None], shift.astype(np.float32)[:, None, None]


def _activated(rows: Array, affine: Affine | None, relu: bool) -> Array:
    if affine is not None:
        rows = rows * affine[0] + affine[1]
    return np.maximum(rows, 0) if relu else rows


def _bordered(rows: Array, border: str, above_below: tuple[int, int], beside: tuple[int, int]) -> Array:
    """Rows and columns added around (C, h, w)."""
    (above, below), (left, right) = above_below, beside
    channels, height, width = rows.shape
    whole = np.empty((channels, above + height + below, left + width + right), np.float32)
    whole[:, above : above + height, left : left + width] = rows
    for axis, before, count, after in ((2, left, width, right), (1, above, height, below)):
        moved = np.moveaxis(whole, axis, 0)
        for step in range(1, before + 1):
            moved[before - step] = 0 if border == "zero" else moved[before + (step if border == "reflect" else 0)]
        last = before + count - 1
        for step in range(1, after + 1):
            moved[last + step] = 0 if border == "zero" else moved[last - (step if border == "reflect" else 0)]
    return whole


def _window_sums(values: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
    """Sums of each DEBAND_WINDOW neighbors along an axis, which gets shorter by their number less one."""

    def part(given: npt.NDArray[Any], start: int, size: int) -> npt.NDArray[Any]:
        return given[start : start + size] if axis == 0 else given[:, start : start + size]

    sums, width = values, 1
    while 2 * width <= DEBAND_WINDOW:
        size = sums.shape[axis] - width
        sums, width = part(sums, 0, size) + part(sums, width, size), 2 * width
    size = values.shape[axis] - DEBAND_WINDOW + 1
    total = part(sums, 0, size)
    for start in range(width, DEBAND_WINDOW):
        total = total + part(values, start, size)
    return total


def _window_counts(size: int) -> Array:
    """How much of the window around each place lies within 0 to size."""
    places = np.arange(size)
    counts = np.minimum(places + DEBAND_WINDOW // 2 + 1, size) - np.maximum(places - DEBAND_WINDOW // 2, 0)
    return counts.astype(np.float32)
