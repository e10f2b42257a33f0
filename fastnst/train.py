"""Training a transformer network in one style: a config in, a checkpoint out, resumable at any moment."""

import hashlib
import json
import logging
import math
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

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
)
from fastnst.config import TrainConfig
from fastnst.data import Photographs
from fastnst.device import torch_device
from fastnst.errors import DivergedError, Interrupted, ModelError, OutputError, UsageError
from fastnst.files import check_output, show, write_bytes
from fastnst.image import read_picture, resize, to_array
from fastnst.logs import RunLogs, StepReport, shows_preview
from fastnst.losses import DEFAULT_WEIGHTS, LossTerms, PerceptualLoss
from fastnst.nets import PRESETS, TransformerNet
from fastnst.progress import Pace
from fastnst.vgg import VGGFeatures

__all__ = ["StepReport", "TrainConfig", "TrainingRun", "train"]

log = logging.getLogger(__name__)

# A resumed run may differ from the interrupted one in these, because none of them changes a weight.
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
}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
FAILED_SAVES = 3  # periodic saves that may fail in a row, say on a full disk, before the run gives up


OnStep = Callable[[StepReport], None]


def train(config: TrainConfig, on_step: OnStep | None = None) -> Path:
    """Train as the config says and return the checkpoint's path; `on_step` sees every step.

    Checkpoints, the resume state, metrics.jsonl, TensorBoard events and previews are written as it goes. SIGINT,
    SIGTERM and SIGUSR1 finish the step, save and raise Interrupted (SIGUSR1: return).

    Source: Johnson et al. 2016. Differs: see TransformerNet and PerceptualLoss, and the learning rate falls by default.

    Raises OutputError if the output exists or cannot be written, InputError for unusable data, UsageError for a resume
    with another config, DivergedError for a loss or gradient that is not finite.
    """
    _check_outputs(config)
    device = torch_device(config.device)
    photographs = Photographs(config.content, config.size, config.seed, config.held_out)
    if photographs.unusable:
        log.warning("%d of the files in %s are unusable and left out", len(photographs.unusable), show(config.content))
    run = TrainingRun(config, device)
    start = run.resume(photographs) if config.resume else 0
    if not config.resume:
        _forget_state(config)
    logs = RunLogs(config, photographs, start)

    def save(step: int) -> None:
        logs.flush()  # first, so that a run killed in between has no step without its line in metrics.jsonl
        run.save(step, photographs)

    failed_saves = 0
    batches = photographs.batches(start, config.steps, config.batch_size, config.workers)
    with _signals() as received, logs:
        if start == config.steps:  # the run was killed between its last resume state and the checkpoint
            save(start)
        pace = Pace()
        for step, pixels in zip(range(start, config.steps), batches, strict=True):
            if shows_preview(step, config.preview_every):
                logs.preview(step, run.net)
                if step % config.preview_every:  # the early ones get rarer, so they say nothing about the time left
                    pace.skip()
            terms = run.step(step, pixels)

            speed = pace.tick() * config.batch_size
            report = StepReport(step, (step + 1) * config.batch_size, *terms, run.learning_rate(step), speed)
            run.recent.append(terms)
            logs.write(report)
            if on_step is not None:
                on_step(report)

            done = step + 1
            if received:
                save(done)
                return _stopped(received[0], done, config)
            if done % config.save_every == 0 or done == config.steps:
                try:
                    save(done)
                    failed_saves = 0
                except OutputError as error:
                    failed_saves += 1
                    if failed_saves == FAILED_SAVES or done == config.steps:
                        raise
                    log.warning("%s; training goes on, the last good checkpoint stays", error)
        logs.preview(config.steps, run.net)
    return config.output


