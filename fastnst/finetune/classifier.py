"""VGG with a last layer of its own, which tells classes of pictures apart, and the file it shares with a loss network.

Such a file holds the convolutions by torchvision's keys, for `--vgg`, the last layer, and under the header key
`classifier` JSON that says what it knows.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from fastnst import __version__
from fastnst.errors import ModelError, OutputError
from fastnst.files import printable, write_bytes
from fastnst.vgg import VGGFeatures

FORMAT = 1
LAST_LAYER = "pool5"


class Classifier(nn.Module):
    """VGG and one linear layer: (N, 3, H, W) RGB 0..1 -> (N, classes), the logarithms of probabilities but for a sum.

    The linear layer sees the average over all places of each feature of pool5, less `shift` and divided by `scale`, so
    that one learning rate fits every network.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, classes: int, vgg: str | Path = "bundled") -> None:
        super().__init__()
        self.features = VGGFeatures([LAST_LAYER], vgg)
        width = [module for module in self.features.body if isinstance(module, nn.Conv2d)][-1].out_channels
        self.head = nn.Linear(width, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("shift", torch.zeros(width))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.averages(images))

    def averages(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) RGB 0..1 -> (N, 512) float32, whatever the arithmetic of the convolutions."""
        features: Tensor = self.features(images)[LAST_LAYER]
        return features.mean((2, 3), dtype=torch.float32)

    def classify(self, averages: Tensor) -> Tensor:
        """(N, 512) -> (N, classes)."""
        logits: Tensor = self.head((averages - self.shift) / self.scale)
        return logits

    def learn(self, range: str) -> list[nn.Parameter]:
        """Let the convolutions of a range learn, no others, and return their weights."""
        blocks = {"last": "", "blocks4-5": "45", "all": "12345"}[range]
        for name, module in zip(self.features.names, self.features.body, strict=True):
            module.requires_grad_(name[4] in blocks)
        return [parameter for parameter in self.features.parameters() if parameter.requires_grad]

    @torch.no_grad()
    def head_to_file(self) -> dict[str, Tensor]:
        """The tensors of a linear layer that does the same to the averages as they are."""
        weight = self.head.weight / self.scale
        return {"head.weight": weight.cpu(), "head.bias": (self.head.bias - weight @ self.shift).cpu()}


@dataclass(frozen=True)
class ClassifierMeta:
    """What a fine-tuned loss network tells apart and how well; JSON under the header key `classifier`."""

    classes: list[str]
    training: list[int]  # pictures of each class
    held_out: list[int]
    epoch: int  # the one that was kept
    accuracy: float  # of it, on the held-out pictures
    cross_entropy: float
    config: dict[str, Any]  # the whole FinetuneConfig
    fastnst: str = field(default_factory=lambda: __version__)
    torch: str = torch.__version__
    format: int = FORMAT


def read_meta(path: Path) -> ClassifierMeta | None:
    """What a file says of the classifier in it; None if it is no safetensors file, or holds none.

    Raises ModelError if that is damaged.
    """
    if not path.is_file():  # a pipe would be waited for
        return None
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("classifier")
    except (OSError, SafetensorError):
        return None
    if text is None:
        return None
    try:
        values = json.loads(text)
        meta = ClassifierMeta(**{f.name: values[f.name] for f in fields(ClassifierMeta)})
        if not (meta.format == FORMAT and meta.classes and all(isinstance(name, str) for name in meta.classes)):
            raise ValueError(f"format {meta.format}")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ModelError(
            f"{printable(path)} has an unreadable header ({printable(error)}); fine-tune it again"
        ) from error
    return meta


def load_classifier(path: Path) -> tuple[Classifier, ClassifierMeta]:
    """The classifier that `finetune` wrote, on the CPU; ModelError for any other file."""
    path = Path(path)
    meta = read_meta(path)
    if meta is None:
        raise ModelError(f"{printable(path)} holds no classifier; give a file that fastnst finetune wrote")
    model = Classifier(len(meta.classes), path)
    with safe_open(path, framework="pt") as file:
        for name, parameter in (("head.weight", model.head.weight), ("head.bias", model.head.bias)):
            if name not in file.keys() or file.get_tensor(name).shape != parameter.shape:  # noqa: SIM118
                raise ModelError(f"{printable(path)} lacks a fitting {name}; fine-tune it again")
            parameter.data.copy_(file.get_tensor(name))
    return model.requires_grad_(False).eval(), meta


def save_classifier(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], meta: ClassifierMeta
) -> None:
    """Write what VGGFeatures.to_file and head_to_file gave, atomically; OutputError if that fails."""
    try:
        data = save(dict(tensors), {**metadata, "classifier": json.dumps(asdict(meta))})
    except SafetensorError as error:
        raise OutputError(f"cannot make a safetensors file: {error}") from error
    write_bytes(path, _with_sorted_header(data))


def _with_sorted_header(data: bytes) -> bytes:
    """The same safetensors file with its metadata in order, which safetensors itself writes in any."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[end:]
