"""Every option once: a field is a flag of the command line, its docstring the help text, its value part of the file.

Nothing here imports torch, so that help and usage errors need no training packages.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from cyclopts import Parameter, Token

from fastnst.device import Device
from fastnst.errors import UsageError

_Number = int | float

Preset = Literal["base", "fast", "tiny"]
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
ChannelOrder = Literal["rgb", "bgr"]
OnnxValues = Literal["1", "255", "signed", "imagenet"]

# Gatys et al. 2015.
GATYS_CONTENT = ("conv4_2",)
GATYS_STYLE = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
# Johnson et al. 2016.
CONTENT_LAYERS = ("relu3_3",)
STYLE_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")


def check_range(
    name: str, value: _Number | None, low: _Number, high: _Number = math.inf, *, above: bool = False
) -> None:
    """UsageError unless low <= value <= high (low < value with `above`); None passes, NaN never does."""
    if value is None:
        return
    fits = (low < value if above else low <= value) and value <= high and value != math.inf
    if not fits:
        flag = "--" + name.replace("_", "-")
        lowest = f"above {low}" if above else f"at least {low}"
        highest = "" if high == math.inf else f" and at most {high}"
        raise UsageError(f"{flag} is {value} but must be {lowest}{highest}")


def seconds(text: str) -> float:
    """A length of time such as 90, 30m, 8h or 1h30m in seconds; UsageError if it is none."""
    number = r"(\d+(?:\.\d+)?)"
    match = re.fullmatch(rf"(?:{number}d)?(?:{number}h)?(?:{number}m)?(?:{number}s?)?", text.strip())
    if not match or not any(match.groups()):
        raise UsageError(f"{text!r} is not a length of time; give seconds, or for example 30m, 8h or 1h30m")
    return sum(float(part or 0) * unit for part, unit in zip(match.groups(), (86400, 3600, 60, 1), strict=True))


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


def _take_paths(options: object, *names: str) -> None:
    """From Python, paths may be given as text; the command line gives paths."""
    for name in names:
        if isinstance(value := getattr(options, name), str):
            object.__setattr__(options, name, Path(value))


@Parameter(name="*")
@dataclass(frozen=True)
class TrainOptions:
    """What all training runs are told, one alone and each of a sweep."""

    style: Path
    """the painting to learn"""

    _: KW_ONLY

    content: Path
    """folder of photographs to train on, searched recursively"""

    preset: Preset = "base"
    """network: base as in the paper, fast and tiny paint about 7 and 13 times as fast"""
    size: int = 256
    """side of the training crops, pixels"""
    batch_size: int = 4
    """photographs a step, of each process"""
    steps: int = 2000
    """optimizer steps"""
    loss: Literal["relative", "paper"] = "relative"
    """weighing: relative fits any painting, paper is that of Johnson's released code"""
    content_layers: tuple[str, ...] = CONTENT_LAYERS
    """layers of the loss network for content"""
    style_layers: tuple[str, ...] = STYLE_LAYERS
    """layers of the loss network for style"""
    vgg: str = "bundled"
    """loss network: bundled, torchvision, vgg19, or a safetensors file"""
    pooling: Literal["max", "average"] = "max"
    """pooling of the loss network"""
    learning_rate: float = 1e-3
    """Adam's learning rate"""
    schedule: Literal["cosine", "constant"] = "cosine"
    """learning rate over the run: cosine falls to a twentieth, constant is the paper's"""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """arithmetic of the convolutions; auto is bf16 where the hardware has it"""
    compile: bool = False
    """compile the network with torch.compile first"""
    device: Device = "auto"
    """where to train"""
    micro_batch: int | None = None
    """photographs computed at once: fewer need less memory [default: all, halved when memory runs out]"""
    seed: int = 0
    """seed of weights, order and crops"""
    init: Path | None = None
    """start from the weights of this checkpoint instead of random ones"""
    workers: int = 2
    """threads that prepare photographs"""
    held_out: int | None = None
    """photographs kept out of training, for previews and the report [default: one in ten, at most 4]"""

    def __post_init__(self) -> None:
        _take_paths(self, "style", "content", "init")
        check_range("size", self.size, 32, 4096)
        check_range("batch_size", self.batch_size, 1)
        check_range("steps", self.steps, 1)
        check_range("learning_rate", self.learning_rate, 0, 1e9, above=True)
        check_range("workers", self.workers, 1, 256)
        check_range("micro_batch", self.micro_batch, 1)
        check_range("held_out", self.held_out, 0, 24)
        check_range("seed", self.seed, 0, 2**63 - 1)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainConfig(TrainOptions):
    """Everything that decides a training run; stored whole in the checkpoint's header."""

    output: Annotated[Path, Parameter(alias="-o")]
    """checkpoint to write, NAME.safetensors"""
    style_size: int = 768
    """longer side the painting is scaled to, pixels: larger gives larger strokes"""
    content_weight: float | None = None
    """weight of the content term [default: 1]"""
    style_weight: float | None = None
    """weight of the style term [default: relative 2, paper 5]"""
    tv_weight: float | None = None
    """weight of the total variation [default: relative 0.05, paper 1e-6]"""
    steadiness: float = 0.0
    """weight of a penalty for strokes that boil in a clip, 0 is off; 3 with --style-weight 3 halves it"""

    name: str | None = None
    """name of the style [default: that of the output]"""
    credit: str = ""
    """painter, title, year and license of the painting, kept in the file"""
    logdir: Path | None = None
    """folder for metrics.jsonl, TensorBoard and previews [default: beside the output, named after it]"""
    save_every: int = 200
    """steps between checkpoints"""
    preview_every: int = 1000
    """most steps between preview pictures; the first come at 0, 10, 20, 50, 100, 200, 500"""
    time_limit: Annotated[float | None, Parameter(converter=lambda _, tokens: seconds(tokens[0].value))] = None
    """save and stop in time before so many seconds, or 30m, 8h, 1h30m, are over; --resume goes on"""
    resume: bool = False
    """continue an interrupted run of the same output"""
    overwrite: bool = False
    """start again over an existing output"""

    def __post_init__(self) -> None:
        super().__post_init__()
        _take_paths(self, "output", "logdir")
        if isinstance(self.time_limit, str):  # from Python
            object.__setattr__(self, "time_limit", seconds(self.time_limit))
        check_range("time_limit", self.time_limit, 0, above=True)
        check_range("style_size", self.style_size, 32, 8192)
        for weight in ("content_weight", "style_weight", "tv_weight"):
            check_range(weight, getattr(self, weight), 0)
        check_range("steadiness", self.steadiness, 0)
        check_range("save_every", self.save_every, 1)
        check_range("preview_every", self.preview_every, 1)
        if self.output.suffix != ".safetensors":
            raise UsageError(f"--output is {self.output} but must end in .safetensors")

    @property
    def style_name(self) -> str:
        return self.name or self.output.stem

    @property
    def log_folder(self) -> Path:
        return self.logdir or self.output.with_suffix("")

    @property
    def state_path(self) -> Path:
        """Where the resume state lies."""
        return self.output.with_suffix(".state.safetensors")

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file's header; of paths only the last part, since the rest is nobody else's business."""
        return {
            name: value.name if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }


def _listed(kind: Any, tokens: Sequence[Token]) -> Any:
    """Values with commas between them, or one by one, as a tuple."""
    convert = get_args(kind)[0]
    values = [value for token in tokens for value in token.value.split(",")]
    try:
        return tuple(map(convert, values))
    except ValueError as error:
        raise ValueError(f"{','.join(values)!r} is not a list of numbers with commas between them") from error


LISTED = Parameter(converter=_listed, show_default=lambda values: ",".join(f"{value:g}" for value in values))


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SweepConfig(TrainOptions):
    """Short training runs, one for each combination of the values given."""

    output: Annotated[Path, Parameter(alias="-o")]
    """the sheet, a .jpg, .png or .webp file; the checkpoints go into a folder beside it, named after it"""

    style_weight: Annotated[tuple[float, ...], LISTED] = (1.0, 2.0, 4.0, 8.0)
    """weights of the style term, with commas between them"""
    content_weight: Annotated[tuple[float, ...], LISTED, Parameter(show_default=False)] = ()
    """weights of the content term [default: that of train]"""
    tv_weight: Annotated[tuple[float, ...], LISTED, Parameter(show_default=False)] = ()
    """weights of the total variation [default: that of train]"""
    style_size: Annotated[tuple[int, ...], LISTED] = (TrainConfig.style_size,)
    """sizes the painting is scaled to, pixels"""
    steps: int = 100
    """optimizer steps of each run"""
    init: Path | None = None
    """start from the weights of this checkpoint [default: the default style, if it is of this preset]"""
    photo: Annotated[tuple[Path, ...], Parameter(show_default=False)] = ()
    """pictures to show, painted by each run [default: up to three that were held out of training]"""
    tile_size: int = 320
    """longer side of each picture on the sheet, pixels"""
    overwrite: bool = False
    """replace an existing sheet; finished runs are not done again"""

    def __post_init__(self) -> None:
        super().__post_init__()
        _take_paths(self, "output")
        object.__setattr__(self, "photo", tuple(map(Path, self.photo)))
        check_range("tile_size", self.tile_size, 64, 1024)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class MaskOptions:
    """Where there is painting, and what is around it."""

    mask: Path | None = None
    """picture of the content's proportions: painted where it is white (or, if it has transparency, opaque)"""
    invert_mask: bool = False
    """paint where the mask is black instead, for a black silhouette on white"""
    background: str = "white"
    """around the mask: a color (white, #a0c4ff), photo, or transparent"""
    feather: float = 1.5
    """softness of the mask's edge, pixels"""

    def __post_init__(self) -> None:
        _take_paths(self, "mask")
        check_range("feather", self.feather, 0, 1000)
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


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class StylizeOptions(MaskOptions):
    """How pictures are painted and written."""

    max_size: int | None = None
    """scale pictures down first so that the longer side has at most this many pixels"""
    strength: float = 1.0
    """0 keeps the photo, 1 is the whole painting"""
    strength_mode: Literal["natural", "fade"] = "natural"
    """in between: natural paints finer strokes and leaves no ghosts, fade is the mean of photo and painting"""
    stroke: float = 1.0
    """strokes so many times as large, 0.5 to 3; the picture keeps its size and sharpness"""
    preserve_color: Literal["luma", "histogram"] | None = None
    """keep the photo's colors: luma paints brightness only, histogram matches the painting's colors to the photo's"""
    tile: int | None = None
    """paint in bands of about tile x tile pixels: little memory, up to 500 megapixels [default: if memory is short]"""
    statistics: Literal["whole", "thumbnail"] = "whole"
    """in bands: colors as of the whole picture at once, or faster, somewhat different ones as of a small copy"""
    quality: int = 92
    """quality of JPEG and WebP, 1 to 100"""
    format: Literal["jpg", "png", "webp"] | None = None
    """format of the files in an output folder, or of standard output [default: as the input; standard output png]"""
    overwrite: bool = False
    """replace existing outputs"""
    skip_existing: bool = False
    """leave out inputs whose output exists, to finish an interrupted folder"""
    fail_fast: bool = False
    """stop at the first picture that fails"""
    allow_truncated: bool = False
    """paint what is left of a file that was cut off"""
    frames: Literal["first", "all", "reject"] = "first"
    """animations: paint the first frame, or all into an animated .png or .webp as always into a .gif, or refuse them"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("max_size", self.max_size, 16, 16_384)
        check_range("strength", self.strength, 0, 1)
        check_range("tile", self.tile, 64, 16_384)
        check_range("stroke", self.stroke, 0.5, 3)
        check_range("quality", self.quality, 1, 100)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class OnnxOptions:
    """How an ONNX style of another project is used, where its file does not say."""

    onnx_input: OnnxValues | None = None
    """another project's .onnx style: what it takes for black to white, 0 to 1, 0 to 255, -1 to 1, or 0 to 1 by
    ImageNet's mean and deviation [default: what paints a test picture best]"""
    onnx_output: OnnxValues | None = None
    """what it gives for that [default: what makes a picture]"""
    onnx_order: ChannelOrder | None = None
    """order of its color channels [default: as the file says, else rgb]"""
    onnx_fixed: Literal["tile", "resize"] = "tile"
    """if it takes one size only, cut pictures into overlapping tiles of that size, or scale them to it and back"""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """Which part of a video or an animation is painted, and how."""

    start: float | None = None
    """second of a clip to begin with"""
    end: float | None = None
    """second of a clip to end with"""
    batch_size: int = 1
    """frames of a clip painted at once: more are faster on a GPU, and need more memory"""
    smooth: float = 0.0
    """steadier clips: share of the frames before in the statistics of a frame, 0 to 0.99; begins anew at cuts"""

    def __post_init__(self) -> None:
        check_range("start", self.start, 0)
        check_range("end", self.end, 0, above=True)
        check_range("batch_size", self.batch_size, 1, 256)
        check_range("smooth", self.smooth, 0, 0.99)
        if self.end is not None and self.end <= (self.start or 0):
            raise UsageError(f"--end is {self.end:g} but must be more than --start, {self.start:g}")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """How a checkpoint is exported."""

    opset: Literal[17, 18] = 18
    """version of the ONNX operators"""
    uint8: bool = False
    """take and return (N, H, W, 3) uint8, as picture files hold it, instead of float32 (N, 3, H, W)"""
    fp16: bool = False
    """compute in float16, for GPUs; a processor gains nothing"""
    overwrite: bool = False
    """replace an existing file"""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ImportOptions:
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
    overwrite: bool = False
    """replace an existing file"""


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
        _take_paths(self, "content", "painting")
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


