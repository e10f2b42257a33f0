"""A loss network that knows somebody's own pictures: VGG learns to tell classes of them apart, for --vgg."""

import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fastnst.ahead import prepare_ahead
from fastnst.config import FinetuneConfig
from fastnst.data import Photographs
from fastnst.device import keep_freed_memory, pick_precision, torch_device
from fastnst.errors import (
    DivergedError,
    FastnstError,
    InputError,
    Interrupted,
    OutputError,
    UnavailableError,
    UsageError,
)
from fastnst.files import check_output, printable, remove_leftovers, write_bytes
from fastnst.finetune.classifier import Classifier, ClassifierMeta, save_classifier
from fastnst.image import Pixels
from fastnst.interrupt import IN_TIME, OUT_OF_TIME, Deadline, caught_signals, is_out_of_memory, only_run, reason_name

__all__ = ["FinetuneConfig", "finetune"]

log = logging.getLogger(__name__)

SMALLEST_CLASS = 4  # pictures
EPOCHS = {"last": 50, "blocks4-5": 10, "all": 10}
LEARNING_RATES = {"last": 1e-3, "blocks4-5": 1e-5, "all": 1e-5}
HEAD_FACTOR = 10  # times the convolutions' learning rate is that of the last layer beside them

T = TypeVar("T")


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


# What is done ("looking", "learning"), in how many steps, and the newest epoch; called after each step.
OnProgress = Callable[[str, int, EpochReport | None], None]


def finetune(config: FinetuneConfig, on_progress: OnProgress | None = None) -> Finetuned:
    """Fine-tune a loss network as the config says, and write the best epoch; `on_progress` sees every step.

    The last layer learns first, from averages computed once; the convolutions start from there, so that a random last
    layer cannot spoil them. The best epoch is the one with the highest accuracy on the held-out pictures, then the
    lowest cross-entropy. SIGINT and SIGTERM save the best so far and raise Interrupted; SIGUSR1 and a time
    limit return it.

    Source: Kumar et al. 2022 for learning the last layer first.

    Raises InputError for unusable pictures or classes, OutputError if the output exists or cannot be written,
    UsageError if the time limit is over before anything is learned, UnavailableError if a batch does not fit into
    memory, DivergedError if the loss is no longer finite.
    """
    deadline = Deadline(config.time_limit)
    with ExitStack() as stack:
        output = config.output
        stack.enter_context(only_run(output.with_name(f".{output.name}.lock"), printable(output)))
        check_output(output, overwrite=config.overwrite)
        remove_leftovers(output.parent)
        photographs = Photographs(config.folder, config.size, config.seed)
        names = class_names(photographs)
        _check_classes(names, [photographs.name(path) for path in photographs.files], config.folder)
        run = _Run(config, photographs, names, deadline, on_progress)
        run.received = stack.enter_context(caught_signals())
        try:
            run.go()
        except _Stopped as stop:
            run.save()
            return _stopped(stop.reason, run)
        except DivergedError:
            run.save()
            raise
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            run.save()
            raise UnavailableError(
                f"{config.batch_size} pictures of {config.size}x{config.size} do not fit into the memory of "
                f"{run.device}; use a smaller --batch-size or --size, or a smaller --range"
            ) from error
        run.save()
        return run.result()


def class_names(photographs: Photographs) -> list[str]:
    """Names of the folders in a folder, which are its classes; hidden ones and links to folders are none."""
    found = []
    for path in sorted(photographs.folder.iterdir()):
        if path.is_dir() and path.is_symlink():
            log.warning("%s is a link and left out; give a folder", printable(path))
        elif path.is_dir() and not path.name.startswith("."):
            found.append(path.name)
    return found


def _check_classes(names: Sequence[str], files: Sequence[str], folder: Path) -> None:
    """InputError unless there are several classes with enough pictures each."""
    if len(names) < 2:
        found = f"only the class {printable(names[0])}" if names else "no classes"
        raise InputError(
            f"{printable(folder)} has {found}; give a folder with a folder of pictures for each of two or more"
        )
    counts = Counter(_class_of(name) for name in files)
    if few := [name for name in names if counts[name] < SMALLEST_CLASS]:
        listed = ", ".join(f"{printable(name)} has {counts[name]}" for name in few)
        raise InputError(
            f"each class in {printable(folder)} needs at least {SMALLEST_CLASS} usable pictures, but {listed}; "
            "add pictures, or remove the folder"
        )


def _class_of(name: str) -> str:
    """The first folder of a path inside the folder of classes; empty for a file that is in none."""
    first, slash, _ = name.partition("/")
    return first if slash else ""


