"""A network's layers one by one, for bands: in ONNX Runtime or in torch, each imported when it first runs one."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnst.device import onnx_runtime, onnx_session_options
from fastnst.image import Array
from fastnst.nets.onnx_graph import shifts
from fastnst.nets.onnx_writer import OnnxGraph
from fastnst.nets.rows import Affine
from fastnst.nets.spec import Layer, Weights, fold


class OnnxLayers:
    """Layers one by one in ONNX Runtime, see rows.Convolve."""

    def __init__(self, weights: Weights, providers: Sequence[str]) -> None:
        self.weights, self.providers = weights, providers
        self.sessions: dict[tuple[str, bool, bool], Any] = {}

    def __call__(self, layer: Layer, rows: Array, affine: Affine | None, relu: bool) -> Array:
        key = (layer.name, affine is not None, relu)
        if key not in self.sessions:
            options = onnx_session_options()
            # Threads of a layer that is done would go on looking for work, on cores that others need.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            data = build_layer(layer, self.weights, affine=affine is not None, relu=relu)
            self.sessions[key] = onnx_runtime().InferenceSession(data, options, providers=self.providers)
        given = {"rows": rows[None]}
        if affine is not None:
            given |= {"scale": affine[0][None], "shift": affine[1][None]}
        made: Array = self.sessions[key].run(None, given)[0][0]
        return made


class TorchLayers:
    """Layers one by one in torch, see rows.Convolve."""

    def __init__(self, weights: Weights, device: Any) -> None:
        self.weights, self.device = weights, device
        self.kernels: dict[str, tuple[Any, Any]] = {}

    def __call__(self, layer: Layer, rows: Array, affine: Affine | None, relu: bool) -> Array:
        import torch
        import torch.nn.functional as F

        if layer.name not in self.kernels:
            bias = None if layer.bias is None else np.repeat(self.weights[layer.bias], 4 if layer.upsample else 1)
            kernel = torch.from_numpy(layer.subpixel_kernel(self.weights[layer.weight])).to(self.device)
            self.kernels[layer.name] = kernel, None if bias is None else torch.from_numpy(bias).to(self.device)
        with torch.inference_mode():
            x = torch.from_numpy(rows).to(self.device)[None]
            if affine is not None:
                scale, shift = (torch.from_numpy(values).to(self.device) for values in affine)
                x = x * scale + shift
            x = F.conv2d(x.relu() if relu else x, *self.kernels[layer.name], stride=layer.stride)
            made: Array = (F.pixel_shuffle(x, 2) if layer.upsample else x)[0].cpu().numpy()
        return made


def build_layer(layer: Layer, weights: Weights, *, affine: bool, relu: bool) -> bytes:
    """One layer's convolution alone, as an ONNX file: `rows` (1, i, h, w) with borders in place -> `made`.

    With `affine`, rows are first multiplied by `scale` and moved by `shift`, both (1, i, 1, 1). See rows.Convolve.
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
    if blocks:  # as in NetworkGraph; a row and a column more, so that an odd number of them has its last block
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