def _names(values: str | Sequence[str]) -> tuple[str, ...]:
    """Layers may be given as one text with commas between them, too."""
    listed = values.split(",") if isinstance(values, str) else values
    return tuple(name.strip() for name in listed)


_SHOWN = Parameter(show_default=" ".join)
_NAMES = Parameter(converter=lambda _, tokens: _names(",".join(token.value for token in tokens)), show_default=False)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DescentOptions:
    """How a picture is found whose pixels are the parameters; with which loss, and by which method."""

    size: int = 512
    """longer side of the result, pixels; smaller contents are not enlarged"""
    iterations: int = 300
    """iterations at each scale, fewer at the last if L-BFGS can do no better"""
    optimizer: Literal["lbfgs", "adam"] = "lbfgs"
    """L-BFGS with a strong Wolfe line search, or Adam"""
    learning_rate: float = 0.02
    """Adam's learning rate, for pixels of 0 to 1"""
    vgg: str = "bundled"
    """network to look through: bundled, torchvision, vgg19, or a safetensors file"""
    pooling: Literal["max", "average"] = "max"
    """its pooling; average is smoother"""
    tv_form: Literal["squared", "power"] = "squared"
    """total variation: plain squares, or (dx^2 + dy^2)^1.25, which leaves soft slopes alone"""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """arithmetic of the convolutions; auto is bf16 where the hardware has it"""
    device: Device = "auto"
    """where to compute"""
    seed: int = 0
    """seed of the noise to start from"""
    save_every: int | None = None
    """keep the picture of each so many iterations, in the log folder"""
    animation: Path | None = None
    """show the way in a .gif, .webp, .png or .mp4 file"""
    logdir: Path | None = None
    """folder for metrics.jsonl, TensorBoard and pictures [default: with --save-every beside the output, else none]"""
    overwrite: bool = False
    """replace existing outputs"""

    def __post_init__(self) -> None:
        _take_paths(self, "animation", "logdir")
        check_range("size", self.size, 16, 16_384)
        check_range("iterations", self.iterations, 1)
        check_range("learning_rate", self.learning_rate, 0, 10, above=True)
        check_range("seed", self.seed, 0, 2**63 - 1)
        check_range("save_every", self.save_every, 1)


