"""A checkpoint as one self-contained ONNX file, written only if it gives what torch gives."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch

from fastnst.checkpoint import load_checkpoint
from fastnst.config import ExportOptions
from fastnst.engine import Engine, OnnxEngine
from fastnst.errors import ModelError, UsageError
from fastnst.files import check_output, printable, write_bytes
from fastnst.image import SAMPLE, Array, read_picture, to_array
from fastnst.nets.onnx_graph import build
from fastnst.nets.torch_net import TransformerNet
from fastnst.styles import style_file

log = logging.getLogger(__name__)

TOLERANCE = 1 / 255  # one gray level
SIZES = ((1, 64, 64), (1, 65, 97), (1, 33, 128), (3, 48, 80), (1, 17, 16), (1, 241, 319))  # (N, H, W)


@dataclass(frozen=True)
class ExportReport:
    """What was written, and the largest difference to torch before it was, on the scale 0..1.

    Where it takes and returns 8 bits, half a gray level of that is rounding.
    """

    path: Path
    size: int  # bytes
    opset: int
    uint8: bool
    fp16: bool
    largest_difference: float


def export(checkpoint: Path | str, output: Path | str, options: ExportOptions | None = None) -> ExportReport:
    """Write a checkpoint, or a bundled style by name, as ONNX: float32 (N, 3, H, W) 0..1 in as `image`, the same out as
    `stylized`, any N, and any H and W from 16 on.

    With `uint8` both are (N, H, W, 3) uint8 instead. The file appears only after onnx.checker accepts it and ONNX
    Runtime agrees with torch within one gray level on random and real pictures of several sizes, on the processor; a
    GPU rounds each layer of an `fp16` file to float16, which a processor's ONNX Runtime does less often. Weights and
    metadata are inside.

    Raises ModelError for an unusable checkpoint or a network that does not agree, OutputError for the output,
    UsageError if it is not named like an ONNX file, or for a name that no bundled style has.
    """
    options, output = options or ExportOptions(), Path(output)
    checkpoint = style_file(checkpoint, "checkpoint")
    if output.suffix != ".onnx":
        raise UsageError(f"--output is {printable(output)} but must end in .onnx")
    check_output(output, overwrite=options.overwrite)
    net, meta = load_checkpoint(checkpoint)
    weights = {name: values.numpy() for name, values in net.state_dict().items()}
    metadata = {"fastnst": meta.to_json()} | ({"precision": "float16"} if options.fp16 else {})
    data = build(net.config, weights, opset=options.opset, uint8=options.uint8, half=options.fp16, metadata=metadata)
    onnx.checker.check_model(onnx.load_model_from_string(data), full_check=True)

    difference = largest_difference(net, OnnxEngine(output, "cpu", data=data), eight_bits=options.uint8)
    if not difference <= TOLERANCE:
        raise ModelError(
            f"the exported network differs from torch by {difference * 255:.2f} gray levels, more than 1; "
            "nothing was written"
        )
    write_bytes(output, data)
    return ExportReport(output, len(data), options.opset, options.uint8, options.fp16, difference)


def largest_difference(net: TransformerNet, engine: Engine, *, eight_bits: bool = False) -> float:
    """The largest difference between torch and the engine over random and real pictures, on the scale 0..1.

    With `eight_bits` all pictures are of that, for an engine that would round them.

    Raises ModelError if the engine returns another size.
    """
    random = np.random.default_rng(0)
    images: list[Array] = [random.random((n, 3, h, w), dtype=np.float32) for n, h, w in SIZES]
    images.append(to_array(read_picture(SAMPLE).rgb))
    worst = 0.0
    for picture in images:
        image = np.rint(picture * 255).astype(np.float32) / np.float32(255) if eight_bits else picture
        with torch.inference_mode():
            expected = net(torch.from_numpy(image)).clamp(0, 1).numpy()
        stylized = engine(image)
        if stylized.shape != expected.shape:
            raise ModelError(f"the exported network turns {image.shape} into {stylized.shape}; nothing was written")
        worst = float(np.maximum(worst, np.abs(stylized - expected).max()))  # unlike max, keeps a NaN
    return worst
