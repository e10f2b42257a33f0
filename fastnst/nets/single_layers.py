"""A network's layers one by one, for bands: in ONNX Runtime or in torch, each imported when it first runs one."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnst.device import onnx_runtime
from fastnst.image import Array
from fastnst.nets.onnx_graph import build_layer
from fastnst.nets.rows import Affine
from fastnst.nets.spec import Layer, Weights


class OnnxLayers:
    """Layers one by one in ONNX Runtime, see rows.Convolve."""

    def __init__(self, weights: Weights, providers: Sequence[str]) -> None:
        self.weights, self.providers = weights, providers
        self.sessions: dict[tuple[str, bool, bool], Any] = {}

    def __call__(self, layer: Layer, rows: Array, affine: Affine | None, relu: bool) -> Array:
        key = (layer.name, affine is not None, relu)
        if key not in self.sessions:
            onnxruntime = onnx_runtime()
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4
            # Threads of a layer that is done would go on looking for work, on cores that others need.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            data = build_layer(layer, self.weights, affine=affine is not None, relu=relu)
            self.sessions[key] = onnxruntime.InferenceSession(data, options, providers=self.providers)
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
