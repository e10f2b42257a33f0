"""How fast fastnst trains and paints, next to a plain loop and to `base`: interleaved in one run, medians and ratios.

Times of two runs on a shared machine say little; times taken in turn, over several rounds, say how they compare.
"""

import contextlib
import copy
import io
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from fastnst.checkpoint import CheckpointMeta, save_checkpoint
from fastnst.config import (
    CONTENT_LAYERS,
    STYLE_LAYERS,
    FormsBenchmark,
    StylizeBenchmark,
    TrainBenchmark,
    TrainConfig,
)
from fastnst.data import Photographs
from fastnst.device import torch_device
from fastnst.engine import OnnxEngine, open_engine
from fastnst.export import export, largest_difference
from fastnst.image import SAMPLE
from fastnst.losses import DEFAULT_WEIGHTS
from fastnst.memory import peak_memory
from fastnst.nets.onnx_graph import build
from fastnst.nets.spec import PRESETS
from fastnst.nets.torch_net import InstanceNorm, TransformerNet, UpConvolution
from fastnst.train.run import TrainingRun
from fastnst.vgg import VGGFeatures

BLOCK = 8  # steps in a row that are timed with photographs; three before them use up what was loaded ahead
AHEAD = 3

Work = Callable[[], float]  # returns the seconds it took
Times = Mapping[str, list[float]]
OnRound = Callable[[int], None]


@dataclass(frozen=True)
class Speed:
    """Seconds of one work: the median over the rounds, and their extremes; pictures a second from the median.

    Where they were looked at, the bytes of memory a process needs for it, and how far, in gray levels, what it paints
    is from what torch does.
    """

    name: str
    seconds: float
    fastest: float
    slowest: float
    images_per_second: float
    peak_memory: int | None = None
    gray_levels: float | None = None


