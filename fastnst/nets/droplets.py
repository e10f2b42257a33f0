"""Droplets: places where all features are far larger than anywhere else in a picture."""

import torch
from torch import Tensor

LIMIT = 4.0  # times the mean energy; photographs have edges of up to 15 times, but few of them
WEIGHT = 1.0  # of the penalty in training, in the relative form: a third as much took them away, too, but more slowly
NEGLIGIBLE = 0.1  # sum of the shares of all norms: networks with droplets have 0.28 to 2.4, others at most 0.01


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
