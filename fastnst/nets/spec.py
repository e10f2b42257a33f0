"""What a transformer network consists of, layer by layer, for all that runs one: torch, ONNX graphs and bands."""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from fastnst.errors import UsageError
from fastnst.image import SMALLEST

DEBAND_CONTRAST = 2 / 255  # steps in flat areas up to this are smoothed before anything else
DEBAND_WINDOW = 17  # pixels, over which
GRAIN = 0.03  # of new networks
MARGIN = 24  # pixels, of a new `base`
LARGEST_MARGIN = 128

Upsampling = Literal["bilinear", "nearest", "transposed"]
Weights = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class NetConfig:
    """Widths and depth of a transformer network; those of Johnson et al. 2016, supplementary table 1, by default.

    Each width after the first halves the resolution. Stride 2 halves it in the first convolution already, and the last
    one then computes 2x2 pixels at once: no layer works at full resolution, where most of the time goes.

    The fields from `upsample` on describe what other projects do differently.
    """

    channels: tuple[int, ...] = (32, 64, 128)
    blocks: int = 5
    kernels: tuple[int, int] = (9, 9)  # of the first and the last convolution
    stride: int = 1  # of the first convolution
    gain: float = 0.25  # before the final tanh
    upsample: Upsampling = "bilinear"
    padding: Literal["reflect", "same"] = "reflect"  # same: zeros as TensorFlow puts them, sizes padded to a multiple
    even_out: bool = True  # whether what is fainter than two gray levels is debanded first; a word of files
    grain: float = 0.0  # how strong the noise is that is added then, 0..1: see grain.py
    margin: int = 0  # pixels of the picture mirrored at each edge that are painted, too, and cut off
    center: float = 0.5  # subtracted from the image
    epsilon: float = 1e-5  # of instance normalization
    skip: float = 1.0  # weight of a residual block's input in its output
    last_norm: bool = False  # whether the last convolution is normalized too
    output: Literal["tanh", "linear"] = "tanh"
    reach: float = 0.59  # how far from the middle tanh can go: a little beyond black and white
    middle: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "kernels", tuple(self.kernels))
        odd = len(self.kernels) == 2 and all(k % 2 == 1 and 1 <= k <= 15 for k in self.kernels)
        widths = 1 <= len(self.channels) <= 4 and min(self.channels) > 0
        deepest = widths and self.stride in (1, 2) and self.factor <= SMALLEST // 2
        if not (odd and deepest and self.blocks >= 0 and self.gain > 0 and self.epsilon > 0):
            raise UsageError(
                "a network needs positive widths for a resolution of at least an eighth, two odd kernels <= 15, "
                f"stride 1 or 2, blocks >= 0, a gain and an epsilon > 0, got {self}"
            )
        if self.padding == "same" and (self.stride != 1 or self.margin):
            raise UsageError("a network with zeros around its layers must begin with stride 1 and has no margin")
        if not 0 <= self.margin <= LARGEST_MARGIN:
            raise UsageError(f"the margin of a network is 0 to {LARGEST_MARGIN} pixels, got {self.margin}")

    @property
    def factor(self) -> int:
        """Pixels of the image to one of the lowest resolution."""
        return int(self.stride * 2 ** (len(self.channels) - 1))

    @property
    def mirrors(self) -> list[int]:
        """The margin in steps, each one for which the smallest picture has enough pixels to mirror."""
        most = SMALLEST - 1
        return [min(most, self.margin - done) for done in range(0, self.margin, most)]

    def crop_side(self, size: int) -> int:
        """That of the crops which training gives a network, for a loss of size x size pixels: with the margin."""
        return size + 2 * self.margin

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "channels": list(self.channels), "kernels": list(self.kernels)}


