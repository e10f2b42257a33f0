"""Transformer networks: one pass from a photograph to a painting."""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastnst.errors import InputError, UsageError

REACH = 0.59  # how far from middle grey the output can go: a little beyond black and white
FAINT = 2 / 255  # contrast that is evened out before anything else
WINDOW = 17  # pixels over which
SMALLEST = 16  # pixels a side; below that reflection and instance statistics have nothing to work with


@dataclass(frozen=True)
class NetConfig:
    """Widths and depth of a transformer network; those of Johnson et al. 2016, supplementary table 1, by default.

    Each width after the first halves the resolution. Stride 2 halves it in the first convolution already, and the last
    one then computes 2x2 pixels at once: no layer works at full resolution, where most of the time goes.
    """

    channels: tuple[int, ...] = (32, 64, 128)
    blocks: int = 5
    kernels: tuple[int, int] = (9, 9)  # of the first and the last convolution
    stride: int = 1  # of the first convolution
    gain: float = 0.25  # before the final tanh

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "kernels", tuple(self.kernels))
        odd = len(self.kernels) == 2 and all(k % 2 == 1 and 1 <= k <= 15 for k in self.kernels)
        widths = 1 <= len(self.channels) <= 4 and min(self.channels) > 0
        deepest = widths and self.stride in (1, 2) and self.stride * 2 ** (len(self.channels) - 1) <= SMALLEST // 2
        if not (odd and deepest and self.blocks >= 0 and self.gain > 0):
            raise UsageError(
                "a network needs positive widths for a resolution of at least an eighth, two odd kernels <= 15, "
                f"stride 1 or 2, blocks >= 0 and a gain > 0, got {self}"
            )

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "channels": list(self.channels), "kernels": list(self.kernels)}


# The last convolution sums over a thousand values and more. At full gain, Adam's first steps, all of them of one size,
# drive its pixels far beyond black and white, where they learn slowly or, as white blobs, not at all.
PRESETS = {
    "base": NetConfig(),  # 1.68 M parameters
    "fast": NetConfig(channels=(24, 48), blocks=4, kernels=(5, 9), stride=2),  # 0.20 M
    "tiny": NetConfig(channels=(16, 32), blocks=3, kernels=(5, 7), stride=2),  # 0.07 M
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
    """Bilinear upsampling, then a convolution: (N, i, H, W) -> (N, o, 2H, 2W), edges repeated.

    Differs from Johnson et al. 2016, against checkerboards (Odena et al. 2016); bilinear, because behind nearest
    upsampling a slow ramp is a staircase, of which convolutions make stripes. Computed at H x W: upsampling and
    convolution together are one smaller kernel for each pixel of a 2x2 block, four of 3x3 for one of 3x3.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, bias: bool) -> None:
        super().__init__(inputs, outputs, kernel, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        margin = self.kernel_size[0] // 2 + 1
        with torch.autocast(x.device.type, enabled=False):
            weight = _block_kernels(self.weight)
            bias = None if self.bias is None else self.bias.repeat_interleave(4)
        x = F.pad(x, [(margin + 1) // 2] * 4, mode="replicate")
        x = F.pixel_shuffle(F.conv2d(x, weight, bias), 2)
        # An odd margin pairs the second pixel of a block with the first of the next one.
        return x[..., 1:-1, 1:-1] if margin % 2 else x


def _block_kernels(weight: Tensor) -> Tensor:
    """(o, i, k, k) -> (4o, i, (k + 3) / 2, (k + 3) / 2), in the order of pixel_shuffle."""
    # Bilinear upsampling is nearest upsampling, smoothed with 1/4, 1/2, 1/4.
    weight = (F.pad(weight, (0, 2)) + 2 * F.pad(weight, (1, 1)) + F.pad(weight, (2, 0))) / 4
    weight = (F.pad(weight, (0, 0, 0, 2)) + 2 * F.pad(weight, (0, 0, 1, 1)) + F.pad(weight, (0, 0, 2, 0))) / 4
    o, i, k, _ = weight.shape
    small = (k + 1) // 2
    kernels = [
        # After nearest upsampling, neighbouring weights meet the same value and can be summed: for the first pixel
        # weights 0 and 1, 2 and 3, ...; for the second 0, 1 and 2, 3 and 4, ...
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
    graphs clip. No size needs padding: each stride-2 convolution rounds up, so upsampling covers the image, and the
    surplus, a few pixels at the right and the bottom, is cut off.
    """

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        widths, steps = config.channels, list(pairwise(config.channels))
        first, last = config.kernels
        self.config = config
        self.down = nn.Sequential(
            ConvNorm(3, widths[0], first, stride=config.stride),
            *[ConvNorm(a, b, kernel=3, stride=2) for a, b in steps],
        )
        self.residual = nn.Sequential(*[ResidualBlock(widths[-1]) for _ in range(config.blocks)])
        self.up = nn.Sequential(*[ConvNorm(b, a, kernel=3, upsample=True) for a, b in reversed(steps)])
        paint = Convolution if config.stride == 1 else UpConvolution
        self.paint = paint(widths[0], 3, last, bias=True)

    def forward(self, content: Tensor) -> Tensor:
        height, width = content.shape[-2:]
        x = self.down(even_out(content) - 0.5)  # (N, last width, ceil(H / factor), ceil(W / factor))
        x = self.residual(x)
        x = self.up(x)  # (N, first width, >= H / stride, >= W / stride)
        x = self.paint(x)[..., :height, :width]  # (N, 3, H, W)
        # Differs from Johnson et al. 2016: tanh reaches 0.59 instead of 150 / 255 to either side of middle grey.
        stylized: Tensor = 0.5 + REACH * (self.config.gain * x.float()).tanh()
        return stylized


def even_out(image: Tensor) -> Tensor:
    """Move each value up to two grey levels towards the mean around it: (N, C, H, W) -> the same.

    No eye sees that, but a flat sky loses the steps of 8 bits and the blocks of JPEG, which instance normalization
    raises to stripes and tiles.
    """
    rows = F.avg_pool2d(image, (1, WINDOW), stride=1, padding=(0, WINDOW // 2), count_include_pad=False)
    mean = F.avg_pool2d(rows, (WINDOW, 1), stride=1, padding=(WINDOW // 2, 0), count_include_pad=False)
    return image + (mean - image).clamp(-FAINT, FAINT)


def check_size(height: int, width: int, name: str = "image") -> None:
    """InputError if an image is too small for the networks."""
    if min(height, width) < SMALLEST:
        raise InputError(
            f"{name} is {width}x{height} pixels but at least {SMALLEST}x{SMALLEST} are needed; enlarge it first"
        )
