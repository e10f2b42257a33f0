"""What options of several commands share: names of layers, lists on the command line, masks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from cyclopts import Group, Parameter, Token

from fastnst.config.ranges import Checked, FromText, Range, seconds
from fastnst.device import Device
from fastnst.errors import UsageError

# Johnson et al. 2016.
CONTENT_LAYERS = ("relu3_3",)
STYLE_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")


def layer_weights(layers: Sequence[str]) -> dict[str, float]:
    """("relu1_2:0.5", "relu2_2") -> {"relu1_2": 0.5, "relu2_2": 1.0}; UsageError for what is no weight."""
    weights = {}
    for layer in layers:
        name, colon, weight = layer.partition(":")
        try:
            weights[name] = float(weight) if colon else 1.0
        except ValueError:
            weights[name] = math.nan
        if not name or not math.isfinite(weights[name]):
            raise UsageError(f"{layer!r} is no layer with its weight; write a name, or name:weight as in relu4_3:0.5")
    return weights


def _listed(kind: Any, tokens: Sequence[Token]) -> Any:
    """Values with commas between them, or one by one, as a tuple."""
    convert = get_args(kind)[0]
    values = [value for token in tokens for value in token.value.split(",")]
    try:
        return tuple(map(convert, values))
    except ValueError as error:
        raise ValueError(f"{','.join(values)!r} is not a list of numbers with commas between them") from error


LISTED = Parameter(converter=_listed, show_default=lambda values: ",".join(f"{value:g}" for value in values))


def split_names(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(name.strip() for name in text.split(","))


SHOWN = Parameter(show_default=" ".join)
Names = Annotated[
    tuple[str, ...],
    FromText(split_names),
    Parameter(converter=lambda _, tokens: split_names(",".join(token.value for token in tokens)), show_default=False),
]


# Seconds, or a text such as 8h or 1h30m.
Duration = Annotated[
    float | None,
    Range(0, above=True),
    FromText(seconds),
    Parameter(converter=lambda _, tokens: seconds(tokens[0].value)),
]


COMMON = Group("Common options", sort_key=100)

# What follows are parts of other classes of options, never made alone; each method that dataclasses would generate for
# them costs time whenever the program starts.


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class DeviceOption(Checked):
    """Where there is something to compute."""

    device: Annotated[Device, Parameter(group=COMMON)] = "auto"
    """where to compute: auto is a GPU if there is one"""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class ComputeOptions(DeviceOption):
    """Where there are convolutions to compute, and gradients of them."""

    precision: Annotated[Literal["auto", "fp32", "bf16"], Parameter(group=COMMON)] = "auto"
    """arithmetic of the convolutions; auto is bf16 where the hardware has it"""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class SeedOption(Checked):
    """Where there is chance."""

    seed: Annotated[int, Range(0, 2**63 - 1), Parameter(group=COMMON)] = 0
    """seed of all that is drawn at random"""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class OverwriteOption(Checked):
    """Where something is written."""

    overwrite: Annotated[bool, Parameter(group=COMMON)] = False
    """replace existing outputs"""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class LossNetworkOptions(Checked):
    """Where a loss network looks at pictures."""

    vgg: str = "bundled"
    """loss network: bundled (VGG16), torchvision (its VGG16), vgg19, or a safetensors file"""
    pooling: Literal["max", "average"] = "max"
    """pooling of the loss network; average is smoother"""


@dataclass(frozen=True, init=False, repr=False, eq=False)
class OneImage(Checked):
    """The argument of commands about one picture; a class of its own, because cyclopts wants arguments first."""

    image: Path
    """the picture; - is standard input"""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class MaskOptions(Checked):
    """Where a picture is stylized, and what is around it."""

    mask: Path | None = None
    """picture of the content's proportions: stylized where it is white (or, if it has transparency, opaque)"""
    invert_mask: bool = False
    """stylize where the mask is black instead, for a black silhouette on white"""
    background: str = "white"
    """around the mask: a color (white, #a0c4ff), photo, or transparent"""
    feather: Annotated[float, Range(0, 1000)] = 1.5
    """softness of the mask's edge, pixels"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.background not in ("photo", "transparent"):
            from PIL import ImageColor  # here, because --help and --version need no pictures

            try:
                ImageColor.getrgb(self.background)
            except ValueError as error:
                raise UsageError(
                    f"--background is {self.background!r} but must be photo, transparent "
                    "or a color such as white or #a0c4ff"
                ) from error
        if self.mask is None and (self.invert_mask or self.background != MaskOptions.background):
            raise UsageError("--background and --invert-mask go with --mask; give one")
