"""How fast fastnst trains and stylizes, next to a plain loop and to `base`: interleaved in one run, medians, ratios.

Times of two runs on a shared machine say little; times taken in turn, over several rounds, say how they compare.
"""

import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from fastnst.checkpoint import CheckpointMeta, save_checkpoint
from fastnst.config import CONTENT_LAYERS, STYLE_LAYERS, StylizeBenchmark, TrainBenchmark, TrainConfig
from fastnst.data import Photographs
from fastnst.device import torch_device
from fastnst.engine import open_engine
from fastnst.export import export
from fastnst.image import SAMPLE
from fastnst.losses import DEFAULT_WEIGHTS
from fastnst.memory import peak_memory
from fastnst.nets.spec import PRESETS
from fastnst.nets.torch_net import Convolution, InstanceNorm, TransformerNet, UpConvolution
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

    Where they were measured, the bytes of memory that a process needs for it, and how far, in gray levels, its result
    is from torch's.
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
    """What a benchmark measured, with the circumstances that matter."""

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


def timed(work: Callable[[], object]) -> Work:
    """A work that does this and takes its time."""

    def seconds() -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return seconds


def circumstances(rounds: int, device: torch.device) -> dict[str, Any]:
    """Those that every comparison says."""
    return {"rounds": rounds, "device": device.type, "threads": torch.get_num_threads(), "torch": torch.__version__}


def speeds(times: Times, images: int) -> list[Speed]:
    """How fast each work is, of which each time is that of this number of pictures."""
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
    # Making subpixel kernels is counted, too, but is done once, not for each picture.
    counts = counter.get_flop_counts()["Global"]
    return sum(int(count) for operator, count in counts.items() if "convolution" in str(operator)) // 2


def random_net(preset: str) -> TransformerNet:
    """A preset's network as it paints, with the same random weights each time."""
    torch.manual_seed(0)
    return TransformerNet(PRESETS[preset]).eval()


def plain_net(net: TransformerNet) -> TransformerNet:
    """A preset's, weights and all, as most repositories write it: upsampled first, torch's own layers."""
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
            elif isinstance(module, Convolution):
                inputs, outputs, (kernel, _) = module.in_channels, module.out_channels, module.kernel_size
                plain = nn.Conv2d(inputs, outputs, kernel, module.stride, bias=module.bias is not None)  # type: ignore[arg-type]
                plain.load_state_dict(module.state_dict())
                first, last = module.layer.pads
                parent.register_module(name, nn.Sequential(nn.ReflectionPad2d((first, last, first, last)), plain))
    return net


def benchmark_train(options: TrainBenchmark, on_round: OnRound | None = None) -> Comparison:
    """A step of fastnst and of a plain float32 loop on the same crops; with --content also on photographs as they load.

    The plain loop is what most repositories do: contiguous NCHW tensors in float32 and the whole loss network up to
    relu4_3 for both images. It trains `base` and, if that is another one, the preset.
    """
    device = torch_device(options.device)
    sides = options.size, PRESETS[options.preset].crop_side(options.size)
    crops, crops_with_margin = (_crops(options.batch_size, side) for side in sides)
    plain = [f"plain {preset}" for preset in dict.fromkeys(("base", options.preset))]
    ours = f"fastnst {options.preset}"
    with tempfile.TemporaryDirectory() as folder:
        run = _training_run(options, Path(folder), device)
        works = {name: timed(_plain_step(name.split()[1], crops, device)) for name in plain}
        works[ours] = timed(lambda: run.step(0, crops_with_margin))
        if options.content is not None:
            batches = _batches(options, options.content)
            works["cached crops"] = lambda: _block(run, lambda: crops_with_margin)
            works["photographs"] = lambda: _block(run, lambda: next(batches))
        times = take_turns(works, options.rounds, on_round)
    ratios = [ratio(times, ours, name) for name in plain]
    if options.content is not None:
        ratios.append(ratio(times, "photographs", "cached crops"))
    setting = {**circumstances(options.rounds, device), "precision": str(run.dtype).removeprefix("torch.")}
    sizes = {"size": options.size, "batch_size": options.batch_size, "workers": options.workers}
    return Comparison(speeds(times, options.batch_size), ratios, {**setting, **sizes})


