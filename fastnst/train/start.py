"""The network that a run starts from, and how one that paints with droplets becomes one that does without."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from fastnst.checkpoint import load_checkpoint
from fastnst.config import TrainConfig, TrainOptions
from fastnst.errors import UsageError
from fastnst.nets.droplets import NEGLIGIBLE, Droplets
from fastnst.nets.spec import PRESETS
from fastnst.nets.torch_net import TransformerNet
from fastnst.styles import style_file, trunk_file

FORGETTING = 300  # steps in which a network learns to do without droplets; shorter trainings leave them
CROPS = 16  # by which norms are set anew

Moments = tuple[Tensor, Tensor]  # means and standard deviations, (N, C)


def start_file(config: TrainOptions) -> Path | None:
    """The checkpoint that a run starts from, None for random weights; UsageError if there is no such bundled one."""
    if config.init == Path("none"):
        return None
    if config.init == Path("trunk"):
        return trunk_file(config.preset)
    return style_file(config.init, "checkpoint")


def open_net(config: TrainConfig) -> TransformerNet:
    """The network that a run starts with; UsageError if that of --init is another than --preset asks for."""
    net = TransformerNet(PRESETS[config.preset])
    if (start := start_file(config)) is not None:
        trained, meta = load_checkpoint(start)
        if replace(trained.config, grain=net.config.grain, margin=net.config.margin) != net.config:
            raise UsageError(
                f"--init {config.init} is a {meta.preset} network, not {config.preset}; use --preset {meta.preset}"
            )
        net.load_state_dict(trained.state_dict())
    return net


def has_droplets(net: TransformerNet, content: Tensor) -> bool:
    """Whether a network paints this with droplets: (N, 3, H, W) 0..1."""
    droplets = Droplets()
    with torch.no_grad():
        net(content, droplets=droplets)
    return bool(torch.stack(droplets.energies).sum() > NEGLIGIBLE)


def fold_droplets(net: TransformerNet, content: Tensor, average: Callable[[Sequence[Tensor]], None]) -> None:
    """Set the norms so that the network, where droplets are limited, paints as before, where there are none.

    By how much droplets dim and shift everything else hardly differs from picture to picture, so that the scales and
    shifts of the norms can do it as well. They are set one behind the other, by the means over `content`,
    (N, 3, H, W) 0..1, and over all processes, of which `average` makes the means of tensors.
    """
    before: list[Moments] = []
    with torch.no_grad():
        net(content, droplets=_AheadOfNorms(lambda norm, features: before.append(_moments(norm, features))))
        behind = iter(before)

        def fold(norm: nn.InstanceNorm2d, features: Tensor) -> None:
            (old_mean, old_deviation), (mean, deviation) = next(behind), _moments(norm, features)
            scale = (deviation / old_deviation).log().mean(0)
            shift = ((mean - old_mean) / old_deviation).mean(0)
            average([scale, shift])
            norm.bias.add_(norm.weight * shift)
            norm.weight.mul_(scale.exp())

        net(content, droplets=_AheadOfNorms(fold, limited=True))


class _AheadOfNorms(Droplets):
    """Droplets on whose way `see` gets each norm and what it is given, before it normalizes that."""

    def __init__(self, see: Callable[[nn.InstanceNorm2d, Tensor], None], limited: bool = False) -> None:
        super().__init__(limited)
        self.see = see

    def pass_on(self, features: Tensor, norm: nn.InstanceNorm2d) -> Tensor:
        given = super().pass_on(features, norm)
        self.see(norm, given)
        return given


def _moments(norm: nn.InstanceNorm2d, features: Tensor) -> Moments:
    pixels = features.float().flatten(2)
    return pixels.mean(2), (pixels.var(2, correction=0) + norm.eps).sqrt()
