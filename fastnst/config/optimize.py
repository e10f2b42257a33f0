"""Options of pictures whose pixels are the parameters (Gatys et al. 2015)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

from cyclopts import Parameter

from fastnst.config.ranges import Checked, Range, check_range
from fastnst.config.shared import (
    LISTED,
    SHOWN,
    ComputeOptions,
    LossNetworkOptions,
    MaskOptions,
    Names,
    OneImage,
    OverwriteOption,
    SeedOption,
    layer_weights,
)
from fastnst.config.weights import OPTIMIZED_STYLE, LossForm, weight_help
from fastnst.errors import UsageError

# Gatys et al. 2015.
GATYS_CONTENT = ("conv4_2",)
GATYS_STYLE = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")

FORMS: tuple[LossForm, ...] = get_args(LossForm)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class DescentOptions(ComputeOptions, SeedOption, OverwriteOption, LossNetworkOptions):
    """How a picture is found whose pixels are the parameters; with which loss, and by which method."""

    size: Annotated[int, Range(16, 16_384)] = 512
    """longer side of the result, pixels; smaller contents are not enlarged"""
    iterations: Annotated[int, Range(1)] = 300
    """iterations at each scale, fewer at the last if L-BFGS can do no better"""
    optimizer: Literal["lbfgs", "adam"] = "lbfgs"
    """L-BFGS with a strong Wolfe line search, or Adam"""
    learning_rate: Annotated[float, Range(0, 10, above=True)] = 0.02
    """Adam's learning rate, for pixels of 0 to 1"""
    tv_form: Literal["squared", "power"] = "squared"
    """total variation: plain squares, or (dx^2 + dy^2)^1.25, which leaves soft slopes alone"""
    save_every: Annotated[int | None, Range(1)] = None
    """iterations between pictures that are kept, in the log folder"""
    animation: Path | None = None
    """show the way in a .gif, .webp, .png or .mp4 file"""
    logdir: Path | None = None
    """folder for metrics.jsonl, TensorBoard and pictures [default: with --save-every beside the output, else none]"""


