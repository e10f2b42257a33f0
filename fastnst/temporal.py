"""Temporal consistency without optical flow: a penalty on flicker for training and a number for it afterwards.

A still picture that is moved by a known amount shows everything: what is made of it should move with it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Of the penalty: together they move a stroke by a few pixels, which covers every phase of a network that computes at a
# quarter of the resolution.
SHIFT = 4.0  # pixels, to every side
ZOOM = 0.02  # share of the size
TURN = math.radians(1)
NOISE = 3 / 255  # standard deviation

# Of the number: a pan over a photograph as a camera on a tripod would take it.
FRAMES = 6
SPEEDS = (0.5, 2.0)  # pixels a frame
SENSOR = 2 / 255  # standard deviation of the noise of each frame
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

    def distance(self, stylized: Tensor, still: Tensor) -> Tensor:
        """The flicker: stylized moved pictures against moved stylized ones, (N, 3, H, W) each, mean square: scalar.

        `stylized` was made of `content(images)`, `still` of the images themselves.

        Source: Wang et al. 2020, "Consistent video style transfer via compound regularization", without optical flow
        and without a memory of frames; noise alone is "Stabilizing neural style transfer for video", Element AI 2018.
        """
        height, width = still.shape[-2:]
        reach = SHIFT + (ZOOM + TURN) * max(height, width) / 2 + EDGE  # farther in, every place has its neighbors
        margin = min(math.ceil(reach), (min(height, width) - 1) // 2)
        inside = (..., slice(margin, height - margin), slice(margin, width - margin))
        return (stylized.float()[inside] - move(still.float(), self.matrices)[inside]).square().mean()


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


@dataclass(frozen=True)
class Pan:
    """A clip whose movement is known: frames (K, 3, H, W) 0..1 of 8 bits, each moved on by (x, y) pixels."""

    frames: Tensor
    motion: tuple[float, float]

    @classmethod
    def over(cls, photo: Tensor, seed: int) -> "Pan":
        """A pan in a random direction, at a random constant speed, over (1, 3, H, W) 0..1 of at least 32x32."""
        generator = torch.Generator().manual_seed(seed)
        direction, speed = torch.rand(2, generator=generator).tolist()
        speed = SPEEDS[0] + (SPEEDS[1] - SPEEDS[0]) * speed
        motion = (speed * math.cos(2 * math.pi * direction), speed * math.sin(2 * math.pi * direction))
        margin = math.ceil(SPEEDS[1] * (FRAMES - 1) / 2) + EDGE
        times = [number - (FRAMES - 1) / 2 for number in range(FRAMES)]
        seen = torch.cat([_shifted(photo, motion, time) for time in times])[..., margin:-margin, margin:-margin]
        noise = SENSOR * torch.randn(seen.shape, generator=generator)
        return cls((seen + noise.to(seen)).clamp(0, 1).mul(255).round() / 255, motion)

    def unsteadiness(self, frames: Tensor) -> float:
        """The flicker: neighboring frames' root mean squared difference where they show the same, gray levels of 255.

        The warping error of Lai et al. 2018, "Learning blind video temporal consistency", with the known movement in
        the place of optical flow.
        """
        margin = math.ceil(max(map(abs, self.motion))) + EDGE
        inside = (..., slice(margin, -margin), slice(margin, -margin))
        undone = _shifted(frames[1:], self.motion, -1)
        return 255 * float((frames[:-1] - undone)[inside].double().square().mean().sqrt())


def _shifted(images: Tensor, motion: tuple[float, float], times: float) -> Tensor:
    """(N, 3, H, W) as seen (x, y) pixels times this further on: by the frequencies, which softens nothing."""
    height, width = images.shape[-2:]
    # Mirrored at its edges a picture is periodic without a step, which would ring far into it.
    mirrored = torch.cat([images, images.flip(-1)], dim=-1)
    mirrored = torch.cat([mirrored, mirrored.flip(-2)], dim=-2).double()
    across, down = torch.fft.rfftfreq(2 * width).to(images.device), torch.fft.fftfreq(2 * height).to(images.device)
    phase = 2 * math.pi * times * (motion[0] * across + motion[1] * down[:, None]).double()
    moved: Tensor = torch.fft.irfft2(
        torch.fft.rfft2(mirrored) * torch.polar(torch.ones_like(phase), phase), mirrored.shape[-2:]
    )
    return moved[..., :height, :width].to(images)
