"""Muon for convolutions (Jordan et al. 2024), Adam for everything else, as one optimizer of torch's kind."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from fastnst.optimizers import Optimizer

MOMENTUM = 0.95
BETAS = (0.9, 0.99)
EPSILON = 1e-8
# Of the iteration by Jordan et al.: within five, all singular values between 0.7 and 1.2, which is as good as 1.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Muon(Optimizer):
    """Each kernel moves by the orthogonal matrix nearest to its gradient, other weights as Adam moves them.

    A kernel (o, i, h, w) counts as the matrix (o, i * h * w): all directions in which its outputs can change get steps
    of the same length, where Adam's go along the few with the largest gradients. Rates are those of the kernels;
    other weights, norms and biases, are learned at a tenth of it.

    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Move all weights that have a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if weight.ndim == 4:
                    self._orthogonal_step(weight, weight.grad, group["lr"])
                else:
                    self._adam_step(weight, weight.grad, group["lr"] / 10)

    def _orthogonal_step(self, weight: Tensor, gradient: Tensor, rate: float) -> None:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        ahead = gradient.lerp(momentum, MOMENTUM)  # Nesterov's
        matrix = orthogonalized(ahead.flatten(1))
        rows, columns = matrix.shape
        weight.add_(matrix.view(weight.shape), alpha=-rate * math.sqrt(max(1, rows / columns)))

    def _adam_step(self, weight: Tensor, gradient: Tensor, rate: float) -> None:
        state = self.state[weight]
        if not state:
            state |= {name: torch.zeros_like(weight) for name in ("exp_avg", "exp_avg_sq")}
            state["step"] = torch.zeros(())
        state["step"] += 1
        count = float(state["step"])
        mean = state["exp_avg"].lerp_(gradient, 1 - BETAS[0])
        square = state["exp_avg_sq"].lerp_(gradient.square(), 1 - BETAS[1])
        size = (square / (1 - BETAS[1] ** count)).sqrt_().add_(EPSILON)
        weight.addcdiv_(mean, size, value=-rate / (1 - BETAS[0] ** count))


def orthogonalized(matrix: Tensor) -> Tensor:
    """About the nearest matrix with orthonormal rows, or columns where there are fewer: (r, c) -> (r, c) float32.

    By Newton and Schulz's iteration, without a singular value decomposition.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = matrix.float().mT if tall else matrix.float()
    x = x / (x.norm() + 1e-12)
    a, b, c = NEWTON_SCHULZ
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    result: Tensor = x.mT if tall else x
    return result
