"""Options of measuring: losses, likeness and speed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from fastnst.config.ranges import Range
from fastnst.config.shared import ComputeOptions, DeviceOption, SeedOption
from fastnst.config.train import Preset, StepOptions


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(ComputeOptions, SeedOption):
    """On what and with which loss styles are evaluated; None is what a style was trained with."""

    content: Path
    """folder of photographs to stylize, searched recursively, or a clip, of which frames are taken"""
    style_image: Path = Path("examples/paintings")
    """the style image that was learned, or the folder where it lies under the name it had in training"""
    size: Annotated[int, Range(32, 4096)] = 256
    """side of the square that is taken from the middle of each photo, whose shorter side is scaled to that, pixels"""
    photos: Annotated[int, Range(1)] = 12
    """largest number of photos, the first by name"""
    optimum: bool = False
    """the best total loss for each photo, by L-BFGS, and how many per cent of the way there the style goes; takes
    minutes a photo, once"""
    lbfgs: bool = False
    """count the L-BFGS iterations to the same total loss, from noise and from the photo; takes minutes a photo"""
    iterations: Annotated[int, Range(1)] = 300
    """L-BFGS iterations before that is given up"""
    temporal: bool = False
    """flicker of the strokes in a pan over each photo, in gray levels, temporal over the clip's"""
    loss: Literal["relative", "paper"] | None = None
    """weighing of the terms [default: as trained]"""
    content_weight: Annotated[float | None, Range(0)] = None
    """weight of the content term [default: as trained]"""
    style_weight: Annotated[float | None, Range(0)] = None
    """weight of the style term [default: as trained]"""
    tv_weight: Annotated[float | None, Range(0)] = None
    """weight of the total variation [default: as trained]"""
    style_size: Annotated[int | None, Range(32, 8192)] = None
    """longer side the style image is scaled to, pixels [default: as trained]"""
    content_layers: tuple[str, ...] | None = None
    """layers of the loss network for content, with weights if they are not equal [default: as trained]"""
    style_layers: tuple[str, ...] | None = None
    """layers of the loss network for style, with weights if they are not equal [default: as trained]"""
    vgg: str | None = None
    """loss network: bundled, torchvision, vgg19, or a safetensors file [default: as trained]"""
    pooling: Literal["max", "average"] | None = None
    """pooling of the loss network [default: as trained]"""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainBenchmark(StepOptions):
    """What is timed by `fastnst benchmark train`: a step, against a plain float32 loop."""

    rounds: Annotated[int, Range(1)] = 7
    """how often everything is timed, after one round to warm up"""
    content: Path | None = None
    """folder of photographs: times training with and without loading them, too"""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class StylizeBenchmark(DeviceOption):
    """What is timed by `fastnst benchmark stylize`."""

    size: Annotated[tuple[int, ...], Range(16, 16_384)] = (512, 1024, 2048)
    """sides of the square pictures to stylize, pixels"""
    preset: Annotated[tuple[Preset, ...], Parameter(show_default=False)] = ()
    """networks to compare with base [default: all]"""
    rounds: Annotated[int, Range(1)] = 7
    """how often everything is timed, after one round to warm up"""
