"""Training a transformer network in one style: a config in, a checkpoint out, resumable at any moment."""

import hashlib
import json
import logging
import math
import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from fastnst.checkpoint import (
    CheckpointMeta,
    TrainState,
    load_checkpoint,
    load_state,
    previous_state,
    save_checkpoint,
    save_state,
    state_from_bytes,
    state_to_bytes,
)
from fastnst.config import TrainConfig
from fastnst.data import Photographs
from fastnst.device import keep_freed_memory, pick_precision, torch_device
from fastnst.errors import DivergedError, Interrupted, ModelError, OutputError, UnavailableError, UsageError
from fastnst.files import check_output, printable, remove_leftovers, write_bytes
from fastnst.image import Picture, read_style, scale_longer, to_array
from fastnst.interrupt import IN_TIME, OUT_OF_TIME, Deadline, caught_signals, is_out_of_memory, only_run, reason_name
from fastnst.logs import RunLogs, StepReport, shows_preview
from fastnst.losses import DEFAULT_WEIGHTS, LossTerms, PartLoss
from fastnst.nets.spec import PRESETS
from fastnst.nets.torch_net import TransformerNet
from fastnst.progress import Pace
from fastnst.temporal import Jolt
from fastnst.train.ranks import Ranks
from fastnst.vgg import VGGFeatures

__all__ = ["StepReport", "TrainConfig", "TrainingRun", "train"]

log = logging.getLogger(__name__)

# A resumed run may differ from the interrupted one in these, because none of them changes a weight but by rounding.
FREE_TO_CHANGE = {
    "resume",
    "overwrite",
    "save_every",
    "preview_every",
    "workers",
    "logdir",
    "output",
    "credit",
    "name",
    "steps",
    "time_limit",
    "micro_batch",
}
FAILED_SAVES = 3  # periodic saves that may fail in a row, say on a full disk, before the run gives up
ROLLBACKS = 3  # how often a run that diverges may go back
CAUTION = 0.25  # times the learning rate after each: three of them cover rates up to 64 times too high

TERMS = ("content", "style", "tv", "total", "steadiness")  # the last if it is asked for

T = TypeVar("T")


OnStep = Callable[[StepReport], None]


def train(config: TrainConfig, on_step: OnStep | None = None) -> Path:
    """Train as the config says and return the checkpoint's path; `on_step` sees every step.

    Checkpoints, the resume state, metrics.jsonl, TensorBoard events and previews are written as it goes. SIGINT,
    SIGTERM and SIGUSR1 finish the step, save and raise Interrupted (SIGUSR1, and a time limit: return). A loss or
    gradient that is not finite goes back to the last good state, with a lower learning rate, up to three times. Under
    torchrun, all processes train one network; the first one writes, and each calls its own `on_step`.

    Source: Johnson et al. 2016. Differs: see TransformerNet and PerceptualLoss, and the learning rate falls by default.

    Raises OutputError if the output exists, cannot be written or belongs to a run in progress, InputError for unusable
    data, UsageError for a resume with another config, UnavailableError if not even one crop fits into memory,
    DivergedError if going back did not help.
    """
    deadline = Deadline(config.time_limit)
    ranks = Ranks.from_environment()
    device = ranks.device(torch_device(config.device))
    with ExitStack() as stack:
        stack.enter_context(ranks.connected(device))
        if ranks.first:
            output, logs = config.output, config.log_folder
            stack.enter_context(only_run(output.with_name(f".{output.name}.lock"), printable(output)))
            stack.enter_context(only_run(logs / ".lock", printable(logs)))
            _check_outputs(config)
            for folder in (output.parent, logs, logs / "previews"):
                remove_leftovers(folder)
        photographs = Photographs(config.content, config.size, config.seed, config.held_out)
        if ranks.first:
            _report_unusable(photographs)
        run = TrainingRun(config, device, ranks)
        start = run.resume(photographs) if config.resume else 0
        if ranks.first and not config.resume:
            _forget_state(config)
        ranks.check_same(run.description(photographs), "options, paintings, photographs or versions of torch")
        return _Loop(run, photographs, deadline, on_step).go(start)


