"""A checkpoint as one self-contained ONNX file that provably paints what torch paints."""

import contextlib
import io
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import torch
from torch import Tensor, nn

from fastnst.checkpoint import load_checkpoint
from fastnst.config import ExportOptions
from fastnst.engine import Engine, OnnxEngine
from fastnst.errors import FastnstError, ModelError, UsageError
from fastnst.files import check_output, show, write_bytes
from fastnst.image import Array, read_picture, to_array
from fastnst.nets import TransformerNet

log = logging.getLogger(__name__)

TOLERANCE = 1 / 255  # one grey level
SAMPLE = Path(__file__).parent / "sample.jpg"
SIZES = ((1, 64, 64), (1, 65, 97), (1, 33, 128), (3, 48, 80), (1, 17, 16), (1, 241, 319))  # (N, H, W)


@dataclass(frozen=True)
class ExportReport:
    """What was written, and the largest difference to torch found before it was, on the scale 0..1."""

    path: Path
    size: int  # bytes
    opset: int
    largest_difference: float


def export(checkpoint: Path | str, output: Path | str, options: ExportOptions | None = None) -> ExportReport:
    """Write a checkpoint as ONNX: float32 (N, 3, H, W) 0..1 in as `image`, the same out as `stylized`, any N, H, W.

    The file appears only after onnx.checker accepts it and ONNX Runtime agrees with torch within one grey level on
    random and real pictures of several sizes. Weights and metadata are inside.

    Raises ModelError for an unusable checkpoint or a network that does not agree, OutputError for the output,
    UsageError if it is not named like an ONNX file.
    """
    options, checkpoint, output = options or ExportOptions(), Path(checkpoint), Path(output)
    if output.suffix != ".onnx":
        raise UsageError(f"--output is {show(output)} but must end in .onnx")
    check_output(output, overwrite=options.overwrite)
    net, meta = load_checkpoint(checkpoint)
    model = build(net, options.opset)
    onnx.helper.set_model_props(model, {"fastnst": meta.to_json()})
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()

    # Checked as a file, through the same door as any other style.
    candidate = output.with_name(f".{output.name[:200]}.candidate.onnx")
    try:
        write_bytes(candidate, data)
        difference = largest_difference(net, OnnxEngine(candidate, "cpu"))
        if not difference <= TOLERANCE:
            raise ModelError(
                f"the exported network differs from torch by {difference * 255:.2f} grey levels, more than 1; "
                "nothing was written"
            )
        candidate.replace(output)
    finally:
        candidate.unlink(missing_ok=True)
    return ExportReport(output, len(data), options.opset, difference)


class _Exported(nn.Module):
    """What a client sees: the network, clipped to 0..1."""

    def __init__(self, net: TransformerNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        stylized: Tensor = self.net(image).clamp(0, 1)
        return stylized


def build(net: TransformerNet, opset: int) -> onnx.ModelProto:
    """The network as an ONNX model in memory, dynamic in N, H and W."""
    any_size = torch.export.Dim.DYNAMIC
    example = torch.zeros(2, 3, 64, 80)
    # The exporter reports its progress on stdout, which belongs to results.
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Exported(net).eval(),
            (example,),
            input_names=["image"],
            output_names=["stylized"],
            dynamic_shapes={"image": {0: any_size, 2: any_size, 3: any_size}},
            opset_version=18,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise FastnstError("torch.onnx.export returned nothing; update torch and onnxscript")
    model = program.model_proto
    if opset != 18:
        _lower_opset(model, opset)
    model.producer_name = "fastnst"
    model.graph.name = "fastnst"
    _name_sizes(model)
    _forget_origin(model.graph)
    _store_as_float16(model.graph)
    del model.graph.value_info[:]
    return model


def largest_difference(net: TransformerNet, engine: Engine) -> float:
    """The largest difference between torch and the engine over random and real pictures, on the scale 0..1.

    Raises ModelError if the engine returns another size.
    """
    random = np.random.default_rng(0)
    images: list[Array] = [random.random((n, 3, h, w), dtype=np.float32) for n, h, w in SIZES]
    images.append(to_array(read_picture(SAMPLE).rgb))
    worst = 0.0
    for image in images:
        with torch.inference_mode():
            expected = net(torch.from_numpy(image)).clamp(0, 1).numpy()
        given = engine(image)
        if given.shape != expected.shape:
            raise ModelError(f"the exported network turns {image.shape} into {given.shape}; nothing was written")
        worst = float(np.maximum(worst, np.abs(given - expected).max()))  # unlike max, keeps a NaN
    return worst


def _lower_opset(model: onnx.ModelProto, opset: int) -> None:
    """From 18, the exporter's oldest, to 17: only attributes of Resize that are at their defaults must go."""
    for node in model.graph.node:
        if node.op_type == "Resize":
            kept = [a for a in node.attribute if a.name not in ("antialias", "keep_aspect_ratio_policy")]
            del node.attribute[:]
            node.attribute.extend(kept)
    model.opset_import[0].version = opset


def _forget_origin(graph: onnx.GraphProto) -> None:
    """Remove the exporter's notes: stack traces with the paths of this machine, as long as a small network."""
    for part in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        del part.metadata_props[:]


def _store_as_float16(graph: onnx.GraphProto) -> None:
    """Halve the file: weights that float16 holds exactly are stored so, and cast when the file is loaded."""
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        short = values.astype(np.float16)
        if values.size < 256 or not np.array_equal(short, values):
            continue
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(short, f"{name}.float16"))
        cast = onnx.helper.make_node("Cast", [tensor.name], [name], name=f"{name}.cast", to=onnx.TensorProto.FLOAT)
        graph.node.insert(0, cast)


def _name_sizes(model: onnx.ModelProto) -> None:
    """Call the free sizes N, H and W, at both ends."""
    for value in (*model.graph.input, *model.graph.output):
        for dimension, name in zip(value.type.tensor_type.shape.dim, ("N", None, "H", "W"), strict=True):
            if name:
                dimension.dim_param = name
