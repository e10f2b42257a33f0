"""Options of making a loss network that knows your pictures."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from fastnst.config.ranges import Checked, Range
from fastnst.config.shared import ComputeOptions, Duration, OverwriteOption, SeedOption
from fastnst.errors import UsageError


@dataclass(frozen=True, init=False, repr=False, eq=False)
class OneFolder(Checked):
    """The argument of finetune."""

    folder: Path
    """folder with one folder of pictures for each class"""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(ComputeOptions, SeedOption, OverwriteOption, OneFolder):
    """Everything that decides how a loss network learns somebody's own classes; stored in its file."""

    output: Annotated[Path, Parameter(alias="-o")]
    """loss network to write, NAME.safetensors"""
    range: Literal["last", "blocks4-5", "all"] = "blocks4-5"
    """what learns: last is a new last layer alone and fast, the others are blocks of convolutions with it"""
    vgg: str = "bundled"
    """loss network to start from: bundled, torchvision, vgg19, or a safetensors file"""
    size: Annotated[int, Range(32, 1024)] = 224
    """side of the squares the network sees, pixels"""
    batch_size: Annotated[int, Range(1)] = 16
    """pictures a step"""
    epochs: Annotated[int | None, Range(1)] = None
    """passes over the pictures [default: 50 for last, else 10]"""
    steps: Annotated[int | None, Range(1)] = None
    """optimizer steps, instead of epochs"""
    learning_rate: Annotated[float | None, Range(0, 1e9, above=True)] = None
    """Adam's learning rate at first; falls to nothing along a cosine [default: 1e-3 for last, else 1e-5]"""
    held_out: Annotated[float, Range(0, 0.9, above=True)] = 0.2
    """share of each class that is kept out of training, to measure on"""
    workers: Annotated[int, Range(1, 256)] = 2
    """threads that prepare pictures"""
    logdir: Path | None = None
    """folder for metrics.jsonl [default: beside the output, named after it]"""
    time_limit: Duration = None
    """stop in time before this many seconds, or 30m, 8h, 1h30m, are over, with the best epoch so far"""

    def __post_init__(self) -> None:
        super().__post_init__()
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