@dataclass(frozen=True)
class ContentAndStyles:
    """The arguments of commands that optimize pixels; a class of its own, because cyclopts wants them first."""

    content: Path | None = None
    """the picture to paint"""
    style: tuple[Path, ...] = ()
    """the paintings to paint it like"""


@dataclass(frozen=True)
class OneImage:
    """The argument of commands about one picture."""

    image: Path
    """the picture"""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class OptimizeConfig(DescentOptions, MaskOptions, ContentAndStyles):
    """A painting of one content in one or several styles, the slow way."""

    output: Annotated[Path, Parameter(alias="-o")]
    """the painting, a .jpg, .png or .webp file; with --pairs a folder"""
    pairs: Path | None = None
    """folder of content_* and style_* pictures: paint each content in each style"""
    start: str = "content"
    """picture to start from: content, noise, white, style, or a file"""
    scales: Annotated[tuple[int, ...], LISTED, Parameter(show_default=False)] = ()
    """longer sides to work at before the last, coarse to fine: 128,256 [default: none]"""
    style_size: int | None = None
    """longer side the paintings are scaled to, pixels, in proportion at each scale [default: that of the result]"""
    blend: Annotated[tuple[float, ...], LISTED, Parameter(show_default=False)] = ()
    """shares of several styles, with commas between them [default: equal]"""
    loss: Literal["relative", "paper", "gatys"] = "relative"
    """weighing: relative fits any painting, gatys and paper (Johnson's) are literally those of the papers"""
    ratio: float | None = None
    """content weight over style weight, in the place of both [default: relative 0.1, gatys 0.001, paper 0.2]"""
    content_weight: float | None = None
    """weight of the content term [default: 1]"""
    style_weight: float | None = None
    """weight of the style term [default: relative 10, gatys 1000, paper 5]"""
    tv_weight: float | None = None
    """weight of the total variation [default: relative 0.05, gatys 0, paper 1e-6]"""
    content_layers: Annotated[tuple[str, ...], _NAMES, _SHOWN] = GATYS_CONTENT
    """layers for content, with weights if they are not equal: conv4_2:1 conv5_2:0.5"""
    style_layers: Annotated[tuple[str, ...], _NAMES, _SHOWN] = GATYS_STYLE
    """layers for style, with weights if they are not equal"""
    preserve_color: Literal["luma", "histogram"] | None = None
    """keep the content's colors, like stylize"""

    def __post_init__(self) -> None:
        DescentOptions.__post_init__(self)
        MaskOptions.__post_init__(self)
        _take_paths(self, "content", "output", "pairs")
        style = (self.style,) if isinstance(self.style, (str, Path)) else self.style
        object.__setattr__(self, "style", tuple(map(Path, style)))
        if self.pairs is not None and (self.content is not None or self.style):
            raise UsageError("--pairs takes contents and styles from its folder; leave out the others")
        if self.pairs is None and (self.content is None or not self.style):
            raise UsageError("optimize needs a content and at least one style, or --pairs FOLDER")
        check_range("style_size", self.style_size, 32, 8192)
        for weight in ("ratio", "content_weight", "style_weight", "tv_weight"):
            check_range(weight, getattr(self, weight), 0)
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
    layer: Annotated[tuple[str, ...], _NAMES] = ()
    """layers whose features are to be those of the picture, relu4_2 or relu4_2:0.5 [default: a sheet of all depths]"""
    style_layers: Annotated[tuple[str, ...], _NAMES] = ()
    """layers whose Gram matrices are to be those of the picture: its texture, without the places"""
    tv_weight: float = 1e-4
    """weight of the total variation, against 1 for features or texture: takes the speckles that no layer minds"""
    size: int = 256
    """longer side of the result, or of each on the sheet, pixels; smaller pictures are not enlarged"""
    iterations: int = 200
    """iterations, of each on the sheet"""

    def __post_init__(self) -> None:
        super().__post_init__()
        _take_paths(self, "image", "output")
        check_range("tv_weight", self.tv_weight, 0)
        layer_weights((*self.layer, *self.style_layers))
        if not (self.layer or self.style_layers) and (self.animation or self.save_every or self.logdir):
            raise UsageError("a sheet has no --animation, --save-every and --logdir; name --layer or --style-layers")

    @property
    def log_folder(self) -> Path | None:
        """Where pictures on the way are kept, if they are."""
        return self.logdir or (self.output.with_suffix("") if self.save_every else None)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TradeoffConfig(ContentAndStyles):
    """One content and one style at several ratios of their weights, and depths of the style layers, on a sheet."""

    output: Annotated[Path, Parameter(alias="-o")]
    """the sheet, a .jpg, .png or .webp file"""
    ratios: Annotated[tuple[float, ...], LISTED] = (1.0, 0.3, 0.1, 0.03, 0.01)
    """content weights over style weights, a column each"""
    depths: Annotated[tuple[int, ...], LISTED] = (5,)
    """how many of the style layers are used, from the first on, a row each"""
    networks: Annotated[tuple[Path, ...], Parameter(show_default=False)] = ()
    """trained .safetensors styles to show instead, such as those of a sweep"""
    loss: Literal["relative", "paper", "gatys"] = "relative"
    """weighing of the terms"""
    content_layers: Annotated[tuple[str, ...], _NAMES, _SHOWN] = GATYS_CONTENT
    """layers for content"""
    style_layers: Annotated[tuple[str, ...], _NAMES, _SHOWN] = GATYS_STYLE
    """layers for style, the first of them first"""
    size: int = 256
    """longer side of each picture, pixels"""
    iterations: int = 100
    """iterations of each picture"""
    vgg: str = "bundled"
    """network to look through: bundled, torchvision, vgg19, or a safetensors file"""
    pooling: Literal["max", "average"] = "max"
    """its pooling"""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """arithmetic of the convolutions"""
    device: Device = "auto"
    """where to compute"""
    overwrite: bool = False
    """replace an existing sheet"""

    def __post_init__(self) -> None:
        _take_paths(self, "content", "output")
        style = (self.style,) if isinstance(self.style, (str, Path)) else self.style
        object.__setattr__(self, "style", tuple(map(Path, style)))
        object.__setattr__(self, "networks", tuple(map(Path, self.networks)))
        if self.content is None or (len(self.style) != 1 if not self.networks else self.style):
            raise UsageError("tradeoff needs one content and one style, or one content and --networks")
        check_range("size", self.size, 16, 4096)
        check_range("iterations", self.iterations, 1)
        for depth in self.depths:
            check_range("depths", depth, 1, len(self.style_layers))
        for ratio in self.ratios:
            check_range("ratios", ratio, 0, above=True)
        if not self.networks and not 1 <= len(self.ratios) * len(self.depths) <= 60:
            raise UsageError(
                f"{len(self.ratios)} ratios and {len(self.depths)} depths do not make a sheet of 1 to 60 pictures"
            )


