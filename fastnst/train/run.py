"""What changes from step to step: the network and its optimizer; and the step itself."""

import hashlib
import logging
import math
from collections import deque
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from fastnst.config import TrainConfig, layer_weights
from fastnst.device import autocast, pick_precision
from fastnst.errors import UnavailableError
from fastnst.image import Picture, read_style, resize, scale_longer, to_array
from fastnst.losses import LossValues, LossWeights, PerceptualLoss, open_features, open_loss
from fastnst.nets import droplets
from fastnst.nets.droplets import Droplets
from fastnst.nets.grain import drawn_grain
from fastnst.optimizers import Adam
from fastnst.temporal import Jolt
from fastnst.train.grams import RecentGrams, picture_share
from fastnst.train.lanes import Lanes, lane_count, one_thread
from fastnst.train.memory import Memory, OutOfMemory
from fastnst.train.optimizer import Muon
from fastnst.train.ranks import Ranks
from fastnst.train.start import FORGETTING, fold_droplets, has_droplets, open_net, start_file
from fastnst.vgg import Padding

log = logging.getLogger(__name__)

CAUTION = 0.25  # times the learning rate each time the run goes back: three of them cover rates up to 64 times too high
RECENT = 20  # steps whose mean losses the checkpoint's header holds
STYLIZED = 256  # pixels, side of the style image on which a network to start from shows whether it has droplets


class NotFinite(Exception):
    """A step that would spoil the weights: its losses and more, ready for diverged.json."""

    def __init__(self, details: dict[str, Any]) -> None:
        super().__init__(f"the loss or its gradient is not finite, or vanished, at step {details['step']}")
        self.details = details


class Part(NamedTuple):
    """Photographs of a batch that are computed at once."""

    pixels: Tensor  # uint8 (n, side, side, 3), where a side is --size and twice the network's margin
    position: int  # of the first, in the run
    share: float  # of the batch
    target: dict[str, Tensor] | None = None  # content features, if known


class Batch(NamedTuple):
    """A batch in its parts; the energies of its content features over all parts and ranks, if there are several."""

    parts: list[Part]
    picture_share: float
    energies: Tensor | None = None
    lanes: int = 1  # parts that are computed at once


class Gradients(NamedTuple):
    """Of a batch, or the share of a part in it."""

    of_parameters: list[Tensor]
    losses: Tensor  # the fields of LossValues
    grams: dict[str, Tensor]  # mean Gram matrices of the stylized photographs, (1, C, C) each