class TrainingRun:
    """The network, its optimizer and everything else that changes from step to step."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        torch.manual_seed(config.seed)
        self.net = self._make_net().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.painter: nn.Module = cast(nn.Module, torch.compile(self.net)) if config.compile else self.net
        self.dtype = pick_precision(config.precision, device)
        self.loss = self._make_loss()
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=config.learning_rate, fused=device.type == "cuda")
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype is torch.float16)
        self.recent: deque[tuple[float, float, float, float]] = deque(maxlen=20)

    def step(self, step: int, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> tuple[float, float, float, float]:
        """One optimizer step on uint8 (N, size, size, 3) crops; the weighted content, style, tv and total loss."""
        crops = (
            torch.from_numpy(pixels).to(self.device, non_blocking=True).permute(0, 3, 1, 2)
        )  # channels_last by layout
        content = crops.float() / 255  # (N, 3, size, size) 0..1
        with self._autocast():
            terms: LossTerms = self.loss(self.painter(content), content)

        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(terms.total).backward()  # type: ignore[no-untyped-call]
        values = [float(value) for value in torch.stack([*terms, terms.total]).detach().cpu()]
        self._check_finite(step, values)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return values[0], values[1], values[2], values[3]

    def learning_rate(self, step: int) -> float:
        config = self.config
        if config.schedule == "constant":
            return config.learning_rate
        return config.learning_rate * (0.05 + 0.95 * (1 + math.cos(math.pi * step / config.steps)) / 2)

    def save(self, step: int, photographs: Photographs) -> None:
        """Write checkpoint and resume state, both atomically, after so many steps."""
        config = self.config
        moments = self.optimizer.state_dict()["state"]
        tensors = {f"net.{name}": tensor.detach().cpu().contiguous() for name, tensor in self.net.state_dict().items()}
        for index, values in moments.items():
            tensors |= {f"adam.{index}.{name}": tensor.detach().cpu().contiguous() for name, tensor in values.items()}
        held_out = [photographs.name(path) for path in photographs.held_out]
        tensors["random.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        values = {
            "step": step,
            "config": config.to_json(),
            "recent": list(self.recent),
            "scaler": self.scaler.state_dict(),
            "photographs": len(photographs.files),
            "held_out": held_out,
            "painting": self.painting,
            "unusable": {str(path): reason for path, reason in photographs.unusable.items()},
        }
        save_state(config.state_path, TrainState(tensors, values))
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
            images_seen=step * config.batch_size,
            losses=dict(zip(("content", "style", "tv", "total"), means, strict=False)),
            held_out=held_out,
        )

    def resume(self, photographs: Photographs) -> int:
        """Take over the newest valid state of an interrupted run; the step to go on with, 0 if there is none."""
        path = self.config.state_path
        candidates = [candidate for candidate in _states(self.config) if candidate.exists()]
        if not candidates:
            log.warning("nothing to resume at %s; training starts from the beginning", show(path))
            return 0
        for candidate in candidates:
            try:
                state = load_state(candidate)
            except ModelError as error:
                log.warning("%s", error)
                failure = error
                continue
            step = self._restore(state)
            os.replace(candidate, path)  # before the next save puts a damaged one in the place of this one
            photographs.keep_apart(state.values.get("held_out", []))
            now = len(photographs.files)
            if (before := state.values.get("photographs", now)) != now:
                log.warning("there were %d photographs and are %d: the run goes on in another order", before, now)
            return step
        raise failure

    def _restore(self, state: TrainState) -> int:
        _check_same(state.values["config"], self.config.to_json())
        if state.values["painting"] != self.painting:
            raise UsageError(f"{show(self.config.style)} is not the painting of the interrupted run; give that one")
        step, steps = int(state.values["step"]), self.config.steps
        if step > steps:
            raise UsageError(f"--steps is {steps} but the interrupted run has done {step} already; give at least that")
        tensors = state.tensors
        self.net.load_state_dict({name[4:]: t for name, t in tensors.items() if name.startswith("net.")})
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("adam."):
                _, index, kind = name.split(".")
                # As the optimizer made it: another layout may round differently.
                layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
                moments.setdefault(int(index), {})[kind] = tensor.contiguous(memory_format=layout)
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.scaler.load_state_dict(state.values["scaler"])
        self.recent.extend(tuple(values) for values in state.values["recent"])
        torch.set_rng_state(tensors["random.cpu"])
        if self.device.type == "cuda" and "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"], self.device)
        return step

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

    def _make_loss(self) -> PerceptualLoss:
        config = self.config
        default = DEFAULT_WEIGHTS[config.loss]
        given = {"content": config.content_weight, "style": config.style_weight, "tv": config.tv_weight}
        weights = replace(default, **{name: value for name, value in given.items() if value is not None})
        layers = [*config.content_layers, *config.style_layers]
        features = VGGFeatures(layers, config.vgg, config.pooling).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        painting = read_picture(config.style)
        scale = config.style_size / max(painting.size)
        painting = resize(painting, *(max(1, round(side * scale)) for side in painting.size))
        self.painting = hashlib.sha256(painting.rgb.tobytes()).hexdigest()
        style = torch.from_numpy(to_array(painting.rgb)).to(self.device)  # (1, 3, H, W) 0..1
        loss = PerceptualLoss(features, style, weights, config.loss, config.content_layers, config.style_layers)
        return loss.to(self.device)

    def _autocast(self) -> Any:
        return nullcontext() if self.dtype is torch.float32 else torch.autocast(self.device.type, dtype=self.dtype)

    def _check_finite(self, step: int, values: list[float]) -> None:
        """Stop before a step that would spoil the weights."""
        gradients = [p.grad for p in self.net.parameters() if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients))
        overflow = self.scaler.is_enabled() and math.isfinite(
            values[3]
        )  # the scaler skips such a step and lowers its scale
        # A gradient of exactly zero is the end too: every pixel is stuck beyond black or white.
        if all(map(math.isfinite, values)) and ((math.isfinite(norm) and norm > 0) or overflow):
            return
        report = {
            "step": step,
            **{name: repr(value) for name, value in zip(("content", "style", "tv", "total"), values, strict=True)},
            "gradient_norm": repr(norm),
            "lr": self.learning_rate(step),
            "first_position": step * self.config.batch_size,
        }
        path = self.config.log_folder / "diverged.json"
        try:
            write_bytes(path, json.dumps(report, indent=2).encode())
        except OutputError as error:
            log.warning("%s", error)
        raise DivergedError(
            f"the loss or its gradient is not finite, or vanished, at step {step} (details in {show(path)}); "
            "the last good checkpoint, if any, stays: lower --learning-rate, or use --precision fp32"
        )


def pick_precision(precision: str, device: torch.device) -> torch.dtype:
    """The arithmetic of the convolutions: "auto" is bf16 where the hardware computes it, float32 elsewhere."""
    names = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if precision != "auto":
        return names[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return (
        torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else torch.float32
    )


def _check_outputs(config: TrainConfig) -> None:
    interrupted = any(path.exists() for path in _states(config))
    if interrupted and not (config.resume or config.overwrite):
        raise OutputError(
            f"a run of {show(config.output)} is there already; --resume continues it, --overwrite starts again"
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


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect the first signal instead of dying of it; a second one acts at once."""
    received: list[int] = []
    before: dict[int, Any] = {}

    def receive(number: int, _: object) -> None:
        received.append(number)
        for name in before:
            signal.signal(name, signal.SIG_DFL)

    try:
        before = {number: signal.signal(number, receive) for number in SIGNALS}
    except ValueError:  # not the main thread, where signals are somebody else's
        pass
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stopped(number: int, step: int, config: TrainConfig) -> Path:
    message = f"stopped by {signal.Signals(number).name} after step {step} and saved; continue with --resume"
    if number == signal.SIGUSR1:
        log.warning("%s", message)
        return config.output
    raise Interrupted(message, number)