class _Loop:
    """Steps, and what is written and decided between them."""

    def __init__(self, run: "TrainingRun", photographs: Photographs, deadline: Deadline, on_step: OnStep | None):
        self.run, self.photographs, self.deadline, self.on_step = run, photographs, deadline, on_step
        self.config, self.ranks = run.config, run.ranks
        self.pace = Pace()
        self.failed_saves = 0
        self.logs: RunLogs | None = None
        self.good: deque[TrainState] = deque(maxlen=2)  # states to go back to
        self.went_back = False  # to the newest of them

    def go(self, step: int) -> Path:
        config = self.config
        with ExitStack() as stack:
            received = stack.enter_context(caught_signals())
            if self.ranks.first:
                self.logs = stack.enter_context(RunLogs(config, self.photographs, step))
            if step == config.steps:  # the run was killed between its last resume state and the checkpoint
                self._save(step)
            self.good.append(self.run.state(step))
            while step < config.steps:
                try:
                    if stop := self._train(step, received):
                        return stop
                    step = config.steps
                except NotFinite as problem:
                    step = self._go_back(problem)
            self._preview(config.steps)
            if self.ranks.first:  # the checkpoint is there now; one state stays, to go on with more steps
                previous_state(config.state_path).unlink(missing_ok=True)
        return config.output

    def _train(self, start: int, received: list[int]) -> Path | None:
        """All steps from start on; the checkpoint's path if the run is to stop before the last."""
        config, run, ranks = self.config, self.run, self.ranks
        batches = self.photographs.batches(
            start, config.steps, config.batch_size, config.workers, ranks.rank, ranks.count
        )
        self.pace.skip()
        for step, pixels in zip(range(start, config.steps), batches, strict=True):
            if shows_preview(step, config.preview_every):
                self._preview(step)
                if step % config.preview_every:  # the early ones get rarer, so they say nothing about the time left
                    self.pace.skip()
            terms = run.step(step, pixels)

            images = config.batch_size * ranks.count
            speed = self.pace.tick() * images
            report = StepReport(step, (step + 1) * images, *terms[:4], run.learning_rate(step), speed, *terms[4:])  # type: ignore[call-arg]
            run.recent.append(terms[:4])
            if self.logs:
                self.logs.write(report)
            if self.on_step is not None:
                self.on_step(report)

            done = step + 1
            self.deadline.step()
            late = done < config.steps and self.deadline.near
            if stop := ranks.highest(received[0] if received else OUT_OF_TIME if late else 0):
                self._save(done)
                return _stopped(stop, done, config)
            if done % config.save_every == 0 or done == config.steps:
                self._save(done)
        return None

    def _preview(self, step: int) -> None:
        if self.logs:
            self.logs.preview(step, self.run.net)

    def _save(self, step: int) -> None:
        """Save, on disk and in memory; a full disk costs a save, or two, but not the last."""
        self.good.append(self.run.state(step))
        self.went_back = False
        self._write(step, needed=step == self.config.steps)

    def _write(self, step: int, needed: bool = False) -> None:
        if not self.logs:
            return
        try:
            with self.deadline.saving():
                self.logs.flush()  # first, so that a run killed in between has no step without its line in metrics
                self.run.save(step, self.photographs)
            self.failed_saves = 0
        except OutputError as error:
            self.failed_saves += 1
            if needed or self.failed_saves == FAILED_SAVES:
                raise
            log.warning("%s; training goes on, the last good checkpoint stays", error)

    def _go_back(self, problem: "NotFinite") -> int:
        """Return to the last good state, or the one before if that was no good either, and learn more slowly."""
        run = self.run
        if run.rollbacks == ROLLBACKS:
            _give_up(problem, self.config, self.ranks)
        if self.went_back and len(self.good) > 1:
            self.good.pop()
        self.went_back = True
        state = self.good[-1]
        step, rollbacks = int(state.values["step"]), run.rollbacks + 1
        run.load(state)
        run.rollbacks = rollbacks
        if self.logs:
            log.warning(
                "%s; back to step %d with the learning rate times %g (%d of %d times)",
                *(problem, step, CAUTION**rollbacks, rollbacks, ROLLBACKS),
            )
            self.logs.rewind(step)
            if step:
                self._write(step)  # or a run killed and resumed now would do the undone steps once more
            else:
                _forget_state(self.config)
        return step


