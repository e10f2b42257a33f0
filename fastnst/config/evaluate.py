"""Options of measuring: losses, likeness and speed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from fastnst.config.ranges import check_range
from fastnst.config.shared import take_paths
from fastnst.config.train import Preset, TrainConfig
from fastnst.device import Device


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """On what and with which loss styles are evaluated; None is what a style was trained with."""

    content: Path
    """folder of photographs to paint, searched recursively, or a clip, of which frames are taken"""
    painting: Path = Path("examples/paintings")
    """the painting that was learned, or the folder where it lies under the name it had in training"""
    size: int = 256
    """each photo's middle of so many pixels squared, its shorter side scaled to that"""
    photos: int = 12
    """at most so many photos, the first by name"""
    lbfgs: bool = False
    """count the L-BFGS iterations to the same total loss, from noise and from the photo; takes minutes a photo"""
    iterations: int = 300
    """L-BFGS iterations before that is given up"""
    temporal: bool = False
    """how much the strokes boil in a pan over each photo: flicker in grey levels, temporal over the clip's"""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """arithmetic of L-BFGS's convolutions; auto is bf16 where the hardware has it; losses are scored in float32"""
    loss: Literal["relative", "paper"] | None = None
    """weighing of the terms [default: as trained]"""
    content_weight: float | None = None
    """weight of the content term [default: as trained]"""
    style_weight: float | None = None
    """weight of the style term [default: as trained]"""
    tv_weight: float | None = None
    """weight of the total variation [default: as trained]"""
    style_size: int | None = None
    """longer side the painting is scaled to, pixels [default: as trained]"""
    content_layers: tuple[str, ...] | None = None
    """layers of the loss network for content [default: as trained]"""
    style_layers: tuple[str, ...] | None = None
    """layers of the loss network for style [default: as trained]"""
    vgg: str | None = None
    """loss network: bundled, torchvision, vgg19, or a safetensors file [default: as trained]"""
    pooling: Literal["max", "average"] | None = None
    """pooling of the loss network [default: as trained]"""
    device: Device = "auto"
    """where to paint and to optimize"""
    seed: int = 0
    """seed of the noise, and of the pans"""

    def __post_init__(self) -> None:
        take_paths(self, "content", "painting")
        check_range("size", self.size, 32, 4096)
        check_range("photos", self.photos, 1)
        check_range("iterations", self.iterations, 1)
        for weight in ("content_weight", "style_weight", "tv_weight"):
            check_range(weight, getattr(self, weight), 0)
        check_range("style_size", self.style_size, 32, 8192)
        check_range("seed", self.seed, 0, 2**63 - 1)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainBenchmark:
    """What is timed by `fastnst benchmark train`."""

    preset: Preset = TrainConfig.preset
    """network to train; the plain loop trains base, and this one too"""
    size: int = TrainConfig.size
    """side of the training crops, pixels"""
    batch_size: int = TrainConfig.batch_size
    """photographs a step"""
    rounds: int = 7
    """how often everything is timed, after one round to warm up"""
    content: Path | None = None
    """folder of photographs: times training with and without loading them, too"""
    workers: int = TrainConfig.workers
    """threads that prepare photographs"""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = TrainConfig.precision
    """arithmetic of fastnst's convolutions; the plain loop's is float32"""
    compile: bool = TrainConfig.compile
    """compile fastnst's network with torch.compile first"""
    device: Device = TrainConfig.device
    """where to train"""

    def __post_init__(self) -> None:
        check_range("size", self.size, 32, 4096)
        check_range("batch_size", self.batch_size, 1)
        check_range("rounds", self.rounds, 1)
        check_range("workers", self.workers, 1, 256)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class StylizeBenchmark:
    """What is timed by `fastnst benchmark stylize`."""

    size: tuple[int, ...] = (512, 1024, 2048)
    """sides of the square pictures to paint, pixels"""
    preset: Annotated[tuple[Preset, ...], Parameter(show_default=False)] = ()
    """networks to compare with base [default: all]"""
    rounds: int = 7
    """how often everything is timed, after one round to warm up"""
    device: Device = "auto"
    """where to paint"""

    def __post_init__(self) -> None:
        for size in self.size:
            check_range("size", size, 16, 16_384)
        check_range("rounds", self.rounds, 1)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FormsBenchmark:
    """What is timed by `fastnst benchmark forms`."""

    size: tuple[int, ...] = (512, 1024)
    """sides of the square pictures to paint, pixels"""
    preset: Preset = "base"
    """network to paint with"""
    rounds: int = 7
    """how often everything is timed, after one round to warm up"""

    def __post_init__(self) -> None:
        for size in self.size:
            check_range("size", size, 16, 16_384)
        check_range("rounds", self.rounds, 1)