@Parameter(name="*")
@dataclass(frozen=True)
class FinetuneConfig:
    """Everything that decides how a loss network learns somebody's own classes; stored in its file."""

    folder: Path
    """folder with one folder of pictures for each class"""

    _: KW_ONLY

    output: Annotated[Path, Parameter(alias="-o")]
    """loss network to write, NAME.safetensors"""
    range: Literal["last", "blocks4-5", "all"] = "blocks4-5"
    """what learns: last is a new last layer alone and fast, the others are blocks of convolutions with it"""
    vgg: str = "bundled"
    """loss network to start from: bundled, torchvision, vgg19, or a safetensors file"""
    size: int = 224
    """side of the squares the network sees, pixels"""
    batch_size: int = 16
    """pictures a step"""
    epochs: int | None = None
    """passes over the pictures [default: 50 for last, else 10]"""
    steps: int | None = None
    """optimizer steps, instead of epochs"""
    learning_rate: float | None = None
    """Adam's learning rate at first; falls to nothing along a cosine [default: 1e-3 for last, else 1e-5]"""
    held_out: float = 0.2
    """share of each class that is kept out of training, to measure on"""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """arithmetic of the convolutions; auto is bf16 where the hardware has it"""
    device: Device = "auto"
    """where to train"""
    seed: int = 0
    """seed of what is held out, order and crops"""
    workers: int = 2
    """threads that prepare pictures"""
    logdir: Path | None = None
    """folder for metrics.jsonl [default: beside the output, named after it]"""
    time_limit: Annotated[float | None, Parameter(converter=lambda _, tokens: seconds(tokens[0].value))] = None
    """stop in time before so many seconds, or 30m, 8h, 1h30m, are over, with the best epoch so far"""
    overwrite: bool = False
    """replace an existing output"""

    def __post_init__(self) -> None:
        _take_paths(self, "folder", "output", "logdir")
        if isinstance(self.time_limit, str):  # from Python
            object.__setattr__(self, "time_limit", seconds(self.time_limit))
        check_range("size", self.size, 32, 1024)
        check_range("batch_size", self.batch_size, 1)
        check_range("epochs", self.epochs, 1)
        check_range("steps", self.steps, 1)
        check_range("learning_rate", self.learning_rate, 0, 1e9, above=True)
        check_range("held_out", self.held_out, 0, 0.9, above=True)
        check_range("seed", self.seed, 0, 2**63 - 1)
        check_range("workers", self.workers, 1, 256)
        check_range("time_limit", self.time_limit, 0, above=True)
        if self.epochs is not None and self.steps is not None:
            raise UsageError("--epochs and --steps both say how long to train; give one of them")
        if self.output.suffix != ".safetensors":
            raise UsageError(f"--output is {self.output} but must end in .safetensors")
        if self.folder.absolute() in self.output.absolute().parents:
            raise UsageError(f"--output is {self.output}, among the pictures; choose another folder")

    @property
    def log_folder(self) -> Path:
        """Where metrics.jsonl lies; never among the pictures, after which the output may be named."""
        beside = self.output.with_suffix("")
        among = beside.absolute() == self.folder.absolute()
        return self.logdir or (self.output.with_suffix(".logs") if among else beside)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file's header; of paths only the last part, since the rest is nobody else's business."""
        values = {name: value.name if isinstance(value, Path) else value for name, value in asdict(self).items()}
        return {**values, "vgg": Path(self.vgg).name}


@Parameter(name="*")
@dataclass(frozen=True)
class DreamConfig:
    """Everything that decides a dream."""

    image: Path
    """the picture to dream of; - is standard input"""

    _: KW_ONLY

    output: Annotated[Path, Parameter(alias="-o")]
    """a .jpg, .png or .webp file, with --zoom a .gif, .webp or .png; - is standard output"""
    layers: Annotated[tuple[str, ...], _NAMES] = ()
    """layers to amplify, with weights if not 1: relu4_3:1,relu5_2:0.5 [default: the nicest of the network]"""
    network: Annotated[str, Parameter(alias="--vgg")] = "bundled"
    """bundled (VGG16), torchvision (its VGG16), vgg19, inception_v3, googlenet, or a safetensors file of a VGG"""
    guide: Path | None = None
    """a second picture, whose features are to be dreamed"""
    octaves: int = 4
    """sizes at which is dreamed, the last is the picture's own"""
    octave_scale: float = 1.4
    """each octave is so many times as large as the one before"""
    iterations: int = 20
    """steps at each octave"""
    step_size: float = 0.008
    """how much a step changes a pixel on average, of 1"""
    jitter: int = 32
    """the picture is shifted at random by up to so many pixels before each step"""
    smoothing: float = 0.8
    """blur of the gradient, pixels; grows over an octave by 2"""
    maximum_loss: float | None = None
    """end an octave when the loss exceeds this; it is the layers' energy, in the photo itself the sum of the weights"""
    tile: int = 512
    """larger pictures are dreamed in tiles of about so many pixels a side, for memory"""
    max_size: int | None = None
    """scale the picture down first so that the longer side has at most this many pixels"""
    save_octaves: Path | None = None
    """folder for the dream at the end of each octave, octave-1.png and so on"""
    zoom: int | None = None
    """make an animation of so many frames: dream, zoom in, dream again"""
    zoom_scale: float = 1.05
    """each frame of the animation is so many times as large as the one before"""
    quality: int = 92
    """quality of JPEG and WebP, 1 to 100"""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """arithmetic of the convolutions; auto is bf16 where the hardware has it"""
    device: Device = "auto"
    """where to dream"""
    seed: int = 0
    """seed of the shifts"""
    overwrite: bool = False
    """replace existing outputs"""

    def __post_init__(self) -> None:
        _take_paths(self, "image", "output", "guide", "save_octaves")
        object.__setattr__(self, "layers", _names(self.layers))
        check_range("octaves", self.octaves, 1, 32)
        check_range("octave_scale", self.octave_scale, 1, 4, above=True)
        check_range("iterations", self.iterations, 1, 10_000)
        check_range("step_size", self.step_size, 0, 1, above=True)
        check_range("jitter", self.jitter, 0, 1024)
        check_range("smoothing", self.smoothing, 0, 32)
        check_range("maximum_loss", self.maximum_loss, 0)
        check_range("tile", self.tile, 128, 8192)
        check_range("max_size", self.max_size, 16, 16_384)
        check_range("zoom", self.zoom, 2, 10_000)
        check_range("zoom_scale", self.zoom_scale, 1, 2, above=True)
        check_range("quality", self.quality, 1, 100)
        check_range("seed", self.seed, 0, 2**63 - 1)
        self.weights  # noqa: B018 (a wrong one is an error now)

    @property
    def weights(self) -> dict[str, float]:
        """Layer -> weight, as given in layers."""
        weights = layer_weights(self.layers)
        if weights and not any(weights.values()):
            raise UsageError("--layers has no weight but 0; give at least one layer another weight")
        return weights


