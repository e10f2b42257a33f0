"""Networks of other projects, built again from their papers and weights' names, and saved as they save them."""

import json

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from helpers.material import PHOTOS

WIDTHS = (8, 12, 16)
MEAN, DEVIATION = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))


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


class ScaleShift(nn.Module):
    """Instance normalization with other names and hardly an epsilon."""

    def __init__(self, channels):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, correction=0)
        return (x - mean) / (variance + 1e-9).sqrt() * self.scale[:, None, None] + self.shift[:, None, None]


class RrminaLayer(nn.Module):
    def __init__(self, inputs, outputs, kernel=3, stride=1, norm=True, transposed=False):
        super().__init__()
        self.margin = kernel // 2
        if transposed:
            self.conv_transpose = nn.ConvTranspose2d(inputs, outputs, kernel, 2, self.margin, 1)
        else:
            self.conv_layer = nn.Conv2d(inputs, outputs, kernel, stride)
        if norm:
            self.norm_layer = instance_norm(outputs)

    def forward(self, x):
        if hasattr(self, "conv_transpose"):
            x = self.conv_transpose(x)
        else:
            x = self.conv_layer(F.pad(x, [self.margin] * 4, mode="reflect"))
        return self.norm_layer(x) if hasattr(self, "norm_layer") else x


class RrminaBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1, self.conv2 = RrminaLayer(channels, channels), RrminaLayer(channels, channels)

    def forward(self, x):
        return self.conv2(self.conv1(x).relu()) + x


class Rrmina(nn.Module):
    def __init__(self, tanh=False):
        super().__init__()
        a, b, c = WIDTHS
        down = [RrminaLayer(3, a, 9), RrminaLayer(a, b, stride=2), RrminaLayer(b, c, stride=2)]
        self.ConvBlock = nn.Sequential(*(part for layer in down for part in (layer, nn.ReLU())))
        self.ResidualBlock = nn.Sequential(*(RrminaBlock(c) for _ in range(5)))
        up = [RrminaLayer(c, b, transposed=True), RrminaLayer(b, a, transposed=True)]
        end = [RrminaLayer(a, 3, 9, norm=False), *([nn.Tanh()] if tanh else [])]
        self.DeconvBlock = nn.Sequential(*(part for layer in up for part in (layer, nn.ReLU())), *end)
        self.scale = 150 if tanh else 1

    def forward(self, x):
        return self.DeconvBlock(self.ResidualBlock(self.ConvBlock(x))) * self.scale


class Igreat(nn.Module):
    def __init__(self):
        super().__init__()
        a, b, c = WIDTHS

        def upsampled(inputs, outputs):
            return Wrapped("conv", Reflecting("conv", inputs, outputs, 3, factor=2))

        self.layers = nn.Sequential(
            *(Reflecting("conv", 3, a, 9), instance_norm(a), nn.ReLU()),
            *(Reflecting("conv", a, b, 3, 2), instance_norm(b), nn.ReLU()),
            *(Reflecting("conv", b, c, 3, 2), instance_norm(c), nn.ReLU()),
            *(IgreatBlock(c) for _ in range(5)),
            *(upsampled(c, b), instance_norm(b), nn.ReLU()),
            *(upsampled(b, a), instance_norm(a), nn.ReLU()),
            Reflecting("conv", a, 3, 9),
        )

    def forward(self, x):
        return self.layers(x)


class IgreatBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1, self.conv2 = (Reflecting("conv", channels, channels, 3) for _ in range(2))
        self.instance_norm1, self.instance_norm2 = instance_norm(channels), instance_norm(channels)

    def forward(self, x):
        return self.instance_norm2(self.conv2(self.instance_norm1(self.conv1(x)).relu())) + x


