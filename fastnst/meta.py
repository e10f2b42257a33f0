"""What a trained network says of itself, in a checkpoint's header and an ONNX file's metadata alike; needs no torch."""

import json
import sys
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from fastnst import __version__
from fastnst.errors import ModelError
from fastnst.files import printable

FORMAT = 1


def _torch_version() -> str:
    """That of torch in the process that makes a network; one that only runs an ONNX file has none."""
    torch = sys.modules.get("torch")
    return "" if torch is None else str(torch.__version__)


@dataclass(frozen=True)
class CheckpointMeta:
    """What a trained network is and how it came to be; stored as JSON in checkpoints and exported files alike."""

    preset: str
    net: dict[str, Any]
    style: dict[str, str]  # name, credit
    train: dict[str, Any] = field(default_factory=dict)  # the whole TrainConfig
    weights: dict[str, float] = field(default_factory=dict)  # of the loss terms, resolved
    steps: int = 0
    images_seen: int = 0
    losses: dict[str, float] = field(default_factory=dict)  # mean over the last steps
    held_out: list[str] = field(default_factory=list)  # photographs it never saw, relative to their folder
    origin: dict[str, str] = field(default_factory=dict)  # of an imported one: project, family, file and its sha256
    fastnst: str = field(default_factory=lambda: __version__)
    torch: str = field(default_factory=_torch_version)
    format: int = FORMAT
    digest: str = ""  # sha256 of the tensors

    @classmethod
    def from_json(cls, text: str, source: object) -> "CheckpointMeta":
        """ModelError if the text is not what `to_json` writes, or was written by a newer fastnst."""
        try:
            values = json.loads(text)
            if not isinstance(values, dict) or not isinstance(values.get("format"), int):
                raise ValueError("no format version")
            if values["format"] > FORMAT:
                raise ModelError(
                    f"{printable(source)} has format {values['format']} but only up to {FORMAT} is "
                    "known; update fastnst"
                )
            known = {f.name for f in fields(cls)}
            return cls(**{name: value for name, value in values.items() if name in known})
        except (ValueError, TypeError, RecursionError) as error:
            raise ModelError(
                f"{printable(source)} has an unreadable fastnst header ({error}); train or export it again"
            ) from error

    def to_json(self) -> str:
        return json.dumps(asdict(self))
