"""Options of training runs, one alone and those of a sweep."""

from dataclasses import KW_ONLY, asdict, dataclass
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from fastnst.config.ranges import Checked, Range
from fastnst.config.shared import (
    CONTENT_LAYERS,
    LISTED,
    DeviceOption,
    Duration,
    LossNetworkOptions,
    SeedOption,
)
from fastnst.config.weights import DEFAULT_STYLE_LAYERS, weight_help
from fastnst.errors import UsageError

Preset = Literal["base", "fast", "tiny"]
# How many times as fast as base a preset paints 1024x1024 with ONNX Runtime, as in docs/benchmarks.md.
SPEEDS: dict[Preset, float] = {"fast": 6.1, "tiny": 12.4}
RATES = {"muon": 0.02, "adam": 1e-3}  # by optimizer
_RATE_HELP = (
    "learning rate; with muon, of kernels, and a tenth of it for the rest "
    f"[default: {RATES['muon']}, with adam {RATES['adam']}]"
)
_STYLE_LAYERS_HELP = (
    "layers of the loss network for style, with weights if they are not equal "
    f"[default: {' '.join(DEFAULT_STYLE_LAYERS['relative'])}, with paper {' '.join(DEFAULT_STYLE_LAYERS['paper'])}]"
)
_PRESET_HELP = (
    f"network: base as in the paper, {' and '.join(SPEEDS)} stylize about "
    f"{' and '.join(f'{times:.0f}' for times in SPEEDS.values())} times as fast"
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class StepOptions(DeviceOption):
    """What a training step takes, in a training run and on the clock."""

    preset: Annotated[Preset, Parameter(help=_PRESET_HELP)] = "base"
    size: Annotated[int, Range(32, 4096)] = 256
    """side of the training crops, pixels"""
    batch_size: Annotated[int, Range(1)] = 4
    """photographs a step, of each process"""
    workers: Annotated[int, Range(1, 256)] = 2
    """threads that prepare photographs"""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """arithmetic of the convolutions; auto is bf16 where the hardware has it"""
    compile: bool = False
    """compile the network with torch.compile first"""


@dataclass(frozen=True, init=False, repr=False, eq=False)
class StyleAndPhotographs(Checked):
    """What commands that train learn from; a class of its own, because cyclopts wants arguments first."""

    style: Path
    """the style image to learn"""

    _: KW_ONLY

    content: str
    """photographs to train on: a folder, searched recursively; a list of files (.txt, .lst), one a line; or WebDataset
    tars, as in 'photos-{000..099}.tar' or 'photos/*.tar'; on this machine or at an address such as s3://bucket/photos"""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainOptions(SeedOption, LossNetworkOptions, StepOptions, StyleAndPhotographs):
    """What all training runs are told, one alone and each of a sweep."""

    steps: Annotated[int, Range(1)] = 2000
    """optimizer steps"""
    loss: Literal["relative", "paper"] = "relative"
    """weighing: relative fits any style, paper is that of Johnson's released code"""
    content_layers: tuple[str, ...] = CONTENT_LAYERS
    """layers of the loss network for content, with weights if they are not equal: relu2_2:1 relu3_3:0.5"""
    style_layers: Annotated[tuple[str, ...] | None, Parameter(help=_STYLE_LAYERS_HELP)] = None
    optimizer: Literal["muon", "adam"] = "muon"
    """muon for kernels and Adam for the rest, or adam for all"""
    learning_rate: Annotated[float | None, Range(0, 1e9, above=True), Parameter(help=_RATE_HELP)] = None
    schedule: Literal["cosine", "constant"] = "cosine"
    """learning rate over the run: cosine falls to a twentieth, constant is the paper's"""
    micro_batch: Annotated[int | None, Range(1)] = None
    """photographs computed at once: fewer need less memory [default: all, halved when memory runs out]"""
    init: Path = Path("trunk")
    """start from this checkpoint, or bundled style by its name; from trunk, a network that learned many paintings at
    once; or from none, random weights"""
    shuffle_buffer: Annotated[int, Range(1, 1 << 20)] = 256
    """memory in which photographs out of tars are shuffled before they are decoded, MiB"""
    held_out: Annotated[int | None, Range(0, 24)] = None
    """photographs kept out of training, for previews and the report [default: one in ten, at most 4]"""

    @property
    def rate(self) -> float:
        """The learning rate at first."""
        return RATES[self.optimizer] if self.learning_rate is None else self.learning_rate

    @property
    def gram_layers(self) -> tuple[str, ...]:
        """The style layers, with weights."""
        return DEFAULT_STYLE_LAYERS[self.loss] if self.style_layers is None else self.style_layers


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainConfig(TrainOptions):
    """Everything that decides a training run; stored whole in the checkpoint's header."""

    output: Annotated[Path, Parameter(alias="-o")]
    """checkpoint to write, NAME.safetensors"""
    style_size: Annotated[int, Range(32, 8192)] = 768
    """longer side the style image is scaled to, pixels: larger gives larger strokes"""
    content_weight: Annotated[float | None, Range(0), weight_help("content", "relative", "paper")] = None
    style_weight: Annotated[float | None, Range(0), weight_help("style", "relative", "paper")] = None
    tv_weight: Annotated[float | None, Range(0), weight_help("tv", "relative", "paper")] = None
    temporal_weight: Annotated[float, Range(0)] = 0.0
    """weight of a penalty for flicker in clips, 0 is off; try 3"""

    name: str | None = None
    """name of the style [default: that of the output]"""
    credit: str = ""
    """painter, title, year and license of the style image, kept in the file"""
    logdir: Path | None = None
    """folder for metrics.jsonl, TensorBoard and previews [default: beside the output, named after it]"""
    save_every: Annotated[int, Range(1)] = 200
    """steps between checkpoints"""
    preview_every: Annotated[int, Range(1)] = 1000
    """most steps between preview pictures; the first come at 0, 10, 20, 50, 100, 200, 500"""
    time_limit: Duration = None
    """save and stop in time before this many seconds, or 30m, 8h, 1h30m, are over; --resume goes on"""
    resume: bool = False
    """continue an interrupted run of the same output"""
    overwrite: bool = False
    """start again over an existing output"""

    def __post_init__(self) -> None:
        super().__post_init__()
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
        # Behind a question mark addresses may have keys.
        content = PurePath(self.content.partition("?")[0] if "://" in self.content else self.content).name
        values = asdict(self) | {"learning_rate": self.rate, "style_layers": self.gram_layers, "content": content}
        return {
            name: value.name if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
        }


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SweepConfig(TrainOptions):
    """Short training runs, one for each combination of the values given."""

    output: Annotated[Path, Parameter(alias="-o")]
    """the sheet, a .jpg, .png or .webp file; the checkpoints go into a folder beside it, named after it"""

    style_weight: Annotated[tuple[float, ...], LISTED] = (5.0, 10.0, 20.0, 40.0)
    """weights of the style term, with commas between them"""
    content_weight: Annotated[tuple[float, ...], LISTED, Parameter(show_default=False)] = ()
    """weights of the content term [default: that of train]"""
    tv_weight: Annotated[tuple[float, ...], LISTED, Parameter(show_default=False)] = ()
    """weights of the total variation [default: that of train]"""
    style_size: Annotated[tuple[int, ...], LISTED] = (TrainConfig.style_size,)
    """sizes the style image is scaled to, pixels"""
    steps: Annotated[int, Range(1)] = 100
    """optimizer steps of each run"""
    photo: Annotated[tuple[Path, ...], Parameter(show_default=False)] = ()
    """pictures to show, stylized by each run [default: up to three that were held out of training]"""
    tile_size: Annotated[int, Range(64, 1024)] = 320
    """longer side of each picture on the sheet, pixels"""
    overwrite: bool = False
    """replace an existing sheet; finished runs are not done again"""
