"""Transformer networks: one pass from a photograph to a painting."""

from dataclasses import asdict, dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from fastnst.errors import InputError, UsageError

REACH = 0.59  # how far from middle grey the output can go: a little beyond black and white
SMALLEST = 16  # pixels a side; below that reflection and instance statistics have nothing to work with


@dataclass(frozen=True)
class NetConfig:
    """Widths and depth of a transformer network; those of Johnson et al. 2016, supplementary table 1, by default."""

    channels: tuple[int, int, int] = (32, 64, 128)
    blocks: int = 5
    kernel: int = 9
    gain: float = 1.0  # before the final tanh

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        odd_kernel = self.kernel % 2 == 1 and 1 <= self.kernel <= 15
        if len(self.channels) != 3 or min(self.channels) < 1 or self.blocks < 0 or not odd_kernel or not self.gain > 0:
            raise UsageError(
                f"a network needs three positive widths, blocks >= 0, an odd kernel <= 15 and a gain > 0, got {self}"
            )

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "channels": list(self.channels)}


PRESETS = {
    # The last convolution sums over 2592 values. At full gain, Adam's first steps, all of them of one size, drive its
    # pixels so far beyond black and white that white blobs stay for good.
    "base": NetConfig(gain=0.25),  # 1.68 M parameters
    "slim": NetConfig(channels=(16, 32, 64)),  # 0.42 M parameters: half the width everywhere
}


class ConvNorm(nn.Module):
    """Reflection padding, convolution, instance normalization and ReLU, after nearest upsampling if asked for."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, upsample: bool = False, relu: bool = True
    ) -> None:
        super().__init__()
        self.upsample, self.relu = upsample, relu
        self.pad = nn.ReflectionPad2d(kernel // 2)
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, bias=False)  # the norm would subtract a bias again
        # Differs from Johnson et al. 2016: instance instead of batch normalization (Ulyanov et al. 2016).
        self.norm = nn.InstanceNorm2d(outputs, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        if self.upsample:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        x = self.norm(self.conv(self.pad(x)))
        return F.relu(x, inplace=True) if self.relu else x


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a skip connection, no ReLU after the sum (Gross and Wilber 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels, channels, kernel=3)
        self.second = ConvNorm(channels, channels, kernel=3, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.second(self.first(x))
        return x


class TransformerNet(nn.Module):
    """Content to stylized image: (N, 3, H, W) RGB 0..1 -> the same, for any H and W of at least 16.

    Values may leave 0..1 by up to 0.09, so that black and white are reached with a gradient left; engines and exported
    graphs clip. Sizes that are no multiple of 4 need no padding: each stride-2 convolution rounds up, so
    upsampling covers the image and the surplus, at most 3 pixels at the right and the bottom, is cut off.
    """

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        a, b, c = config.channels
        self.config = config
        self.down = nn.Sequential(
            ConvNorm(3, a, config.kernel),
            ConvNorm(a, b, kernel=3, stride=2),
            ConvNorm(b, c, kernel=3, stride=2),
        )
        self.residual = nn.Sequential(*[ResidualBlock(c) for _ in range(config.blocks)])
        self.up = nn.Sequential(
            # Differs from the paper: nearest upsampling, then convolution, against checkerboards (Odena et al. 2016).
            ConvNorm(c, b, kernel=3, upsample=True),
            ConvNorm(b, a, kernel=3, upsample=True),
        )
        self.paint = nn.Sequential(nn.ReflectionPad2d(config.kernel // 2), nn.Conv2d(a, 3, config.kernel))

    def forward(self, content: Tensor) -> Tensor:
        height, width = content.shape[-2:]
        x = self.down(content - 0.5)  # (N, c, ceil(H/4), ceil(W/4))
        x = self.residual(x)  # (N, c, ceil(H/4), ceil(W/4))
        x = self.up(x)  # (N, a, >= H, >= W)
        x = self.paint(x)[..., :height, :width]  # (N, 3, H, W)
        # Differs from Johnson et al. 2016: tanh reaches 0.59 instead of 150 / 255 to either side of middle grey.
        stylized: Tensor = 0.5 + REACH * (self.config.gain * x.float()).tanh()
        return stylized


def check_size(height: int, width: int, name: str = "image") -> None:
    """InputError if an image is too small for the networks."""
    if min(height, width) < SMALLEST:
        raise InputError(
            f"{name} is {width}x{height} pixels but at least {SMALLEST}x{SMALLEST} are needed; enlarge it first"
        )
