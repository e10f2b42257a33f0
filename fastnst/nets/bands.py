"""Pictures larger than memory: a band of rows after the other, with the instance statistics of the whole picture.

A tile painted alone has a contrast and colors of its own, because instance normalization takes the mean and variance of
what it is given. Here each layer is run over all bands to learn those of the whole picture, and then again, or read
from memory, for what follows. The lowest resolution is kept whole, twice; where only one of the two is needed, the next
larger layer lies in the other's place, in half precision. Larger ones are computed anew when they are needed. Each band
sees real rows beyond its edge, and reflections at the picture's own border alone. So the result is that of one pass
over the whole picture, but for rounding.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from fastnst.image import Array, Pixels, to_pixels
from fastnst.nets.spec import DEBAND_CONTRAST, DEBAND_WINDOW, Layer, NetConfig, Weights, layers

DEFAULT_TILE = 256  # a band has about as many pixels as a square of this side; more fit into no cache
THUMBNAIL = 1024  # longer side of the picture that statistics come from, if not from the whole
KEPT = 128 << 20  # bytes; layers up to this size are kept instead of computed anew
ROOM = 1024  # half precision has room for 64 times as much

StatisticsOf = Literal["whole", "thumbnail"]
Vector = npt.NDArray[np.float64]
Affine = tuple[Array, Array]  # scale and shift of each channel
OnMoments = Callable[[str, Vector, Vector], tuple[Vector, Vector]]
OnProgress = Callable[[float], object]


class Convolve(Protocol):
    """Runs a layer's convolution on rows of its input, with whatever an engine has."""

    def __call__(self, layer: Layer, rows: Array, affine: Affine | None, relu: bool) -> Array:
        """(i, h, w) with borders in place -> (o, h', w'), 2x2 blocks spread but none cut off.

        First, each channel is scaled and shifted, and then goes through ReLU, as far as asked for.
        """
        ...


def memory_needed(config: NetConfig, height: int, width: int) -> int:
    """About how many bytes painting a whole picture at once takes: what the largest layer reads and makes, thrice."""
    largest, shape = 0, (3, height, width)
    for layer in layers(config):
        made = (layer.outputs, layer.output_side(shape[1]), layer.output_side(shape[2]))
        largest = max(largest, math.prod(shape) + math.prod(made))
        shape = made
    return 3 * 4 * largest


@dataclass(frozen=True)
class Tiler:
    """A network that paints pictures of any size within little memory."""

    config: NetConfig
    weights: Weights  # of the norms at least
    convolve: Convolve

    def stylize(
        self,
        rgb: Pixels,
        tile: int = DEFAULT_TILE,
        statistics: StatisticsOf = "whole",
        on_moments: OnMoments | None = None,
        on_progress: OnProgress | None = None,
    ) -> Pixels:
        """uint8 (H, W, 3) -> the same, in bands of about tile x tile pixels.

        "thumbnail" takes the statistics from the picture scaled down: each layer is run once and none is kept, but the
        colors differ somewhat. `on_moments` gets the name, mean and variance of each norm in turn and returns what to
        use instead. `on_progress` gets the share of the work that is done, 0..1.
        """
        learned: dict[str, tuple[Vector, Vector]] = {}
        if statistics == "thumbnail" and max(rgb.shape[:2]) > THUMBNAIL:

            def learn(norm: str, mean: Vector, variance: Vector) -> tuple[Vector, Vector]:
                learned[norm] = on_moments(norm, mean, variance) if on_moments else (mean, variance)
                return learned[norm]

            small = Image.fromarray(rgb)
            small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
            _Pass(self, np.asarray(small), tile, learn, None).whole()
            return _Pass(self, rgb, tile, on_moments, on_progress).stream(learned)
        return _Pass(self, rgb, tile, on_moments, on_progress).whole()


