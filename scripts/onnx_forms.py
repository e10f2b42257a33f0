"""One network as ONNX, written in several ways: how fast each is with ONNX Runtime on the processor, taking turns.

The reference is what torch.onnx.export makes of the network in torch's own layers. Next to it is what it makes of
fastnst's layers, which upsample within convolutions. Each other one differs from what `fastnst export` writes in one
way.

Usage: .venv/bin/python scripts/onnx_forms.py --size 1024 --rounds 7
"""

import contextlib
import io
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import torch
from cyclopts import App, Parameter
from torch import Tensor, nn

from fastnst.benchmark import (
    Comparison,
    OnRound,
    circumstances,
    plain_net,
    random_net,
    ratio,
    speeds,
    take_turns,
    timed,
)
from fastnst.cli.tables import print_comparisons
from fastnst.config import Preset
from fastnst.config.ranges import Checked, Range
from fastnst.device import onnx_runtime
from fastnst.engine import OnnxEngine
from fastnst.export import largest_difference
from fastnst.nets.onnx_graph import build
from fastnst.nets.torch_net import TransformerNet
from fastnst.progress import Progress

PLAIN, SUBPIXEL, OURS = "torch.onnx.export", "torch.onnx.export, subpixel kernels", "fastnst export"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Options(Checked):
    """What is timed."""

    size: Annotated[tuple[int, ...], Parameter(negative=(), consume_multiple=True), Range(16, 16384)] = (512, 1024)
    """sides of the square pictures to stylize, pixels"""
    preset: Preset = "base"
    """network to stylize with"""
    rounds: Annotated[int, Range(1)] = 7
    """the number of times that everything is timed, after one round to warm up"""
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False
    """print results as JSON"""


def main(options: Options = Options()) -> None:
    """Time ways to write a network as ONNX, on the processor, against torch.onnx.export as it comes, taking turns."""
    with Progress("timing", (options.rounds + 1) * len(options.size), "round") as progress:
        comparisons = compare_forms(options, lambda _: progress.advance())
    print_comparisons(comparisons, options.as_json)


def compare_forms(options: Options, on_round: OnRound | None = None) -> list[Comparison]:
    """Seconds, ratios to the plain export, and differences from torch in gray levels: a comparison for each size."""
    net = random_net(options.preset)
    exports = {PLAIN: plain_export(plain_net(net)), SUBPIXEL: plain_export(net), **forms(net)}
    with tempfile.TemporaryDirectory() as folder:
        engines = {}
        for number, (name, data) in enumerate(exports.items()):
            path = Path(folder) / f"{number}.onnx"
            path.write_bytes(data)
            engines[name] = OnnxEngine(path, "cpu")
        differences = {name: largest_difference(net, engine) * 255 for name, engine in engines.items()}
        return [_compare(engines, differences, size, options, on_round) for size in options.size]


def _compare(
    engines: dict[str, OnnxEngine],
    differences: dict[str, float],
    size: int,
    options: Options,
    on_round: OnRound | None,
) -> Comparison:
    picture = np.random.default_rng(0).random((1, 3, size, size), dtype=np.float32)
    # The networks alone, without what adapts files of unknown origin.
    works = {
        name: timed(partial(engine.session.run, None, {engine.input: picture})) for name, engine in engines.items()
    }
    times = take_turns(works, options.rounds, on_round)
    measured = [replace(speed, gray_levels=differences[speed.name]) for speed in speeds(times, 1)]
    ratios = [ratio(times, name, PLAIN) for name in engines if name != PLAIN]
    setting = {
        **circumstances(options.rounds, torch.device("cpu")),
        "onnxruntime": onnx_runtime().__version__,
        "preset": options.preset,
        "size": size,
    }
    return Comparison(measured, ratios, setting)


def forms(net: TransformerNet) -> dict[str, bytes]:
    """A network as ONNX files: as `fastnst export` writes it, and with one thing changed."""
    weights = {name: values.numpy() for name, values in net.state_dict().items()}
    ours = build(net.config, weights)
    written = {OURS: ours}
    if net.config.stride == 1:
        written["last layer in blocks"] = build(net.config, weights, last="blocks")
        written["last layer in pixels"] = build(net.config, weights, last="pixels")
    for name, (operator, rewrite) in FORMS.items():
        written[name] = _rewritten(ours, operator, rewrite)
    return written


def plain_export(net: TransformerNet) -> bytes:
    """The network, clipped to 0..1, as torch.onnx.export writes it when it is told no more than that sizes are free."""

    class Clipped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, image: Tensor) -> Tensor:
            stylized: Tensor = self.net(image).clamp(0, 1)
            return stylized

    free = torch.export.Dim.DYNAMIC
    # The exporter reports its progress on stdout, which belongs to results.
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Clipped().eval(),
            (torch.zeros(2, 3, 64, 80),),
            input_names=["image"],
            output_names=["stylized"],
            dynamic_shapes={"image": {0: free, 2: free, 3: free}},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


