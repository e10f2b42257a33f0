"""Small ONNX files."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

IMAGE = ["N", 3, "H", "W"]
KINDS = [np.float32, np.float16, np.float64, np.int64, np.int32, np.uint8, np.int8, np.bool_]


def model(*nodes: onnx.NodeProto, weights: tuple[onnx.TensorProto, ...] = (), opset: int = 17) -> onnx.ModelProto:
    """A network from `image` to `stylized`; without nodes the identity."""
    graph = helper.make_graph(
        nodes or (helper.make_node("Identity", ["image"], ["stylized"]),),
        "test",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, IMAGE)],
        [helper.make_tensor_value_info("stylized", TensorProto.FLOAT, IMAGE)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def external(location: str) -> onnx.TensorProto:
    """A weight of which the file only says where it lies."""
    tensor = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def save(path: Path, content: onnx.ModelProto | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return path


def some(kind: type, shape: tuple[int, ...]) -> np.ndarray:
    """Values of a type, negative ones included."""
    return (np.random.default_rng(0).normal(size=shape) * 100).astype(kind)
