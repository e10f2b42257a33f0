"""Temporal consistency without optical flow, as a penalty for training; `metrics` has the number afterwards.

A still picture that is moved by a known amount shows everything: the stylized one should move with it, not flicker.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Together the paint strokes may land a few pixels elsewhere, which covers every phase of a network
# that computes at a quarter of the resolution.
SHIFT = 4.0  # pixels, to every side
ZOOM = 0.02  # share of the size
TURN = math.radians(1)
NOISE = 3 / 255  # standard deviation
EDGE = 2  # pixels at an edge where interpolation lacks neighbors


@dataclass(frozen=True)
class Jolt:
    """A small movement of each picture of a batch, and some noise: what a camera does between two frames."""

    matrices: Tensor  # (N, 2, 3) from places in the moved picture to places in the still one, pixels from its middle
    noise: Tensor  # (N, 3, H, W)

    @classmethod
    def draw(cls, seed: int, positions: Sequence[int], size: tuple[int, int]) -> "Jolt":
        """Those of pictures at these positions of a run: the same whenever, in whatever batch they are drawn."""
        drawn = [_draw(seed, position, size) for position in positions]
        return cls(torch.stack([matrix for matrix, _ in drawn]), torch.stack([noise for _, noise in drawn]))

    def content(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) 0..1, moved and with noise."""
        moved = move(images, self.matrices)
        return (moved + self.noise.to(moved)).clamp(0, 1).contiguous(memory_format=torch.channels_last)

    def distance(self, painted: Tensor, still: Tensor) -> Tensor:
        """Mean squared difference of moved pictures, stylized, and of stylized ones, moved, (N, 3, H, W) each: scalar.

        Source: Wang et al. 2020, "Consistent video style transfer via compound regularization", without optical flow
        and without a memory of frames; noise alone is "Stabilizing neural style transfer for video", Element AI 2018.
        """
        height, width = still.shape[-2:]
        reach = SHIFT + (ZOOM + TURN) * max(height, width) / 2 + EDGE  # farther in, every place has its neighbors
        margin = min(math.ceil(reach), (min(height, width) - 1) // 2)
        inside = (..., slice(margin, height - margin), slice(margin, width - margin))
        return (painted.float()[inside] - move(still.float(), self.matrices)[inside]).square().mean()


def _draw(seed: int, position: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    # Not the global generator, whose state would depend on what else used it, and on the rank.
    generator = torch.Generator().manual_seed((seed * 1_000_003 + position) % (1 << 63))
    x, y, zoom, turn = (2 * torch.rand(4, generator=generator) - 1).tolist()
    scale, angle = 1 + ZOOM * zoom, TURN * turn
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    matrix = torch.tensor([[cos, -sin, SHIFT * x], [sin, cos, SHIFT * y]])
    return matrix, NOISE * torch.randn(3, *size, generator=generator)


def move(images: Tensor, matrices: Tensor) -> Tensor:
    """Sample (N, 3, H, W) where the matrices (N, 2, 3) say, in pixels (x, y) from the middle; bicubic, reflecting."""
    n, c, height, width = images.shape
    half = torch.tensor([width / 2, height / 2])
    # grid_sample counts from -1 to 1 over each side.
    scaled = torch.cat([matrices[..., :2] * half / half[:, None], matrices[..., 2:] / half[:, None]], dim=2)
    with torch.autocast(images.device.type, enabled=False):  # half precision counts whole pixels
        grid = F.affine_grid(scaled.to(images), [n, c, height, width], align_corners=False)
        moved: Tensor = F.grid_sample(images, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return moved
