"""A loss network that knows somebody's own pictures: VGG learns to tell classes of them apart, for --vgg."""

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fastnst.ahead import prepare_ahead
from fastnst.config import FinetuneConfig
from fastnst.data import Photographs, report_unusable
from fastnst.device import autocast, keep_freed_memory, pick_precision, torch_device
from fastnst.errors import DivergedError, Interrupted, UnavailableError, UsageError
from fastnst.files import check_output, printable, remove_leftovers
from fastnst.finetune.classes import (
    LabeledPictures,
    check_classes,
    class_names,
    in_batches,
    in_classes,
    middle_if_usable,
    warn_of_strays,
)
from fastnst.finetune.classifier import Classifier, ClassifierMeta
from fastnst.finetune.epochs import Best, EpochReport, Epochs, Finetuned
from fastnst.interrupt import IN_TIME, OUT_OF_TIME, Deadline, caught_signals, is_out_of_memory, only_run, reason_name
from fastnst.optimizers import Adam

__all__ = ["FinetuneConfig", "finetune"]

log = logging.getLogger(__name__)

EPOCHS = {"last": 50, "blocks4-5": 10, "all": 10}
LEARNING_RATES = {"last": 1e-3, "blocks4-5": 1e-5, "all": 1e-5}
HEAD_FACTOR = 10  # times the convolutions' learning rate is that of the last layer beside them

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
        own = (config.output, config.log_folder)
        photographs = Photographs(config.folder, config.size, config.seed, leave_out=own)
        classes = class_names(photographs)
        check_classes(classes, [photographs.name(path) for path in photographs.files], config.folder)
        run = _Run(config, photographs, classes, deadline, on_progress)
        run.received = stack.enter_context(caught_signals())
        return _finish(run)


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
    """The classifier that learns, from looking at all pictures to the last epoch."""

    def __init__(
        self,
        config: FinetuneConfig,
        photographs: Photographs,
        classes: list[str],
        deadline: Deadline,
        on_progress: OnProgress | None,
    ) -> None:
        self.config, self.photographs, self.classes = config, photographs, classes
        self.deadline, self.on_progress = deadline, on_progress
        self.device = torch_device(config.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.dtype = pick_precision(config.precision, self.device)
        model = Classifier(len(classes), config.vgg)
        self.model: Classifier = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.received: list[int] = []
        self.convolutions, metadata = model.features.to_file()
        self.epochs = Epochs(config, metadata)

    def go(self) -> None:
        parts = self._look()
        self.pictures = LabeledPictures.of(self.photographs, self.classes, self.config.held_out)
        averages = torch.cat(parts)  # (N, 512)
        self._normalize(averages[self.pictures.training])
        wider = self.config.range != "last"
        self._learn_last_layer(averages.to(self.device), quietly=wider)
        if wider:
            self._learn_convolutions()

    def _look(self) -> list[Tensor]:
        """Averages (n, 512) of the pictures, batch by batch; those that turn out damaged are left out from now on."""
        warn_of_strays(self.photographs)
        files = in_classes(self.photographs, self.classes)
        middle = partial(middle_if_usable, self.photographs)
        averages: list[Tensor] = []
        for batch in prepare_ahead(middle, in_batches(files, self.config.batch_size), self.config.workers):
            if usable := [pixels for pixels in batch if pixels is not None]:
                with torch.no_grad():
                    averages.append(self._averages(np.stack(usable)).cpu())
            for _ in batch:
                self._progress("looking", len(files))
            self._check_stop()
        report_unusable(self.photographs)
        return averages

    def _normalize(self, averages: Tensor) -> None:
        """Let the last layer see averages of training (N, 512) around 0, in all about 1 wide; classes count alike."""
        self.weights = class_weights(self.pictures.labels[self.pictures.training], len(self.classes)).to(self.device)
        self.model.shift.copy_(averages.mean(0))
        self.model.scale.copy_(averages.var(0).mean().sqrt().clamp(min=1e-12))

    def _learn_last_layer(self, averages: Tensor, quietly: bool) -> None:
        """Train on averages of all pictures; quietly if that is only where the convolutions start from."""
        config = self.config
        rate = LEARNING_RATES["last"] if quietly else config.learning_rate or LEARNING_RATES["last"]
        steps = self._steps(EPOCHS["last"] if quietly else None)
        parameters = list(self.model.head.parameters())
        optimizer = Adam(parameters, lr=rate)
        losses: list[float] = []
        for step, (epoch, indices) in enumerate(self.pictures.batches(steps, config.batch_size)):
            lr = _cosine(rate, step, steps)
            losses.append(self._step(optimizer, lr, epoch, averages[indices], indices))
            if self._ends_epoch(step, steps):
                if not quietly or step + 1 == steps:
                    with torch.no_grad():
                        logits = self.model.classify(averages[self.pictures.held_out])
                    self._end_epoch(0 if quietly else epoch, losses, lr, logits)
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
        optimizer = Adam(groups, lr=rate, fused=self.device.type == "cuda")
        batches, planned = (self.pictures.batches(steps, config.batch_size) for _ in range(2))
        losses: list[float] = []
        places = ([(epoch, index) for index in indices] for epoch, indices in planned)
        crops = prepare_ahead(self.pictures.crop, places, config.workers)
        for step, ((epoch, indices), pixels) in enumerate(zip(batches, crops, strict=True)):
            lr = _cosine(rate, step, steps)
            losses.append(self._step(optimizer, lr, epoch, self._averages(np.stack(pixels)), indices))
            if self._ends_epoch(step, steps):
                self.convolutions, _ = self.model.features.to_file()
                with self.deadline.saving():
                    self._end_epoch(epoch, losses, lr, self._held_out_logits())
                    self.epochs.save()
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
        return math.ceil(len(self.pictures.training) / self.config.batch_size)

    def _ends_epoch(self, step: int, steps: int) -> bool:
        return (step + 1) % self._steps_an_epoch() == 0 or step + 1 == steps

    def _step(
        self, optimizer: torch.optim.Optimizer, lr: float, epoch: int, averages: Tensor, indices: Sequence[int]
    ) -> float:
        """One optimizer step; the loss before it. Raises DivergedError if that is not finite."""
        logits = self.model.classify(averages)
        loss = weighted_cross_entropy(logits, self.pictures.labels[indices].to(self.device), self.weights)
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
        with autocast(self.device, self.dtype):
            return self.model.averages(images)

    @torch.no_grad()
    def _held_out_logits(self) -> Tensor:
        files = [self.pictures.files[index] for index in self.pictures.held_out]
        batches = in_batches(files, self.config.batch_size)
        middles = prepare_ahead(self.photographs.middle, batches, self.config.workers)
        return torch.cat([self.model.classify(self._averages(np.stack(pixels))) for pixels in middles])

    def _end_epoch(self, epoch: int, losses: Sequence[float], lr: float, logits: Tensor) -> None:
        """Note how the held-out pictures are told apart, and keep the weights if it is the best epoch so far."""
        logits, labels = logits.cpu(), self.pictures.labels[self.pictures.held_out]
        cross_entropy = F.cross_entropy(logits, labels).item()
        if not math.isfinite(cross_entropy):
            raise self._diverged(epoch)
        report = EpochReport(
            epoch=epoch,
            images=epoch * len(self.pictures.training),
            loss=sum(losses) / len(losses),
            accuracy=float((logits.argmax(1) == labels).float().mean()),
            cross_entropy=cross_entropy,
            lr=lr,
        )
        self.epochs.add(report)
        if self.epochs.is_best(report):
            tensors = {**self.convolutions, **self.model.head_to_file()}
            self.epochs.keep(Best(report, self._meta(report), confusion_matrix(logits, labels), tensors))

    def _meta(self, report: EpochReport) -> ClassifierMeta:
        return ClassifierMeta(
            classes=self.classes,
            training=self.pictures.counts(self.pictures.training),
            held_out=self.pictures.counts(self.pictures.held_out),
            epoch=report.epoch,
            accuracy=report.accuracy,
            cross_entropy=report.cross_entropy,
            config=self.config.to_json(),
        )

    def _diverged(self, epoch: int) -> DivergedError:
        kept = self.epochs.standing if self.epochs.best else "nothing is saved"
        return DivergedError(
            f"the loss is not finite in epoch {epoch} ({kept}); lower --learning-rate, or use --precision fp32"
        )

    def _progress(self, title: str, total: int) -> None:
        if self.on_progress is not None:
            self.on_progress(title, total, self.epochs.newest)

    def _check_stop(self) -> None:
        if self.received:
            raise _Stopped(self.received[0])
        self.deadline.step()
        if self.deadline.near:
            raise _Stopped(OUT_OF_TIME)


def _finish(run: _Run) -> Finetuned:
    """Learn to the end, or as far as it goes, and save the best epoch in either case."""
    config, reason = run.config, 0
    try:
        run.go()
    except _Stopped as stop:
        reason = stop.reason
    except DivergedError:
        run.epochs.save()
        raise
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        run.epochs.save()
        raise UnavailableError(
            f"{config.batch_size} pictures of {config.size}x{config.size} do not fit into the memory of {run.device}; "
            "use a smaller --batch-size or --size, or a smaller --range"
        ) from error
    run.epochs.save()
    if reason:
        _check_stopped(reason, run)
    return run.epochs.result(run.photographs.unusable)


def _check_stopped(reason: int, run: _Run) -> None:
    """Warn that time was short, if something is saved; raises UsageError if not, Interrupted for SIGINT and SIGTERM."""
    name, standing = reason_name(reason), run.epochs.standing
    if reason in IN_TIME and run.epochs.best is not None:
        log.warning("stopped by %s; %s", name, standing)
    elif reason == OUT_OF_TIME:
        raise UsageError(f"--time-limit is {run.config.time_limit:g} seconds, but {standing} after them; give more")
    else:
        raise Interrupted(f"stopped by {name}; {standing}", reason)


def _cosine(rate: float, step: int, steps: int) -> float:
    return rate * (1 + math.cos(math.pi * step / steps)) / 2