def _numbers(values: str | int | Sequence[int]) -> tuple[int, ...]:
    """Numbers and ranges as in 0,3,8-15, each once."""
    if not isinstance(values, str):
        return tuple(dict.fromkeys([values] if isinstance(values, int) else values))
    numbers: list[int] = []
    for part in values.split(","):
        match = re.fullmatch(r"\s*(\d{1,6})(?:-(\d{1,6}))?\s*", part)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise UsageError(f"--filters has {part!r} but takes numbers and ranges with commas between them: 0,3,8-15")
        numbers += range(int(match[1]), int(match[2] or match[1]) + 1)
    return tuple(dict.fromkeys(numbers))


_NUMBERS = Parameter(converter=lambda _, tokens: _numbers(",".join(token.value for token in tokens)))


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FilterOptions:
    """Whose patterns are drawn, and how."""

    output: Annotated[Path, Parameter(alias="-o")]
    """the sheet, a .jpg, .png or .webp file"""
    layer: Annotated[tuple[str, ...], _NAMES] = ()
    """layers, with commas between them [default: relu3_3, Mixed_5d or inception4a, by the network]"""
    filters: Annotated[tuple[int, ...], _NUMBERS, Parameter(show_default=lambda _: "0-15")] = tuple(range(16))
    """numbers of the filters in each layer, such as 7 or 0,3,8-15"""
    network: Annotated[str, Parameter(alias="--vgg")] = DreamConfig.network
    """bundled (VGG16), torchvision (its VGG16), vgg19, inception_v3, googlenet, or a safetensors file of a VGG"""
    size: int = 128
    """side of each pattern, pixels"""
    iterations: int = 128
    """steps of the ascent"""
    learning_rate: float = 0.05
    """Adam's learning rate"""
    jitter: int = 8
    """patterns are shifted at random by up to so many pixels before each step"""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """arithmetic of the convolutions; auto is bf16 where the hardware has it"""
    device: Device = "auto"
    """where to draw"""
    seed: int = 0
    """seed of the noise at the start, and of the shifts"""
    overwrite: bool = False
    """replace an existing sheet"""

    def __post_init__(self) -> None:
        _take_paths(self, "output")
        object.__setattr__(self, "layer", _names(self.layer))
        object.__setattr__(self, "filters", _numbers(self.filters))
        if not self.filters:
            raise UsageError("--filters has no number; give at least one")
        check_range("size", self.size, 32, 1024)
        check_range("iterations", self.iterations, 1, 100_000)
        check_range("learning_rate", self.learning_rate, 0, 10, above=True)
        check_range("jitter", self.jitter, 0, 64)
        check_range("seed", self.seed, 0, 2**63 - 1)


