"""A style network as an ONNX graph, written without torch or onnx; `nets.py` says what each step is for."""

from collections.abc import Mapping

import numpy as np

from fastnst.errors import UsageError
from fastnst.layers import FAINT, WINDOW, Layer, NetConfig, Weights, layers
from fastnst.onnx_file import OnnxGraph, read_tensors

MODES = {"reflect": "reflect", "edge": "edge", "zero": "constant"}


def build(config: NetConfig, weights: Weights, *, opset: int = 18, metadata: Mapping[str, str] | None = None) -> bytes:
    """A network as an ONNX file: `image` (N, 3, H, W) float32 RGB 0..1 -> `stylized`, the same, for any N, H and W.

    `weights` are float32 under the names of a checkpoint; so are the file's constants that `read_weights` reads back.
    UsageError names those that are missing or of another shape.
    """
    check_weights(config, weights)
    graph = OnnxGraph(opset)
    shape = ("N", 3, "H", "W")
    image = graph.input("image", np.float32, shape)
    size = graph.add("Shape", image, start=2, end=4)
    x = begin(graph, config, image, size)
    for layer in layers(config):
        if layer.name == "paint":
            x = paint(graph, config, layer, weights, x, size)
            break
        if layer.adds is None:
            before = x if layer.name.endswith("first.conv") else ""
        y = border(graph, layer, x)
        y = convolve(graph, layer, y, kernel(graph, layer, weights))
        y = normalize(graph, layer.norm or "", y, weights, config.epsilon)
        if layer.adds is not None:
            y = add_skip(graph, layer, before, y)
        x = graph.add("Relu", y) if layer.relu else y
    zero, one = graph.constant(np.float32(0)), graph.constant(np.float32(1))
    graph.output(graph.add("Clip", x, zero, one, name="stylized"), np.float32, shape)
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
        shapes[layer.weight] = (layer.outputs, layer.inputs, layer.kernel, layer.kernel)
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
    """A learned weight as a constant; half as large, and cast when the file is loaded, where float16 holds it."""
    values = weights[name]
    short = values.astype(np.float16)
    if values.size < 256 or not np.array_equal(short, values):
        return graph.constant(values, name)
    return graph.add("Cast", graph.constant(short, name), name=f"{name}.float32", to=1)


def kernel(graph: OnnxGraph, layer: Layer, weights: Weights) -> str:
    """The kernel of a layer as it is applied; folding is left to whoever loads the file, which keeps it small."""
    weight = learned(graph, layer.weight, weights)
    if layer.upsample is None:
        return weight
    matrix = graph.constant(layer.matrix)
    blocks = graph.add("Einsum", matrix, weight, matrix, name=f"{layer.name}.blocks", equation="yab,oibc,xdc->oyxiad")
    shape = graph.constant(np.array([4 * layer.outputs, layer.inputs, layer.size, layer.size]))
    return graph.add("Reshape", blocks, shape, name=f"{layer.name}.folded")


def begin(graph: OnnxGraph, config: NetConfig, image: str, size: str) -> str:
    """What happens before the first layer: (N, 3, H, W) -> the same, or larger where sizes are padded."""
    if config.padding == "same":
        surplus = graph.add("Mod", graph.add("Neg", size), graph.constant(np.array([config.factor])))
        image = graph.add(
            "Pad", image, graph.add("Concat", graph.constant(np.zeros(6, np.int64)), surplus, axis=0), mode="reflect"
        )
    if config.even_out:
        image = even_out(graph, image)
    if config.padding == "same" and config.center:
        image = graph.add("Sub", image, graph.constant(np.float32(config.center)))
    # Elsewhere the first norm subtracts the centre again, whatever it is.
    return image


def even_out(graph: OnnxGraph, image: str) -> str:
    """Each value up to two grey levels towards the mean around it."""
    half = WINDOW // 2
    rows = graph.add("AveragePool", image, kernel_shape=[1, WINDOW], pads=[0, half, 0, half])
    mean = graph.add("AveragePool", rows, kernel_shape=[WINDOW, 1], pads=[half, 0, half, 0])
    faint = np.float32(FAINT)
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


def convolve(graph: OnnxGraph, layer: Layer, x: str, weight: str, bias: str = "", *, crop: bool = True) -> str:
    """A layer's convolution of what `border` made: (N, i, ...) -> (N, o, H, W) as `Layer.height` says.

    Without `crop`, shifted blocks keep the row and column before and behind that they have in surplus.
    """
    given = [x, weight, bias] if bias else [x, weight]
    x = graph.add("Conv", *given, name=f"{layer.name}.output", strides=[layer.stride] * 2)
    if layer.upsample:
        x = graph.add("DepthToSpace", x, name=f"{layer.name}.pixels", blocksize=2, mode="CRD")
        if layer.shifted and crop:
            ends, axes = graph.constant(np.array([-1, -1])), graph.constant(np.array([2, 3]))
            x = graph.add("Slice", x, graph.constant(np.array([1, 1])), ends, axes)
    return x


def normalize(graph: OnnxGraph, norm: str, x: str, weights: Weights, epsilon: float) -> str:
    """Instance normalization."""
    scale, shift = (learned(graph, f"{norm}.{part}", weights) for part in ("weight", "bias"))
    return graph.add("InstanceNormalization", x, scale, shift, name=f"{norm}.output", epsilon=epsilon)


def add_skip(graph: OnnxGraph, layer: Layer, x: str, y: str) -> str:
    """A residual block's input, weighted, and what it makes of it."""
    if layer.adds != 1:
        x = graph.add("Mul", x, graph.constant(np.float32(layer.adds or 0)))
    return graph.add("Add", x, y)


def paint(graph: OnnxGraph, config: NetConfig, layer: Layer, weights: Weights, x: str, size: str) -> str:
    """The last layer and what follows it: (N, c, H', W') -> (N, 3, H, W), not clipped."""
    bias = learned(graph, layer.bias or "", weights)
    if layer.upsample:
        repeated = graph.add("Unsqueeze", bias, graph.constant(np.array([1])))
        repeated = graph.add("Expand", repeated, graph.constant(np.array([3, 4])))
        bias = graph.add("Reshape", repeated, graph.constant(np.array([-1])))
    # One cut for what is in surplus on all sides, unless a norm has to see some of it.
    shifted = layer.shifted and not layer.norm
    x = convolve(graph, layer, border(graph, layer, x), kernel(graph, layer, weights), bias, crop=not shifted)
    if layer.norm:
        x = normalize(graph, layer.norm, x, weights, config.epsilon)
    if config.factor > 1 or shifted:
        starts = graph.constant(np.array([int(shifted)] * 2))
        ends = graph.add("Add", size, starts) if shifted else size
        x = graph.add("Slice", x, starts, ends, graph.constant(np.array([2, 3])))
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
    bias = ""
    if layer.bias:
        bias = graph.constant(np.repeat(weights[layer.bias], 4 if layer.upsample else 1))
    kernel = graph.constant(layer.folded(weights[layer.weight]))
    name = "made" if layer.upsample is None else "blocks"
    made = graph.add("Conv", *filter(None, (x, kernel, bias)), name=name, strides=[layer.stride] * 2)
    if layer.upsample:
        made = graph.add("DepthToSpace", made, name="made", blocksize=2, mode="CRD")
    graph.output(made, np.float32, (1, layer.outputs, "h", "w"))
    return graph.to_bytes()
