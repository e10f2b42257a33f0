"""Where to step in a dream: the gradient of a picture, tile by tile, and what makes a step of it."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

MARGIN = 32  # pixels around a tile that its gradient sees; a random grid hides what lies farther
# The root of the covariance of colors in photographs, whose largest value is 1 (of the matrix of Olah et al. 2017,
# "Feature Visualization"): steps along it go through colors that belong together instead of shrill ones.
COLORS = ((0.4561, 0.2762, 0.2042), (0.2762, 0.4102, 0.2802), (0.2042, 0.2802, 0.4803))


class Tile(NamedTuple):
    """A part of a picture, what is seen of its neighbors too, where it lies in that, and its share of the picture."""

    own: tuple[slice, slice]
    seen: tuple[slice, slice]
    inside: tuple[slice, slice]
    share: float


def tiles(height: int, width: int, rows: Sequence[int], columns: Sequence[int]) -> Iterator[Tile]:
    """The parts of a picture cut at these rows and columns, each with MARGIN pixels of its neighbors."""
    for top, bottom in zip([0, *rows], [*rows, height], strict=True):
        for left, right in zip([0, *columns], [*columns, width], strict=True):
            y, x = max(top - MARGIN, 0), max(left - MARGIN, 0)
            yield Tile(
                own=(slice(top, bottom), slice(left, right)),
                seen=(slice(y, min(bottom + MARGIN, height)), slice(x, min(right + MARGIN, width))),
                inside=(slice(top - y, bottom - y), slice(left - x, right - x)),
                share=(bottom - top) * (right - left) / (height * width),
            )


def cuts(length: int, tile: int, offset: int, least: int) -> list[int]:
    """Where a side is cut: every `tile` pixels from the offset on, never closer than `least` to its ends."""
    return [cut for cut in range(offset, length, tile) if least <= cut <= length - least]


def tiled_gradient(
    objective: Callable[[Tensor], Tensor], picture: Tensor, factors: Tensor, rows: Sequence[int], columns: Sequence[int]
) -> tuple[float, Tensor]:
    """The sum of factors times terms, mean over tiles by their share, and its gradient at a picture (1, 3, H, W).

    The picture is cut at these rows and columns, so that memory is bounded by the tile; what a tile sees of its
    neighbors lets the gradient go on across the cuts.
    """
    height, width = picture.shape[-2:]
    gradient = torch.empty_like(picture)
    loss = 0.0
    for tile in tiles(height, width, rows, columns):
        seen = picture[..., *tile.seen].detach().requires_grad_()
        with torch.enable_grad():
            value = (factors * objective(seen)).sum()
            (own,) = torch.autograd.grad(value, seen)
        # The mean over what the tile sees as a part of the mean over the whole picture.
        gradient[..., *tile.own] = own[..., *tile.inside] * (seen[0, 0].numel() / (height * width))
        loss += float(value.detach()) * tile.share
    return loss, gradient


def smooth(gradient: Tensor, sigma: float) -> Tensor:
    """The way to step from a gradient (N, 3, H, W): deviation 1, colors as in photographs.

    A cascade: the sum of the gradient blurred by half of sigma, sigma and twice sigma pixels.
    """
    if sigma > 0:
        gradient = blur(gradient, sigma / 2) + blur(gradient, sigma) + blur(gradient, 2 * sigma)
    gradient = torch.einsum("ij,njhw->nihw", torch.tensor(COLORS).to(gradient), gradient)
    return (gradient - gradient.mean()) / (gradient.std() + 1e-12)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur, with the border repeated: (N, C, H, W) -> the same."""
    radius = max(1, round(3 * sigma))
    x = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-(x**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).view(1, 1, -1)
    planes = F.pad(images.flatten(0, 1)[:, None], (radius,) * 4, mode="replicate")  # (N*C, 1, H+2r, W+2r)
    return F.conv2d(F.conv2d(planes, kernel[:, None]), kernel[..., None]).view_as(images)
