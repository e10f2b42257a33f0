"""Pictures larger than memory: a band of rows after the other, with the instance statistics of the whole picture.

A band stylized alone has a contrast and colors of its own, because instance normalization takes the mean and variance
of what it is given. Here each layer is run over all bands to learn those of the whole picture, and then again, or read
from memory, for what follows. The lowest resolution is kept whole, twice; where only one of the two is needed, the next
larger layer lies in the other's place, in half precision. Larger ones are computed anew when they are needed. Each band
sees real rows beyond its edge, and reflections at the picture's own border alone. So the result is that of one pass
over the whole picture, but for rounding.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from fastnst.image import Array, Pixels, to_pixels
from fastnst.nets.rows import (
    Affine,
    Convolve,
    CroppedRows,
    LayerRows,
    OverwrittenRows,
    PictureRows,
    Rows,
    StoredRows,
    SumRows,
    Vector,
    columns,
)
from fastnst.nets.spec import Layer, NetConfig, Weights, layers, plan

DEFAULT_TILE = 256  # a band has about as many pixels as a square of this side; more fit into no cache
THUMBNAIL = 1024  # longer side of the picture that statistics come from, if not from the whole
KEPT = 128 << 20  # bytes; layers up to this size are kept instead of computed anew

StatisticsOf = Literal["whole", "thumbnail"]
OnMoments = Callable[[str, Vector, Vector], tuple[Vector, Vector]]
OnProgress = Callable[[float], object]


def memory_needed(config: NetConfig, height: int, width: int) -> int:
    """About how many bytes stylizing a whole picture at once takes: what the largest layer reads and makes, thrice."""
    largest, shape = 0, (3, height + 2 * config.margin, width + 2 * config.margin)
    for layer in layers(config):
        made = (layer.outputs, layer.output_side(shape[1]), layer.output_side(shape[2]))
        largest = max(largest, math.prod(shape) + math.prod(made))
        shape = made
    return 3 * 4 * largest


@dataclass(frozen=True)
class BandedNetwork:
    """A network that stylizes pictures of any size within little memory."""

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
        self,
        network: BandedNetwork,
        rgb: Pixels,
        tile: int,
        on_moments: OnMoments | None,
        on_progress: OnProgress | None,
    ) -> None:
        self.network, self.rgb, self.pixels = network, rgb, tile * tile
        self.on_moments, self.on_progress = on_moments, on_progress
        self.picture = PictureRows(rgb, network.config)
        self.down, self.residual, self.up, self.last = plan(network.config)
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
        return self._stylized(rows)

    def stream(self, moments: dict[str, tuple[Vector, Vector]]) -> Pixels:
        """With statistics that are known: every layer once, and nothing kept but the rows in hand."""
        self.total = self._work(1)

        def layer_rows(source: Rows, layer: Layer) -> Rows:
            made = LayerRows(source, layer, self._convolve)
            made.affine, made.relu = columns(*self._affine(layer, *moments[str(layer.norm)])), layer.relu
            return made

        rows: Rows = self.picture
        for layer in self.down:
            rows = layer_rows(rows, layer)
        for first, second in self.residual:
            inside = layer_rows(layer_rows(rows, first), second)
            rows = SumRows(rows, inside, second.skip_weight or 0)
        for layer in self.up:
            rows = layer_rows(rows, layer)
        return self._stylized(rows)

    def _normalized(self, source: Rows, layer: Layer, keep: bool = False) -> Rows:
        """A layer with the statistics of all its rows, kept if there is room or it has to be."""
        made = LayerRows(source, layer, self._convolve)
        dtype = np.float32 if keep else self._kept(made.shape)
        return self._measured(made, None if dtype is None else StoredRows(np.empty(made.shape, dtype)))

    def _kept(self, shape: tuple[int, int, int]) -> type[np.float32 | np.float16] | None:
        """In which precision a layer is kept, if at all."""
        if 4 * math.prod(shape) <= KEPT:
            return np.float32
        return np.float16 if 2 * math.prod(shape) <= self.lowest else None

    def _residual_blocks(self, source: Rows) -> Rows:
        """The blocks at the lowest resolution, in two pictures of it: the sum so far and a layer in between."""
        if not self.residual:
            return source
        assert isinstance(source, StoredRows)
        total = StoredRows(source.values)
        for a, b in self._bands(source):
            total.values[:, a:b] = source.activated(a, b)
        between = np.empty_like(total.values)
        for first, second in self.residual:
            rows = self._measured(LayerRows(total, first, self._convolve), StoredRows(between))
            # Written over what it is computed from.
            rows = self._measured(LayerRows(OverwrittenRows(rows), second, self._convolve), StoredRows(between))
            for a, b in self._bands(rows):
                block = total.values[:, a:b]
                if second.skip_weight != 1:
                    block *= np.float32(second.skip_weight or 0)
                block += rows.activated(a, b)
        return total

    def _stylized(self, rows: Rows) -> Pixels:
        """What the last layer makes of these rows, as pixels."""
        height, width = self.rgb.shape[:2]
        last = LayerRows(rows, self.last, self._convolve)
        whole = last if self.last.norm is None else self._measured(last, None)
        config = self.network.config
        made = CroppedRows(whole, height, width, config.margin)
        stylized = np.empty_like(self.rgb)
        for a, b in self._bands(made):
            values = made.activated(a, b)
            if config.output == "tanh":
                values = np.float32(config.middle) + np.float32(config.reach) * np.tanh(
                    np.float32(config.gain) * values
                )
            stylized[a:b] = to_pixels(values)
        if self.on_progress is not None:
            self.on_progress(1.0)
        return stylized

    def _measured(self, made: LayerRows, stored: StoredRows | None) -> Rows:
        """The same rows with their affine, read from where they are stored from now on if they are."""
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
        rows.affine = columns(*affine) if stored is None else stored.scaled(*affine)
        rows.relu = layer.relu
        return rows

    def _affine(self, layer: Layer, mean: Vector, variance: Vector) -> tuple[Vector, Vector]:
        """Scale and shift of each channel."""
        weights = self.network.weights
        scale = weights[f"{layer.norm}.weight"] / np.sqrt(variance + self.network.config.epsilon)
        return scale, weights[f"{layer.norm}.bias"] - mean * scale

    def _bands(self, rows: Rows) -> Iterator[tuple[int, int]]:
        """First and last row, exclusive, of each band."""
        width = self.rgb.shape[1]
        height = max(8, self.pixels * rows.width // (width * width))
        for a in range(0, rows.height, height):
            yield a, min(a + height, rows.height)

    def _convolve(self, layer: Layer, rows: Array, affine: Affine | None, relu: bool) -> Array:
        made = self.network.convolve(layer, rows, affine, relu)
        self.done += layer.inputs * layer.applied**2 * made.size
        if self.on_progress is not None:
            self.on_progress(min(1.0, self.done / self.total))
        return made

    def _work(self, times: int | None = None) -> float:
        """Multiplications of all convolutions, each as often as it is computed."""
        work = 0.0
        shape: tuple[int, int, int] = self.picture.shape
        residual = [layer for block in self.residual for layer in block]
        for part in (self.down, residual, [*self.up, self.last]):
            shapes = []
            for layer in part:
                shape = (layer.outputs, layer.output_side(shape[1]), layer.output_side(shape[2]))
                shapes.append(shape)
            kept = [self._kept(one) is not None or part is residual for one in shapes[:-1]] + [True]
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
