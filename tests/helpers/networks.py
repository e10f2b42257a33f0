"""Networks of other projects, built again from their papers and weights' names."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from helpers.material import PHOTOS

WIDTHS = (8, 12, 16)


class Reflecting(nn.Module):
    """A convolution with reflected edges, after nearest upsampling where there is a factor, under a name."""

    def __init__(self, name, inputs, outputs, kernel, stride=1, factor=1):
        super().__init__()
        self.name, self.factor, self.margin = name, factor, kernel // 2
        self.add_module(name, nn.Conv2d(inputs, outputs, kernel, stride))

    def forward(self, x):
        x = x if self.factor == 1 else F.interpolate(x, scale_factor=self.factor, mode="nearest")
        return self.get_submodule(self.name)(F.pad(x, [self.margin] * 4, mode="reflect"))


class Wrapped(nn.Module):
    """One more name in front."""

    def __init__(self, name, inside):
        super().__init__()
        self.name = name
        self.add_module(name, inside)

    def forward(self, x):
        return self.get_submodule(self.name)(x)


def instance_norm(channels):
    return nn.InstanceNorm2d(channels, affine=True)


class ExamplesBlock(nn.Module):
    def __init__(self, channels, norm, times):
        super().__init__()
        self.times = times
        for i in (1, 2):
            self.add_module(f"conv{i}", Reflecting("conv2d", channels, channels, 3))
            self.add_module(f"in{i}", norm(channels))

    def forward(self, x):
        return self.in2(self.conv2(self.in1(self.conv1(x)).relu())) + self.times * x


class Examples(nn.Module):
    """pytorch/examples and those who took its names: gordicaleksa, yakhyo and abhiskk."""

    def __init__(self, up="deconv", norm=instance_norm, times=1, widths=WIDTHS, blocks=5, kernel=9):
        super().__init__()
        a, b, c = widths
        wrap = (lambda conv: Wrapped("conv2d", conv)) if up == "up" else (lambda conv: conv)
        self.stages = [
            ("conv1", "in1", Reflecting("conv2d", 3, a, kernel), norm(a)),
            ("conv2", "in2", Reflecting("conv2d", a, b, 3, 2), norm(b)),
            ("conv3", "in3", Reflecting("conv2d", b, c, 3, 2), norm(c)),
            *((f"res{i}", None, ExamplesBlock(c, norm, times), None) for i in range(1, blocks + 1)),
            (f"{up}1", "in4", wrap(Reflecting("conv2d", c, b, 3, factor=2)), norm(b)),
            (f"{up}2", "in5", wrap(Reflecting("conv2d", b, a, 3, factor=2)), norm(a)),
            (f"{up}3", None, Reflecting("conv2d", a, 3, kernel), None),
        ]
        for name, norm_name, stage, norm_stage in self.stages:
            self.add_module(name, stage)
            if norm_name:
                self.add_module(norm_name, norm_stage)
        self.stages = [stage[:2] for stage in self.stages]

    def forward(self, x):
        for name, norm in self.stages:
            x = self.get_submodule(name)(x)
            x = self.get_submodule(norm)(x).relu() if norm else x
        return x


def randomized(net, spread=60, middle=120):
    """Weights as training leaves them: scales other than 1, biases other than 0, paintings that fill their range."""
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.ndim == 4:
                fan_in = parameter[0].numel()
                parameter.normal_(0, (2 / fan_in) ** 0.5, generator=random)
            elif name.endswith(("shift", "bias")):
                parameter.normal_(0, 0.3, generator=random)
            else:
                parameter.uniform_(0.3, 1.7, generator=random)
        *_, weight, bias = net.parameters()
        weight *= spread / 2
        bias += middle
    return net.eval()


def wide(net):
    return randomized(net)


def normalized(net):
    """Of a project that gives ImageNet's statistics."""
    return randomized(net, 1, 0)


def in_255(net, x):
    return net(x * 255) / 255


def photo(height, width, name="cat.jpg"):
    """A photograph at a size, float32 (1, 3, H, W) 0..1."""
    with Image.open(PHOTOS / name) as picture:
        pixels = np.asarray(picture.convert("RGB").resize((width, height)), np.float32) / 255
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