# The last convolution sums over a thousand values and more. At full gain, Adam's first steps, all of them of one size,
# drive its pixels far beyond black and white, where they learn slowly or, as white blobs, not at all.
# Strokes that reach an edge are mirrored there. `base` learned to make a frame of dashes of that, around flat skies.
PRESETS = {
    "base": NetConfig(grain=GRAIN, margin=MARGIN),  # 1.68 M parameters
    "fast": NetConfig(channels=(24, 48), blocks=4, kernels=(5, 9), stride=2, grain=GRAIN),  # 0.20 M
    "tiny": NetConfig(channels=(16, 32), blocks=3, kernels=(5, 7), stride=2, grain=GRAIN),  # 0.07 M
}


@dataclass(frozen=True)
class Layer:
    """One convolution of a network and what follows it.

    It is always a plain convolution with edges repeated, reflected or zero, over which `pads` says how far it sees
    beyond the picture. One that upsamples computes the four pixels of each 2x2 block as channels, at the
    lower resolution; where `shifted`, a block is the second pixel of one pair and the first of the next.
    """

    name: str
    inputs: int
    outputs: int
    learned: int  # side of the kernel of the weights
    stride: int = 1
    upsample: Upsampling | None = None
    same: bool = False  # zeros as TensorFlow puts them
    relu: bool = True
    norm: str | None = None  # name of its normalization's scale and shift
    skip_weight: float | None = None  # weight of the residual block's input that is added
    biased: bool = False

    @property
    def weight(self) -> str:
        return self.name + ".weight"

    @property
    def bias(self) -> str | None:
        """Name of its bias; only the last layer has one, because a norm would subtract it again."""
        return self.name + ".bias" if self.biased else None

    @property
    def border(self) -> Literal["reflect", "edge", "zero"]:
        """What lies around the picture."""
        if self.same or self.upsample == "transposed":
            return "zero"
        return "reflect" if self.upsample is None else "edge"

    @property
    def shifted(self) -> bool:
        return self.upsample is not None and _folding(self.learned, self.upsample, self.same)[2]

    @property
    def applied(self) -> int:
        """Side of the kernel that is applied."""
        return self.learned if self.upsample is None else self.matrix.shape[1]

    @property
    def pads(self) -> tuple[int, int]:
        """Rows it needs before and behind the picture; the same for columns."""
        if self.upsample is not None:
            _, before, shifted = _folding(self.learned, self.upsample, self.same)
            return before, self.applied - 1 - before + shifted
        if self.same and self.stride == 2:
            return (self.learned - 1) // 2 - (self.learned % 2), self.learned // 2  # of an even size
        return self.learned // 2, self.learned // 2

    @property
    def matrix(self) -> npt.NDArray[np.float32]:
        """(2, applied, learned): an axis of the learned kernel as those of the first and second pixel of a block."""
        assert self.upsample is not None
        return _folding(self.learned, self.upsample, self.same)[0]

    def subpixel_kernel(self, weight: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Learned weights (o, i, k, k) as applied: (o or 4o, i, applied, applied), blocks as in pixel shuffle."""
        return weight if self.upsample is None else fold(weight, self.matrix)

    def learned_kernel(self, applied: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Learned weights (o, i, k, k) of the kernel that `subpixel_kernel` made of them.

        Exactly those where they are numbers of float16, as a checkpoint's are; else within float32's rounding.
        """
        if self.upsample is None:
            return np.asarray(applied, np.float32)
        solve = np.linalg.pinv(self.matrix.reshape(-1, self.learned).astype(np.float64)).reshape(self.learned, 2, -1)
        size = self.applied
        blocks = applied.reshape(self.outputs, 2, 2, self.inputs, size, size).astype(np.float64)
        exact = np.einsum("bya,oyxiad,cxd->oibc", solve, blocks, solve, optimize=True)
        learned, short = np.asarray(exact, np.float32), np.asarray(exact.astype(np.float16), np.float32)
        return short if np.array_equal(fold(short, self.matrix), applied) else learned

    def output_side(self, side: int) -> int:
        """The number of rows, or columns, of its output for that of its input."""
        if self.upsample is not None:
            return 2 * side
        return (side + sum(self.pads) - self.learned) // self.stride + 1


class Plan(NamedTuple):
    """A network's layers by where they are."""

    down: list[Layer]
    residual: list[tuple[Layer, Layer]]  # blocks, of two each
    up: list[Layer]
    last: Layer


def plan(config: NetConfig) -> Plan:
    """The same as `layers`, by where they are."""
    every, count = list(layers(config)), len(config.channels)
    residual = every[count:-count]
    blocks = list(zip(residual[::2], residual[1::2], strict=True))
    return Plan(every[:count], blocks, every[-count:-1], every[-1])


def layers(config: NetConfig) -> Iterator[Layer]:
    """The layers of a network from the image to the stylized one, in order."""
    widths, steps = config.channels, list(pairwise(config.channels))
    first, last = config.kernels
    same = config.padding == "same"

    def layer(name: str, inputs: int, outputs: int, kernel: int, **others: Any) -> Layer:
        return Layer(f"{name}.conv", inputs, outputs, kernel, same=same, norm=f"{name}.norm", **others)

    yield layer("down.0", 3, widths[0], first, stride=config.stride)
    for index, (a, b) in enumerate(steps, start=1):
        yield layer(f"down.{index}", a, b, 3, stride=2)
    for index in range(config.blocks):
        yield layer(f"residual.{index}.first", widths[-1], widths[-1], 3)
        yield layer(f"residual.{index}.second", widths[-1], widths[-1], 3, relu=False, skip_weight=config.skip)
    for index, (a, b) in enumerate(reversed(steps)):
        yield layer(f"up.{index}", b, a, 3, upsample=config.upsample)
    yield Layer(
        "paint",  # a word of files
        widths[0],
        3,
        last,
        upsample=None if config.stride == 1 else config.upsample,
        same=same,
        relu=False,
        norm="paint_norm" if config.last_norm else None,
        biased=True,
    )


def fold(weight: npt.NDArray[np.float32], matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A kernel (o, i, k, k) as that of 2x2 pixels at once, (4o, i, size, size): see `Layer.matrix`."""
    # In double precision, so that it does not matter in which order the sums are taken.
    wide = matrix.astype(np.float64)
    blocks = np.einsum("yab,oibc,xdc->oyxiad", wide, weight.astype(np.float64), wide, optimize=True)
    _, size, _ = matrix.shape
    return np.ascontiguousarray(blocks.reshape(-1, weight.shape[1], size, size), dtype=np.float32)


@functools.cache
def _folding(kernel: int, upsample: Upsampling, same: bool) -> tuple[npt.NDArray[np.float32], int, bool]:
    """The matrix of a layer that upsamples, the rows it needs before the picture, whether its blocks are shifted."""
    if upsample == "transposed":
        # A value spreads over the output pixels 2 i + t - 1 (TensorFlow: 2 i + t), for each weight t of three.
        matrix = np.zeros((2, 2, kernel), np.float32)
        first = 0 if same else 1
        before = 1 if same else 0
        for phase in (0, 1):
            for t in range(kernel):
                source, odd = divmod(phase + first - t, 2)
                if not odd and 0 <= source + before < 2:
                    matrix[phase, source + before, t] = 1
        return matrix, before, False
    # Bilinear upsampling is nearest upsampling, smoothed with 1/4, 1/2, 1/4.
    taps: npt.NDArray[Any] = np.eye(kernel, dtype=np.float32)
    if upsample == "bilinear":
        rows = np.pad(taps, ((2, 2), (0, 0)))
        taps = (rows[2:] + 2 * rows[1:-1] + rows[:-2]) / 4
    # After nearest upsampling, neighboring weights meet the same value and can be summed. An odd margin pairs the
    # second pixel of a block with the first of the next one, which takes a smaller kernel.
    margin = len(taps) // 2
    shifted = margin % 2 == 1
    before = (margin + 1) // 2
    matrix = np.zeros((2, len(taps) // 2 + 1, kernel), np.float32)
    for phase in (0, 1):
        for u, tap in enumerate(taps):
            matrix[phase, (phase + u) // 2] += tap
    return matrix, before, shifted
