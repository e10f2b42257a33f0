"""Droplets: places where all features are far larger than anywhere else in a picture."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

LIMIT = 4.0  # times the mean energy; photographs have edges of up to 15 times, but few of them
WEIGHT = 1.0  # of the penalty in training, in the relative form: a third as much took them away, too, but more slowly
NEGLIGIBLE = 0.1  # sum of the shares of all norms: networks with droplets have 0.28 to 2.4, others at most 0.01
HIGHEST = 12.0  # times the mean energy of the other pixels, to which droplets are limited; edges rarely reach it
BEYOND = 6.0  # times that mean: pixels that are not counted among the others
ROUNDS = 6  # of leaving out pixels, after which the others hardly change any more


def pixel_energy(features: Tensor, epsilon: float = 1e-5) -> Tensor:
    """The mean over the channels of squared normalized features: (N, C, H, W) -> (N, H, W), 1 in the mean.

    Without the gradient of the deviation: what a lone place does to it hides its size from the gradient. That of the
    mean is needed: a norm takes shifts away again, so that a penalty that sees an effect in them makes them grow
    without end.
    """
    with torch.autocast(features.device.type, enabled=False):
        pixels = features.float().flatten(2).mT  # (N, H*W, C), no copy under channels_last
        squares = (pixels - pixels.mean(1, keepdim=True)).square()
        inverse = 1 / (squares.detach().mean(1) + epsilon)  # (N, C)
        energy = torch.bmm(squares, inverse[..., None]) / features.shape[1]  # (N, H*W, 1)
        return energy.view(len(features), *features.shape[2:])


def droplet_share(energy: Tensor) -> Tensor:
    """What exceeds LIMIT in pixel energies, (N, H, W), as a share of all: scalar, 0..1."""
    return (energy - LIMIT).clamp(min=0).mean()


def droplet_energy(features: Tensor, epsilon: float = 1e-5) -> Tensor:
    """What exceeds LIMIT in the pixel energies of a norm's input, 0..1: (N, C, H, W) -> scalar, float32.

    Instance norms divide by a deviation that a network can set with one such place, and so dim all others. There, a
    picture has a spot or a flat patch; elsewhere the ReLU behind the norm has next to nothing to cut off.
    Source: Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", section 2.
    """
    return droplet_share(pixel_energy(features, epsilon))


@dataclass
class Droplets:
    """What the norms of a pass find of them, and whether they are held down on the way."""

    limited: bool = False
    energies: list[Tensor] = field(default_factory=list)  # a scalar of each norm

    def pass_on(self, features: Tensor, norm: nn.InstanceNorm2d) -> Tensor:
        """What a norm is given of its input, (N, C, H, W), whose droplet energy is kept."""
        self.energies.append(droplet_energy(features, norm.eps))
        return limit(features, norm.eps) if self.limited else features


def limit(features: Tensor, epsilon: float = 1e-5) -> Tensor:
    """Features whose droplets come as near to the mean as the energy HIGHEST allows: (N, C, H, W) -> the same.

    Energies are those of `pixel_energy`, but by mean and variance of the pixels that are no droplets. Where there are
    none, nothing changes. Gradients take for fixed by how much features come nearer.
    """
    with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
        mean, energy = _of_the_others(features.float(), epsilon)
        factor = (HIGHEST / energy.clamp(min=HIGHEST)).sqrt()
    return torch.lerp(mean.to(features.dtype), features, factor.to(features.dtype))


def _of_the_others(features: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """The mean without droplets, (N, C, 1, 1), and by it and the variance without them all energies, (N, 1, H, W)."""
    pixels = features.flatten(2)  # (N, C, H*W)
    others = torch.ones_like(pixels[:, :1])
    for _ in range(ROUNDS):
        share = (others / others.sum(2, keepdim=True)).mT  # (N, H*W, 1)
        mean = pixels @ share  # (N, C, 1)
        squares = (pixels - mean).square()
        inverse = 1 / (squares @ share + epsilon) / features.shape[1]
        energy = inverse.mT @ squares  # (N, 1, H*W)
        others = (energy <= BEYOND).float()
    return mean[..., None], energy.view(len(features), 1, *features.shape[2:])
