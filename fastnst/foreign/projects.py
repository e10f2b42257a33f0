"""The projects whose networks can be imported: how they name their layers, feed them and build them."""

import re
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fastnst.config import ChannelOrder, Family, PixelValues
from fastnst.errors import ModelError
from fastnst.files import printable

_MOST_BLOCKS = 32
_MOST_PREFIXES = 8  # that are tried
# What torch puts into a name where it wraps a module: compiled, on several GPUs, sharded, with recomputed activations.
_WRAPPER = re.compile(r"(?<![^.])(_orig_mod|module|_forward_module|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_PROJECTS = "pytorch/examples, rrmina, gordicaleksa, igreat, eriklindernoren, yakhyo, abhiskk and lengstrom"

# Where pytorch/examples, and most others, do something else than fastnst.
PLAIN: dict[str, Any] = {"upsample": "nearest", "even_out": False, "center": 0.0, "gain": 1.0, "output": "linear"}
_TANH: dict[str, Any] = {"output": "tanh", "reach": 150 / 255}


class Keys(NamedTuple):
    """Under which names a project keeps a convolution and the normalization behind it."""

    weight: str
    bias: str | None = None
    scale: str | None = None
    shift: str | None = None

    @property
    def needed(self) -> set[str]:
        """All but the bias, without which some train; before a normalization it has no effect."""
        return {key for key in (self.weight, self.scale, self.shift) if key is not None}


def _keys(convolution: str, norm: str | None, affine: tuple[str, str] = ("weight", "bias")) -> Keys:
    scale, shift = (None, None) if norm is None else (f"{norm}.{name}" for name in affine)
    return Keys(f"{convolution}.weight", f"{convolution}.bias", scale, shift)


def _examples(*up: str, affine: tuple[str, str] = ("weight", "bias")) -> Callable[[int], list[Keys]]:
    def keys(blocks: int) -> list[Keys]:
        down = [(f"conv{i}.conv2d", f"in{i}") for i in (1, 2, 3)]
        residual = [(f"res{b}.conv{i}.conv2d", f"res{b}.in{i}") for b in range(1, blocks + 1) for i in (1, 2)]
        ends = list(zip(up, ("in4", "in5", None), strict=True))
        return [_keys(*names, affine) for names in [*down, *residual, *ends]]

    return keys


def _rrmina(blocks: int) -> list[Keys]:
    down = [f"ConvBlock.{i}.conv_layer" for i in (0, 2, 4)]
    residual = [f"ResidualBlock.{b}.conv{i}.conv_layer" for b in range(blocks) for i in (1, 2)]
    up = [f"DeconvBlock.{i}.conv_transpose" for i in (0, 2)]
    stages = [_keys(name, name.rpartition(".")[0] + ".norm_layer") for name in [*down, *residual, *up]]
    return [*stages, _keys("DeconvBlock.4.conv_layer", None)]


def _eriklindernoren(blocks: int) -> list[Keys]:
    residual = [f"model.{3 + b}.block.{i}" for b in range(blocks) for i in (0, 1)]
    stages = ["model.0", "model.1", "model.2", *residual, f"model.{3 + blocks}", f"model.{4 + blocks}"]
    return [*(_keys(f"{name}.block.1", f"{name}.norm") for name in stages), _keys(f"model.{5 + blocks}.block.1", None)]


def _igreat(blocks: int) -> list[Keys]:
    down = [(f"layers.{i}.conv", f"layers.{i + 1}") for i in (0, 3, 6)]
    inside = [f"layers.{9 + b}" for b in range(blocks)]
    residual = [(f"{name}.conv{i}.conv", f"{name}.instance_norm{i}") for name in inside for i in (1, 2)]
    up = [(f"layers.{i}.conv.conv", f"layers.{i + 1}") for i in (9 + blocks, 12 + blocks)]
    return [*(_keys(*names) for names in [*down, *residual, *up]), _keys(f"layers.{15 + blocks}.conv", None)]


def _lengstrom(blocks: int) -> list[Keys]:
    # TensorFlow numbers its variables: kernel, shift and scale of each convolution.
    names = ["Variable", *(f"Variable_{i}" for i in range(1, 3 * (6 + 2 * blocks)))]
    return [Keys(names[i], None, names[i + 2], names[i + 1]) for i in range(0, len(names), 3)]


@dataclass(frozen=True)
class Origin:
    """How a project names, feeds and builds its networks."""

    project: str
    keys: Callable[[int], list[Keys]]  # number of residual blocks -> the layers, first to last
    values: PixelValues  # of images in and out; with a tanh, only in
    order: ChannelOrder = "rgb"
    net: dict[str, Any] = field(default_factory=dict)
    tensorflow: bool = False  # kernels are (size, size, inputs, outputs)

    def best_layout(self, names: Set[str]) -> "Layout":
        """The number of blocks, and what stands before all names, that explain these best."""
        return min(self.layouts(names), key=lambda layout: (layout.unexplained, len(layout.prefix)))

    def layouts(self, names: Set[str]) -> "Iterator[Layout]":
        """All that may be of these names."""
        for blocks in range(_MOST_BLOCKS + 1):
            keys = self.keys(blocks)
            known = {key for stage in keys for key in stage if key is not None}
            needed = {key for stage in keys for key in stage.needed}
            ends = keys[0].weight, keys[-1].weight
            prefixes = {name.removesuffix(end) for name in names for end in ends if name.endswith(end)}
            for prefix in ("", *sorted(prefixes - {""}, key=len)[:_MOST_PREFIXES]):
                missing = sum(prefix + key not in names for key in needed)
                explained = sum(prefix + key in names for key in known)
                yield Layout(keys, prefix, missing, missing + len(names) - explained)


@dataclass(frozen=True)
class Layout:
    """The layers of a network, and what stands before their names in a file; how many names are missing there, and how
    many are missing or are of something else."""

    keys: list[Keys]
    prefix: str
    missing: int
    unexplained: int


_YAKHYO = _examples("upsample_conv1.conv2d", "upsample_conv2.conv2d", "upsample_conv3.conv2d")
_DECONV = "deconv1.conv2d", "deconv2.conv2d", "deconv3.conv2d"
ORIGINS: dict[Family, Origin] = {
    "pytorch-examples": Origin("pytorch/examples fast_neural_style", _examples(*_DECONV), "255"),
    "rrmina": Origin("rrmina/fast-neural-style-pytorch", _rrmina, "255", "bgr", {"upsample": "transposed"}),
    # Whose tanh reaches from -150 to 150; what is below 0 becomes black.
    "rrmina-tanh": Origin(
        "rrmina/fast-neural-style-pytorch", _rrmina, "255", "bgr", {"upsample": "transposed", **_TANH, "middle": 0.0}
    ),
    "gordicaleksa": Origin(
        "gordicaleksa/pytorch-neural-style-transfer-johnson",
        _examples("up1.conv2d.conv2d", "up2.conv2d.conv2d", "up3.conv2d"),
        "imagenet",
    ),
    "igreat": Origin("igreat/fast-style-transfer", _igreat, "imagenet"),
    "eriklindernoren": Origin("eriklindernoren/Fast-Neural-Style-Transfer", _eriklindernoren, "imagenet"),
    # Trained with 0..1, but run with 0..255, which only epsilon can tell.
    "lengstrom": Origin(
        "lengstrom/fast-style-transfer",
        _lengstrom,
        "255",
        net={"upsample": "transposed", "padding": "same", "epsilon": 1e-3, "last_norm": True, **_TANH},
        tensorflow=True,
    ),
    # Which adds the input of a residual block twice.
    "yakhyo": Origin("yakhyo/fast-neural-style-transfer", _YAKHYO, "255", net={"skip": 2.0}),
    "yakhyo-once": Origin("yakhyo/fast-neural-style-transfer", _YAKHYO, "255"),
    "abhiskk": Origin(
        "abhiskk/fast-neural-style", _examples(*_DECONV, affine=("scale", "shift")), "255", "bgr", {"epsilon": 1e-9}
    ),
}


def recognize(tensors: Iterable[str], source: object) -> Family:
    """The family that names its tensors so, or that only a few are missing of; ModelError if there is none."""
    names = set(tensors)
    candidates = {family: origin.best_layout(names) for family, origin in ORIGINS.items()}
    likely = min(candidates, key=lambda family: candidates[family].unexplained)
    needed = sum(len(stage.needed) for stage in candidates[likely].keys)
    if candidates[likely].missing * 2 < needed:
        return likely
    raise ModelError(
        f"{printable(source)} holds {', '.join(map(printable, list(tensors)[:3]))} ..., which is none of the networks "
        f"that can be imported: those of {_PROJECTS}"
    )


def unwrapped(names: Iterable[str]) -> dict[str, str]:
    """Each name -> what it is without the wrappers that torch puts around modules; as they are if two become one."""
    bare = {name: _WRAPPER.sub("", name) for name in names}
    return bare if len(set(bare.values())) == len(bare) else {name: name for name in bare}
