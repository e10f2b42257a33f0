"""A style network as an ONNX graph, written without torch or onnx; `nets.py` says what each step is for."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from fastnst.errors import UsageError
from fastnst.nets.onnx_proto import OnnxGraph, read_tensors
from fastnst.nets.spec import DEBAND_CONTRAST, DEBAND_WINDOW, Layer, NetConfig, Weights, fold, layers

FLOAT32, UINT8, FLOAT16 = 1, 2, 10  # numbers of ONNX
MODES = {"reflect": "reflect", "edge": "edge", "zero": "constant"}


def build(
    config: NetConfig,
    weights: Weights,
    *,
    opset: int = 18,
    uint8: bool = False,
    half: bool = False,
    last: Literal["phases", "blocks", "pixels"] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """A network as an ONNX file: `image` (N, 3, H, W) float32 RGB 0..1 -> `stylized`, the same, for any N, H and W.

    With `uint8` both are (N, H, W, 3) uint8. With `half` layers compute in float16, for GPUs; what comes before the
    first and after the last one, and both ends, do not. ONNX Runtime keeps the statistics of a norm in float32 on GPUs,
    too, and casts where a processor cannot compute in float16.

    `weights` are float32 under the names of a checkpoint; so are the file's constants that `read_weights` reads back.
    `last` is how the last layer is computed, by default the fastest way that the network allows.

    Raises UsageError for weights that are missing or of another shape, and for a last layer that is impossible.
    """
    check_weights(config, weights)
    graph = OnnxGraph(opset, half)
    kind, shape = (np.uint8, ("N", "H", "W", 3)) if uint8 else (np.float32, ("N", 3, "H", "W"))
    image = graph.input("image", kind, shape)
    size = graph.add("Shape", image, start=1 if uint8 else 2, end=3 if uint8 else 4)
    if uint8:
        image = graph.add("Transpose", graph.add("Cast", image, to=FLOAT32), perm=[0, 3, 1, 2])
        image = graph.add("Div", image, graph.constant(np.float32(255)))
    x = begin(graph, config, image, size)
    x = graph.add("Cast", x, to=FLOAT16) if half else x
    *plan, paint = layers(config)
    allowed = ["pixels"]
    if paint.upsample is None and plan and plan[-1].upsample:
        allowed.append("blocks")
        if paint.learned % 4 == 1 and paint.learned > 1 and not plan[-1].shifted:
            allowed.append("phases")
    chosen: str = last or allowed[-1]
    if chosen not in allowed:
        raise UsageError(f"this network's last layer cannot be computed as {chosen}; only as {' or '.join(allowed)}")
    before = ""
    for layer in plan:
        if layer.name.endswith("first.conv"):
            before = x
        pixels = layer is not plan[-1] or chosen != "phases"
        y = convolve(graph, layer, border(graph, layer, x), kernel(graph, layer, weights), pixels=pixels)
        y = normalize(graph, layer.norm or "", y, weights, config.epsilon, pixels=pixels)
        if layer.skip_weight is not None:
            y = add_skip(graph, layer, before, y)
        x = graph.add("Relu", y) if layer.relu else y
    x = {"phases": paint_phases, "blocks": paint_blocks, "pixels": paint_pixels}[chosen](graph, paint, weights, x)
    x = finish(graph, config, paint, weights, x, size)
    zero, one = graph.constant(np.float32(0)), graph.constant(np.float32(1))
    x = graph.add("Clip", x, zero, one, name="" if uint8 else "stylized")
    if uint8:
        x = graph.add("Round", graph.add("Mul", x, graph.constant(np.float32(255))))
        x = graph.add("Transpose", graph.add("Cast", x, to=UINT8), perm=[0, 2, 3, 1], name="stylized")
    graph.output(x, kind, shape)
    return graph.to_bytes(metadata)


def read_weights(config: NetConfig, data: bytes) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """The learned weights, float32 under the names of a checkpoint, of a file that `build` made.

    Raises ModelError if the file is damaged, UsageError if it holds another network.
    """
    held = read_tensors(data)
    weights = {name: held[name].astype(np.float32) for name in weight_shapes(config) if name in held}
    check_weights(config, weights)
    return weights


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


def learned(graph: OnnxGraph, name: str, weights: Weights) -> str:
    """A learned weight as a constant; half as large, and cast when the file is loaded, where float16 holds it.

    Float16 for layers that compute in it.
    """
    values = weights[name]
    short = values.astype(np.float16)
    if graph.half:
        return graph.constant(short, name)
    if values.size < 256 or not np.array_equal(short, values):
        return graph.constant(values, name)
    return graph.add("Cast", graph.constant(short, name), name=f"{name}.float32", to=FLOAT32)


def kernel(graph: OnnxGraph, layer: Layer, weights: Weights, *, blocks: bool = False) -> str:
    """The kernel of a layer as it is applied; folding is left to whoever loads the file, which keeps it small.

    With `blocks`, that of a layer that does not upsample which computes 2x2 pixels at once: (4o, i, k + 1, k + 1).
    """
    weight = learned(graph, layer.weight, weights)
    if layer.upsample is None and not blocks:
        return weight
    size = layer.learned + 1 if blocks else layer.applied
    matrix = graph.constant(shifts(layer.learned) if blocks else layer.matrix)
    weight = graph.add("Cast", weight, to=FLOAT32) if graph.half else weight
    folded = graph.add("Einsum", matrix, weight, matrix, name=f"{layer.name}.blocks", equation="yab,oibc,xdc->oyxiad")
    folded = graph.add("Cast", folded, to=FLOAT16) if graph.half else folded
    shape = graph.constant(np.array([4 * layer.outputs, layer.inputs, size, size]))
    return graph.add("Reshape", folded, shape, name=f"{layer.name}.folded")


def shifts(kernel: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """(2, kernel + 1, kernel): how a kernel becomes those of two neighboring pixels, along an axis."""
    phase, place, tap = np.ogrid[:2, : kernel + 1, :kernel]
    return np.asarray(place == phase + tap, np.float32)


def begin(graph: OnnxGraph, config: NetConfig, image: str, size: str) -> str:
    """What happens before the first layer: (N, 3, H, W) -> the same, or larger where sizes are padded."""
    if config.padding == "same":
        surplus = graph.add("Mod", graph.add("Neg", size), graph.constant(np.array([config.factor])))
        image = graph.add(
            "Pad", image, graph.add("Concat", graph.constant(np.zeros(6, np.int64)), surplus, axis=0), mode="reflect"
        )
    if config.even_out:
        image = deband(graph, image)
    if config.padding == "same" and config.center:
        image = graph.add("Sub", image, graph.constant(np.float32(config.center)))
    # Elsewhere the first norm subtracts the center again, whatever it is.
    return image


def deband(graph: OnnxGraph, image: str) -> str:
    """Each value up to two gray levels towards the mean around it."""
    half = DEBAND_WINDOW // 2
    rows = graph.add("AveragePool", image, kernel_shape=[1, DEBAND_WINDOW], pads=[0, half, 0, half])
    mean = graph.add("AveragePool", rows, kernel_shape=[DEBAND_WINDOW, 1], pads=[half, 0, half, 0])
    faint = np.float32(DEBAND_CONTRAST)
    limited = graph.add("Clip", graph.add("Sub", mean, image), graph.constant(-faint), graph.constant(faint))
    return graph.add("Add", image, limited)


def border(graph: OnnxGraph, layer: Layer, x: str, *, rows: bool = True) -> str:
    """A layer's input with what it sees around it: (N, i, H, W) -> (N, i, H + pads, W + pads).

    Without `rows` only columns are added, for a part of a picture that has its rows already.
    """
    before, behind = layer.pads
    if not before and not behind:
        return x
    above, below = (before, behind) if rows else (0, 0)
    pads = graph.constant(np.array([0, 0, above, before, 0, 0, below, behind]))
    return graph.add("Pad", x, pads, name=f"{layer.name}.border", mode=MODES[layer.border])


def convolve(
    graph: OnnxGraph, layer: Layer, x: str, weight: str, bias: str = "", *, crop: bool = True, pixels: bool = True
) -> str:
    """A layer's convolution of what `border` made: (N, i, ...) -> (N, o, H, W) as `Layer.output_side` says.

    Without `crop`, shifted blocks keep the row and column before and behind that they have in surplus; without `pixels`
    the four of each 2x2 block stay channels of their own, (N, 4o, H / 2, W / 2).
    """
    given = [x, weight, bias] if bias else [x, weight]
    x = graph.add("Conv", *given, name=f"{layer.name}.output", strides=[layer.stride] * 2)
    if layer.upsample and pixels:
        x = unfold(graph, x)
        if layer.shifted and crop:
            ends, axes = graph.constant(np.array([-1, -1])), graph.constant(np.array([2, 3]))
            x = graph.add("Slice", x, graph.constant(np.array([1, 1])), ends, axes)
    return x


def unfold(graph: OnnxGraph, x: str) -> str:
    """Blocks of 2x2 pixels that are channels as pixels: (N, 4c, H, W) -> (N, c, 2H, 2W)."""
    return graph.add("DepthToSpace", x, blocksize=2, mode="CRD")


def normalize(graph: OnnxGraph, norm: str, x: str, weights: Weights, epsilon: float, *, pixels: bool = True) -> str:
    """Instance normalization; without `pixels` of blocks, the four channels of each as one."""
    scale, shift = (learned(graph, f"{norm}.{part}", weights) for part in ("weight", "bias"))
    shape = ""
    if not pixels:
        shape = graph.add("Shape", x)
        x = graph.add("Reshape", x, graph.constant(np.array([0, len(weights[f"{norm}.bias"]), -1])))
    x = graph.add("InstanceNormalization", x, scale, shift, name=f"{norm}.output", epsilon=epsilon)
    return x if pixels else graph.add("Reshape", x, shape)


def add_skip(graph: OnnxGraph, layer: Layer, x: str, y: str) -> str:
    """A residual block's input, weighted, and what it makes of it."""
    if layer.skip_weight != 1:
        x = graph.add("Mul", x, graph.constant((np.float16 if graph.half else np.float32)(layer.skip_weight or 0)))
    return graph.add("Add", x, y)


