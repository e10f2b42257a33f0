"""Optimization of pixels: descending a loss by L-BFGS or Adam."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastnst.device import keep_freed_memory
from fastnst.optimizers import LBFGS, Adam

LINE_SEARCH = 25  # evaluations in one iteration, at most


class Iterate(NamedTuple):
    """A picture (N, 3, H, W) 0..1 after a number of iterations, its loss, and the evaluations of the loss it took."""

    iteration: int
    evaluations: int
    loss: float
    picture: Tensor


def descend_lbfgs(objective: Callable[[Tensor], Tensor], start: Tensor, iterations: int) -> Iterator[Iterate]:
    """Minimize objective(picture) -> scalar over pictures of 0..1: the start, then one Iterate an iteration.

    L-BFGS with a history of 100 and a strong Wolfe line search; ends early where not even a step along the gradient
    makes the loss smaller.

    Source: Johnson et al. 2016, section 4.1, projected L-BFGS: pixels are clipped to 0..1 at each iteration. Differs:
    the line search follows the clipped path too, and the curvature is that of the clipped step, so that no evaluation
    is lost to clipping and the loss never rises.
    """
    pixels = _pixels(start)
    optimizer = LBFGS(
        [pixels],
        max_iter=1,
        max_eval=LINE_SEARCH,
        history_size=100,
        line_search_fn="strong_wolfe",
        # No tolerances, which are absolute: how small a gradient is depends on the size of the picture.
        tolerance_grad=0,
        tolerance_change=0,
    )
    evaluations = _Evaluations(objective)
    for iteration in range(iterations + 1):
        loss, _ = evaluations(pixels.detach())
        yield Iterate(iteration, evaluations.count, float(loss), pixels.detach().clone())
        if iteration == iterations:
            return
        if not _advance(pixels, optimizer, evaluations):
            optimizer.state.clear()  # a direction spoilt by rounding; without its history it is the gradient's
            if not _advance(pixels, optimizer, evaluations):
                return


class AdamState(NamedTuple):
    """Adam's moments, (N, 3, H, W), and the steps they are from."""

    step: int
    mean: Tensor
    square: Tensor

    def resized(self, height: int, width: int) -> "AdamState":
        """For the same picture at another size."""
        mean, square = (
            F.interpolate(moment, (height, width), mode="bilinear", antialias=True)
            for moment in (self.mean, self.square)
        )
        return AdamState(self.step, mean, square)


def descend_adam(
    objective: Callable[[Tensor], Tensor],
    start: Tensor,
    iterations: int,
    learning_rate: float,
    state: list[AdamState] | None = None,
) -> Iterator[Iterate]:
    """Like descend_lbfgs, by Adam (Kingma and Ba 2014): one evaluation an iteration, pixels clipped after each.

    `state` holds the moments to go on with, if any, and is left holding the newest.
    """
    pixels = _pixels(start)
    optimizer = Adam([pixels], lr=learning_rate)
    state = [] if state is None else state
    if state:
        step, mean, square = state[-1]
        optimizer.state[pixels] = {
            "step": torch.tensor(float(step)),
            "exp_avg": mean.clone(),
            "exp_avg_sq": square.clone(),
        }
    for iteration in range(iterations + 1):
        last = iteration == iterations
        with torch.set_grad_enabled(not last):
            loss = objective(pixels)
        yield Iterate(iteration, iteration + 1, float(loss.detach()), pixels.detach().clone())
        if last:
            return
        (pixels.grad,) = torch.autograd.grad(loss, pixels)
        optimizer.step()
        pixels.data.clamp_(0, 1)
        moments = optimizer.state[pixels]
        state[:] = [AdamState(int(moments["step"]), moments["exp_avg"], moments["exp_avg_sq"])]


def _pixels(start: Tensor) -> Tensor:
    """What is optimized; each evaluation of it asks for the same memory again."""
    if start.device.type == "cpu":
        keep_freed_memory()
    return start.detach().clamp(0, 1).contiguous().requires_grad_()


def _advance(pixels: Tensor, optimizer: LBFGS, evaluations: "_Evaluations") -> bool:
    """One iteration; whether it moved the pixels."""
    before = pixels.detach().clone()
    _, gradient = evaluations(before)
    evaluations.keep_last()
    # Pixels that the gradient holds at black or white stay there, whatever the optimizer's direction says.
    held = (before <= 0) & (gradient > 0) | (before >= 1) & (gradient < 0)

    def clipped() -> Tensor:
        return torch.where(held, before, pixels.detach().clamp(0, 1))

    def closure() -> Tensor:
        loss, gradient = evaluations(clipped())
        pixels.grad = gradient.masked_fill(held | (pixels < 0) | (pixels > 1), 0)
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    after = clipped()
    pixels.data.copy_(after)
    # What the optimizer takes for its last step when it estimates the curvature.
    optimizer.state[pixels].update(d=(after - before).flatten(), t=1.0)
    return not torch.equal(before, after)


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
        # Convolutions may return another layout, which torch's L-BFGS does not take.
        self.recent.append((picture.clone(), loss.detach(), gradient.contiguous()))
        return self.recent[-1][1:]

    def keep_last(self) -> None:
        """Forget all pictures but the one asked for last."""
        del self.recent[:-1]
