"""Options of stylizing: pictures, clips, ONNX files of other projects."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from fastnst.config.ranges import Checked, FromText, Range
from fastnst.config.shared import LISTED, DeviceOption, MaskOptions, OneImage, OverwriteOption
from fastnst.errors import UsageError
from fastnst.shard import normalized

EngineName = Literal["auto", "torch", "onnx"]
ChannelOrder = Literal["rgb", "bgr"]
OnnxValues = Literal["1", "255", "signed", "imagenet"]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class StylizeOptions(MaskOptions, OverwriteOption):
    """How pictures are stylized and written."""

    max_size: Annotated[int | None, Range(16, 16_384)] = None
    """scale pictures down first so that the longer side has at most this many pixels"""
    strength: Annotated[float, Range(0, 1)] = 1.0
    """0 keeps the photo, 1 is the stylized picture"""
    strength_mode: Literal["natural", "fade"] = "natural"
    """in between: natural paints finer strokes and leaves no ghosts, fade is the mean of photo and stylized picture"""
    stroke: Annotated[float, Range(0.5, 3)] = 1.0
    """size of the strokes, times that in training, 0.5 to 3; the picture keeps its size and sharpness"""
    preserve_color: Literal["luma", "histogram"] | None = None
    """keep the photo's colors: luma stylizes brightness only, histogram matches the stylized colors to the photo's"""
    tile: Annotated[int | None, Range(64, 16_384)] = None
    """work in bands of about tile x tile pixels: little memory, up to 500 megapixels [default: if memory is short]"""
    statistics: Literal["whole", "thumbnail"] = "whole"
    """in bands: colors as of the whole picture at once, or faster, somewhat different ones as of a small copy"""
    quality: Annotated[int, Range(1, 100)] = 92
    """quality of JPEG and WebP, 1 to 100"""
    format: Literal["jpg", "png", "webp"] | None = None
    """format of the files in an output folder, or of standard output [default: as the input; standard output png]"""
    skip_existing: bool = False
    """leave out inputs whose output exists, to finish an interrupted folder"""
    fail_fast: bool = False
    """stop at the first picture that fails"""
    allow_truncated: bool = False
    """stylize what is left of a file that was cut off"""
    frames: Literal["first", "all", "reject"] = "first"
    """animations: the first frame, or all into an animated .png or .webp as always into a .gif, or refuse them"""
    shard: Annotated[str | None, FromText(normalized)] = None
    """paint share I of N, such as 3/8, by the names of the inputs: each is in one of them (0/8 is 8/8)"""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class StyleOptions(DeviceOption):
    """Which style paints, and what runs it."""

    style: Annotated[tuple[str, ...], Parameter(alias="-s", consume_multiple=False, show_default=False)] = ()
    """name of a bundled style, or a .safetensors or .onnx file; with --mask, a second one paints what is outside
    [default: the nicest bundled one]"""
    mix: Annotated[tuple[float, ...], LISTED, Parameter(show_default=False)] = ()
    """shares of several styles, such as 0.7,0.3: one style between those that were trained from the same start"""
    engine: EngineName = "auto"
    """what runs the network; auto is ONNX Runtime where it is installed"""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class OnnxOptions(Checked):
    """How an ONNX style of another project is used, where its file does not say."""

    onnx_input: OnnxValues | None = None
    """another project's .onnx style: what it takes for black to white, 0 to 1, 0 to 255, -1 to 1, or 0 to 1 by
    ImageNet's mean and deviation [default: what suits a test picture best]"""
    onnx_output: OnnxValues | None = None
    """what it gives for that [default: what makes a picture]"""
    onnx_order: ChannelOrder | None = None
    """order of its color channels [default: as the file says, else rgb]"""
    onnx_fixed: Literal["tile", "resize"] = "tile"
    """if it takes one size only, cut pictures into overlapping tiles of that size, or scale them to it and back"""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ClipOptions(Checked):
    """Which part of a video or an animation is stylized, and how."""

    start: Annotated[float | None, Range(0)] = None
    """second of a clip to begin with"""
    end: Annotated[float | None, Range(0, above=True)] = None
    """second of a clip to end with"""
    batch_size: Annotated[int, Range(1, 256)] = 1
    """frames of a clip, with batch also pictures of one size, stylized at once: faster on a GPU, in more memory"""
    smooth: Annotated[float, Range(0, 0.99)] = 0.0
    """steadier clips: share of the frames before in the statistics of a frame, 0 to 0.99; begins anew at cuts"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.end is not None and self.end <= (self.start or 0):
            raise UsageError(f"--end is {self.end:g} but must be more than --start, {self.start:g}")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SheetConfig(DeviceOption, OverwriteOption, OneImage):
    """One photo in several styles, on one sheet."""

    output: Annotated[Path, Parameter(alias="-o")]
    """the sheet, a .jpg, .png or .webp file"""
    # consume_multiple is what all options have, said here, because Python takes Annotated types for the same whose
    # Parameters are equal, and this would equal that of StyleOptions.
    style: Annotated[tuple[str, ...], Parameter(alias="-s", consume_multiple=True, show_default=False)] = ()
    """styles or files to show instead of all bundled ones"""
    engine: EngineName = "auto"
    """what runs the networks"""
    tile_size: Annotated[int, Range(16, 4096)] = 480
    """longer side of each picture on the sheet, pixels"""