def paint_pixels(graph: OnnxGraph, layer: Layer, weights: Weights, x: str) -> str:
    """The last layer as it is described: (N, c, H', W') -> (N, 3, >= H, >= W)."""
    bias = learned(graph, layer.bias or "", weights)
    bias = _four_times(graph, bias) if layer.upsample else bias
    return convolve(graph, layer, border(graph, layer, x), kernel(graph, layer, weights), bias, crop=False)


def paint_blocks(graph: OnnxGraph, layer: Layer, weights: Weights, x: str) -> str:
    """The last layer, 2x2 pixels at once: 12 outputs fill a processor's registers where 3 leave most of them empty."""
    bias = _four_times(graph, learned(graph, layer.bias or "", weights))
    x = border(graph, layer, x)
    return unfold(graph, graph.add("Conv", x, kernel(graph, layer, weights, blocks=True), bias, strides=[2, 2]))


def paint_phases(graph: OnnxGraph, layer: Layer, weights: Weights, x: str) -> str:
    """The last layer on blocks of 2x2 pixels that were never unfolded: (N, 4c, H / 2, W / 2) -> (N, 3, H, W).

    Neither unfolding nor reflecting needs a copy of the largest tensor: what lies within reach of the border is
    computed from strips of its own.
    """
    bias = _four_times(graph, learned(graph, layer.bias or "", weights))
    weight = kernel(graph, layer, weights, blocks=True)  # of pixels
    side, reach = (layer.learned + 1) // 2, layer.learned // 2
    split = graph.constant(np.array([12, layer.inputs, side, 2, side, 2]))
    folded = graph.add("Transpose", graph.add("Reshape", weight, split), perm=[0, 1, 3, 5, 2, 4])
    folded = graph.add("Reshape", folded, graph.constant(np.array([12, 4 * layer.inputs, side, side])))
    if layer.same:
        return unfold(graph, graph.add("Conv", x, folded, bias, pads=[reach // 2] * 4))

    def strip(axis: int, *, first: bool) -> str:
        edge = graph.constant(np.array([0 if first else -reach]))
        end = graph.constant(np.array([reach if first else np.iinfo(np.int64).max]))
        near = unfold(graph, graph.add("Slice", x, edge, end, graph.constant(np.array([axis]))))
        pads = np.zeros((2, 4), np.int64)
        pads[0 if first else 1, axis] = reach
        if axis == 2:
            pads[:, 3] = reach
        near = graph.add("Pad", near, graph.constant(pads.reshape(-1)), mode="reflect")
        return graph.add("Conv", near, weight, bias, strides=[2, 2])

    rows = graph.add("Concat", strip(3, first=True), graph.add("Conv", x, folded, bias), strip(3, first=False), axis=3)
    return unfold(graph, graph.add("Concat", strip(2, first=True), rows, strip(2, first=False), axis=2))


def finish(graph: OnnxGraph, config: NetConfig, layer: Layer, weights: Weights, x: str, size: str) -> str:
    """What follows the last layer: (N, 3, >= H, >= W) -> (N, 3, H, W), not clipped."""
    axes = graph.constant(np.array([2, 3]))
    shift = graph.constant(np.array([int(layer.shifted)] * 2))
    shifted = layer.shifted
    if layer.norm:  # which sees what is in surplus behind the picture, but not before it
        if shifted:
            x = graph.add("Slice", x, shift, graph.constant(np.array([-1, -1])), axes)
        x = normalize(graph, layer.norm, x, weights, config.epsilon)
        shift, shifted = graph.constant(np.array([0, 0])), False
    if config.factor > 1 or shifted:
        # One cut for what is in surplus on all sides.
        x = graph.add("Slice", x, shift, graph.add("Add", size, shift) if shifted else size, axes)
    if graph.half:
        x = graph.add("Cast", x, to=FLOAT32)
    if config.output == "linear":
        return x
    x = graph.add("Tanh", graph.add("Mul", x, graph.constant(np.float32(config.gain))))
    x = graph.add("Mul", x, graph.constant(np.float32(config.reach)))
    return graph.add("Add", x, graph.constant(np.float32(config.middle)))


def build_layer(layer: Layer, weights: Weights, *, affine: bool, relu: bool) -> bytes:
    """One layer's convolution alone, as an ONNX file: `rows` (1, i, h, w) with borders in place -> `made`.

    With `affine`, rows are first multiplied by `scale` and moved by `shift`, both (1, i, 1, 1). See tiling.Convolve.
    """
    graph = OnnxGraph()
    x = graph.input("rows", np.float32, (1, layer.inputs, "H", "W"))
    if affine:
        scale, shift = (graph.input(name, np.float32, (1, layer.inputs, 1, 1)) for name in ("scale", "shift"))
        x = graph.add("Add", graph.add("Mul", x, scale), shift)
    if relu:
        x = graph.add("Relu", x)
    folded, stride, pads = layer.subpixel_kernel(weights[layer.weight]), layer.stride, [0] * 4
    blocks = layer.outputs == 3 and layer.upsample is None and stride == 1
    if blocks:  # see paint_blocks; a row and a column more, so that an odd number of them has its last block
        folded, stride, pads = fold(folded, shifts(layer.learned)), 2, [0, 0, 1, 1]
    bias = ""
    if layer.bias:
        bias = graph.constant(np.repeat(weights[layer.bias], len(folded) // layer.outputs))
    name = "blocks" if layer.upsample or blocks else "made"
    made = graph.add(
        "Conv", *filter(None, (x, graph.constant(folded), bias)), name=name, strides=[stride] * 2, pads=pads
    )
    if layer.upsample or blocks:
        made = graph.add("DepthToSpace", made, name="pixels" if blocks else "made", blocksize=2, mode="CRD")
    if blocks:
        size = graph.add("Sub", graph.add("Shape", x, start=2), graph.constant(np.array([layer.learned - 1] * 2)))
        zeros, axes = graph.constant(np.array([0, 0])), graph.constant(np.array([2, 3]))
        made = graph.add("Slice", made, zeros, size, axes, name="made")
    graph.output(made, np.float32, (1, layer.outputs, "h", "w"))
    return graph.to_bytes()


def _four_times(graph: OnnxGraph, bias: str) -> str:
    """(3) -> (12): the bias of blocks of 2x2 pixels."""
    column = graph.add("Unsqueeze", bias, graph.constant(np.array([1])))
    return graph.add(
        "Reshape", graph.add("Expand", column, graph.constant(np.array([3, 4]))), graph.constant(np.array([-1]))
    )