@dataclass(frozen=True, init=False, repr=False, eq=False)
class ContentAndStyles(Checked):
    """The arguments of commands that optimize pixels; a class of its own, because cyclopts wants them first."""

    content: Path | None = None
    """the picture to stylize"""
    style: tuple[Path, ...] = ()
    """the style images"""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class OptimizeConfig(DescentOptions, MaskOptions, ContentAndStyles):
    """One content in one or several styles, by optimization (Gatys et al. 2015)."""

    output: Annotated[Path, Parameter(alias="-o")]
    """the stylized picture, a .jpg, .png or .webp file; with --pairs a folder"""
    pairs: Path | None = None
    """folder of content_* and style_* pictures: each content in each style"""
    start: str = "content"
    """picture to start from: content, noise, white, style, or a file"""
    scales: Annotated[tuple[int, ...], LISTED, Parameter(show_default=False)] = ()
    """longer sides to work at before the last, coarse to fine: 128,256 [default: none]"""
    style_size: Annotated[int | None, Range(32, 8192)] = None
    """longer side the style images are scaled to, pixels, in proportion at each scale [default: that of the result]"""
    blend: Annotated[tuple[float, ...], LISTED, Parameter(show_default=False)] = ()
    """shares of several styles, with commas between them [default: equal]"""
    loss: Literal["relative", "paper", "gatys"] = "relative"
    """weighing: relative fits any style, gatys and paper (Johnson's) are literally those of the papers"""
    ratio: Annotated[float | None, Range(0)] = None
    """content weight over style weight, in the place of both [default: relative 0.1, gatys 0.001, paper 0.2]"""
    content_weight: Annotated[float | None, Range(0), weight_help("content", *FORMS)] = None
    style_weight: Annotated[float | None, Range(0), weight_help("style", *FORMS, relative=OPTIMIZED_STYLE)] = None
    tv_weight: Annotated[float | None, Range(0), weight_help("tv", *FORMS)] = None
    content_layers: Annotated[Names, SHOWN] = GATYS_CONTENT
    """layers for content, with weights if they are not equal: conv4_2:1 conv5_2:0.5"""
    style_layers: Annotated[Names, SHOWN] = GATYS_STYLE
    """layers for style, with weights if they are not equal"""
    preserve_color: Literal["luma", "histogram"] | None = None
    """keep the content's colors, like stylize"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pairs is not None and (self.content is not None or self.style):
            raise UsageError("--pairs takes contents and styles from its folder; leave out the others")
        if self.pairs is None and (self.content is None or not self.style):
            raise UsageError("optimize needs a content and at least one style, or --pairs FOLDER")
        if self.ratio is not None and (self.content_weight is not None or self.style_weight is not None):
            raise UsageError("--ratio stands for both weights; give either it or --content-weight and --style-weight")
        for scale in self.scales:
            check_range("scales", scale, 16, self.size)
        if list(self.scales) != sorted(set(self.scales)):
            raise UsageError(f"--scales is {','.join(map(str, self.scales))} but must rise, coarse to fine")
        layer_weights((*self.content_layers, *self.style_layers))

    @property
    def sides(self) -> tuple[int, ...]:
        """Longer sides to work at, one after the other."""
        return (*(scale for scale in self.scales if scale < self.size), self.size)

    @property
    def log_folder(self) -> Path | None:
        return self.logdir or (self.output.with_suffix("") if self.save_every else None)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ReconstructConfig(DescentOptions, OneImage):
    """What layers of the network keep of a picture, as a picture found from noise."""

    output: Annotated[Path, Parameter(alias="-o")]
    """the result, a .jpg, .png or .webp file"""
    layer: Names = ()
    """layers whose features are to be those of the picture, relu4_2 or relu4_2:0.5 [default: a sheet of all depths]"""
    style_layers: Names = ()
    """layers whose Gram matrices are to be those of the picture: its texture, without the places"""
    tv_weight: Annotated[float, Range(0)] = 1e-4
    """weight of the total variation, against 1 for features or texture: takes the speckles that no layer minds"""
    size: Annotated[int, Range(16, 16384)] = 256
    """longer side of the result, or of each on the sheet, pixels; smaller pictures are not enlarged"""
    iterations: Annotated[int, Range(1)] = 200
    """iterations, of each on the sheet"""

    def __post_init__(self) -> None:
        super().__post_init__()
        layer_weights((*self.layer, *self.style_layers))
        if not (self.layer or self.style_layers) and (self.animation or self.save_every or self.logdir):
            raise UsageError("a sheet has no --animation, --save-every and --logdir; name --layer or --style-layers")

    @property
    def log_folder(self) -> Path | None:
        """Where pictures on the way are kept, if they are."""
        return self.logdir or (self.output.with_suffix("") if self.save_every else None)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TradeoffConfig(ComputeOptions, OverwriteOption, LossNetworkOptions, ContentAndStyles):
    """One content and one style at several ratios of their weights, and depths of the style layers, on a sheet."""

    output: Annotated[Path, Parameter(alias="-o")]
    """the sheet, a .jpg, .png or .webp file"""
    ratios: Annotated[tuple[float, ...], Range(0, above=True), LISTED] = (1.0, 0.3, 0.1, 0.03, 0.01)
    """content weights over style weights, a column each"""
    depths: Annotated[tuple[int, ...], LISTED] = (5,)
    """how many of the style layers are used, from the first on, a row each"""
    networks: Annotated[tuple[Path, ...], Parameter(show_default=False)] = ()
    """trained .safetensors styles to show instead, such as those of a sweep"""
    loss: Literal["relative", "paper", "gatys"] = "relative"
    """weighing of the terms"""
    content_layers: Annotated[Names, SHOWN] = GATYS_CONTENT
    """layers for content"""
    style_layers: Annotated[Names, SHOWN] = GATYS_STYLE
    """layers for style, the first of them first"""
    size: Annotated[int, Range(16, 4096)] = 256
    """longer side of each picture, pixels"""
    iterations: Annotated[int, Range(1)] = 100
    """iterations of each picture"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.content is None or (len(self.style) != 1 if not self.networks else self.style):
            raise UsageError("tradeoff needs one content and one style, or one content and --networks")
        for depth in self.depths:
            check_range("depths", depth, 1, len(self.style_layers))
        if not self.networks and not 1 <= len(self.ratios) * len(self.depths) <= 60:
            raise UsageError(
                f"{len(self.ratios)} ratios and {len(self.depths)} depths do not make a sheet of 1 to 60 pictures"
            )
