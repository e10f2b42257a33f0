"""The frozen loss network: VGG16 or VGG19 by layer name, with the one normalization its weights want.

No other module knows a mean, a standard deviation or a channel order of any VGG.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, get_args
from urllib.error import URLError

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from fastnst import winograd
from fastnst.errors import InputError, ModelError, UnavailableError, UsageError
from fastnst.image import IMAGENET_MEAN, IMAGENET_STD
from fastnst.values import check_choice, in_words

BUNDLED = Path(__file__).parent / "weights" / "vgg16_features.fp16.safetensors"

# Convolutions a block has, configurations D and E of Simonyan and Zisserman 2014, table 1.
BLOCKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)

# How the files of the original weights describe their input; all others want torchvision's.
ORIGINAL_INPUT = "RGB, values 0..255, minus (123.68, 116.779, 103.939) per channel"
ORIGINAL_MEAN = (123.68, 116.779, 103.939)

# Of a file's metadata, what stays true of weights that were learned from its own.
_KEPT = ("authors", "input", "license", "model")

Pooling = Literal["max", "average"]
Padding = Literal["zeros", "replicate"]


def layer_names(network: str = "vgg16") -> list[str]:
    """All layer names in depth order; a name's place is its index in torchvision's `vgg16().features`."""
    names = []
    for block, convolutions in enumerate(BLOCKS[network], start=1):
        for index in range(1, convolutions + 1):
            names += [f"conv{block}_{index}", f"relu{block}_{index}"]
        names.append(f"pool{block}")
    return names


class VGGFeatures(nn.Module):
    """Frozen VGG: (N, 3, H, W) RGB 0..1 -> {"relu1_2": (N, 64, H, W), ...}, in depth order.

    `vgg` names the weights: "bundled" (VGG16, inside the package), "torchvision" (its VGG16), "vgg19" (torchvision's),
    or a safetensors file with torchvision's keys. Average instead of max pooling is what Gatys et al. 2015 prefer.
    `padding` is what convolutions see beyond a picture: zeros, as in the papers, which is the gray of the mean, or
    what is nearest within it.

    Raises UsageError for a layer the network does not have, ModelError for weights that do not fit, and
    UnavailableError if torchvision's weights are neither cached nor can be downloaded.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        layers: Sequence[str],
        vgg: str | Path = "bundled",
        pooling: Pooling = "max",
        padding: Padding = "zeros",
    ) -> None:
        super().__init__()
        check_choice("pooling", pooling, get_args(Pooling))
        check_choice("padding", padding, get_args(Padding))
        weights, metadata = _read_weights(vgg)
        self.metadata = {key: metadata[key] for key in _KEPT if key in metadata}
        network = "vgg19" if "features.34.weight" in weights else "vgg16"
        self.names = layer_names(network)
        self.layers = tuple(self._in_depth_order(layers))
        depth = self.names.index(self.layers[-1]) + 1
        self.body = nn.ModuleList(_modules(self.names[:depth], pooling, padding, keep=self.layers))
        _load(self.body, weights, source=vgg)

        if self.metadata.get("input") == ORIGINAL_INPUT:
            scale, shift = torch.full((3,), 255.0), -torch.tensor(ORIGINAL_MEAN)
        else:
            mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
            scale, shift = 1 / std, -mean / std
        self.register_buffer("scale", scale.view(3, 1, 1), persistent=False)
        self.register_buffer("shift", shift.view(3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor, layers: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Features of all layers, or of some of them; stops at the deepest one asked for."""
        wanted = self.layers if layers is None else self._in_depth_order(layers)
        if not set(wanted) <= set(self.layers):
            raise UsageError(f"this network was built for {', '.join(self.layers)}; name {', '.join(wanted)} there too")
        check_images(images)
        check_size(images, wanted[-1], self.smallest(wanted[-1]))
        x = images * self.scale + self.shift
        features = {}
        for name, module in zip(self.names, self.body, strict=False):
            x = module(x)
            if name in wanted:
                features[name] = x
            if name == wanted[-1]:
                break
        return features

    def to_file(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """What a file holds whose name `vgg` may be: weights as float16 by torchvision's keys, and metadata."""
        tensors = {
            f"features.{name}": tensor.detach().half().cpu().contiguous()
            for name, tensor in self.body.state_dict().items()
        }
        return tensors, {**self.metadata, "dtype": "float16"}

    def smallest(self, layer: str) -> int:
        """The side in pixels of the smallest picture that has features there."""
        return 1 << sum(name.startswith("pool") for name in self.names[: self.names.index(layer) + 1])

    def _in_depth_order(self, layers: Iterable[str]) -> list[str]:
        wanted = set(layers)
        unknown = sorted(wanted - set(self.names))
        if unknown or not wanted:
            raise UsageError(f"unknown VGG layer {', '.join(unknown) or '(none)'}; choose from {', '.join(self.names)}")
        return [name for name in self.names if name in wanted]


def check_size(images: Tensor, layer: str, smallest: int) -> None:
    """InputError if pictures (N, 3, H, W) are too small to have features at a layer."""
    height, width = images.shape[-2:]
    if min(height, width) < smallest:
        raise InputError(
            f"image is {width}x{height} but {layer} needs at least {smallest}x{smallest}; "
            "use a larger image or a shallower layer"
        )


def check_images(images: Tensor) -> None:
    """UsageError unless these are floats (N, 3, H, W)."""
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise UsageError(f"pictures are {in_words(images)} but must be a tensor of floats (N, 3, H, W), 0..1")


class Convolution(nn.Conv2d):
    """A 3x3 convolution that keeps the size, and what its kernels are for a fast one while they are not learned."""

    def __init__(self, channels: int, outputs: int, padding: Padding) -> None:
        super().__init__(channels, outputs, kernel_size=3, padding=1, padding_mode=padding)
        self.transformed: tuple[tuple[int, int], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not winograd.applies(x, self.weight, padding=1):
            return super().forward(x)
        padded = F.pad(x, (1, 1, 1, 1), "constant" if self.padding_mode == "zeros" else self.padding_mode)
        if self.weight.requires_grad:
            return winograd.conv2d(padded, self.weight, self.bias)
        version = self.weight.data_ptr(), self.weight._version
        if self.transformed is None or self.transformed[0] != version:
            self.transformed = version, winograd.transform(self.weight)
        return winograd.conv2d(padded, self.weight, self.bias, self.transformed[1])


def _modules(names: Sequence[str], pooling: Pooling, padding: Padding, keep: Sequence[str]) -> list[nn.Module]:
    modules: list[nn.Module] = []
    width = 3
    for index, name in enumerate(names):
        block = int(name[4])
        if name.startswith("conv"):
            modules.append(Convolution(width, WIDTHS[block - 1], padding))
            width = WIDTHS[block - 1]
        elif name.startswith("relu"):
            # In place, except over a convolution whose own values were asked for.
            modules.append(nn.ReLU(inplace=names[index - 1] not in keep))
        else:
            modules.append(nn.MaxPool2d(2) if pooling == "max" else nn.AvgPool2d(2))
    return modules


def _load(body: nn.ModuleList, weights: dict[str, Tensor], source: str | Path) -> None:
    for index, module in enumerate(body):
        if not isinstance(module, nn.Conv2d):
            continue
        for kind, parameter in (("weight", module.weight), ("bias", module.bias)):
            key = f"features.{index}.{kind}"
            if key not in weights or parameter is None or weights[key].shape != parameter.shape:
                shape = tuple(weights[key].shape) if key in weights else "missing"
                needed = tuple(parameter.shape) if parameter is not None else ()
                raise ModelError(f"{source}: {key} is {shape} but a VGG needs {needed}")
            parameter.data.copy_(weights[key])


def _read_weights(vgg: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Convolution weights by torchvision's keys, and metadata; without `input` there, it is ImageNet's."""
    if vgg in ("torchvision", "vgg19"):
        return torchvision_weights("vgg16" if vgg == "torchvision" else "vgg19"), {}
    path = BUNDLED if vgg == "bundled" else Path(vgg)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys() if key.startswith("features.")}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"cannot read VGG weights from {path} ({error}); give bundled, torchvision, vgg19 or a safetensors file"
        ) from error
    return weights, metadata


def torchvision_weights(network: str) -> dict[str, Tensor]:
    """torchvision's ImageNet weights of one of its networks by their keys, from its cache or the net.

    Raises UnavailableError, with the file and the folder it belongs into, if they are neither here nor can be loaded.
    """
    from torchvision.models import get_model_weights

    entry = get_model_weights(network)["IMAGENET1K_V1"]
    try:
        return dict(entry.get_state_dict(progress=False, check_hash=True))
    except (URLError, OSError, RuntimeError) as error:  # RuntimeError: the download has another hash
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise UnavailableError(
            f"torchvision's weights for {network} are not on this machine and could not be downloaded; "
            f"put {entry.url} into {folder}"
        ) from error