@Parameter(name="*")
@dataclass(frozen=True)
class FeatureOptions:
    """Which features of which picture are shown."""

    image: Path
    """the picture to look at; - is standard input"""

    _: KW_ONLY

    output: Annotated[Path, Parameter(alias="-o")]
    """the sheet, a .jpg, .png or .webp file"""
    layer: str = "relu2_2"
    """layer of the network"""
    filters: Annotated[tuple[int, ...], _NUMBERS, Parameter(show_default=False)] = ()
    """numbers of the filters, such as 7 or 0,3,8-15 [default: the 23 whose features are strongest]"""
    network: Annotated[str, Parameter(alias="--vgg")] = DreamConfig.network
    """bundled (VGG16), torchvision (its VGG16), vgg19, inception_v3, googlenet, or a safetensors file of a VGG"""
    max_size: int = 512
    """scale the picture down first so that the longer side has at most this many pixels"""
    tile_size: int = 240
    """longer side of each map on the sheet, pixels"""
    device: Device = "auto"
    """where to compute"""
    overwrite: bool = False
    """replace an existing sheet"""

    def __post_init__(self) -> None:
        _take_paths(self, "image", "output")
        object.__setattr__(self, "filters", _numbers(self.filters))
        check_range("max_size", self.max_size, 16, 16_384)
        check_range("tile_size", self.tile_size, 64, 1024)
