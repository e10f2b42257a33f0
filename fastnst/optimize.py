"""The slow way: a picture whose pixels are the parameters, found by L-BFGS (Gatys et al. 2015)."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class Iterate(NamedTuple):
    """A picture (N, 3, H, W) 0..1 after so many iterations, its loss, and the evaluations of the loss it took."""

    iteration: int
    evaluations: int
    loss: float
    picture: Tensor


def descend(objective: Callable[[Tensor], Tensor], start: Tensor, iterations: int) -> Iterator[Iterate]:
    """Minimize objective(picture) -> scalar over pictures of 0..1: the start, then one Iterate an iteration.

    L-BFGS with a history of 100 and a strong Wolfe line search; ends early where no step makes the loss smaller.

    Source: Johnson et al. 2016, section 4.1, projected L-BFGS: pixels are clipped to 0..1 at each iteration. Differs:
    the line search follows the clipped path too, and the curvature is that of the clipped step, so that no evaluation
    is lost to clipping and the loss never rises.
    """
    pixels = start.detach().clamp(0, 1).requires_grad_()
    # No tolerances, which are absolute: how small a gradient is depends on the size of the picture.
    optimizer = torch.optim.LBFGS(
        [pixels], max_iter=1, history_size=100, line_search_fn="strong_wolfe", tolerance_grad=0, tolerance_change=0
    )
    known = _Evaluations(objective)

    def closure() -> Tensor:
        loss, gradient = known(pixels.detach().clamp(0, 1))
        outward = (pixels <= 0) & (gradient > 0) | (pixels >= 1) & (gradient < 0) | (pixels < 0) | (pixels > 1)
        pixels.grad = gradient.masked_fill(outward, 0)
        return loss

    for iteration in range(iterations + 1):
        if iteration:
            before = pixels.detach().clone()
            optimizer.step(closure)  # type: ignore[no-untyped-call]
            with torch.no_grad():
                pixels.clamp_(0, 1)
            # What the optimizer takes for its last step when it estimates the curvature.
            optimizer.state[pixels].update(d=(pixels.detach() - before).flatten(), t=1.0)
            if torch.equal(before, pixels):
                return
        loss, _ = known(pixels.detach())
        known.keep_last()
        yield Iterate(iteration, known.count, float(loss), pixels.detach().clone())


class _Evaluations:
    """Loss and gradient at pictures, remembered, because each iteration asks again where the one before it ended."""

    def __init__(self, objective: Callable[[Tensor], Tensor]) -> None:
        self.objective = objective
        self.count = 0
        self.recent: list[tuple[Tensor, Tensor, Tensor]] = []

    def __call__(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        for index, (seen, loss, gradient) in enumerate(self.recent):
            if torch.equal(seen, picture):
                self.recent.append(self.recent.pop(index))
                return loss, gradient
        variable = picture.clone().requires_grad_()
        loss = self.objective(variable)
        (gradient,) = torch.autograd.grad(loss, variable)
        self.count += 1
        self.recent.append((picture.clone(), loss.detach(), gradient))
        return loss.detach(), gradient

    def keep_last(self) -> None:
        """Forget all pictures but the one asked for last."""
        del self.recent[:-1]