class NotFinite(Exception):
    """A step that would spoil the weights: what was found, ready for diverged.json."""

    def __init__(self, details: dict[str, Any]) -> None:
        super().__init__(f"the loss or its gradient is not finite, or vanished, at step {details['step']}")
        self.details = details


class _OutOfMemory(Exception):
    """On some rank, raised on all."""


class TrainingRun:
    """The network, its optimizer and everything else that changes from step to step; the same on all ranks."""

    def __init__(self, config: TrainConfig, device: torch.device, ranks: Ranks | None = None) -> None:
        self.config, self.device, self.ranks = config, device, ranks or Ranks()
        if device.type == "cpu":
            keep_freed_memory()
        torch.manual_seed(config.seed)
        self.net = self._make_net().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.painter: nn.Module = cast(nn.Module, torch.compile(self.net)) if config.compile else self.net
        self.dtype = pick_precision(config.precision, device)
        self.zero = torch.zeros((), device=device, requires_grad=True)
        self.oldest = 1 * self.zero
        self.loss = self._make_loss()
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=config.learning_rate, fused=device.type == "cuda")
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype is torch.float16)
        self.recent: deque[tuple[float, ...]] = deque(maxlen=20)
        self.micro_batch = min(config.micro_batch or config.batch_size, config.batch_size)
        self.rollbacks = 0

    def step(self, step: int, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> tuple[float, ...]:
        """One optimizer step on this rank's uint8 (N, size, size, 3) crops; the weighted content, style, tv and total
        loss, and the penalty for unsteadiness if there is one, means over all ranks.

        Raises NotFinite before the weights are spoiled, UnavailableError if not even one crop fits into memory.
        """
        values = self._gradients(torch.from_numpy(pixels), step)
        gradients = [p.grad for p in self.net.parameters() if p.grad is not None]
        self.ranks.average([*gradients, values])
        found = tuple(values.tolist())
        self._check_finite(step, found, gradients)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return found

    def learning_rate(self, step: int) -> float:
        config = self.config
        rate = config.learning_rate * CAUTION**self.rollbacks
        if config.schedule == "constant":
            return rate
        return rate * (0.05 + 0.95 * (1 + math.cos(math.pi * step / config.steps)) / 2)

    def _gradients(self, pixels: Tensor, step: int = 0) -> Tensor:
        """Leave the gradients of a batch, and return its losses (4,), with a penalty for unsteadiness (5,); in smaller
        parts when memory runs out."""
        while True:
            parts = torch.split(pixels, self.micro_batch)
            try:
                targets: Sequence[dict[str, Tensor] | None] = [None]
                if len(parts) > 1 or self.ranks.count > 1:
                    targets, energies = self._within_memory(partial(self._measure, parts))
                    self.ranks.average([energies])
                    self.loss.energies = energies
                return self._within_memory(partial(self._accumulate, parts, targets, step))
            except _OutOfMemory:
                self.optimizer.zero_grad(set_to_none=True)
            # A broken backward stays in autograd's queue, with all that it would have needed, until an older graph is
            # to be worked on.
            torch.autograd.grad(self.oldest, self.zero, retain_graph=True)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            else:
                keep_freed_memory(False)  # kept blocks lie in pieces
            if self.micro_batch == 1:
                raise UnavailableError(
                    f"one crop of {self.config.size}x{self.config.size} does not fit into the memory of "
                    f"{self.device}; use a smaller --size, a smaller --preset, or --precision bf16"
                )
            self.micro_batch = (self.micro_batch + 1) // 2
            if self.ranks.first:
                log.warning("memory ran out; training goes on with --micro-batch %d", self.micro_batch)

    def _within_memory(self, work: Callable[[], T]) -> T:
        """The result of the work, or _OutOfMemory on all ranks if memory runs out on one."""
        result = None
        try:
            result = work()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # After the except block, which keeps all that the work had allocated.
        if self.ranks.highest(result is None):
            raise _OutOfMemory
        return cast(T, result)

    def _measure(self, parts: Sequence[Tensor]) -> tuple[list[dict[str, Tensor]], Tensor]:
        """Content features of the parts, and the energies of the whole."""
        with self._autocast():
            targets = [self.loss.targets(self._to_content(part)) for part in parts]
        count = sum(map(len, parts))
        shares = [self.loss.measure(target) * (len(part) / count) for part, target in zip(parts, targets, strict=True)]
        return targets, torch.stack(shares).sum(0)

    def _accumulate(self, parts: Sequence[Tensor], targets: Sequence[dict[str, Tensor] | None], step: int) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        count = sum(map(len, parts))
        position = (step * self.ranks.count + self.ranks.rank) * self.config.batch_size  # of the next part's first
        values = torch.zeros(5 if self.config.steadiness else 4, device=self.device)
        for part, target in zip(parts, targets, strict=True):
            content = self._to_content(part)
            with self._autocast():
                stylized = self.painter(content)
                terms: LossTerms = self.loss(stylized, target or content)
                beside = [self._unsteadiness(content, stylized, position)] if self.config.steadiness else []
                grid = self.loss.grid(stylized)
            share = len(part) / count
            position += len(part)
            self.scaler.scale(sum(beside, terms.total + grid) * share).backward()  # type: ignore[no-untyped-call]
            values += torch.stack([*terms, terms.total, *beside]).detach() * share
        return values

    def _unsteadiness(self, content: Tensor, stylized: Tensor, position: int) -> Tensor:
        """The weighted penalty for crops from this position of the run on: scalar."""
        height, width = content.shape[-2:]
        jolt = Jolt.draw(self.config.seed, range(position, position + len(content)), (height, width))
        again = self.painter(jolt.content(content))
        return self.config.steadiness * self.loss.scaled(jolt.distance(again, stylized))

    def _to_content(self, pixels: Tensor) -> Tensor:
        """uint8 (N, size, size, 3) -> (N, 3, size, size) 0..1, channels_last by layout."""
        return pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float() / 255

    def state(self, step: int) -> TrainState:
        """A copy of everything the run needs to go on after so many steps."""
        tensors = {f"net.{name}": _copy(tensor) for name, tensor in self.net.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": _copy(tensor) for name, tensor in values.items()}
        tensors["random.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        values = {
            "step": step,
            "config": self.config.to_json(),
            "ranks": self.ranks.count,
            "rollbacks": self.rollbacks,
            "micro_batch": self.micro_batch,
            "recent": list(self.recent),
            "scaler": self.scaler.state_dict(),
            "painting": self.painting,
        }
        return TrainState(tensors, values)

    def load(self, state: TrainState) -> None:
        """Go back, or on, to where `state` was taken."""
        tensors = state.tensors
        self.net.load_state_dict({name[4:]: t for name, t in tensors.items() if name.startswith("net.")})
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("adam."):
                _, index, kind = name.split(".")
                # As the optimizer made it: another layout may round differently. A copy, since it works in place.
                layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
                moments.setdefault(int(index), {})[kind] = tensor.clone(memory_format=layout)
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.scaler.load_state_dict(state.values["scaler"])
        self.rollbacks = state.values["rollbacks"]
        self.recent.clear()
        self.recent.extend(tuple(values) for values in state.values["recent"])
        torch.set_rng_state(tensors["random.cpu"])
        if self.device.type == "cuda" and "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"], self.device)

    def save(self, step: int, photographs: Photographs) -> None:
        """Write checkpoint and resume state, both atomically, after so many steps."""
        config = self.config
        state = self.state(step)
        held_out = [photographs.name(path) for path in photographs.held_out]
        found = {
            "photographs": len(photographs.files),
            "held_out": held_out,
            "unusable": {str(path): reason for path, reason in photographs.unusable.items()},
        }
        save_state(config.state_path, TrainState(state.tensors, state.values | found))
        save_checkpoint(config.output, self.net, self.meta(step, held_out))

    def meta(self, step: int, held_out: list[str]) -> CheckpointMeta:
        config = self.config
        means = [sum(values) / len(self.recent) for values in zip(*self.recent, strict=True)]
        return CheckpointMeta(
            preset=config.preset,
            net=self.net.config.to_json(),
            style={"name": config.style_name, "credit": config.credit},
            train=config.to_json(),
            weights=asdict(self.loss.weights),
            steps=step,
            images_seen=step * config.batch_size * self.ranks.count,
            losses=dict(zip(("content", "style", "tv", "total"), means, strict=False)),
            held_out=held_out,
        )

    def resume(self, photographs: Photographs) -> int:
        """Take over the newest valid state of an interrupted run; the step to go on with, 0 if there is none."""
        path = self.config.state_path
        found = self._newest_state() if self.ranks.first else None
        data = self.ranks.share(state_to_bytes(found[1]) if found else b"")  # other ranks may not see the file
        if not data:
            log.warning("nothing to resume at %s; training starts from the beginning", printable(path))
            return 0
        state = state_from_bytes(data, path)
        self._check_state(state)
        self.load(state)
        if self.config.micro_batch is None:
            self.micro_batch = state.values["micro_batch"]
        if found:
            os.replace(found[0], path)  # before the next save puts a damaged one in the place of this one
        photographs.keep_apart(state.values.get("held_out", []))
        now = len(photographs.files)
        if (before := state.values.get("photographs", now)) != now:
            log.warning("there were %d photographs and are %d: the run goes on in another order", before, now)
        return int(state.values["step"])

    def _newest_state(self) -> tuple[Path, TrainState] | None:
        failure = None
        for candidate in _states(self.config):
            if not candidate.exists():
                continue
            try:
                return candidate, load_state(candidate)
            except ModelError as error:
                log.warning("%s", error)
                failure = error
        if failure is not None:
            raise failure
        return None

    def _check_state(self, state: TrainState) -> None:
        values = state.values
        _check_same(values["config"], self.config.to_json())
        if values["ranks"] != self.ranks.count:
            raise UsageError(
                f"the interrupted run had {values['ranks']} processes but this one has {self.ranks.count}; "
                "start torchrun with as many, or use --overwrite to start again"
            )
        if values["painting"] != self.painting:
            raise UsageError(
                f"{printable(self.config.style)} is not the painting of the interrupted run; give that one"
            )
        step, steps = int(values["step"]), self.config.steps
        if step > steps:
            raise UsageError(f"--steps is {steps} but the interrupted run has done {step} already; give at least that")

    def description(self, photographs: Photographs) -> str:
        """What must be the same on all ranks."""
        config = {name: value for name, value in self.config.to_json().items() if name not in FREE_TO_CHANGE}
        config["steps"] = self.config.steps
        sha = hashlib.sha256(json.dumps([config, self.painting, *map(photographs.name, photographs.files)]).encode())
        for parameter in self.net.parameters():
            sha.update(_copy(parameter).numpy().tobytes())
        return sha.hexdigest()

    def _make_net(self) -> TransformerNet:
        config = self.config
        net = TransformerNet(PRESETS[config.preset])
        if config.init is not None:
            trained, meta = load_checkpoint(config.init)
            if trained.config != net.config:
                raise UsageError(
                    f"--init {config.init} is a {meta.preset} network, not {config.preset}; use --preset {meta.preset}"
                )
            net.load_state_dict(trained.state_dict())
        return net

    def _make_loss(self) -> PartLoss:
        config = self.config
        default = DEFAULT_WEIGHTS[config.loss]
        given = {"content": config.content_weight, "style": config.style_weight, "tv": config.tv_weight}
        weights = replace(default, **{name: value for name, value in given.items() if value is not None})
        layers = [*config.content_layers, *config.style_layers]
        features = VGGFeatures(layers, config.vgg, config.pooling).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

        def loss_for(painting: Picture) -> PartLoss:
            style = torch.from_numpy(to_array(painting.rgb)).to(self.device)  # (1, 3, H, W) 0..1
            loss = PartLoss(features, style, weights, config.loss, config.content_layers, config.style_layers)
            return loss.to(self.device)

        painting = read_style(config.style, config.style_size)
        self.painting = hashlib.sha256(painting.rgb.tobytes()).hexdigest()
        while True:
            try:
                return self._within_memory(partial(loss_for, painting))
            except _OutOfMemory:
                before, size = max(painting.size), max(painting.size) * 3 // 4
            if size < 32:
                raise UnavailableError(
                    f"the loss network does not fit into the memory of {self.device}; free some, or use another device"
                )
            painting = scale_longer(painting, size)
            if self.ranks.first:
                log.warning("the painting does not fit into memory at %d pixels and is scaled to %d", before, size)

    def _autocast(self) -> Any:
        return nullcontext() if self.dtype is torch.float32 else torch.autocast(self.device.type, dtype=self.dtype)

    def _check_finite(self, step: int, values: tuple[float, ...], gradients: list[Tensor]) -> None:
        norm = float(torch.nn.utils.get_total_norm(gradients))
        # The scaler skips such a step and lowers its scale; below 1 that is no cure.
        overflow = self.scaler.is_enabled() and all(map(math.isfinite, values[3:])) and self.scaler.get_scale() >= 1
        # A gradient of exactly zero is the end too: every pixel is stuck beyond black or white.
        if all(map(math.isfinite, values)) and ((math.isfinite(norm) and norm > 0) or overflow):
            return
        raise NotFinite(
            {
                "step": step,
                **{name: repr(value) for name, value in zip(TERMS, values, strict=False)},
                "gradient_norm": repr(norm),
                "lr": self.learning_rate(step),
                "first_position": step * self.config.batch_size * self.ranks.count,
            }
        )


