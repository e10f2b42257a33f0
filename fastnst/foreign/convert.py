"""Weights that other projects trained, read without their code and turned into checkpoints that paint the same.

How an image goes in and comes out differs between projects (0..255, ImageNet's statistics, BGR); that is folded into
the first and the last convolution, so that what runs a checkpoint need not know. The rest is in NetConfig.
"""

import hashlib
import io
import json
import math
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from fastnst.checkpoint import CheckpointMeta, save_checkpoint
from fastnst.config import ChannelOrder, Family, ImportOptions, PixelValues
from fastnst.errors import ModelError, UnsafeModelError, UsageError
from fastnst.files import check_output, is_folder, printable
from fastnst.image import IMAGENET_MEAN, IMAGENET_STD, open_regular
from fastnst.nets.spec import NetConfig, layers
from fastnst.nets.torch_net import TransformerNet

_LARGEST = 1 << 28  # bytes, packed or not; a network with its optimizer's state has 20 MB
_MOST_BLOCKS = 32
# What torch before 0.4 kept beside instance normalization and did not use.
_STATISTICS = re.compile(r"\.running_(mean|var)$")
# What TensorFlow keeps beside the weights.
_TRAINING = re.compile(r"(/Adam(_\d)?|^beta\d_power(_\d)?|^global_step)$")
_MEAN, _DEVIATION = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
_PROJECTS = "pytorch/examples, rrmina, gordicaleksa, igreat, eriklindernoren, yakhyo, abhiskk and lengstrom"

# Where pytorch/examples, and most others, do something else than fastnst.
_PLAIN: dict[str, Any] = {"upsample": "nearest", "even_out": False, "center": 0.0, "gain": 1.0, "output": "linear"}
_TANH: dict[str, Any] = {"output": "tanh", "reach": 150 / 255}

Numbers = npt.NDArray[np.float64]


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

    def layers(self, names: set[str]) -> tuple[list[Keys], int]:
        """Keys of all layers, for the number of blocks that explains these names best, and how many it does not."""

        def unexplained(keys: list[Keys]) -> int:
            needed = {key for stage in keys for key in stage.needed}
            known = {key for stage in keys for key in stage}
            return len(needed - names) + len(names - known)

        found = min((self.keys(blocks) for blocks in range(_MOST_BLOCKS + 1)), key=unexplained)
        return found, unexplained(found)


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


@dataclass(frozen=True)
class Imported:
    """What was imported, and where it is now."""

    path: Path
    family: Family
    project: str
    net: NetConfig
    parameters: int


def import_model(source: Path | str, output: Path | str, options: ImportOptions | None = None) -> Imported:
    """Write another project's weights as a checkpoint that paints what the original network paints.

    The source is a file that torch saved, in either of its formats, with the weights alone or among others in a dict; a
    .safetensors or .npz file of them; or a folder with a manifest.json and one raw float32 file a tensor. Of a pickle
    only tensors and containers are read.

    Raises UnsafeModelError if reading it would run code, ModelError for a damaged file or one of no known project,
    InputError if it cannot be read, OutputError for the output, UsageError for options that cannot be meant.
    """
    options, source, output = options or ImportOptions(), Path(source), Path(output)
    if output.suffix != ".safetensors":
        raise UsageError(f"--output is {printable(output)} but must end in .safetensors")
    check_output(output, overwrite=options.overwrite)
    tensors, digest = read_weights(source)
    family = options.family or recognize(tensors, source)
    origin = ORIGINS[family]
    origin = replace(origin, values=options.values or origin.values, order=options.order or origin.order)
    net = convert(tensors, origin, source)
    meta = CheckpointMeta(
        "imported",
        net.config.to_json(),
        {"name": options.name or source.stem, "credit": options.credit},
        origin={"project": origin.project, "family": family, "file": printable(source.name), "sha256": digest},
    )
    # Rounding to float16 was only ever looked at in networks that fastnst trained.
    save_checkpoint(output, net, meta, exact=True)
    return Imported(output, family, origin.project, net.config, sum(p.numel() for p in net.parameters()))


