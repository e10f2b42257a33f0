"""Options of looking inside a network: dreams, filters, features."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fastnst.config.ranges import FromText, Range
from fastnst.config.shared import (
    ComputeOptions,
    DeviceOption,
    Names,
    OneImage,
    OverwriteOption,
    SeedOption,
    layer_weights,
)
from fastnst.errors import UsageError


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DreamConfig(ComputeOptions, SeedOption, OverwriteOption, OneImage):
    """Everything that decides a dream."""

    output: Annotated[Path, Parameter(alias="-o")]
    """a .jpg, .png or .webp file, with --zoom a .gif, .webp or .png; - is standard output"""
    layers: Names = ()
    """layers to amplify, with weights if not 1: relu4_3:1,relu5_2:0.5 [default: the nicest of the network]"""
    network: Annotated[str, Parameter(alias="--vgg")] = "bundled"
    """bundled (VGG16), torchvision (its VGG16), vgg19, inception_v3, googlenet, or a safetensors file of a VGG"""
    guide: Path | None = None
    """a second picture, whose features are to be dreamed"""
    octaves: Annotated[int, Range(1, 32)] = 4
    """sizes at which is dreamed, the last is the picture's own"""
    octave_scale: Annotated[float, Range(1, 4, above=True)] = 1.4
    """size of each octave over the one before"""
    iterations: Annotated[int, Range(1, 10000)] = 20
    """steps at each octave"""
    step_size: Annotated[float, Range(0, 1, above=True)] = 0.008
    """how much a step changes a pixel on average, of 1"""
    jitter: Annotated[int, Range(0, 1024)] = 32
    """the picture is shifted at random by up to this many pixels before each step"""
    smoothing: Annotated[float, Range(0, 32)] = 0.8
    """blur of the gradient, pixels; grows over an octave by 2"""
    maximum_loss: Annotated[float | None, Range(0)] = None
    """end an octave when the loss exceeds this; it is the layers' energy, in the photo itself the sum of the weights"""
    tile: Annotated[int, Range(128, 8192)] = 512
    """larger pictures are dreamed in tiles of about this many pixels a side, for memory"""
    max_size: Annotated[int | None, Range(16, 16_384)] = None
    """scale the picture down first so that the longer side has at most this many pixels"""
    save_octaves: Path | None = None
    """folder for the dream at the end of each octave, octave-1.png and so on"""
    zoom: Annotated[int | None, Range(2, 10000)] = None
    """make an animation of this many frames: dream, zoom in, dream again"""
    zoom_scale: Annotated[float, Range(1, 2, above=True)] = 1.05
    """size of each frame of the animation over the one before"""
    quality: Annotated[int, Range(1, 100)] = 92
    """quality of JPEG and WebP, 1 to 100"""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.weights  # noqa: B018 (a wrong one is an error now)

    @property
    def weights(self) -> dict[str, float]:
        """Layer -> weight, as given in layers."""
        weights = layer_weights(self.layers)
        if weights and not any(weights.values()):
            raise UsageError("--layers has no weight but 0; give at least one layer another weight")
        return weights


def _numbers(text: str) -> tuple[int, ...]:
    """Numbers and ranges as in 0,3,8-15."""
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,6})(?:-(\d{1,6}))?\s*", part)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise UsageError(f"--filters has {part!r} but takes numbers and ranges with commas between them: 0,3,8-15")
        numbers += range(int(match[1]), int(match[2] or match[1]) + 1)
    return tuple(numbers)


_Numbers = Annotated[
    tuple[int, ...],
    FromText(_numbers),
    Parameter(converter=lambda _, tokens: _numbers(",".join(token.value for token in tokens))),
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FilterOptions(ComputeOptions, SeedOption, OverwriteOption):
    """Whose patterns are drawn, and how."""

    output: Annotated[Path, Parameter(alias="-o")]
    """the sheet, a .jpg, .png or .webp file"""
    layer: Names = ()
    """layers, with commas between them [default: relu3_3, Mixed_5d or inception4a, by the network]"""
    filters: Annotated[_Numbers, Parameter(show_default=lambda _: "0-15")] = tuple(range(16))
    """numbers of the filters in each layer, such as 7 or 0,3,8-15"""
    network: Annotated[str, Parameter(alias="--vgg")] = DreamConfig.network
    """bundled (VGG16), torchvision (its VGG16), vgg19, inception_v3, googlenet, or a safetensors file of a VGG"""
    size: Annotated[int, Range(32, 1024)] = 128
    """side of each pattern, pixels"""
    iterations: Annotated[int, Range(1, 100000)] = 128
    """steps of the ascent"""
    learning_rate: Annotated[float, Range(0, 10, above=True)] = 0.05
    """Adam's learning rate"""
    jitter: Annotated[int, Range(0, 64)] = 8
    """patterns are shifted at random by up to this many pixels before each step"""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "filters", tuple(dict.fromkeys(self.filters)))
        if not self.filters:
            raise UsageError("--filters has no number; give at least one")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FeatureOptions(DeviceOption, OverwriteOption, OneImage):
    """Which features of which picture are shown."""

    output: Annotated[Path, Parameter(alias="-o")]
    """the sheet, a .jpg, .png or .webp file"""
    layer: str = "relu2_2"
    """layer of the network"""
    filters: Annotated[_Numbers, Parameter(show_default=False)] = ()
    """numbers of the filters, such as 7 or 0,3,8-15 [default: the 23 whose features are strongest]"""
    network: Annotated[str, Parameter(alias="--vgg")] = DreamConfig.network
    """bundled (VGG16), torchvision (its VGG16), vgg19, inception_v3, googlenet, or a safetensors file of a VGG"""
    max_size: Annotated[int, Range(16, 16_384)] = 512
    """scale the picture down first so that the longer side has at most this many pixels"""
    tile_size: Annotated[int, Range(64, 1024)] = 240
    """longer side of each map on the sheet, pixels"""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "filters", tuple(dict.fromkeys(self.filters)))
