"""Transformer networks: one pass from a photograph to a painting."""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastnst.errors import InputError, UsageError

REACH = 0.59  # how far from middle grey the output can go: a little beyond black and white
SMALLEST = 16  # pixels a side; below that reflection and instance statistics have nothing to work with


@dataclass(frozen=True)
class NetConfig:
    """Widths and depth of a transformer network; those of Johnson et al. 2016, supplementary table 1, by default.

    Each width after the first halves the resolution. `stride` 2 halves it in the first convolution already, and the last
    one then computes the four pixels of each 2x2 block at once: no layer works at full resolution, where most of the
    time goes.
    """

    channels: tuple[int, ...] = (32, 64, 128)
    blocks: int = 5
    kernel: int = 9
    gain: float = 1.0  # before the final tanh
    stride: int = 1
    skips: bool = False
    paint: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        odd_kernel = all(k % 2 == 1 and 1 <= k <= 15 for k in (self.kernel, self.paint or self.kernel))
        widths = 1 <= len(self.channels) <= 4 and min(self.channels) > 0
        fits = self.stride in (1, 2) and self.stride * 2 ** (len(self.channels) - 1) <= SMALLEST // 2
        if not (widths and fits and self.blocks >= 0 and odd_kernel and self.gain > 0):
            raise UsageError(
                "a network needs positive widths for a resolution of at least an eighth, stride 1 or 2, blocks >= 0, "
                f"an odd kernel <= 15 and a gain > 0, got {self}"
            )

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "channels": list(self.channels)}


PRESETS = {
    # The last convolution sums over 2592 values. At full gain, Adam's first steps, all of them of one size, drive its
    # pixels so far beyond black and white that white blobs stay for good.
    "base": NetConfig(gain=0.25),  # 1.68 M parameters
    "slim": NetConfig(channels=(16, 32, 64)),  # 0.42 M parameters: half the width everywhere
    "fast": NetConfig(channels=(16, 64), blocks=3, kernel=5, stride=2),
    "tiny": NetConfig(channels=(16, 32, 64), blocks=3, kernel=5, stride=2),
}


class InstanceNorm(nn.InstanceNorm2d):
    """Instance normalization with a scale and a shift per channel (Ulyanov et al. 2016): (N, C, H, W) -> the same.

    torch's own turns channels_last tensors into contiguous ones, and the next convolution turns them back; on the CPU
    that costs more than the convolutions. Exported and compiled graphs keep torch's.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return cast(Tensor, _Normalized.apply(x, self.weight, self.bias, self.eps))


class _Normalized(torch.autograd.Function):
    """Forward as groups of one channel; backward by hand, since torch's for groups is slow under channels_last."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        n, c, h, w = x.shape
        x = x.contiguous(memory_format=torch.channels_last)
        y, mean, deviation = torch.native_group_norm(x, weight, bias, n, c, h * w, c, eps)
        ctx.save_for_backward(x, weight, mean, deviation)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, inverse = ctx.saved_tensors  # mean and 1 / standard deviation: (N, C)
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        normalized = (x * _as_image(inverse, x)).sub_(_as_image(mean * inverse, x))
        shift = _channel_sums(gradient)  # (N, C)
        scale = _channel_sums(gradient * normalized)
        factor = weight * inverse
        pixels = x[0, 0].numel()
        # The gradient, less the parts of it that only move the mean and the variance.
        result = gradient * _as_image(factor, x)
        result.sub_(normalized.mul_(_as_image(factor * scale / pixels, x))).sub_(_as_image(factor * shift / pixels, x))
        return result, scale.sum(0), shift.sum(0), None


def _as_image(values: Tensor, like: Tensor) -> Tensor:
    """(N, C) -> (N, C, 1, 1) in the type of an image."""
    return values[:, :, None, None].to(like.dtype)