def recognize(tensors: Mapping[str, Tensor], source: object) -> Family:
    """The family whose names these are, or that only a few are missing of; ModelError if there is none."""
    names = set(tensors)
    found = {family: origin.layers(names) for family, origin in ORIGINS.items()}
    likely = min(found, key=lambda family: found[family][1])
    needed = {key for stage in found[likely][0] for key in stage.needed}
    if len(needed & names) * 2 > len(needed):
        return likely
    raise ModelError(
        f"{printable(source)} holds {', '.join(map(printable, list(tensors)[:3]))} ..., which is none of the networks "
        f"that can be imported: those of {_PROJECTS}"
    )


def convert(tensors: Mapping[str, Tensor], origin: Origin, source: object) -> TransformerNet:
    """The network these weights belong to, RGB 0..1 in and out whatever the project has, in eval mode.

    Raises ModelError if they do not fit, naming the first that does not.
    """
    if origin.net.get("padding") == "same" and origin.values == "imagenet":
        raise UsageError("--values imagenet cannot be meant for a network with zeros around its layers; leave it out")
    keys, _ = origin.layers(set(tensors))
    _check_names(tensors, keys, origin, source)
    kernels = [_numbers(tensors, stage.weight, source) for stage in keys]
    for kernel, stage in zip(kernels, keys, strict=True):
        if kernel.ndim != 4:
            raise ModelError(
                f"{printable(source)}: {printable(stage.weight)} is {kernel.shape} but must be a convolution's"
            )
    size, outputs = (0, -1) if origin.tensorflow else (-1, 0)  # axes
    widths = tuple(kernel.shape[outputs] for kernel in kernels[:3])
    try:
        config = NetConfig(
            channels=widths,
            blocks=len(keys[3:-3]) // 2,
            kernels=(kernels[0].shape[size], kernels[-1].shape[size]),
            **{**_PLAIN, **origin.net},
        )
    except UsageError as error:
        raise ModelError(f"{printable(source)} holds a network that fastnst cannot build: {error}") from error
    state: dict[str, Numbers] = {}
    for layer, stage, kernel in zip(layers(config), keys, kernels, strict=True):
        weight = kernel.transpose(_AXES[origin.tensorflow, layer.upsample == "transposed"])
        needed = (layer.outputs, layer.inputs, layer.learned, layer.learned)
        _check_shape(weight.shape, needed, stage.weight, source)
        state[layer.weight] = weight
        if layer.norm is not None:
            for name, key in (("weight", stage.scale), ("bias", stage.shift)):
                assert key is not None
                state[f"{layer.norm}.{name}"] = _numbers(tensors, key, source)
                _check_shape(state[f"{layer.norm}.{name}"].shape, (layer.outputs,), key, source)
        if layer.bias is not None:  # others' are subtracted again by the normalization
            state[layer.bias] = np.zeros(layer.outputs)
            if stage.bias is not None and stage.bias in tensors:
                state[layer.bias] = _numbers(tensors, stage.bias, source)
                _check_shape(state[layer.bias].shape, (layer.outputs,), stage.bias, source)
    state = _as_unit_rgb(state, config, origin)
    net = TransformerNet(config)
    net.load_state_dict({name: torch.from_numpy(values.astype(np.float32)) for name, values in state.items()})
    return net.eval()


# (TensorFlow's, transposed) -> the axes of its weights that are outputs, inputs, rows and columns.
_AXES = {
    (False, False): (0, 1, 2, 3),
    (False, True): (1, 0, 2, 3),
    (True, False): (3, 2, 0, 1),
    (True, True): (2, 3, 0, 1),
}


