"""Numbers that say how good a stylized picture or clip is: likeness (SSIM), grids of pixels, colors, flicker.

They know nothing of styles, losses or files.
"""

import itertools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fastnst.image import LUMA

# A pan over a photograph as a camera on a tripod would take it.
FRAMES = 6
SPEEDS = (0.5, 2.0)  # pixels a frame
SENSOR = 2 / 255  # standard deviation of the noise of each frame
QUANTILES = 256  # at which amounts of colors are compared
EDGE = 2  # pixels at an edge, where shifting by the frequencies is least exact


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Mean structural similarity of the luma of two pictures (1, 3, H, W) 0..1 of at least 11x11: 1 for the same.

    Source: Wang et al. 2004, with an 11x11 Gaussian window of deviation 1.5, K1 0.01, K2 0.03, without borders.
    """
    # In float64 a variance as a difference of squares stays exact.
    x, y = _luma(a).double(), _luma(b).double()
    weights = torch.exp(-(torch.arange(-5, 6, device=a.device, dtype=x.dtype) ** 2) / (2 * 1.5**2))
    window = torch.outer(weights, weights) / weights.sum() ** 2

    def blur(image: Tensor) -> Tensor:
        return F.conv2d(image, window[None, None])

    mean_x, mean_y = blur(x), blur(y)
    variance_x, variance_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    brightness = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return (brightness * structure).mean()


def grid(image: Tensor) -> Tensor:
    """How much a grid of 2 or 4 pixels stands out of a picture (1, 3, H, W) 0..1 of at least 32x32: 1 if not at all.

    The energy at those frequencies over that of the frequencies around them, mean over the 15 of both directions.
    What repeats exactly every 4 pixels all over a picture was made by a network, not painted (Odena et al. 2016).
    Photos and scanned paintings have 0.5 to 1.5. The same grid stands out more in a larger picture, so compare at
    one size.
    """
    height, width = image.shape[-2] // 4 * 4, image.shape[-1] // 4 * 4
    window = torch.outer(*(torch.hann_window(side, device=image.device) for side in (height, width)))
    picture = image[0, :, :height, :width].float()
    power = torch.fft.fft2((picture - picture.mean((1, 2), keepdim=True)) * window).abs().square().sum(0)
    # Around each frequency a ring beyond the reach of the window's own blur.
    around = F.pad(power[None, None], [4] * 4, mode="circular")
    ring = torch.ones(1, 1, 9, 9, device=image.device)
    ring[..., 2:7, 2:7] = 0
    around = F.conv2d(around, ring / ring.sum())[0, 0]
    rounding = height * width * 1e-6  # about the energy of rounding to 8 bits, below which nothing is seen
    excess = (power + rounding) / (around + rounding)
    at_grid: Tensor = excess[:: height // 4, :: width // 4]
    return at_grid.flatten()[1:].mean()


def color_distance(a: Tensor, b: Tensor) -> float:
    """How far the colors of a picture are from those of another, wherever they lie: (1, 3, H, W) 0..1 of any sizes.

    The sliced Wasserstein distance of the two clouds of pixels in CIE Lab (Rabin et al. 2011), mean over 13 directions:
    0 for the same colors in the same amounts; two pictures of one color each, d apart, have half of d, about.
    """
    axes = [axis for axis in itertools.product((-1, 0, 1), repeat=3) if axis > (0, 0, 0)]
    directions = F.normalize(torch.tensor(axes, dtype=torch.float64), dim=1)  # (13, 3)
    levels = (torch.arange(QUANTILES, dtype=torch.float64) + 0.5) / QUANTILES
    one, other = (
        torch.stack([torch.quantile(values, levels) for values in directions @ _lab(image.cpu()).flatten(1)])
        for image in (a, b)
    )
    return float((one - other).abs().mean())


def _lab(image: Tensor) -> Tensor:
    """sRGB (1, 3, H, W) 0..1 -> CIE Lab of D65, (3, H, W) float64, L 0..100."""
    rgb = image[0].double()
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055).pow(2.4))
    to_xyz = [(0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041)]
    matrix = torch.tensor(to_xyz, dtype=torch.float64)
    x, y, z = torch.einsum("ij,jhw->ihw", matrix / matrix.sum(1, keepdim=True), linear)  # white is 1, 1, 1
    x, y, z = (torch.where(v > (6 / 29) ** 3, v.pow(1 / 3), v * (29 / 6) ** 2 / 3 + 4 / 29) for v in (x, y, z))
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


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

    def flicker(self, frames: Tensor) -> float:
        """The root mean squared difference, in gray levels of 255, of neighboring frames where they show the same.

        The warping error of Lai et al. 2018, "Learning blind video temporal consistency", with the known movement in
        the place of optical flow.
        """
        margin = math.ceil(max(map(abs, self.motion))) + EDGE
        inside = (..., slice(margin, -margin), slice(margin, -margin))
        undone = _shifted(frames[1:], self.motion, -1)
        return 255 * float((frames[:-1] - undone)[inside].double().square().mean().sqrt())


def _luma(image: Tensor) -> Tensor:
    """(1, 3, H, W) -> (1, 1, H, W), BT.601."""
    weights = torch.tensor(LUMA, device=image.device)
    return (image * weights.view(3, 1, 1)).sum(1, keepdim=True)


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