def _channel_sums(x: Tensor) -> Tensor:
    """Sums over the pixels, (N, C, H, W) -> (N, C), at least float32; as a matrix product, which is far faster."""
    pixels = x.flatten(2).mT  # (N, H*W, C), no copy under channels_last
    sums = torch.bmm(pixels.new_ones(len(x), 1, pixels.shape[1]), pixels).flatten(1)
    return sums.to(torch.promote_types(x.dtype, torch.float32))


class Convolution(nn.Conv2d):
    """Convolution that keeps the size, (N, i, H, W) -> (N, o, ceil(H / stride), ceil(W / stride)), edges reflected."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, bias: bool) -> None:
        super().__init__(inputs, outputs, kernel, stride, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, [self.kernel_size[0] // 2] * 4, mode="reflect"))


class UpConvolution(nn.Conv2d):
    """Nearest upsampling, then a convolution: (N, i, H, W) -> (N, o, 2H, 2W), edges repeated.

    Differs from Johnson et al. 2016, against checkerboards (Odena et al. 2016). Computed at H x W: after nearest
    upsampling, neighbouring weights meet the same value, so their sums make smaller kernels, one for each pixel of a
    2x2 block: four of 2x2 for one of 3x3, four of 3x3 for one of 5x5.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, bias: bool) -> None:
        super().__init__(inputs, outputs, kernel, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        margin = self.kernel_size[0] // 2
        with torch.autocast(x.device.type, enabled=False):
            weight = _block_kernels(self.weight)
            bias = None if self.bias is None else self.bias.repeat_interleave(4)
        x = F.pad(x, [(margin + 1) // 2] * 4, mode="replicate")
        x = F.pixel_shuffle(F.conv2d(x, weight, bias), 2)
        # An odd margin pairs the second pixel of a block with the first of the next one.
        return x[..., 1:-1, 1:-1] if margin % 2 else x


def _block_kernels(weight: Tensor) -> Tensor:
    """(o, i, k, k) -> (4o, i, (k + 1) / 2, (k + 1) / 2), in the order of pixel_shuffle."""
    o, i, k, _ = weight.shape
    small = (k + 1) // 2
    kernels = [
        # The first pixel adds weights 0 and 1, 2 and 3, ...; the second 0, 1 and 2, 3 and 4, ...
        F.pad(weight, (column, 1 - column, row, 1 - row)).reshape(o, i, small, 2, small, 2).sum((3, 5))
        for row in (0, 1)
        for column in (0, 1)
    ]
    return torch.stack(kernels, 1).flatten(0, 1)


class ConvNorm(nn.Module):
    """A convolution, instance normalization and ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, upsample: bool = False, relu: bool = True
    ) -> None:
        super().__init__()
        self.relu = relu
        # No bias: the norm would subtract it again.
        self.conv = (
            UpConvolution(inputs, outputs, kernel, bias=False)
            if upsample
            else Convolution(inputs, outputs, kernel, stride, bias=False)
        )
        # Differs from Johnson et al. 2016: instance instead of batch normalization.
        self.norm = InstanceNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
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
        first, last = config.channels[0], config.channels[-1]
        steps = list(pairwise(config.channels))
        self.config = config
        self.down = nn.Sequential(
            ConvNorm(3, first, config.kernel, stride=config.stride),
            *[ConvNorm(a, b, kernel=3, stride=2) for a, b in steps],
        )
        self.residual = nn.Sequential(*[ResidualBlock(last) for _ in range(config.blocks)])
        self.up = nn.Sequential(*[ConvNorm(b, a, kernel=3, upsample=True) for a, b in reversed(steps)])
        paint = UpConvolution if config.stride == 2 else Convolution
        self.paint = paint(first, 3, config.paint or config.kernel, bias=True)

    def forward(self, content: Tensor) -> Tensor:
        height, width = content.shape[-2:]
        x = content - 0.5
        levels = []
        for down in self.down:
            x = down(x)
            levels.append(x)
        x = self.residual(x)
        for up, level in zip(self.up, reversed(levels[:-1]), strict=True):
            x = up(x)
            if self.config.skips:
                x = x[..., : level.shape[-2], : level.shape[-1]] + level
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
