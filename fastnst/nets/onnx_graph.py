"""A style network as an ONNX graph, written without torch or onnx; `torch_net.py` says what each step is for."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fastnst.errors import UsageError
from fastnst.nets.grain import COLOR, tiles
from fastnst.nets.onnx_proto import read_tensors
from fastnst.nets.onnx_writer import OnnxGraph
from fastnst.nets.spec import DEBAND_CONTRAST, DEBAND_WINDOW, Layer, NetConfig, Plan, Weights, fold, layers, plan

FLOAT32, UINT8, FLOAT16 = 1, 2, 10  # numbers of ONNX
MODES = {"reflect": "reflect", "edge": "edge", "zero": "constant"}

# Behind the name of a weight: its kernel for blocks of 2x2 pixels, and the same for an input that is blocks too, with
# another for what lies near the border.
BLOCKS, PHASES, STRIPS = ".blocks", ".phases", ".strips"

LastLayer = Literal["phases", "blocks", "pixels"]  # how it is computed


def build(
    config: NetConfig,
    weights: Weights,
    *,
    opset: int = 18,
    uint8: bool = False,
    half: bool = False,
    last: LastLayer | None = None,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """A network as an ONNX file: `image` (N, 3, H, W) float32 RGB 0..1 -> `stylized`, the same, for any N and,
    from 16 on, any H and W.

    With `uint8` both are (N, H, W, 3) uint8. With `half` layers compute in float16, for GPUs; what comes before the
    first and after the last one, and both ends, do not. ONNX Runtime keeps the statistics of a norm in float32 on GPUs,
    too, and casts where a processor cannot compute in float16.

    `weights` are float32 under the names of a checkpoint. Kernels are constants as they are applied, which is what
    tools that quantize or compile a file look for; `read_weights` gives the learned ones back. `last` is how the last
    layer is computed, by default the fastest way that the network allows.

    Raises UsageError for weights that are missing or of another shape, and for a last layer that is impossible.
    """
    check_weights(config, weights)
    parts = plan(config)
    last = _last_layer(parts, last)
    net = NetworkGraph(config, weights, opset=opset, half=half)
    image, size = net.open(uint8=uint8)  # (N, 3, H, W); height and width, (2)
    x = net.begin(image, size)
    for layer in parts.down:
        x = net.stage(layer, x)  # (N, last width, ceil(H / factor), ceil(W / factor))
    for first, second in parts.residual:
        x = net.residual_block(first, second, x)
    for layer in parts.up:
        # (N, first width, >= H / stride, >= W / stride), unless the last layer takes blocks of 2x2 pixels.
        x = net.stage(layer, x, pixels=last != "phases" or layer is not parts.up[-1])
    x = net.last_layer(parts.last, last, x)  # (N, 3, >= H, >= W)
    x = net.finish(parts.last, x, size)  # (N, 3, H, W)
    net.close(x, uint8=uint8)
    return net.graph.to_bytes(metadata)


def read_weights(config: NetConfig, data: bytes) -> dict[str, npt.NDArray[np.float32]]:
    """The learned weights, float32 under the names of a checkpoint, of a file that `build` made.

    Raises ModelError if the file is damaged, UsageError if it holds another network.
    """
    held = read_tensors(data)
    for layer in layers(config):
        held |= _learned(layer, held)
    weights = {name: held[name].astype(np.float32) for name in weight_shapes(config) if name in held}
    check_weights(config, weights)
    return weights


def _learned(layer: Layer, held: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """The learned weights of a layer whose kernel is among a file's constants as that of blocks."""
    learned = {}
    side = layer.applied if layer.upsample else layer.learned + 1
    phases = held.get(layer.weight + PHASES, np.empty(0))
    if phases.shape == (12, 4 * layer.inputs, side // 2, side // 2):
        split = phases.reshape(12, layer.inputs, 2, 2, side // 2, side // 2)
        blocks = split.transpose(0, 1, 4, 2, 5, 3).reshape(12, layer.inputs, side, side)
    else:
        blocks = held.get(layer.weight + BLOCKS, np.empty(0))
    if blocks.shape == (4 * layer.outputs, layer.inputs, side, side):
        pixel = blocks[::4, :, : layer.learned, : layer.learned]
        learned[layer.weight] = layer.learned_kernel(blocks) if layer.upsample else pixel
    bias = held.get(f"{layer.bias}{BLOCKS}", np.empty(0))
    if bias.shape == (4 * layer.outputs,):
        learned[layer.bias or ""] = bias[::4]
    return learned


def weight_shapes(config: NetConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's learned weights, those of a checkpoint."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in layers(config):
        shapes[layer.weight] = (layer.outputs, layer.inputs, layer.learned, layer.learned)
        if layer.bias:
            shapes[layer.bias] = (layer.outputs,)
        if layer.norm:
            shapes |= {f"{layer.norm}.weight": (layer.outputs,), f"{layer.norm}.bias": (layer.outputs,)}
    return shapes


def check_weights(config: NetConfig, weights: Weights) -> None:
    """UsageError unless all weights of a network are there, and have its shapes."""
    for name, shape in weight_shapes(config).items():
        if name not in weights or weights[name].shape != shape:
            given = f"has the shape {weights[name].shape}" if name in weights else "is missing"
            raise UsageError(f"the weight {name} {given} but the network needs one of {shape}; give its own weights")


def shifts(kernel: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """(2, kernel + 1, kernel): how a kernel becomes those of two neighboring pixels, along an axis."""
    phase, place, tap = np.ogrid[:2, : kernel + 1, :kernel]
    return np.asarray(place == phase + tap, np.float32)


def _last_layer(parts: Plan, asked: LastLayer | None) -> LastLayer:
    """How the last layer is computed: as asked for, or the fastest way; UsageError if that is impossible."""
    allowed: list[LastLayer] = ["pixels"]
    if parts.last.upsample is None and parts.up:
        allowed.append("blocks")
        if parts.last.learned % 4 == 1 and parts.last.learned > 1 and not parts.up[-1].shifted:
            allowed.append("phases")
    chosen = asked or allowed[-1]
    if chosen not in allowed:
        raise UsageError(f"this network's last layer cannot be computed as {chosen}; only as {' or '.join(allowed)}")
    return chosen


class NetworkGraph:
    """The graph of a network while it is written; methods take and return names of values in it.

    With `half`, layers compute in float16, between `begin` and `finish`.
    """

    def __init__(self, config: NetConfig, weights: Weights, *, opset: int = 18, half: bool = False) -> None:
        self.config, self.weights, self.half = config, weights, half
        self.graph = OnnxGraph(opset)
        self.add, self.constant = self.graph.add, self.graph.constant

    def open(self, *, uint8: bool) -> tuple[str, str]:
        """The image, (N, 3, H, W) float32 0..1 whatever the file takes, and its height and width, (2)."""
        image = self.graph.input("image", *_pixels(uint8))
        first = 1 if uint8 else 2
        size = self.add("Shape", image, start=first, end=first + 2)
        if uint8:
            image = self.add("Transpose", self.add("Cast", image, to=FLOAT32), perm=[0, 3, 1, 2])
            image = self.add("Div", image, self.constant(np.float32(255)))
        return image, size

    def close(self, x: str, *, uint8: bool) -> None:
        """Clip the stylized image, (N, 3, H, W), and make it what the file gives."""
        zero, one = self.constant(np.float32(0)), self.constant(np.float32(1))
        x = self.add("Clip", x, zero, one, name="" if uint8 else "stylized")
        if uint8:
            x = self.add("Round", self.add("Mul", x, self.constant(np.float32(255))))
            x = self.add("Transpose", self.add("Cast", x, to=UINT8), perm=[0, 2, 3, 1], name="stylized")
        self.graph.output(x, *_pixels(uint8))

    def begin(self, image: str, size: str) -> str:
        """What happens before the first layer: (N, 3, H, W) -> the same, or larger where sizes are padded."""
        config = self.config
        if config.padding == "same":
            surplus = self.add("Mod", self.add("Neg", size), self.constant(np.array([config.factor])))
            pads = self.add("Concat", self.constant(np.zeros(6, np.int64)), surplus, axis=0)
            image = self.add("Pad", image, pads, mode="reflect")
        for step in config.mirrors:
            pads = self.constant(np.array([0, 0, step, step] * 2))
            image = self.add("Pad", image, pads, mode="reflect")
        if config.even_out:
            image = self.deband(image)
        if config.grain:
            image = self.roughen(image)
        if config.padding == "same" and config.center:
            image = self.add("Sub", image, self.constant(np.float32(config.center)))
        # Elsewhere the first norm subtracts the center again, whatever it is.
        return self.add("Cast", image, to=FLOAT16) if self.half else image

    def deband(self, image: str) -> str:
        """Each value up to two gray levels towards the mean around it."""
        half = DEBAND_WINDOW // 2
        rows = self.add("AveragePool", image, kernel_shape=[1, DEBAND_WINDOW], pads=[0, half, 0, half])
        mean = self.add("AveragePool", rows, kernel_shape=[DEBAND_WINDOW, 1], pads=[half, 0, half, 0])
        faint = np.float32(DEBAND_CONTRAST)
        limited = self.add("Clip", self.add("Sub", mean, image), self.constant(-faint), self.constant(faint))
        return self.add("Add", image, limited)

    def roughen(self, image: str) -> str:
        """Noise is added, of the place in the picture alone: see grain.py."""
        zero, one = self.constant(np.int64(0)), self.constant(np.int64(1))
        ends = [self.add("Squeeze", self.add("Shape", image, start=axis, end=axis + 1)) for axis in (2, 3)]
        places = [self.add("Range", zero, end, one) for end in ends]
        products = []
        for tile in tiles():
            signs, side = self.constant(tile), self.constant(np.int64(len(tile)))
            for axis, place in enumerate(places):
                signs = self.add("Gather", signs, self.add("Mod", place, side), axis=axis)
            products.append(signs)
        signs = self.add("Mul", *products)  # (H, W)
        return self.add("Add", image, self.add("Mul", signs, self.constant(np.float32(self.config.grain) * COLOR)))

    def stage(self, layer: Layer, x: str, *, pixels: bool = True) -> str:
        """A convolution, its norm and ReLU: (N, i, ...) -> (N, o, H, W) as `Layer.output_side` says.

        Without `pixels`, the four of each 2x2 block stay channels of their own, (N, 4o, H / 2, W / 2).
        """
        x = self.convolve(layer, self.border(layer, x), self.kernel(layer), pixels=pixels)
        x = self.normalize(layer.norm or "", x, pixels=pixels)
        return self.add("Relu", x) if layer.relu else x

    def residual_block(self, first: Layer, second: Layer, x: str) -> str:
        """Two layers, and around them their input, weighted: (N, c, H, W) -> the same."""
        y = self.stage(second, self.stage(first, x))
        if second.skip_weight != 1:
            x = self.add("Mul", x, self.constant((np.float16 if self.half else np.float32)(second.skip_weight or 0)))
        return self.add("Add", x, y)

    def border(self, layer: Layer, x: str, *, rows: bool = True) -> str:
        """A layer's input with what it sees around it: (N, i, H, W) -> (N, i, H + pads, W + pads).

        Without `rows` only columns are added, for a part of a picture that has its rows already.
        """
        before, behind = layer.pads
        if not before and not behind:
            return x
        above, below = (before, behind) if rows else (0, 0)
        pads = self.constant(np.array([0, 0, above, before, 0, 0, below, behind]))
        return self.add("Pad", x, pads, name=f"{layer.name}.border", mode=MODES[layer.border])

    def kernel(self, layer: Layer) -> str:
        """The kernel of a layer as it is applied."""
        if layer.upsample is None:
            return self.learned(layer.weight)
        return self.tensor(layer.subpixel_kernel(self.weights[layer.weight]), layer.weight + BLOCKS)

    def block_kernel(self, layer: Layer) -> npt.NDArray[np.float32]:
        """That of a layer that does not upsample which computes 2x2 pixels at once: (4o, i, k + 1, k + 1)."""
        return fold(self.weights[layer.weight], shifts(layer.learned))

    def bias(self, layer: Layer, *, blocks: bool) -> str:
        """The bias of a layer, with `blocks` for each of the 2x2 pixels: (o) or (4o)."""
        if not blocks:
            return self.learned(layer.bias or "")
        return self.tensor(np.repeat(self.weights[layer.bias or ""], 4), f"{layer.bias}{BLOCKS}")

    def convolve(
        self, layer: Layer, x: str, weight: str, bias: str = "", *, crop: bool = True, pixels: bool = True
    ) -> str:
        """A layer's convolution of what `border` made: (N, i, ...) -> (N, o, H, W) as `Layer.output_side` says.

        Without `crop`, shifted blocks keep the row and column before and behind that they have in surplus; without
        `pixels`, see `stage`.
        """
        given = [x, weight, bias] if bias else [x, weight]
        x = self.add("Conv", *given, name=f"{layer.name}.output", strides=[layer.stride] * 2)
        if layer.upsample and pixels:
            x = self.unfold(x)
            if layer.shifted and crop:
                ends, axes = self.constant(np.array([-1, -1])), self.constant(np.array([2, 3]))
                x = self.add("Slice", x, self.constant(np.array([1, 1])), ends, axes)
        return x

    def normalize(self, norm: str, x: str, *, pixels: bool = True) -> str:
        """Instance normalization; without `pixels` of blocks, the four channels of each as one."""
        scale, shift = (self.learned(f"{norm}.{part}") for part in ("weight", "bias"))
        shape = ""
        if not pixels:
            shape = self.add("Shape", x)
            channels = len(self.weights[f"{norm}.bias"])
            x = self.add("Reshape", x, self.constant(np.array([0, channels, -1])))
        x = self.add("InstanceNormalization", x, scale, shift, name=f"{norm}.output", epsilon=self.config.epsilon)
        return x if pixels else self.add("Reshape", x, shape)

    def learned(self, name: str) -> str:
        """A learned weight as a constant of its name."""
        return self.tensor(self.weights[name], name)

    def tensor(self, values: npt.NDArray[np.float32], name: str | None = None) -> str:
        """A constant in the type that layers compute in."""
        return self.constant(values.astype(np.float16) if self.half else values, name)

    def unfold(self, x: str) -> str:
        """Blocks of 2x2 pixels that are channels as pixels: (N, 4c, H, W) -> (N, c, 2H, 2W)."""
        return self.add("DepthToSpace", x, blocksize=2, mode="CRD")

    def last_layer(self, layer: Layer, form: LastLayer, x: str) -> str:
        """The last layer, with its bias: (N, c, H', W') -> (N, 3, >= H, >= W); from blocks of pixels for "phases"."""
        bias = self.bias(layer, blocks=form != "pixels" or layer.upsample is not None)
        if form == "pixels":
            return self.convolve(layer, self.border(layer, x), self.kernel(layer), bias, crop=False)
        if form == "blocks":
            # 2x2 pixels at once: 12 outputs fill a processor's registers where 3 leave most of them empty.
            kernel = self.tensor(self.block_kernel(layer), layer.weight + BLOCKS)
            return self.unfold(self.add("Conv", self.border(layer, x), kernel, bias, strides=[2, 2]))
        return self._last_layer_in_phases(layer, bias, x)

    def _last_layer_in_phases(self, layer: Layer, bias: str, x: str) -> str:
        """The last layer on blocks of 2x2 pixels that were never unfolded: (N, 4c, H / 2, W / 2) -> (N, 3, H, W).

        Neither unfolding nor reflecting needs a copy of the largest tensor: what lies within reach of the border is
        computed from strips of its own.
        """
        kernel = self.block_kernel(layer)  # of pixels
        side, reach = (layer.learned + 1) // 2, layer.learned // 2
        split = kernel.reshape(12, layer.inputs, side, 2, side, 2).transpose(0, 1, 3, 5, 2, 4)
        phases = self.tensor(split.reshape(12, 4 * layer.inputs, side, side), layer.weight + PHASES)
        if layer.same:
            return self.unfold(self.add("Conv", x, phases, bias, pads=[reach // 2] * 4))
        strips = self.tensor(kernel, layer.weight + STRIPS)

        def strip(axis: int, beside: str, *, first: bool) -> str:
            edge = self.constant(np.array([0 if first else -reach]))
            end = self.constant(np.array([reach if first else np.iinfo(np.int64).max]))
            near = self.unfold(self.add("Slice", x, edge, end, self.constant(np.array([axis]))))
            pads = np.zeros((2, 4), np.int64)
            pads[0 if first else 1, axis] = reach
            if axis == 2:
                pads[:, 3] = reach
            near = self.add("Pad", near, self.constant(pads.reshape(-1)), mode="reflect")
            made = self.add("Conv", near, strips, bias, strides=[2, 2])
            # All its other sides are those of what it lies beside; what infers shapes from symbols cannot tell.
            free = self.constant(np.array([-1]))
            sides = [self.add("Shape", beside, end=axis), free]
            sides += [self.add("Shape", beside, start=3)] if axis == 2 else []
            return self.add("Reshape", made, self.add("Concat", *sides, axis=0))

        middle = self.add("Conv", x, phases, bias)
        left, right = (strip(3, middle, first=first) for first in (True, False))
        rows = self.add("Concat", left, middle, right, axis=3)
        above, below = (strip(2, rows, first=first) for first in (True, False))
        return self.unfold(self.add("Concat", above, rows, below, axis=2))

    def finish(self, layer: Layer, x: str, size: str) -> str:
        """What follows the last layer: (N, 3, >= H, >= W) -> (N, 3, H, W), not clipped."""
        config = self.config
        shifted, margin = int(layer.shifted), config.margin

        def cut(x: str, start: int, end: str) -> str:
            return self.add("Slice", x, self.constant(np.array([start] * 2)), end, self.constant(np.array([2, 3])))

        if layer.norm:  # which sees what is in surplus behind the picture, but not before it
            if shifted:
                x, shifted = cut(x, 1, self.constant(np.array([-1, -1]))), 0
            x = self.normalize(layer.norm, x)
        start = shifted + margin
        if config.factor > 1 or start:
            # One cut for what is in surplus on all sides.
            x = cut(x, start, self.add("Add", size, self.constant(np.array([start] * 2))) if start else size)
        if self.half:
            x = self.add("Cast", x, to=FLOAT32)
        if config.output == "linear":
            return x
        x = self.add("Tanh", self.add("Mul", x, self.constant(np.float32(config.gain))))
        x = self.add("Mul", x, self.constant(np.float32(config.reach)))
        return self.add("Add", x, self.constant(np.float32(config.middle)))


def _pixels(uint8: bool) -> tuple[type[np.uint8 | np.float32], tuple[int | str, ...]]:
    """Type and shape of what a file takes and gives."""
    return (np.uint8, ("N", "H", "W", 3)) if uint8 else (np.float32, ("N", 3, "H", "W"))