class _Pass:
    """One picture on its way through a network."""

    def __init__(
        self, tiler: Tiler, rgb: Pixels, tile: int, on_moments: OnMoments | None, on_progress: OnProgress | None
    ) -> None:
        self.tiler, self.rgb, self.pixels = tiler, rgb, tile * tile
        self.on_moments, self.on_progress = on_moments, on_progress
        self.picture = PictureRows(rgb, tiler.config)
        plan = list(layers(tiler.config))
        count = len(tiler.config.channels)
        self.down, self.residual, self.up = plan[:count], plan[count:-count], plan[-count:-1]
        self.last = plan[-1]
        height, width = self.picture.height, self.picture.width
        for layer in self.down:
            height, width = layer.output_side(height), layer.output_side(width)
        self.lowest = 4 * self.down[-1].outputs * height * width  # bytes
        self.done, self.total = 0.0, 1.0

    def whole(self) -> Pixels:
        """With the statistics of the whole picture."""
        self.total = self._work()
        rows: Rows = self.picture
        for layer in self.down:
            rows = self._normalized(rows, layer, keep=layer is self.down[-1])
        rows = self._residual_blocks(rows)
        for layer in self.up:
            rows = self._normalized(rows, layer)
        return self._painted(rows)

    def stream(self, moments: dict[str, tuple[Vector, Vector]]) -> Pixels:
        """With statistics that are known: every layer once, and nothing kept but the rows in hand."""
        self.total = self._work(1)
        rows: Rows = self.picture
        block: Rows = rows
        for layer in (*self.down, *self.residual, *self.up):
            if layer in self.residual and layer.skip_weight is None:
                block = rows
            made = LayerRows(rows, layer, self._convolve)
            made.affine, made.relu = _columns(*self._affine(layer, *moments[str(layer.norm)])), layer.relu
            rows = made if layer.skip_weight is None else SumRows(block, made, layer.skip_weight)
        return self._painted(rows)

    def _normalized(self, source: "Rows", layer: Layer, keep: bool = False) -> "Rows":
        """A layer with the statistics of all its rows, kept if there is room or it has to be."""
        made = LayerRows(source, layer, self._convolve)
        dtype = np.float32 if keep else self._kept(made.shape)
        return self._measured(made, None if dtype is None else StoredRows(np.empty(made.shape, dtype)))

    def _kept(self, shape: tuple[int, int, int]) -> type[np.float32 | np.float16] | None:
        """In which precision a layer is kept, if at all."""
        if 4 * math.prod(shape) <= KEPT:
            return np.float32
        return np.float16 if 2 * math.prod(shape) <= self.lowest else None

    def _residual_blocks(self, source: "Rows") -> "Rows":
        """The blocks at the lowest resolution, in two pictures of it: the sum so far and a layer in between."""
        if not self.residual:
            return source
        assert isinstance(source, StoredRows)
        total = StoredRows(source.values)
        for a, b in self._bands(source):
            total.values[:, a:b] = source.activated(a, b)
        between = np.empty_like(total.values)
        for first, second in zip(self.residual[::2], self.residual[1::2], strict=True):
            rows = self._measured(LayerRows(total, first, self._convolve), StoredRows(between))
            # Written over what it is computed from.
            rows = self._measured(LayerRows(OverwrittenRows(rows), second, self._convolve), StoredRows(between))
            for a, b in self._bands(rows):
                block = total.values[:, a:b]
                if second.skip_weight != 1:
                    block *= np.float32(second.skip_weight or 0)
                block += rows.activated(a, b)
        return total

    def _painted(self, rows: "Rows") -> Pixels:
        height, width = self.rgb.shape[:2]
        whole: Rows = LayerRows(rows, self.last, self._convolve)
        config = self.tiler.config
        if self.last.norm is not None:
            whole = self._measured(whole, None)
        made = CroppedRows(whole, height, width)
        painted = np.empty_like(self.rgb)
        for a, b in self._bands(made):
            values = made.activated(a, b)
            if config.output == "tanh":
                values = np.float32(config.middle) + np.float32(config.reach) * np.tanh(
                    np.float32(config.gain) * values
                )
            painted[a:b] = to_pixels(values)
        if self.on_progress is not None:
            self.on_progress(1.0)
        return painted

    def _measured(self, made: "Rows", stored: "StoredRows | None") -> "Rows":
        """The same rows with their affine, read from where they are stored from now on if they are."""
        assert isinstance(made, LayerRows)
        layer = made.layer
        moments = Moments(made.channels)
        for a, b in self._bands(made):
            block = made.read(a, b)
            moments.add(block)
            if stored is not None:
                stored.write(a, block)
        mean, variance = moments.mean, moments.variance
        if self.on_moments is not None:
            mean, variance = self.on_moments(str(layer.norm), mean, variance)
        affine = self._affine(layer, mean, variance)
        rows = made if stored is None else stored
        rows.affine, rows.relu = _columns(*affine) if stored is None else stored.scaled(*affine), layer.relu
        return rows

    def _affine(self, layer: Layer, mean: Vector, variance: Vector) -> tuple[Vector, Vector]:
        """Scale and shift of each channel."""
        weights = self.tiler.weights
        scale = weights[f"{layer.norm}.weight"] / np.sqrt(variance + self.tiler.config.epsilon)
        return scale, weights[f"{layer.norm}.bias"] - mean * scale

    def _bands(self, rows: "Rows") -> Iterator[tuple[int, int]]:
        """First and last row, exclusive, of each band."""
        width = self.rgb.shape[1]
        height = max(8, self.pixels * rows.width // (width * width))
        for a in range(0, rows.height, height):
            yield a, min(a + height, rows.height)

    def _convolve(self, layer: Layer, rows: Array, affine: Affine | None, relu: bool) -> Array:
        made = self.tiler.convolve(layer, rows, affine, relu)
        self.done += layer.inputs * layer.applied**2 * made.size
        if self.on_progress is not None:
            self.on_progress(min(1.0, self.done / self.total))
        return made

    def _work(self, times: int | None = None) -> float:
        """Multiplications of all convolutions, each as often as it is computed."""
        work = 0.0
        shape: tuple[int, int, int] = self.picture.shape
        for part in (self.down, self.residual, [*self.up, self.last]):
            shapes = []
            for layer in part:
                shape = (layer.outputs, layer.output_side(shape[1]), layer.output_side(shape[2]))
                shapes.append(shape)
            kept = [self._kept(one) is not None or part is self.residual for one in shapes[:-1]] + [True]
            for index, layer in enumerate(part):
                again = times or kept[index:].index(True) + 1
                work += again * layer.inputs * layer.applied**2 * math.prod(shapes[index])
        return work


class Moments:
    """Mean and variance of each channel over blocks (C, h, w).

    Summed as distances from the first block's mean, so that nothing cancels, over blocks in double precision.
    """

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.origin: Array | None = None  # (C, 1)
        self.sums: Vector = np.zeros(channels)
        self.squares: Vector = np.zeros(channels)

    def add(self, block: Array) -> None:
        # No matrix products, though they take the same sums: threads of a BLAS go on looking for work for a while,
        # on the cores where the next convolution runs.
        flat = block.reshape(len(block), -1)
        if self.origin is None:
            self.origin = (np.einsum("cp->c", flat) / np.float32(flat.shape[1]))[:, None]
        distance = flat - self.origin
        self.sums += np.einsum("cp->c", distance)
        self.squares += np.einsum("cp,cp->c", distance, distance)
        self.count += flat.shape[1]

    @property
    def mean(self) -> Vector:
        assert self.origin is not None
        return self.origin[:, 0] + self.sums / self.count

    @property
    def variance(self) -> Vector:
        return np.maximum(self.squares / self.count - (self.sums / self.count) ** 2, 0)


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
        super().__init__(3, *rgb.shape[:2])
        self.rgb, self.config = rgb, config

    def compute(self, a: int, b: int) -> Array:
        values = self.rgb[a:b].astype(np.float32) / np.float32(255)
        if self.config.even_out:
            values += np.clip(self._means(a, b) - values, -DEBAND_CONTRAST, DEBAND_CONTRAST)
        return values.transpose(2, 0, 1) - np.float32(self.config.center)

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
            unit = 2.0 ** math.ceil(math.log2(float(np.abs(rows - self.origin).max()) / ROOM))
            self.values[:, :a] *= np.float16(self.unit / unit)
            self.unit = unit
            self._put(rows, place)

    def _put(self, rows: Array, place: npt.NDArray[np.float32 | np.float16]) -> None:
        distance = rows if self.unit == 1 else rows / np.float32(self.unit)
        np.subtract(distance, self.origin / np.float32(self.unit), out=place, casting="unsafe")

    def scaled(self, scale: Vector, shift: Vector) -> Affine:
        """The affine of what is read, for one of the rows themselves."""
        return _columns(scale * self.unit, shift + scale * self.origin[:, 0, 0])


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
    """The upper left part of others."""

    def __init__(self, source: Rows, height: int, width: int) -> None:
        super().__init__(source.channels, height, width)
        self.source, self.affine, self.relu = source, source.affine, source.relu

    def read(self, a: int, b: int) -> Array:
        return self.source.read(a, b)[..., : self.width]


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


def _columns(scale: Vector, shift: Vector) -> Affine:
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
    """Sums of so many neighbors along an axis, which gets shorter by as many less one."""

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