class _Nodes:
    """What replaces one node: nodes and constants whose names begin with its own."""

    def __init__(self, graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
        self.graph, self.inputs, self.output = graph, list(node.input), node.output[0]
        self.attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        self.constants = {item.name: item for item in graph.initializer}
        self.made: list[onnx.NodeProto] = []

    def add(self, operator: str, *inputs: object, output: str | None = None, **attributes: Any) -> str:
        output = output or f"{self.output}.{len(self.made)}"
        names = [item if isinstance(item, str) else self._constant(item) for item in inputs]
        self.made.append(onnx.helper.make_node(operator, names, [output], **attributes))
        return output

    def _constant(self, values: object) -> str:
        name = f"{self.output}.constant.{len(self.graph.initializer)}"
        self.graph.initializer.append(onnx.numpy_helper.from_array(np.array(values), name))
        return name


def _rewritten(data: bytes, operator: str, rewrite: Callable[[_Nodes], None]) -> bytes:
    """The same file with every node of one operator replaced, where `rewrite` adds anything."""
    model = onnx.load_model_from_string(data)
    kept: list[onnx.NodeProto] = []
    for node in model.graph.node:
        nodes = _Nodes(model.graph, node)
        if node.op_type == operator:
            rewrite(nodes)
        kept += nodes.made or [node]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    written: bytes = model.SerializeToString()
    return written


def _as_layer_norm(nodes: _Nodes) -> None:
    x, scale, shift = nodes.inputs
    scale, shift = (nodes.add("Unsqueeze", part, [1]) for part in (scale, shift))
    epsilon = nodes.attributes["epsilon"]
    y = nodes.add("LayerNormalization", _grouped(nodes, x), scale, shift, axis=2, epsilon=epsilon)
    nodes.add("Reshape", y, nodes.add("Shape", x), output=nodes.output)


def _statistics(nodes: _Nodes, x: str) -> tuple[str, str]:
    """Mean and standard deviation per picture and channel, (N, C, 1), of (N, C, P)."""
    mean = nodes.add("ReduceMean", x, [2])
    centered = nodes.add("Sub", x, mean)
    variance = nodes.add("ReduceMean", nodes.add("Mul", centered, centered), [2])
    return mean, nodes.add("Sqrt", nodes.add("Add", variance, np.float32(nodes.attributes["epsilon"])))


def _grouped(nodes: _Nodes, x: str) -> str:
    """(N, C, P): as many channels as there are scales, and their pixels."""
    channels = nodes.add("Shape", nodes.inputs[1])
    return nodes.add("Reshape", x, nodes.add("Concat", [0], channels, [-1], axis=0))


def _as_reductions(nodes: _Nodes) -> None:
    x, *affine = nodes.inputs
    flat = _grouped(nodes, x)
    mean, deviation = _statistics(nodes, flat)
    scale, shift = (nodes.add("Unsqueeze", part, [1]) for part in affine)
    factor = nodes.add("Div", scale, deviation)
    offset = nodes.add("Sub", shift, nodes.add("Mul", mean, factor))
    y = nodes.add("Add", nodes.add("Mul", flat, factor), offset)
    nodes.add("Reshape", y, nodes.add("Shape", x), output=nodes.output)


def _as_batch_norm(nodes: _Nodes) -> None:
    x, *affine = nodes.inputs
    flat = _grouped(nodes, x)
    mean, deviation = _statistics(nodes, flat)
    variance = nodes.add("Mul", deviation, deviation)
    like = nodes.add("Mul", mean, np.float32(0))
    scale, shift = (nodes.add("Add", like, nodes.add("Unsqueeze", part, [1])) for part in affine)
    parts = [nodes.add("Reshape", part, [-1]) for part in (scale, shift, mean, variance)]
    pictures = nodes.add("Reshape", flat, nodes.add("Concat", [1, -1], nodes.add("Shape", flat, start=2), axis=0))
    y = nodes.add("BatchNormalization", pictures, *parts, epsilon=0.0)
    nodes.add("Reshape", y, nodes.add("Shape", x), output=nodes.output)


def _as_concatenation(nodes: _Nodes) -> None:
    x, pads = nodes.inputs[:2]
    if nodes.attributes["mode"] != b"reflect" or pads not in nodes.constants:
        return
    widths = onnx.numpy_helper.to_array(nodes.constants[pads]).reshape(2, 4).T
    for axis, (before, behind) in enumerate(widths.tolist()):
        parts = []
        if before:
            parts.append(nodes.add("Slice", x, [before], [0], [axis], [-1]))
        parts.append(x)
        if behind:
            parts.append(nodes.add("Slice", x, [-2], [-2 - behind], [axis], [-1]))
        x = nodes.add("Concat", *parts, axis=axis) if len(parts) > 1 else x
    nodes.add("Identity", x, output=nodes.output)


def _as_transpose(nodes: _Nodes) -> None:
    x = nodes.inputs[0]
    size = nodes.add("Shape", x, start=2)
    head = nodes.add("Concat", [0, -1, 2, 2], size, axis=0)
    apart = nodes.add("Transpose", nodes.add("Reshape", x, head), perm=[0, 1, 4, 2, 5, 3])
    shape = nodes.add("Concat", [0, -1], nodes.add("Mul", size, [2]), axis=0)
    nodes.add("Reshape", apart, shape, output=nodes.output)


# name -> the operator of the exported graph that is written otherwise, and how
FORMS: dict[str, tuple[str, Callable[[_Nodes], None]]] = {
    "norms as LayerNormalization": ("InstanceNormalization", _as_layer_norm),
    "norms as ReduceMean, Mul, Add": ("InstanceNormalization", _as_reductions),
    "norms as BatchNormalization": ("InstanceNormalization", _as_batch_norm),
    "reflection as Slice, Concat": ("Pad", _as_concatenation),
    "unfolding as Transpose": ("DepthToSpace", _as_transpose),
}


if __name__ == "__main__":
    app = App(name="onnx_forms.py", version_flags=[])
    app.default(main)
    app()
