"""How fast fastnst trains and paints, next to a plain loop and to `base`: interleaved in one run, medians and ratios.

Times of two runs on a shared machine say little; times taken in turn, over several rounds, say how they compare.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
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
from fastnst.export import SAMPLE, export
from fastnst.layers import PRESETS
from fastnst.losses import DEFAULT_WEIGHTS
from fastnst.nets import TransformerNet, UpConvolution
from fastnst.train import TrainingRun
from fastnst.vgg import VGGFeatures

BLOCK = 8  # steps in a row that are timed with photographs; three before them use up what was loaded ahead
AHEAD = 3

Work = Callable[[], float]  # returns the seconds it took
Times = Mapping[str, list[float]]
OnRound = Callable[[int], None]


@dataclass(frozen=True)
class Speed:
    """Seconds of one work: the median over the rounds, and their extremes; pictures a second from the median."""

    name: str
    seconds: float
    fastest: float
    slowest: float
    images_per_second: float


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
    return int(counter.get_total_flops()) // 2


def plain_net(preset: str) -> nn.Module:
    """A preset's network as most repositories write it: upsampled before the convolution, torch's own normalization."""
    net = TransformerNet(PRESETS[preset])
    for parent in list(net.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, nn.InstanceNorm2d):
                parent.register_module(name, nn.InstanceNorm2d(module.num_features, affine=True))
            elif isinstance(module, UpConvolution):
                inputs, outputs, (kernel, _) = module.in_channels, module.out_channels, module.kernel_size
                conv = nn.Conv2d(inputs, outputs, kernel, bias=module.bias is not None)
                parent.register_module(
                    name, nn.Sequential(nn.Upsample(scale_factor=2), nn.ReflectionPad2d(kernel // 2), conv)
                )
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

    Each engine's ratios are to `base` in the same engine and to `base` in torch.
    """
    presets = list(dict.fromkeys(("base", *(options.preset or PRESETS))))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        engines = {
            f"{preset} {engine}": open_engine(path, device=options.device)
            for preset in presets
            for engine, path in _untrained(preset, Path(folder)).items()
        }
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
            found.append(Comparison(speeds(times, 1), [ratio(times, *pair) for pair in references], setting))
    return found


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
    net = plain_net(preset).to(device)
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
    torch.manual_seed(0)
    net = TransformerNet(PRESETS[preset])
    checkpoint = folder / f"{preset}.safetensors"
    save_checkpoint(checkpoint, net, CheckpointMeta(preset, net.config.to_json(), {"name": preset, "credit": ""}))
    return {"torch": checkpoint, "onnx": export(checkpoint, checkpoint.with_suffix(".onnx")).path}