class TrainingRun:
    """The network, its optimizer and everything else that changes from step to step; the same on all ranks."""

    def __init__(self, config: TrainConfig, device: torch.device, ranks: Ranks | None = None) -> None:
        self.config, self.device, self.ranks = config, device, ranks or Ranks()
        self.memory = Memory(device, self.ranks, min(config.micro_batch or config.batch_size, config.batch_size))
        torch.manual_seed(config.seed)
        self.net = open_net(config).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.stylize: nn.Module = cast(nn.Module, torch.compile(self.net)) if config.compile else self.net
        self.dtype = pick_precision(config.precision, device)
        style = read_style(config.style, config.style_size)
        self.style_digest = hashlib.sha256(style.rgb.tobytes()).hexdigest()
        self.droplet_weight, self.limited = self._droplets(style)
        self.loss = self._open_loss(style)
        self.optimizer = _open_optimizer(config, self.net)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype is torch.float16)
        self.recent: deque[LossValues] = deque(maxlen=RECENT)
        self.grams = RecentGrams()
        self.lanes = Lanes()
        self.rollbacks = 0

    def fold_droplets(self, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        """Before the first step, if they are limited: see `start.fold_droplets`, by uint8 (N, side, side, 3) crops."""
        fold_droplets(self.net, self._content(torch.from_numpy(pixels)), self.ranks.average)

    def step(self, step: int, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> LossValues:
        """One optimizer step on this rank's uint8 (N, side, side, 3) crops; its losses, means over all ranks.

        Raises NotFinite before the weights are spoiled, UnavailableError if not even one crop fits into memory.
        """

        split = partial(self._split, step, torch.from_numpy(pixels))
        gradients, losses, grams = self.memory.retry(self._gradients, split, self.config.size)
        with one_thread(self.device):
            self.ranks.average([*gradients, losses, *grams.values()])
            values = LossValues(*losses.tolist())
            for parameter, gradient in zip(self.net.parameters(), gradients, strict=True):
                parameter.grad = gradient
            self._check_finite(step, values, gradients)
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate(step)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.recent.append(values)
            if self.config.loss == "relative":  # the others are those of their papers
                self.grams.add(grams, len(pixels) * self.ranks.count)
        return values

    def _gradients(self, batch: Batch) -> Gradients:
        """Of a batch's objective, times the scaler's scale."""
        parts = self.lanes.map(partial(self._part, batch), batch.parts, batch.lanes)
        whole = next(parts)
        for part in parts:
            for gradient, other in zip(whole.of_parameters, part.of_parameters, strict=True):
                gradient += other
            whole.losses.add_(part.losses)
            for name, gram in whole.grams.items():
                gram += part.grams[name]
        return whole

    def _part(self, batch: Batch, part: Part) -> Gradients:
        """The share that a part has in those of its batch."""
        content = self._content(part.pixels)  # (n, 3, side, side) 0..1
        with autocast(self.device, self.dtype):
            grain = self._grain(part, content)
            found = Droplets(self.limited) if self.droplet_weight else None
            stylized = self.stylize(content, grain, found)  # (n, 3, side, side) 0..1
            middle = self._middle(stylized)  # (n, 3, size, size)
            objective, terms, grams = self.loss.objective(
                middle, part.target or self._middle(content), batch.energies, self.grams.means, batch.picture_share
            )
            flicker = [self._flicker(part, content, grain, stylized)] if self.config.temporal_weight else []
            penalty = self.loss.grid(middle) + self.droplet_weight * sum(found.energies if found else [])
        objective = self.scaler.scale(sum(flicker, objective + penalty) * part.share)
        gradients = torch.autograd.grad(objective, list(self.net.parameters()))
        losses = torch.stack([*terms, terms.total, *flicker]).detach() * part.share
        return Gradients(list(gradients), losses, {name: gram * part.share for name, gram in grams.items()})

    def learning_rate(self, step: int) -> float:
        """The rate of a step: constant, or falling like a cosine to a twentieth; less after going back."""
        config = self.config
        rate = config.rate * CAUTION**self.rollbacks
        if config.schedule == "constant":
            return rate
        return rate * (0.05 + 0.95 * (1 + math.cos(math.pi * step / config.steps)) / 2)

    def _split(self, step: int, pixels: Tensor, micro_batch: int) -> Batch:
        """The batch in parts; if it is but a part of something, with what the loss has to know of the whole."""
        position = (step * self.ranks.count + self.ranks.rank) * self.config.batch_size
        parts, share = [], picture_share(step / self.config.steps)
        lanes = 1 if self.config.compile else lane_count(self.device, micro_batch)
        for piece in torch.split(pixels, math.ceil(micro_batch / lanes)):
            parts.append(Part(piece, position, len(piece) / len(pixels)))
            position += len(piece)
        if len(parts) == 1 and self.ranks.count == 1:
            return Batch(parts, share)

        def target(part: Part) -> dict[str, Tensor]:
            with autocast(self.device, self.dtype):
                return self.loss.targets(self._middle(self._content(part.pixels)))

        def measured() -> tuple[list[dict[str, Tensor]], Tensor]:
            targets = list(self.lanes.map(target, parts, lanes))
            shares = [self.loss.energies(target) * part.share for part, target in zip(parts, targets, strict=True)]
            return targets, torch.stack(shares).sum(0)

        targets, energies = self.memory.within(measured)
        self.ranks.average([energies])
        known = [part._replace(target=target) for part, target in zip(parts, targets, strict=True)]
        return Batch(known, share, energies, lanes)

    def _content(self, pixels: Tensor) -> Tensor:
        """uint8 (N, side, side, 3) -> (N, 3, side, side) 0..1, channels_last by layout."""
        return pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float() / 255

    def _middle(self, images: Tensor) -> Tensor:
        """What the loss is of, (N, 3, side, side) -> (N, 3, size, size): all but the margin, which no picture shows.

        Else networks learn to make a frame of strokes there, because it pleases the loss of a small crop.
        """
        margin = self.net.config.margin
        return images[..., margin : images.shape[-2] - margin, margin : images.shape[-1] - margin]

    def _grain(self, part: Part, content: Tensor) -> Tensor | None:
        """The noise of a place of its own for each photograph, or the network would learn one by heart."""
        if not self.net.config.grain:
            return None
        positions, size = range(part.position, part.position + len(content)), content.shape[-2:]
        drawn = np.stack([drawn_grain(self.config.seed, position, *size) for position in positions])
        return torch.from_numpy(drawn).to(self.device)

    def _flicker(self, part: Part, content: Tensor, grain: Tensor | None, stylized: Tensor) -> Tensor:
        """The weighted penalty for a part that is stylized otherwise after a small movement of the camera: scalar."""
        height, width = content.shape[-2:]
        jolt = Jolt.draw(self.config.seed, range(part.position, part.position + len(content)), (height, width))
        again = self.stylize(jolt.content(content), grain, Droplets(limited=True) if self.limited else None)
        return self.config.temporal_weight * self.loss.scaled(jolt.distance(again, stylized))

    def _check_finite(self, step: int, losses: LossValues, gradients: list[Tensor]) -> None:
        norm = float(torch.nn.utils.get_total_norm(gradients))
        values = {name: value for name, value in losses._asdict().items() if value is not None}
        # The scaler skips such a step and lowers its scale; below 1 that is no cure.
        overflow = self.scaler.is_enabled() and self.scaler.get_scale() >= 1
        # A gradient of exactly zero is the end too: every pixel is stuck beyond black or white.
        if all(map(math.isfinite, values.values())) and ((math.isfinite(norm) and norm > 0) or overflow):
            return
        raise NotFinite(
            {
                "step": step,
                **{name: repr(value) for name, value in values.items()},
                "gradient_norm": repr(norm),
                "lr": self.learning_rate(step),
                "first_position": step * self.config.batch_size * self.ranks.count,
            }
        )

    def _droplets(self, style: Picture) -> tuple[float, bool]:
        """The weight of the penalty, in the relative form: the others are those of their papers; and whether to limit.

        Limited where the start paints with droplets, unless the training is too short to do without, and then there is
        no penalty, either.
        """
        if self.config.loss != "relative":
            return 0.0, False
        content = torch.from_numpy(to_array(resize(style, STYLIZED, STYLIZED).rgb)).to(self.device)
        if start_file(self.config) is None or not has_droplets(self.net, content):
            return droplets.WEIGHT, False
        return (droplets.WEIGHT, True) if self.config.steps >= FORGETTING else (0.0, False)

    def _open_loss(self, style: Picture) -> PerceptualLoss:
        """The loss of the style image, which is made smaller while it does not fit into memory."""
        config = self.config
        weights = LossWeights.resolve(config.loss, config.content_weight, config.style_weight, config.tv_weight)
        layers = layer_weights(config.content_layers), layer_weights(config.gram_layers)
        # Beyond a picture zeros are gray, and networks learn to fade into it, in a frame.
        padding: Padding = "replicate" if config.loss == "relative" else "zeros"
        features = open_features([*layers[0], *layers[1]], self.device, config.vgg, config.pooling, padding)
        opened = partial(open_loss, vgg=features, files=[config.style])
        while True:
            try:
                return self.memory.within(partial(opened, [style], weights, self.device, config.loss, *layers))
            except OutOfMemory:
                before, size = max(style.size), max(style.size) * 3 // 4
            if size < 32:
                raise UnavailableError(
                    f"the loss network does not fit into the memory of {self.device}; free some, or use another device"
                )
            style = scale_longer(style, size)
            if self.ranks.first:
                log.warning("the style does not fit into memory at %d pixels and is scaled to %d", before, size)


def _open_optimizer(config: TrainConfig, net: nn.Module) -> torch.optim.Optimizer:
    if config.optimizer == "muon":
        return Muon(net.parameters(), config.rate)
    return Adam(net.parameters(), lr=config.rate, fused=next(net.parameters()).is_cuda)