def _copy(tensor: Tensor) -> Tensor:
    """On the CPU, contiguous, and never the same memory."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def _check_outputs(config: TrainConfig) -> None:
    interrupted = any(path.exists() for path in _states(config))
    if interrupted and not (config.resume or config.overwrite):
        raise OutputError(
            f"a run of {printable(config.output)} is there already; --resume continues it, --overwrite starts again"
        )
    check_output(config.output, overwrite=config.overwrite or (config.resume and interrupted))


def _states(config: TrainConfig) -> tuple[Path, Path]:
    """Where the resume state and the one before it lie."""
    return config.state_path, previous_state(config.state_path)


def _forget_state(config: TrainConfig) -> None:
    """Remove what an overwritten run left, or a later --resume would continue that one."""
    for path in _states(config):
        path.unlink(missing_ok=True)


def _check_same(before: dict[str, Any], now: dict[str, Any]) -> None:
    """UsageError if a resumed run would not be the one that was interrupted."""
    # An older fastnst knew fewer options, and did what is the default now.
    before = {field.name: field.default for field in fields(TrainConfig) if field.name in now} | before
    changed = {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
    if changed & {"steps"} and now["schedule"] != "constant":
        log.warning("--steps was %s and is %s: the learning rate follows the new number", before["steps"], now["steps"])
    if differences := sorted(changed - FREE_TO_CHANGE):
        listed = ", ".join(
            f"--{name.replace('_', '-')} was {before.get(name)}, is {now.get(name)}" for name in differences
        )
        raise UsageError(
            f"cannot resume with other options ({listed}); use the old ones, or --overwrite to start again"
        )


def _report_unusable(photographs: Photographs) -> None:
    if not (bad := photographs.unusable):
        return
    named = ", ".join(f"{printable(photographs.name(path))} ({reason})" for path, reason in list(bad.items())[:3])
    log.warning(
        "%d of the %d files in %s are unusable and left out: %s%s",
        *(len(bad), len(bad) + len(photographs.files) + len(photographs.held_out), printable(photographs.folder)),
        *(named, ", ... (all in bad_images.txt)" if len(bad) > 3 else ""),
    )


def _give_up(problem: NotFinite, config: TrainConfig, ranks: Ranks) -> NoReturn:
    path = config.log_folder / "diverged.json"
    if ranks.first:
        try:
            write_bytes(path, json.dumps(problem.details, indent=2).encode())
        except OutputError as error:
            log.warning("%s", error)
    raise DivergedError(
        f"{problem} (details in {printable(path)}), and going back {ROLLBACKS} times did not help; "
        "the last good checkpoint, if any, stays: lower --learning-rate, or use --precision fp32"
    )


def _stopped(reason: int, step: int, config: TrainConfig) -> Path:
    name = reason_name(reason)
    message = f"stopped by {name} after step {step} and saved; continue with --resume"
    if reason in IN_TIME:
        log.warning("%s", message)
        return config.output
    raise Interrupted(message, reason)
