"""Transformer networks: one pass from a content image to a stylized one."""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastnst import winograd
from fastnst.nets.droplets import Droplets
from fastnst.nets.grain import grain as grain_at
from fastnst.nets.spec import DEBAND_CONTRAST, DEBAND_WINDOW, Layer, NetConfig, layers


class InstanceNorm(nn.InstanceNorm2d):
    """Instance normalization with a scale and a shift per channel (Ulyanov et al. 2016): (N, C, H, W) -> the same.

    torch's own turns channels_last tensors into contiguous ones, and the next convolution turns them back; on the CPU
    that costs more than the convolutions. Exported and compiled graphs keep torch's.
    """

    def __init__(self, channels: int, epsilon: float = 1e-5) -> None:
        super().__init__(channels, eps=epsilon, affine=True)

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
        y, mean, inverse = torch.native_group_norm(x, weight, bias, n, c, h * w, c, eps)
        ctx.save_for_backward(x, weight, mean, inverse)
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

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer.inputs, layer.outputs, layer.learned, layer.stride, bias=layer.bias is not None)
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        padded = _padded(x, self.layer)
        if self.layer.stride == 1 and _learns(padded, self.weight):
            return winograd.conv2d(padded, self.weight, self.bias)
        return super().forward(padded)


class UpConvolution(nn.Conv2d):
    """Bilinear upsampling, then a convolution: (N, i, H, W) -> (N, o, 2H, 2W), edges repeated.

    Differs from Johnson et al. 2016, against checkerboards (Odena et al. 2016); bilinear, because behind nearest
    upsampling a slow ramp is a staircase, of which convolutions make stripes. Computed at H x W: upsampling and
    convolution together are one smaller kernel for each pixel of a 2x2 block, four of 3x3 for one of 3x3. Other
    projects' upsampling can be computed the same way.
    """

    matrix: Tensor

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer.inputs, layer.outputs, layer.learned, bias=layer.bias is not None)
        self.layer = layer
        self.register_buffer("matrix", torch.from_numpy(layer.matrix), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            weight = _block_kernels(self.weight, self.matrix)
            bias = None if self.bias is None else self.bias.repeat_interleave(4)
        padded = _padded(x, self.layer)
        convolve = winograd.conv2d if _learns(padded, weight) else F.conv2d
        x = F.pixel_shuffle(convolve(padded, weight, bias), 2)
        return x[..., 1:-1, 1:-1] if self.layer.shifted else x


def _learns(padded: Tensor, weight: Tensor) -> bool:
    """Whether gradients will be wanted, too: without them, so few channels are no faster in fewer multiplications."""
    return torch.is_grad_enabled() and winograd.applies(padded, weight)


def _block_kernels(weight: Tensor, matrix: Tensor) -> Tensor:
    """(o, i, k, k) -> (4o, i, size, size), in the order of pixel_shuffle; see `Layer.subpixel_kernel`."""
    blocks = torch.einsum("yab,oibc,xdc->oyxiad", matrix, weight, matrix)
    return blocks.flatten(0, 2)


def _padded(x: Tensor, layer: Layer) -> Tensor:
    before, behind = layer.pads
    modes = {"reflect": "reflect", "edge": "replicate", "zero": "constant"}
    return F.pad(x, [before, behind, before, behind], mode=modes[layer.border])


class ConvNorm(nn.Module):
    """A convolution, instance normalization and ReLU."""

    def __init__(self, layer: Layer, epsilon: float) -> None:
        super().__init__()
        self.relu = layer.relu
        self.conv = UpConvolution(layer) if layer.upsample else Convolution(layer)
        # Differs from Johnson et al. 2016: instance instead of batch normalization.
        self.norm = InstanceNorm(layer.outputs, epsilon)

    def forward(self, x: Tensor, droplets: Droplets | None = None) -> Tensor:
        """With what is normalized passing `droplets`, where given."""
        x = self.conv(x)
        if droplets is not None:
            x = droplets.pass_on(x, self.norm)
        x = self.norm(x)
        return F.relu(x, inplace=True) if self.relu else x


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a skip connection, no ReLU after the sum (Gross and Wilber 2016)."""

    def __init__(self, first: Layer, second: Layer, epsilon: float) -> None:
        super().__init__()
        self.first = ConvNorm(first, epsilon)
        self.second = ConvNorm(second, epsilon)
        self.skip = second.skip_weight or 0.0

    def forward(self, x: Tensor, droplets: Droplets | None = None) -> Tensor:
        y: Tensor = self.second(self.first(x, droplets), droplets)
        return x + y if self.skip == 1 else self.skip * x + y


class TransformerNet(nn.Module):
    """Content to stylized image: (N, 3, H, W) RGB 0..1 -> the same, for any H and W of at least 16.

    Values may leave 0..1 by up to 0.09, so that black and white are reached with a gradient left; engines and exported
    graphs clip. No size needs padding: each stride-2 convolution rounds up, so upsampling covers the image, and the
    surplus, a few pixels at the right and the bottom, is cut off.
    """

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.config = config
        plan = {layer.name: layer for layer in layers(config)}

        def stage(name: str) -> ConvNorm:
            return ConvNorm(plan[f"{name}.conv"], config.epsilon)

        steps = range(len(config.channels))
        self.down = nn.Sequential(*[stage(f"down.{index}") for index in steps])
        self.residual = nn.Sequential(
            *[
                ResidualBlock(plan[f"residual.{i}.first.conv"], plan[f"residual.{i}.second.conv"], config.epsilon)
                for i in range(config.blocks)
            ]
        )
        self.up = nn.Sequential(*[stage(f"up.{index}") for index in steps[:-1]])
        self.paint = UpConvolution(plan["paint"]) if plan["paint"].upsample else Convolution(plan["paint"])
        if config.last_norm:
            self.paint_norm = InstanceNorm(3, config.epsilon)

    def forward(self, content: Tensor, grain: Tensor | None = None, droplets: Droplets | None = None) -> Tensor:
        """With the noise of another place than the picture's, (N, 3, H, W), where given.

        What is normalized behind the first stages passes `droplets`, where given. In training mode there is no margin:
        that of a crop is the photo around it, and the loss cuts it off.
        """
        height, width = content.shape[-2:]
        margin = 0 if self.training else self.config.margin
        for step in self.config.mirrors if margin else []:
            content = F.pad(content, [step] * 4, mode="reflect")
        if self.config.padding == "same":
            surplus = [-width % self.config.factor, -height % self.config.factor]
            content = F.pad(content, [0, surplus[0], 0, surplus[1]], mode="reflect")
        x = deband(content) if self.config.even_out else content
        if self.config.grain:
            if grain is None:
                grain = torch.from_numpy(grain_at(*x.shape[-2:])).to(x)
            x = x + self.config.grain * grain
        x = self.down(x - self.config.center)  # (N, last width, ceil(H / factor), ceil(W / factor))
        for stage in (*self.residual, *self.up):
            x = stage(x, droplets)
        # (N, first width, >= H / stride, >= W / stride)
        x = self.paint(x)  # (N, 3, >= H, >= W)
        if self.config.last_norm:
            x = self.paint_norm(x)
        stylized: Tensor = x[..., margin : margin + height, margin : margin + width].float()  # (N, 3, H, W)
        if self.config.output == "linear":
            return stylized
        # Differs from Johnson et al. 2016: tanh reaches 0.59 instead of 150 / 255 to either side of middle gray.
        stylized = self.config.middle + self.config.reach * (self.config.gain * stylized).tanh()
        return stylized


def deband(image: Tensor) -> Tensor:
    """Move each value up to two gray levels towards the mean around it: (N, C, H, W) -> the same.

    No eye sees that, but a flat sky loses the steps of 8 bits and the blocks of JPEG, which instance normalization
    raises to stripes and tiles.
    """
    rows = F.avg_pool2d(image, (1, DEBAND_WINDOW), stride=1, padding=(0, DEBAND_WINDOW // 2), count_include_pad=False)
    mean = F.avg_pool2d(rows, (DEBAND_WINDOW, 1), stride=1, padding=(DEBAND_WINDOW // 2, 0), count_include_pad=False)
    return image + (mean - image).clamp(-DEBAND_CONTRAST, DEBAND_CONTRAST)
