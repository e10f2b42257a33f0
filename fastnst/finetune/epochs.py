"""The epochs of a fine-tuning: what each came to, which one is kept, and what is told of it all in the end."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from fastnst.config import FinetuneConfig
from fastnst.errors import OutputError
from fastnst.files import printable, write_bytes
from fastnst.finetune.classifier import ClassifierMeta, save_classifier

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EpochReport:
    """One line of metrics.jsonl: an epoch, its loss in training, and how well the held-out pictures are told apart.

    Epoch 0, where convolutions learn, is the last layer alone.
    """

    epoch: int
    images: int
    loss: float
    accuracy: float
    cross_entropy: float
    lr: float

    @property
    def rank(self) -> tuple[bool, float, float]:
        """The higher the better; epoch 0 is only kept as long as there is no other."""
        return self.epoch > 0, self.accuracy, -self.cross_entropy


@dataclass(frozen=True)
class Finetuned:
    """What came of it: the file, each epoch, and how the kept one did.

    `confusion[i][j]` counts held-out pictures of class i that were taken for class j.
    """

    path: Path
    meta: ClassifierMeta
    epochs: list[EpochReport]
    confusion: list[list[int]]
    unusable: dict[Path, str]

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for json.dumps."""
        return {
            "path": printable(self.path),
            **asdict(self.meta),
            "epochs": [asdict(report) for report in self.epochs],
            "confusion": self.confusion,
            "unusable": {printable(path): reason for path, reason in self.unusable.items()},
        }


@dataclass(frozen=True)
class Best:
    """An epoch that did better than those before it: what it came to, and what its file holds."""

    report: EpochReport
    meta: ClassifierMeta
    confusion: list[list[int]]
    tensors: Mapping[str, Tensor]


class Epochs:
    """The reports so far, also as lines of metrics.jsonl, and the best epoch, which `save` writes.

    `metadata` is that of the weights the convolutions started from.
    """

    def __init__(self, config: FinetuneConfig, metadata: Mapping[str, str]) -> None:
        self.config, self.metadata = config, metadata
        self.reports: list[EpochReport] = []
        self.best: Best | None = None
        self.saved = False  # the best epoch is on disk
        self.metrics = config.log_folder / "metrics.jsonl"
        write_bytes(self.metrics, b"")

    @property
    def newest(self) -> EpochReport | None:
        return self.reports[-1] if self.reports else None

    @property
    def standing(self) -> str:
        """What there is to show so far, for a message."""
        if self.best is None:
            return "nothing is learned yet"
        return f"epoch {self.best.report.epoch}, the best so far, is saved"

    def add(self, report: EpochReport) -> None:
        """Note an epoch; OutputError if it cannot be written."""
        self.reports.append(report)
        try:
            with open(self.metrics, "ab") as file:
                file.write(json.dumps(asdict(report)).encode() + b"\n")
        except OSError as error:
            raise OutputError(f"cannot write {printable(self.metrics)}: {error.strerror or error}") from error

    def is_best(self, report: EpochReport) -> bool:
        """Whether it is better than the best so far."""
        return self.best is None or report.rank > self.best.report.rank

    def keep(self, best: Best) -> None:
        """The epoch to save from now on."""
        self.best, self.saved = best, False

    def save(self) -> None:
        """Write the best epoch, unless it is written already or there is none."""
        if self.best is None or self.saved:
            return
        metadata = self.metadata
        if self.best.report.epoch and self.config.range != "last":
            metadata = {**metadata, "changes": f"fine-tuned by fastnst finetune --range {self.config.range}"}
        save_classifier(self.config.output, self.best.tensors, metadata, self.best.meta)
        self.saved = True

    def result(self, unusable: dict[Path, str]) -> Finetuned:
        """The report of what is saved."""
        assert self.best is not None
        first, best = self.reports[0], self.best.report
        if self.config.range != "last" and best.epoch and replace(first, epoch=best.epoch).rank > best.rank:
            log.warning(
                "the new last layer alone did better than epoch %d (%.1f %% right, cross-entropy %.3g); "
                "use a lower --learning-rate, or --range last",
                *(best.epoch, 100 * first.accuracy, first.cross_entropy),
            )
        return Finetuned(self.config.output, self.best.meta, self.reports, self.best.confusion, unusable)