def benchmark_stylize(options: StylizeBenchmark, on_round: OnRound | None = None) -> list[Comparison]:
    """Every preset in both engines at each size, with random weights: the time does not depend on them.

    Each engine's ratios are to `base` in the same engine and to `base` in torch. Memory is that of a process which
    stylizes one picture and does nothing else.
    """
    presets = list(dict.fromkeys(("base", *(options.preset or PRESETS))))
    with tempfile.TemporaryDirectory() as folder:
        files = {
            f"{preset} {engine}": path
            for preset in presets
            for engine, path in _untrained(preset, Path(folder)).items()
        }
        engines = {name: open_engine(path, device=options.device) for name, path in files.items()}
        comparisons = []
        for size in options.size:
            picture = np.random.default_rng(0).random((1, 3, size, size), dtype=np.float32)
            times = take_turns(
                {name: timed(partial(engine, picture)) for name, engine in engines.items()}, options.rounds, on_round
            )
            measured = [
                replace(speed, peak_memory=peak_memory(files[speed.name], size, options.device))
                for speed in speeds(times, 1)
            ]
            setting = {
                **circumstances(options.rounds, torch_device(options.device)),
                "size": size,
                "networks": {preset: _network_size(preset, size) for preset in presets},
            }
            comparisons.append(Comparison(measured, _ratios_to_base(times), setting))
    return comparisons


def _network_size(preset: str, size: int) -> dict[str, int]:
    net = random_net(preset)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return {"parameters": parameters, "multiply_adds": multiply_adds(net, size, size)}


def _ratios_to_base(times: Times) -> list[Ratio]:
    """Of times by "PRESET ENGINE": to `base` in the same engine, and in torch."""
    pairs = dict.fromkeys(
        (name, base) for name in times for base in (f"base {name.split()[1]}", "base torch") if name != base
    )
    return [ratio(times, *pair) for pair in pairs]


def _block(run: TrainingRun, load: Callable[[], np.ndarray[Any, np.dtype[np.uint8]]]) -> float:
    """Mean seconds of a step in a row of them, batches of uint8 (N, side, side, 3) and all."""
    for _ in range(AHEAD):
        run.step(0, load())
    started = time.perf_counter()
    for _ in range(BLOCK):
        run.step(0, load())
    return (time.perf_counter() - started) / BLOCK


def _crops(count: int, side: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Random ones, uint8 (count, side, side, 3)."""
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


def _batches(options: TrainBenchmark, content: Path) -> Iterator[np.ndarray[Any, np.dtype[np.uint8]]]:
    photographs = Photographs(content, PRESETS[options.preset].crop_side(options.size), seed=0)
    return photographs.batches(0, (options.rounds + 1) * (AHEAD + BLOCK), options.batch_size, options.workers)


def _training_run(options: TrainBenchmark, folder: Path, device: torch.device) -> TrainingRun:
    config = TrainConfig(
        SAMPLE,
        content=str(folder),
        output=folder / "benchmark.safetensors",
        preset=options.preset,
        size=options.size,
        batch_size=options.batch_size,
        precision=options.precision,
        compile=options.compile,
        device=options.device,
        style_layers=STYLE_LAYERS,
    )
    return TrainingRun(config, device)


def plain_features() -> VGGFeatures:
    """The loss network with torch's own convolutions."""
    features = VGGFeatures(STYLE_LAYERS)
    for index, module in enumerate(features.body):
        if isinstance(module, nn.Conv2d):
            plain = nn.Conv2d(module.in_channels, module.out_channels, kernel_size=3, padding=1)
            plain.load_state_dict(module.state_dict())
            features.body[index] = plain.requires_grad_(False)
    return features


def _plain_step(preset: str, crops: np.ndarray[Any, np.dtype[np.uint8]], device: torch.device) -> Callable[[], float]:
    """A training step on crops, uint8 (N, size, size, 3), as most repositories write it; calling it gives the loss."""
    torch.manual_seed(0)
    net = plain_net(TransformerNet(PRESETS[preset])).to(device)
    features = plain_features().to(device)
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
    net = random_net(preset)
    checkpoint = folder / f"{preset}.safetensors"
    save_checkpoint(checkpoint, net, CheckpointMeta(preset, net.config.to_json(), {"name": preset, "credit": ""}))
    return {"torch": checkpoint, "onnx": export(checkpoint, checkpoint.with_suffix(".onnx")).path}