def _as_unit_rgb(state: Mapping[str, Numbers], config: NetConfig, origin: Origin) -> dict[str, Numbers]:
    """Weights of a network that takes and gives RGB 0..1 for those of one with its project's values and order.

    What a project subtracts from an image is left out: edges are reflected, so it is the same everywhere, and the first
    normalization subtracts it again.
    """
    unit, zero = np.ones(3), np.zeros(3)
    scale, offset = {"1": (unit, zero), "255": (unit / 255, zero), "imagenet": (_DEVIATION, _MEAN)}[origin.values]
    flip = slice(None, None, -1 if origin.order == "bgr" else 1)  # to and from the project's order
    folded = dict(state)
    folded["down.0.conv.weight"] = (state["down.0.conv.weight"] / scale[flip, None, None])[:, flip]
    for name in (name for name in state if name.startswith("paint")):
        values = state[name]
        if config.output == "linear":
            values = values * scale[flip].reshape(-1, *[1] * (values.ndim - 1))
            values = values + offset[flip] if name == "paint.bias" else values
        folded[name] = values[flip]
    return {name: np.ascontiguousarray(values) for name, values in folded.items()}


def _check_names(tensors: Mapping[str, Tensor], keys: list[Keys], origin: Origin, source: object) -> None:
    known = {key for stage in keys for key in stage if key is not None}
    for needed in (key for stage in keys for key in sorted(stage.needed)):
        if needed not in tensors:
            raise ModelError(f"{printable(source)} has no {needed}, which a network of {origin.project} needs")
    norms = {key.rpartition(".")[0] for stage in keys if (key := stage.scale) is not None}
    for name in tensors:
        if name.endswith(".num_batches_tracked"):
            raise ModelError(
                f"{printable(source)} normalizes with running statistics ({printable(name)}), not by instances"
            )
        unused = _STATISTICS.search(name) and name.rpartition(".")[0] in norms
        if name not in known and not unused:
            raise ModelError(f"{printable(source)} has {printable(name)}, which no network of {origin.project} has")


def _check_shape(found: tuple[int, ...], needed: tuple[int, ...], name: str, source: object) -> None:
    if found != needed:
        raise ModelError(
            f"{printable(source)}: {printable(name)} is {found} but must be {needed} in a network of this build"
        )


def _numbers(tensors: Mapping[str, Tensor], name: str, source: object) -> Numbers:
    values: Numbers = tensors[name].double().numpy()
    if not np.isfinite(values).all():
        raise ModelError(f"{printable(source)}: {printable(name)} holds values that are not finite; get it again")
    return values


def read_weights(source: Path) -> tuple[dict[str, Tensor], str]:
    """Named tensors of a file or a folder, and the sha256 of what was read.

    Raises UnsafeModelError for a pickle that needs more than tensors and containers, ModelError for what is damaged or
    holds no weights, InputError if it cannot be read.
    """
    if is_folder(source):
        return _read_manifest(source)
    data = _read_bytes(source)
    if source.suffix == ".npz":
        tensors = _read_npz(data, source)
    elif source.suffix == ".safetensors":
        try:
            tensors = load_safetensors(data)
        except (SafetensorError, ValueError, KeyError) as error:
            raise ModelError(f"{printable(source)} is not a readable safetensors file; get it again") from error
    else:
        tensors = _weights_in(_unpickle(data, source), source)
    return _checked(tensors, source), hashlib.sha256(data).hexdigest()


def _read_bytes(path: Path) -> bytes:
    with open_regular(path) as file:
        data = bytes(file.read(_LARGEST + 1))
    if len(data) > _LARGEST:
        raise ModelError(
            f"{printable(path)} has more than {_LARGEST >> 20} MiB, which no style has; give a style's weights"
        )
    return data