@dataclass(frozen=True)
class Ratio:
    """How many times as fast as the reference a work is: the median over the rounds, and their extremes."""

    name: str
    reference: str
    median: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class Comparison:
    """What a benchmark found, the circumstances that matter included."""

    speeds: list[Speed]
    ratios: list[Ratio]
    setting: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def take_turns(works: Mapping[str, Work], rounds: int, on_round: OnRound | None = None) -> Times:
    """Seconds of each work in each round; a first round, to warm up, does not count."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for index in range(rounds + 1):
        for name, work in works.items():
            seconds = work()
            if index:
                times[name].append(seconds)
        if on_round is not None:
            on_round(index)
    return times


def speeds(times: Times, images: int) -> list[Speed]:
    """How fast each work is that does so many pictures."""
    return [
        Speed(name, median := statistics.median(taken), min(taken), max(taken), images / median)
        for name, taken in times.items()
    ]


def ratio(times: Times, name: str, reference: str) -> Ratio:
    """Compared round by round, so that a machine that slows down slows both."""
    ratios = [theirs / ours for theirs, ours in zip(times[reference], times[name], strict=True)]
    return Ratio(name, reference, statistics.median(ratios), min(ratios), max(ratios))


def multiply_adds(net: nn.Module, height: int, width: int) -> int:
    """Multiplications with an addition in all convolutions for one picture of this size, counted in the graph."""
    with FakeTensorMode(allow_non_fake_inputs=True), FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.empty(1, 3, height, width))
    counts = counter.get_flop_counts()["Global"]  # folding kernels is counted, too, but done once, not for each picture
    return sum(int(count) for operator, count in counts.items() if "convolution" in str(operator)) // 2


def plain_net(net: TransformerNet) -> TransformerNet:
    """The same network, weights and all, as most repositories write it: upsampled first, torch's own normalization."""
    net = copy.deepcopy(net)
    for parent in list(net.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, InstanceNorm):
                plain: nn.Module = nn.InstanceNorm2d(module.num_features, module.eps, affine=True)
                plain.load_state_dict(module.state_dict())
                parent.register_module(name, plain)
            elif isinstance(module, UpConvolution):
                inputs, outputs, (kernel, _) = module.in_channels, module.out_channels, module.kernel_size
                plain = nn.Conv2d(inputs, outputs, kernel, bias=module.bias is not None)
                plain.load_state_dict(module.state_dict())
                before = nn.Upsample(scale_factor=2, mode="bilinear"), nn.ReplicationPad2d(kernel // 2)
                parent.register_module(name, nn.Sequential(*before, plain))
    return net


def benchmark_train(options: TrainBenchmark, on_round: OnRound | None = None) -> Comparison:
    """A step of fastnst and of a plain float32 loop on the same crops; with --content also on photographs as they load.

    The plain loop is what most repositories do: contiguous NCHW tensors in float32 and the whole loss network up to
    relu4_3 for both images. It trains `base` and, if that is another one, the preset.
    """
    device = torch_device(options.device)
    shape = (options.batch_size, options.size, options.size, 3)
    crops = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    plain = [f"plain {preset}" for preset in dict.fromkeys(("base", options.preset))]
    ours = f"fastnst {options.preset}"
    with tempfile.TemporaryDirectory() as folder:
        run = _training_run(options, Path(folder), device)
        works = {name: _timed(_plain_step(name.split()[1], crops, device)) for name in plain}
        works[ours] = _timed(lambda: run.step(0, crops))
        if options.content is not None:
            batches = _batches(options, options.content)
            works["cached crops"] = lambda: _block(run, lambda: crops)
            works["photographs"] = lambda: _block(run, lambda: next(batches))
        times = take_turns(works, options.rounds, on_round)
    ratios = [ratio(times, ours, name) for name in plain]
    if options.content is not None:
        ratios.append(ratio(times, "photographs", "cached crops"))
    setting = {**_setting(options.rounds, device), "precision": str(run.dtype).removeprefix("torch.")}
    sizes = {"size": options.size, "batch_size": options.batch_size, "workers": options.workers}
    return Comparison(speeds(times, options.batch_size), ratios, {**setting, **sizes})


def benchmark_stylize(options: StylizeBenchmark, on_round: OnRound | None = None) -> list[Comparison]:
    """Every preset in both engines at each size, with random weights: the time does not depend on them.

    Each engine's ratios are to `base` in the same engine and to `base` in torch. Memory is that of a process which
    paints one picture and does nothing else.
    """
    presets = list(dict.fromkeys(("base", *(options.preset or PRESETS))))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        files = {
            f"{preset} {engine}": path
            for preset in presets
            for engine, path in _untrained(preset, Path(folder)).items()
        }
        engines = {name: open_engine(path, device=options.device) for name, path in files.items()}
        for size in options.size:
            picture = np.random.default_rng(0).random((1, 3, size, size), dtype=np.float32)
            works = {name: _timed(partial(engine, picture)) for name, engine in engines.items()}
            times = take_turns(works, options.rounds, on_round)
            references = dict.fromkeys(
                (name, base) for name in works for base in (f"base {name.split()[1]}", "base torch") if name != base
            )
            nets = {preset: TransformerNet(PRESETS[preset]) for preset in presets}
            setting = {
                **_setting(options.rounds, torch_device(options.device)),
                "size": size,
                "networks": {
                    preset: {
                        "parameters": sum(parameter.numel() for parameter in net.parameters()),
                        "multiply_adds": multiply_adds(net, size, size),
                    }
                    for preset, net in nets.items()
                },
            }
            measured = [
                replace(speed, peak_memory=peak_memory(files[speed.name], size, options.device))
                for speed in speeds(times, 1)
            ]
            found.append(Comparison(measured, [ratio(times, *pair) for pair in references], setting))
    return found


PLAIN, FOLDED, OURS = "torch.onnx.export", "torch.onnx.export, folded", "fastnst export"


def benchmark_forms(options: FormsBenchmark, on_round: OnRound | None = None) -> list[Comparison]:
    """One network in ONNX Runtime on the processor, written in several ways that paint the same.

    The reference is what torch.onnx.export makes of the network in torch's own layers. Next to it is what it makes of
    fastnst's, where upsampling is folded into convolutions. Each other one differs from what `fastnst export` writes in
    one way.
    """
    import onnxruntime

    net = _random_net(options.preset)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        engines: dict[str, OnnxEngine] = {}
        exports = {PLAIN: plain_export(plain_net(net)), FOLDED: plain_export(net)}
        for name, data in {**exports, **forms(net)}.items():
            path = Path(folder) / f"{len(engines)}.onnx"
            path.write_bytes(data)
            engines[name] = OnnxEngine(path, "cpu")
        differences = {name: largest_difference(net, engine) * 255 for name, engine in engines.items()}
        for size in options.size:
            picture = np.random.default_rng(0).random((1, 3, size, size), dtype=np.float32)
            # The networks alone, without what adapts files of unknown origin.
            works = {
                name: _timed(partial(engine.session.run, None, {engine.input: picture}))
                for name, engine in engines.items()
            }
            times = take_turns(works, options.rounds, on_round)
            setting = {
                **_setting(options.rounds, torch.device("cpu")),
                "onnxruntime": onnxruntime.__version__,
                "preset": options.preset,
                "size": size,
            }
            measured = [replace(speed, gray_levels=differences[speed.name]) for speed in speeds(times, 1)]
            found.append(
                Comparison(measured, [ratio(times, name, PLAIN) for name in engines if name != PLAIN], setting)
            )
    return found


def forms(net: TransformerNet) -> dict[str, bytes]:
    """A network as ONNX files: as `fastnst export` writes it, and with one thing changed."""
    weights = {name: values.numpy() for name, values in net.state_dict().items()}
    ours = build(net.config, weights)
    found = {OURS: ours}
    if net.config.stride == 1:
        found["last layer in blocks"] = build(net.config, weights, last="blocks")
        found["last layer in pixels"] = build(net.config, weights, last="pixels")
    for name, (operator, rewrite) in FORMS.items():
        found[name] = _rewritten(ours, operator, rewrite)
    return found


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
    found = []
    for node in model.graph.node:
        nodes = _Nodes(model.graph, node)
        if node.op_type == operator:
            rewrite(nodes)
        found += nodes.made or [node]
    del model.graph.node[:]
    model.graph.node.extend(found)
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


def _setting(rounds: int, device: torch.device) -> dict[str, Any]:
    return {"rounds": rounds, "device": device.type, "threads": torch.get_num_threads(), "torch": torch.__version__}


def _timed(work: Callable[[], object]) -> Work:
    def seconds() -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return seconds


def _block(run: TrainingRun, load: Callable[[], np.ndarray[Any, np.dtype[np.uint8]]]) -> float:
    """Mean seconds of a step in a row of them, batches of uint8 (N, size, size, 3) and all."""
    for _ in range(AHEAD):
        run.step(0, load())
    started = time.perf_counter()
    for _ in range(BLOCK):
        run.step(0, load())
    return (time.perf_counter() - started) / BLOCK


def _batches(options: TrainBenchmark, content: Path) -> Iterator[np.ndarray[Any, np.dtype[np.uint8]]]:
    photographs = Photographs(content, options.size, seed=0)
    return photographs.batches(0, (options.rounds + 1) * (AHEAD + BLOCK), options.batch_size, options.workers)


def _training_run(options: TrainBenchmark, folder: Path, device: torch.device) -> TrainingRun:
    config = TrainConfig(
        SAMPLE,
        content=folder,
        output=folder / "benchmark.safetensors",
        preset=options.preset,
        size=options.size,
        batch_size=options.batch_size,
        precision=options.precision,
        compile=options.compile,
        device=options.device,
    )
    return TrainingRun(config, device)


def _plain_step(preset: str, crops: np.ndarray[Any, np.dtype[np.uint8]], device: torch.device) -> Callable[[], float]:
    torch.manual_seed(0)
    net = plain_net(TransformerNet(PRESETS[preset])).to(device)
    features = VGGFeatures(STYLE_LAYERS).to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    weights = DEFAULT_WEIGHTS["paper"]

    def gram(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        flat = x.reshape(n, c, h * w)
        return flat.bmm(flat.transpose(1, 2)) / (c * h * w)

    style = torch.rand(1, 3, 400, 500, device=device)
    with torch.no_grad():
        targets = {name: gram(value) for name, value in features(style).items()}

    def step() -> float:
        content = torch.from_numpy(crops).to(device).permute(0, 3, 1, 2).contiguous().float() / 255
        stylized = net(content)
        given, wanted = features(stylized), features(content)
        loss = torch.stack([(given[name] - wanted[name]).square().mean() for name in CONTENT_LAYERS]).sum()
        styles = [(gram(given[name]) - targets[name]).square().mean() for name in STYLE_LAYERS]
        loss = loss + weights.style * torch.stack(styles).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(loss.detach())

    return step


def _untrained(preset: str, folder: Path) -> dict[str, Path]:
    """A network with random weights as the file each engine runs."""
    net = _random_net(preset)
    checkpoint = folder / f"{preset}.safetensors"
    save_checkpoint(checkpoint, net, CheckpointMeta(preset, net.config.to_json(), {"name": preset, "credit": ""}))
    return {"torch": checkpoint, "onnx": export(checkpoint, checkpoint.with_suffix(".onnx")).path}


def _random_net(preset: str) -> TransformerNet:
    torch.manual_seed(0)
    return TransformerNet(PRESETS[preset])
