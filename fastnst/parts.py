"""The loss of a batch that does not fit into memory, or onto one device, from its parts."""

from collections.abc import Iterator

import torch
from torch import Tensor

from fastnst.losses import LossTerms, PerceptualLoss, at_least_float32

__all__ = ["PartLoss"]


class PartLoss(PerceptualLoss):
    """PerceptualLoss of a part of a batch, so that the mean over equal parts is the loss of the whole batch.

    Only the relative content term needs to know the whole: it is divided by the mean energy of the batch's features.
    `energies` holds that, (content layers,) float32; None if the part is the whole.
    """

    energies: Tensor | None = None

    def measure(self, targets: dict[str, Tensor]) -> Tensor:
        """The energies of a part alone, (content layers,), of which those of the whole are the mean."""
        return torch.stack([at_least_float32(targets[name]).square().mean() for name in self.content_layers])

    def forward(self, stylized: Tensor, content: Tensor | dict[str, Tensor]) -> LossTerms:
        self._whole: Iterator[Tensor] | None = None if self.energies is None else iter(self.energies)
        return super().forward(stylized, content)

    def _distance(self, given: Tensor, target: Tensor) -> Tensor:
        distance = super()._distance(given, target)
        if self._whole is None or self.form == "paper" or target.ndim < 4:  # a Gram matrix is the same for all parts
            return distance
        part = at_least_float32(target).square().mean()
        return distance * part.clamp(min=1e-12) / next(self._whole).clamp(min=1e-12)
