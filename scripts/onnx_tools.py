"""What others' tools make of an exported style: whether each takes the file, and how far what comes out paints from it.

Tools that are not installed are left out and named. All of them: pip install onnxslim onnxsim onnxconverter-common
openvino opencv-python-headless

Usage: .venv/bin/python scripts/onnx_tools.py my-style.onnx
"""

import contextlib
import importlib
import importlib.util
import io
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from fastnst.device import onnx_runtime
from fastnst.image import SAMPLE, read_picture, to_array
from fastnst.nets.onnx_proto import read_signature

Array = npt.NDArray[Any]
SIZE = (200, 310)  # height and width


def main(path: Path) -> int:
    """Print a line for each tool; the number of those that failed."""
    path = path.absolute()
    image = as_taken(to_array(read_picture(SAMPLE).rgb)[:, :, : SIZE[0], : SIZE[1]], path)
    expected = runtime(path, image)
    failed = 0
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # some leave files where they run
        for name, (module, tool) in TOOLS.items():
            if importlib.util.find_spec(module) is None:
                print(f"{name}: not installed")
                continue
            try:
                with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found = tool(path, Path(folder), image)
                apart = gray_levels_apart(found, expected)
                print(f"{name}: mean {apart.mean():.3f}, at most {apart.max():.2f} gray levels apart")
            except Exception as error:
                failed += 1
                print(f"{name}: failed, {type(error).__name__}: {' '.join(str(error).split())[:200]}")
    return failed


def as_taken(image: Array, path: Path) -> Array:
    """(1, 3, H, W) float32 0..1 as the file takes it."""
    eight_bits = read_signature(path.read_bytes())[0]["image"].startswith("uint8")
    return (image * 255).round().astype(np.uint8).transpose(0, 2, 3, 1).copy() if eight_bits else image


def gray_levels_apart(found: Array, expected: Array) -> Array:
    return np.abs(found.astype(np.float64) - expected) * (1 if expected.dtype == np.uint8 else 255)


def runtime(path: Path, image: Array) -> Array:
    session = onnx_runtime().InferenceSession(path, providers=["CPUExecutionProvider"])
    stylized: Array = session.run(None, {session.get_inputs()[0].name: image})[0]
    return stylized


def part(name: str) -> Any:
    """A module of ONNX Runtime, which observes nothing."""
    return importlib.import_module(f"{onnx_runtime().__name__}.{name}")


def quantized(path: Path, folder: Path, image: Array) -> Array:
    tools = part("quantization")
    tools.quantize_dynamic(path, folder / "dynamic.onnx", weight_type=tools.QuantType.QUInt8)
    return runtime(folder / "dynamic.onnx", image)


def prepared(path: Path, folder: Path, image: Array) -> Array:
    part("quantization.shape_inference").quant_pre_process(str(path), str(folder / "prepared.onnx"))
    return runtime(folder / "prepared.onnx", image)


def quantized_statically(path: Path, folder: Path, image: Array) -> Array:
    tools = part("quantization")

    class Pictures(tools.CalibrationDataReader):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            self.left = iter([{"image": image}, {"image": image[:, ::-1].copy()}])

        def get_next(self) -> Any:
            return next(self.left, None)

    part("quantization.shape_inference").quant_pre_process(str(path), str(folder / "before.onnx"))
    # Unsigned on both sides: with signed weights, the default, sums overflow on processors without VNNI.
    types = {"activation_type": tools.QuantType.QUInt8, "weight_type": tools.QuantType.QUInt8}
    tools.quantize_static(folder / "before.onnx", folder / "static.onnx", Pictures(), **types)
    return runtime(folder / "static.onnx", image)


def optimized(path: Path, folder: Path, image: Array) -> Array:
    onnxruntime = onnx_runtime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return runtime(folder / "optimized.onnx", image)


def fixed_size(path: Path, folder: Path, image: Array) -> Array:
    tools = part("tools.onnx_model_utils")
    model = onnx.load(path)
    height, width = image.shape[1:3] if image.dtype == np.uint8 else image.shape[2:]
    for name, side in (("N", 1), ("H", height), ("W", width)):
        tools.make_dim_param_fixed(model.graph, name, side)
    tools.fix_output_shapes(model)
    onnx.save(model, folder / "fixed.onnx")
    return runtime(folder / "fixed.onnx", image)


def inferred(path: Path, folder: Path, image: Array) -> Array:
    onnx.save(onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True, data_prop=True), folder / "in.onnx")
    return runtime(folder / "in.onnx", image)


def converted(path: Path, folder: Path, image: Array) -> Array:
    onnx.save(onnx.version_converter.convert_version(onnx.load(path), 21), folder / "opset21.onnx")
    return runtime(folder / "opset21.onnx", image)


def slimmed(path: Path, folder: Path, image: Array) -> Array:
    import onnxslim

    onnxslim.slim(str(path), str(folder / "slim.onnx"))
    return runtime(folder / "slim.onnx", image)


def simplified(path: Path, folder: Path, image: Array) -> Array:
    import onnxsim

    model, same = onnxsim.simplify(str(path), test_input_shapes={"image": list(image.shape)})
    assert same
    onnx.save(model, folder / "sim.onnx")
    return runtime(folder / "sim.onnx", image)


def halved(path: Path, folder: Path, image: Array) -> Array:
    from onnxconverter_common import float16

    onnx.save(float16.convert_float_to_float16(onnx.load(path), keep_io_types=True), folder / "half.onnx")
    return runtime(folder / "half.onnx", image)


def openvino(path: Path, _: Path, image: Array) -> Array:
    import openvino as ov

    stylized: Array = ov.compile_model(ov.convert_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(image)[0]
    return stylized


def opencv(path: Path, _: Path, image: Array) -> Array:
    import cv2

    net = cv2.dnn.readNetFromONNX(str(path))
    net.setInput(image)
    stylized: Array = net.forward()
    return stylized


TOOLS: dict[str, tuple[str, Callable[[Path, Path, Array], Array]]] = {
    "onnx.shape_inference, strict": ("onnx", inferred),
    "onnx.version_converter, opset 21": ("onnx", converted),
    "ONNX Runtime, optimized file": ("onnxruntime", optimized),
    "onnxruntime.tools, fixed size": ("onnxruntime", fixed_size),
    "onnxruntime.quantization, quant_pre_process": ("onnxruntime", prepared),
    "onnxruntime.quantization, quantize_dynamic": ("onnxruntime", quantized),
    "onnxruntime.quantization, quantize_static": ("onnxruntime", quantized_statically),
    "onnxslim": ("onnxslim", slimmed),
    "onnxsim": ("onnxsim", simplified),
    "onnxconverter-common, float16": ("onnxconverter_common", halved),
    "OpenVINO": ("openvino", openvino),
    "OpenCV": ("cv2", opencv),
}

if __name__ == "__main__":
    logging.disable()
    sys.exit(bool(main(Path(sys.argv[1]))))