def _unpickle(data: bytes, source: Path) -> Any:
    """What torch saved, as long as it is made of tensors and containers; nothing else is ever called."""
    _check_unpacked(data, source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged archive or pickle leads to
        reason = re.search(r"GLOBAL (\S+)|function (.{1,80})|new object .* got (.{1,80})", str(error))
        if reason:
            name = printable(next(filter(None, reason.groups())).removesuffix("."))
            raise UnsafeModelError(
                f"{printable(source)} is a pickle that runs code of its own ({name}); "
                "in the project it is from, save the weights alone: torch.save(network.state_dict(), FILE)"
            ) from error
        raise ModelError(
            f"{printable(source)} is not a file of weights that torch saved, or is damaged; get it again"
        ) from error


def _check_unpacked(data: bytes, source: Path) -> None:
    """ModelError for an archive that would fill the memory."""
    if data[:2] != b"PK":
        return
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    # NotImplementedError is what zipfile raises for an entry of a newer version than it reads.
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ModelError(f"{printable(source)} is a damaged archive; get it again") from error
    if size > _LARGEST:
        raise ModelError(f"{printable(source)} unpacks to more than {_LARGEST >> 20} MiB, which no style has")


def _weights_in(loaded: Any, source: Path) -> dict[str, Tensor]:
    """The largest dict of tensors, at the top or one below, where training states keep it."""
    inside = list(loaded.values()) if isinstance(loaded, Mapping) else []
    dicts = [
        {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
        for found in (loaded, *inside)
        if isinstance(found, Mapping)
    ]
    found = max(dicts, key=len, default={})
    if not found:
        raise ModelError(
            f"{printable(source)} holds no named weights; save them with torch.save(network.state_dict(), FILE)"
        )
    prefix = "module." if all(name.startswith("module.") for name in found) else ""  # of several GPUs
    return {name.removeprefix(prefix): value for name, value in found.items()}


def _read_npz(data: bytes, source: Path) -> dict[str, Tensor]:
    _check_unpacked(data, source)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name.removesuffix(":0"): archive[name] for name in archive.files}
        return {name: torch.from_numpy(array) for name, array in arrays.items() if not _TRAINING.search(name)}
    except Exception as error:  # zipfile's, zlib's and numpy's
        raise ModelError(f"{printable(source)} is not a readable .npz file of plain arrays; write it again") from error


def _read_manifest(folder: Path) -> tuple[dict[str, Tensor], str]:
    """A folder as deeplearn.js dumps a TensorFlow checkpoint: manifest.json with shapes, raw little-endian float32."""
    if not (folder / "manifest.json").exists():
        raise ModelError(
            f"{printable(folder)} has no manifest.json; give a file of weights, or a folder as deeplearn.js dumps it"
        )
    text = _read_bytes(folder / "manifest.json")
    sha = hashlib.sha256(text)
    tensors = {}
    try:
        entries = {str(name): (Path(e["filename"]), tuple(e["shape"])) for name, e in json.loads(text).items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{printable(folder / 'manifest.json')} is not deeplearn.js's; get it again") from error
    for name, (file, shape) in sorted(entries.items()):
        if file.name != str(file) or file.name in ("", "..") or not all(isinstance(n, int) and n > 0 for n in shape):
            raise ModelError(f"{printable(folder)}: the manifest's entry {printable(name)} is none; get it again")
        data = _read_bytes(folder / file)
        if len(data) != 4 * math.prod(shape):
            raise ModelError(
                f"{printable(folder / file)} has {len(data)} bytes but {shape} needs {4 * math.prod(shape)}"
            )
        sha.update(data)
        if not _TRAINING.search(name):
            tensors[name] = torch.from_numpy(np.frombuffer(data, "<f4").reshape(shape).copy())
    return _checked(tensors, folder), sha.hexdigest()


def _checked(tensors: dict[str, Tensor], source: Path) -> dict[str, Tensor]:
    """Plain tensors of numbers, of a size that can be meant."""
    if not tensors:
        raise ModelError(f"{printable(source)} holds no weights; give a style's")
    for name, tensor in tensors.items():
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        if not plain or tensor.is_complex():
            raise ModelError(
                f"{printable(source)}: {printable(name)} is no plain tensor; save the network without quantization"
            )
    # A tensor may claim more than is stored, by steps of zero.
    if sum(tensor.numel() for tensor in tensors.values()) * 4 > _LARGEST:
        raise ModelError(f"{printable(source)} holds more weights than any style has; give a style's")
    return {name: tensor.detach() for name, tensor in tensors.items()}