def split(labels: Sequence[int], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices to train on and to hold out: of each class the same share, rounded, but at least one and all but two."""
    training, held_out = [], []
    for label in sorted(set(labels)):
        members = [index for index, other in enumerate(labels) if other == label]
        count = min(max(math.floor(share * len(members) + 0.5), 1), len(members) - 2)
        order = np.random.default_rng([seed, label]).permutation(len(members)).tolist()
        held_out += [members[place] for place in order[:count]]
        training += [members[place] for place in order[count:]]
    return sorted(training), sorted(held_out)


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """(classes,) weights under which all classes count alike; their mean over the labels is 1."""
    return len(labels) / (classes * torch.bincount(labels, minlength=classes))


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """(N, classes), (N,), (classes,) -> the mean of each picture's cross-entropy times its class's weight.

    Differs from torch's, which divides by the sum of the weights: there a batch's loss depends on what else is in it.
    """
    return (weights[labels] * F.cross_entropy(logits, labels, reduction="none")).mean()


def confusion_matrix(logits: Tensor, labels: Tensor) -> list[list[int]]:
    """How often, in (N, classes) logits, pictures of each class (rows) are taken for each class (columns)."""
    classes = logits.shape[1]
    return torch.bincount(labels * classes + logits.argmax(1), minlength=classes**2).view(classes, classes).tolist()


class _Stopped(Exception):
    def __init__(self, reason: int) -> None:
        super().__init__()
        self.reason = reason


class _Run:
    """The classifier, its pictures, and the best that was found so far."""

    def __init__(
        self,
        config: FinetuneConfig,
        photographs: Photographs,
        names: list[str],
        deadline: Deadline,
        on_progress: OnProgress | None,
    ) -> None:
        self.config, self.photographs, self.names = config, photographs, names
        self.deadline, self.on_progress = deadline, on_progress
        self.device = torch_device(config.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.dtype = pick_precision(config.precision, self.device)
        model = Classifier(len(names), config.vgg)
        self.model: Classifier = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.received: list[int] = []
        self.epochs: list[EpochReport] = []
        self.best: EpochReport | None = None
        self.kept: dict[str, Tensor] = {}  # weights of the best epoch
        self.convolutions, self.metadata = model.features.to_file()
        self.confusion: list[list[int]] = []
        self.saved = False  # the best epoch is on disk
        self.metrics = config.log_folder / "metrics.jsonl"
        write_bytes(self.metrics, b"")

    def go(self) -> None:
        averages = self._look()
        self._split(averages)
        wider = self.config.range != "last"
        self._learn_last_layer(averages.to(self.device), quietly=wider)
        if wider:
            self._learn_convolutions()

    def _look(self) -> Tensor:
        """Averages (N, 512) of all pictures; those that turn out damaged are left out from now on."""
        photographs = self.photographs
        if strays := [path for path in photographs.files if not _class_of(photographs.name(path))]:
            log.warning("in no class and left out: %d files right in %s", len(strays), printable(photographs.folder))
        files = [path for path in photographs.files if _class_of(photographs.name(path)) in self.names]
        found: list[Tensor] = []
        for batch in prepare_ahead(self._middle, _parts(files, self.config.batch_size), self.config.workers):
            if usable := [pixels for pixels in batch if pixels is not None]:
                with torch.no_grad():
                    found.append(self._averages(np.stack(usable)).cpu())
            for _ in batch:
                self._progress("looking", len(files))
            self._check_stop()
        self.files = [path for path in files if path not in photographs.unusable]
        _report_unusable(photographs)
        names = [photographs.name(path) for path in self.files]
        _check_classes(self.names, names, photographs.folder)
        self.labels = torch.tensor([self.names.index(_class_of(name)) for name in names])
        return torch.cat(found)

    def _middle(self, path: Path) -> Pixels | None:
        try:
            return self.photographs.middle(path)
        except FastnstError as error:
            self.photographs.unusable[path] = str(error)
            return None

    def _split(self, averages: Tensor) -> None:
        self.training, self.held_out = split(self.labels.tolist(), self.config.held_out, self.config.seed)
        labels = self.labels[self.training]
        self.weights = class_weights(labels, len(self.names)).to(self.device)
        self.model.shift.copy_(averages[self.training].mean(0))
        self.model.scale.copy_(averages[self.training].var(0).mean().sqrt().clamp(min=1e-12))

    def _learn_last_layer(self, averages: Tensor, quietly: bool) -> None:
        """Train on averages of all pictures; quietly if that is only where the convolutions start from."""
        config = self.config
        rate = LEARNING_RATES["last"] if quietly else config.learning_rate or LEARNING_RATES["last"]
        steps = self._steps(EPOCHS["last"] if quietly else None)
        parameters = list(self.model.head.parameters())
        optimizer = torch.optim.Adam(parameters, lr=rate)
        losses: list[float] = []
        for step, (epoch, indices) in enumerate(self._batches(steps)):
            lr = _cosine(rate, step, steps)
            losses.append(self._step(optimizer, lr, epoch, averages[indices], indices))
            if self._ends_epoch(step, steps):
                if not quietly or step + 1 == steps:
                    with torch.no_grad():
                        logits = self.model.classify(averages[self.held_out])
                    self._keep(0 if quietly else epoch, losses, lr, logits)
                losses = []
            if not quietly:
                self._progress("learning", steps)
                self._check_stop()

    def _learn_convolutions(self) -> None:
        config = self.config
        rate = config.learning_rate or LEARNING_RATES[config.range]
        steps = self._steps(None)
        convolutions = self.model.learn(config.range)
        head = list(self.model.head.parameters())
        groups: list[dict[str, Any]] = [{"params": convolutions}, {"params": head, "factor": HEAD_FACTOR}]
        optimizer = torch.optim.Adam(groups, lr=rate, fused=self.device.type == "cuda")
        batches, planned = self._batches(steps), self._batches(steps)
        losses: list[float] = []
        crops = prepare_ahead(self._crop, ([(epoch, i) for i in batch] for epoch, batch in planned), config.workers)
        for step, ((epoch, indices), pixels) in enumerate(zip(batches, crops, strict=True)):
            lr = _cosine(rate, step, steps)
            losses.append(self._step(optimizer, lr, epoch, self._averages(np.stack(pixels)), indices))
            if self._ends_epoch(step, steps):
                self.convolutions, _ = self.model.features.to_file()
                with self.deadline.saving():
                    self._keep(epoch, losses, lr, self._held_out_logits())
                    self.save()
                losses = []
            self._progress("learning", steps)
            if step + 1 < steps:
                self._check_stop()

    def _steps(self, epochs: int | None) -> int:
        config = self.config
        if epochs is None and config.steps is not None:
            return config.steps
        return (epochs or config.epochs or EPOCHS[config.range]) * self._steps_an_epoch()

    def _steps_an_epoch(self) -> int:
        return math.ceil(len(self.training) / self.config.batch_size)

    def _ends_epoch(self, step: int, steps: int) -> bool:
        return (step + 1) % self._steps_an_epoch() == 0 or step + 1 == steps

    def _batches(self, steps: int) -> Iterator[tuple[int, Sequence[int]]]:
        """Epoch, from 1, and pictures of each step."""
        orders = ((epoch, np.random.default_rng([self.config.seed, epoch])) for epoch in count(1))
        parts = (
            (epoch, part)
            for epoch, random in orders
            for part in _parts(random.permutation(self.training).tolist(), self.config.batch_size)
        )
        return islice(parts, steps)

    def _crop(self, place: tuple[int, int]) -> Pixels:
        epoch, index = place
        random = np.random.default_rng([self.config.seed, epoch, index])
        return self.photographs.random_crop(self.files[index], random)

    def _step(
        self, optimizer: torch.optim.Optimizer, lr: float, epoch: int, averages: Tensor, indices: Sequence[int]
    ) -> float:
        """One optimizer step; the loss before it. Raises DivergedError if that is not finite."""
        logits = self.model.classify(averages)
        loss = weighted_cross_entropy(logits, self.labels[indices].to(self.device), self.weights)
        if not math.isfinite(value := loss.item()):
            raise self._diverged(epoch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for group in optimizer.param_groups:
            group["lr"] = lr * group.get("factor", 1)
        optimizer.step()
        return value

    def _averages(self, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
        """uint8 (N, size, size, 3) -> (N, 512) float32."""
        images = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float() / 255
        half = self.dtype is not torch.float32
        with torch.autocast(self.device.type, dtype=self.dtype) if half else nullcontext():
            return self.model.averages(images)

    @torch.no_grad()
    def _held_out_logits(self) -> Tensor:
        files = [self.files[index] for index in self.held_out]
        parts = prepare_ahead(self.photographs.middle, _parts(files, self.config.batch_size), self.config.workers)
        return torch.cat([self.model.classify(self._averages(np.stack(pixels))) for pixels in parts])

    def _keep(self, epoch: int, losses: Sequence[float], lr: float, logits: Tensor) -> None:
        """Note how the held-out pictures are told apart, and keep the weights if never better."""
        logits, labels = logits.cpu(), self.labels[self.held_out]
        cross_entropy = F.cross_entropy(logits, labels).item()
        if not math.isfinite(cross_entropy):
            raise self._diverged(epoch)
        report = EpochReport(
            epoch=epoch,
            images=epoch * len(self.training),
            loss=sum(losses) / len(losses),
            accuracy=float((logits.argmax(1) == labels).float().mean()),
            cross_entropy=cross_entropy,
            lr=lr,
        )
        self.epochs.append(report)
        try:
            with open(self.metrics, "ab") as file:
                file.write(json.dumps(asdict(report)).encode() + b"\n")
        except OSError as error:
            raise OutputError(f"cannot write {printable(self.metrics)}: {error.strerror or error}") from error
        if self.best is None or _rank(report) > _rank(self.best):
            self.best, self.confusion, self.saved = report, confusion_matrix(logits, labels), False
            self.kept = {**self.convolutions, **self.model.head_to_file()}

    def meta(self) -> ClassifierMeta:
        assert self.best is not None
        counts = [Counter(self.labels[part].tolist()) for part in (self.training, self.held_out)]
        training, held_out = ([count[label] for label in range(len(self.names))] for count in counts)
        best = self.best
        return ClassifierMeta(
            classes=self.names,
            training=training,
            held_out=held_out,
            epoch=best.epoch,
            accuracy=best.accuracy,
            cross_entropy=best.cross_entropy,
            config=self.config.to_json(),
        )

    def save(self) -> None:
        """Write the best epoch, unless it is written already or there is none."""
        if self.best is None or self.saved:
            return
        metadata = self.metadata
        if self.best.epoch and self.config.range != "last":
            metadata = {**metadata, "changes": f"fine-tuned by fastnst finetune --range {self.config.range}"}
        save_classifier(self.config.output, self.kept, metadata, self.meta())
        self.saved = True

    def result(self) -> Finetuned:
        """The report of what is saved."""
        first, best = self.epochs[0], self.best
        assert best is not None
        if self.config.range != "last" and best.epoch and _rank(replace(first, epoch=best.epoch)) > _rank(best):
            log.warning(
                "the new last layer alone did better than epoch %d (%.1f %% right, cross-entropy %.3g); "
                "use a lower --learning-rate, or --range last",
                *(best.epoch, 100 * first.accuracy, first.cross_entropy),
            )
        return Finetuned(self.config.output, self.meta(), self.epochs, self.confusion, self.photographs.unusable)

    def _diverged(self, epoch: int) -> DivergedError:
        kept = f"epoch {self.best.epoch}, the best so far, is saved" if self.best else "nothing is saved"
        return DivergedError(
            f"the loss is not finite in epoch {epoch} ({kept}); lower --learning-rate, or use --precision fp32"
        )

    def _progress(self, title: str, total: int) -> None:
        if self.on_progress is not None:
            self.on_progress(title, total, self.epochs[-1] if self.epochs else None)

    def _check_stop(self) -> None:
        if self.received:
            raise _Stopped(self.received[0])
        if self.deadline.comes():
            raise _Stopped(OUT_OF_TIME)


def _stopped(reason: int, run: _Run) -> Finetuned:
    """The report of what is saved, if time was short; raises Interrupted for SIGINT and SIGTERM."""
    name = reason_name(reason)
    best = f"epoch {run.best.epoch}, the best so far, is saved" if run.best else "nothing is learned yet"
    if reason in IN_TIME and run.best is not None:
        log.warning("stopped by %s; %s", name, best)
        return run.result()
    if reason == OUT_OF_TIME:
        raise UsageError(f"--time-limit is {run.config.time_limit:g} seconds, but {best} after them; give more")
    raise Interrupted(f"stopped by {name}; {best}", reason)


def _rank(report: EpochReport) -> tuple[bool, float, float]:
    """The higher the better; epoch 0 is only kept as long as there is no other."""
    return report.epoch > 0, report.accuracy, -report.cross_entropy


def _cosine(rate: float, step: int, steps: int) -> float:
    return rate * (1 + math.cos(math.pi * step / steps)) / 2


def _parts(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _report_unusable(photographs: Photographs) -> None:
    if bad := photographs.unusable:
        named = ", ".join(f"{printable(photographs.name(path))} ({reason})" for path, reason in list(bad.items())[:3])
        more = ", ..." if len(bad) > 3 else ""
        log.warning(
            "%d files in %s are unusable and left out: %s%s", len(bad), printable(photographs.folder), named, more
        )
