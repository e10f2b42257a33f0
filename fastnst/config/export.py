"""Options of exporting a network, and of importing one from another project."""

from dataclasses import dataclass
from typing import Literal

from cyclopts import Parameter

from fastnst.config.shared import OverwriteOption
from fastnst.config.stylize import ChannelOrder

# Whose networks can be imported; one name a build.
Family = Literal[
    "pytorch-examples",
    "rrmina",
    "rrmina-tanh",
    "gordicaleksa",
    "igreat",
    "eriklindernoren",
    "lengstrom",
    "yakhyo",
    "yakhyo-once",
    "abhiskk",
]
PixelValues = Literal["1", "255", "imagenet"]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ExportOptions(OverwriteOption):
    """How a checkpoint is exported."""

    opset: Literal[17, 18] = 18
    """version of the ONNX operators"""
    uint8: bool = False
    """take and return (N, H, W, 3) uint8, as picture files hold it, instead of float32 (N, 3, H, W)"""
    fp16: bool = False
    """compute in float16, for GPUs; a processor gains nothing"""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ImportOptions(OverwriteOption):
    """What another project's weights cannot say themselves."""

    family: Family | None = None
    """whose network it is; needed for rrmina's with a tanh and for yakhyo's without its doubled inputs, which have the
    same names [default: by the names of the weights]"""
    values: PixelValues | None = None
    """what it takes and gives for black to white: 0 to 1, 0 to 255, or 0 to 1 by ImageNet's mean and deviation
    [default: as its project]"""
    order: ChannelOrder | None = None
    """order of its color channels [default: as its project]"""
    name: str | None = None
    """name of the style [default: that of the file]"""
    credit: str = ""
    """whom the style is from and under which license; kept in the checkpoint"""