class ErikLayer(nn.Module):
    def __init__(self, inputs, outputs, kernel=3, stride=1, upsample=False, norm=True, relu=True):
        super().__init__()
        self.block = nn.Sequential(nn.ReflectionPad2d(kernel // 2), nn.Conv2d(inputs, outputs, kernel, stride))
        self.norm = instance_norm(outputs) if norm else None
        self.upsample, self.relu = upsample, relu

    def forward(self, x):
        x = self.block(F.interpolate(x, scale_factor=2) if self.upsample else x)
        x = x if self.norm is None else self.norm(x)
        return x.relu() if self.relu else x


class ErikBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.block = nn.Sequential(ErikLayer(channels, channels), ErikLayer(channels, channels, relu=False))

    def forward(self, x):
        return self.block(x) + x


class Erik(nn.Module):
    def __init__(self):
        super().__init__()
        a, b, c = WIDTHS
        self.model = nn.Sequential(
            *(ErikLayer(3, a, 9), ErikLayer(a, b, stride=2), ErikLayer(b, c, stride=2)),
            *(ErikBlock(c) for _ in range(5)),
            *(ErikLayer(c, b, upsample=True), ErikLayer(b, a, upsample=True)),
            ErikLayer(a, 3, 9, norm=False, relu=False),
        )

    def forward(self, x):
        return self.model(x)


class Lengstrom:
    """TensorFlow's network in numpy's layout: variables by name, zeros around as its SAME puts them."""

    def __init__(self):
        random = np.random.default_rng(4)
        a, b, c = WIDTHS
        shapes = [(9, 9, 3, a), (3, 3, a, b), (3, 3, b, c), *[(3, 3, c, c)] * 10, (3, 3, b, c), (3, 3, a, b)]
        shapes.append((9, 9, a, 3))
        self.variables = {}
        for n, shape in enumerate(shapes):
            outputs = shape[2] if n in (13, 14) else shape[3]
            values = (0.1 * random.standard_normal(shape), 0.3 * random.standard_normal(outputs))
            for i, value in enumerate((*values, random.uniform(0.3, 1.7, outputs))):
                number = 3 * n + i
                self.variables[f"Variable_{number}" if number else "Variable"] = value.astype(np.float32)

    def __call__(self, image):
        x, n = image, 0

        def normalized(x, relu):
            shift, scale = (torch.from_numpy(self.variables[f"Variable_{3 * n + i}"]) for i in (1, 2))
            mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, correction=0)
            x = scale[:, None, None] * (x - mean) / (variance + 1e-3) ** 0.5 + shift[:, None, None]
            return x.relu() if relu else x

        def convolution(x, stride=1, relu=True):
            nonlocal n
            kernel = torch.from_numpy(self.variables[f"Variable_{3 * n}" if n else "Variable"]).permute(3, 2, 0, 1)
            pads = []
            for side in (x.shape[3], x.shape[2]):
                total = max((-(-side // stride) - 1) * stride + kernel.shape[-1] - side, 0)
                pads += [total // 2, total - total // 2]
            x = normalized(F.conv2d(F.pad(x, pads), kernel, stride=stride), relu)
            n += 1
            return x

        def transposed(x):
            nonlocal n
            kernel = torch.from_numpy(self.variables[f"Variable_{3 * n}"]).permute(3, 2, 0, 1)  # inputs, outputs
            x = normalized(F.conv_transpose2d(x, kernel, stride=2)[..., :-1, :-1], relu=True)
            n += 1
            return x

        x = convolution(convolution(convolution(x), 2), 2)
        for _ in range(5):
            x = x + convolution(convolution(x), relu=False)
        x = convolution(transposed(transposed(x)), relu=False)
        return torch.tanh(x) * 150 + 127.5


def randomized(net, spread=60, middle=120):
    """Weights as training leaves them: scales other than 1, biases other than 0, pictures that fill their range."""
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


def in_bgr(net, x):
    return net(x.flip(1) * 255).flip(1) / 255


def in_imagenet(net, x):
    return net((x - MEAN) / DEVIATION) * DEVIATION + MEAN


MAKERS = {
    "pytorch-examples": (lambda: wide(Examples()), in_255),
    "rrmina": (lambda: wide(Rrmina()), in_bgr),
    "rrmina-tanh": (lambda: randomized(Rrmina(tanh=True), 1, 0.5), in_bgr),
    "gordicaleksa": (lambda: normalized(Examples("up")), in_imagenet),
    "igreat": (lambda: normalized(Igreat()), in_imagenet),
    "eriklindernoren": (lambda: normalized(Erik()), in_imagenet),
    "lengstrom": (Lengstrom, in_255),
    "yakhyo": (lambda: wide(Examples("upsample_conv", times=2)), in_255),
    "yakhyo-once": (lambda: wide(Examples("upsample_conv")), in_255),
    "abhiskk": (lambda: wide(Examples(norm=ScaleShift)), in_bgr),
}


TOLD = {"rrmina-tanh", "yakhyo-once"}  # whose keys are another's


def save(family, net, folder):
    """As the project saves it."""
    if family == "lengstrom":
        return dump(net.variables, folder / "wave")
    weights = net.state_dict()
    if family == "gordicaleksa":
        weights = {"state_dict": weights, "content_weight": 1.0, "commit_hash": "abc", "num_of_epochs": 2}
    if family == "igreat":
        weights = {"model_state_dict": weights, "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 1e-3}]}}
    path = folder / ("style.model" if family == "abhiskk" else "style.pth")
    torch.save(weights, path)
    return path


def dump(variables, folder):
    """As deeplearn.js dumps a checkpoint of TensorFlow."""
    folder.mkdir()
    for name, values in variables.items():
        (folder / name).write_bytes(values.tobytes())
    manifest = {name: {"filename": name, "shape": list(values.shape)} for name, values in variables.items()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def photo(height, width, name="cat.jpg"):
    """A photograph at a size, float32 (1, 3, H, W) 0..1."""
    with Image.open(PHOTOS / name) as picture:
        pixels = np.asarray(picture.convert("RGB").resize((width, height)), np.float32) / 255
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
