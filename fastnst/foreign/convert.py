"""Weights of other projects turned into checkpoints that stylize the same.

How an image goes in and comes out differs between projects (0..255, ImageNet's statistics, BGR); that is folded into
the first and the last convolution, so that what runs a checkpoint need not know. The rest is in NetConfig.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from fastnst.checkpoint import CheckpointMeta, save_checkpoint
from fastnst.config import Family, ImportOptions
from fastnst.errors import ModelError, UsageError
from fastnst.files import check_output, printable, refuse_address
from fastnst.foreign.projects import ORIGINS, PLAIN, Keys, Origin, recognize, unwrapped
from fastnst.foreign.read import Numbers, Weights, read_weights
from fastnst.image import IMAGENET_MEAN, IMAGENET_STD
from fastnst.nets.spec import Layer, NetConfig, layers
from fastnst.nets.torch_net import TransformerNet

# What torch before 0.4 kept beside instance normalization and did not use.
_STATISTICS = re.compile(r"\.running_(mean|var)$")
_MEAN, _DEVIATION = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)

# (TensorFlow's, transposed) -> the axes of its weights that are outputs, inputs, rows and columns.
_AXES = {
    (False, False): (0, 1, 2, 3),
    (False, True): (1, 0, 2, 3),
    (True, False): (3, 2, 0, 1),
    (True, True): (2, 3, 0, 1),
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
    """Write another project's weights as a checkpoint that makes of an image what the original network makes of it.

    The source is a file that torch saved, in either of its formats, with the weights alone or among others in a dict; a
    .safetensors or .npz file of them; or a folder with a manifest.json and one raw float32 file a tensor. Of a pickle
    only tensors and containers are read.

    Raises UnsafeModelError if reading it would run code, ModelError for a damaged file or one of no known project,
    InputError if it cannot be read, OutputError for the output, UsageError for invalid options.
    """
    options, source, output = options or ImportOptions(), Path(source), Path(output)
    if output.suffix != ".safetensors":
        raise UsageError(f"--output is {printable(output)} but must end in .safetensors")
    refuse_address(source)
    check_output(output, overwrite=options.overwrite)
    weights = read_weights(source)
    bare = unwrapped(weights.tensors)
    weights = replace(weights, tensors={bare[name]: tensor for name, tensor in weights.tensors.items()})
    family = options.family or recognize(weights.tensors, source)
    origin = ORIGINS[family]
    origin = replace(origin, values=options.values or origin.values, order=options.order or origin.order)
    net = convert(weights, origin)
    meta = CheckpointMeta(
        "imported",
        net.config.to_json(),
        {"name": options.name or source.stem, "credit": options.credit},
        origin={
            "project": origin.project,
            "family": family,
            "file": printable(source.name),
            "sha256": weights.sha256,
        },
    )
    # Rounding to float16 was only ever looked at in networks that fastnst trained.
    save_checkpoint(output, net, meta, exact=True)
    return Imported(output, family, origin.project, net.config, sum(p.numel() for p in net.parameters()))


def convert(weights: Weights, origin: Origin) -> TransformerNet:
    """The network these weights belong to, RGB 0..1 in and out whatever the project has, in eval mode.

    Raises ModelError if they do not fit, naming the first that does not, UsageError for values that the network cannot
    have.
    """
    if origin.net.get("padding") == "same" and origin.values == "imagenet":
        raise UsageError("--values imagenet is invalid for a network with zeros around its layers; leave it out")
    weights, keys = _unprefixed(weights, origin)
    _check_names(weights, keys, origin)
    kernels = [weights.numbers(stage.weight) for stage in keys]
    config = _config(weights.source, keys, kernels, origin)
    state: dict[str, Numbers] = {}
    for layer, stage, kernel in zip(layers(config), keys, kernels, strict=True):
        axes = _AXES[origin.tensorflow, layer.upsample == "transposed"]
        state |= _layer_state(weights, layer, stage, kernel.transpose(axes))
    state = _as_unit_rgb(state, config, origin)
    net = TransformerNet(config)
    net.load_state_dict({name: torch.from_numpy(values.astype(np.float32)) for name, values in state.items()})
    return net.eval()


def _unprefixed(weights: Weights, origin: Origin) -> tuple[Weights, list[Keys]]:
    """The network's tensors by the names that its project gives them, and its layers.

    What is not below the prefix that they have in common belongs to something else. ModelError for several networks.
    """
    names = weights.tensors.keys()
    whole = sorted({layout.prefix for layout in origin.layouts(names) if not layout.missing})
    if len(whole) > 1:
        raise ModelError(
            f"{printable(weights.source)} holds several networks, below {' and '.join(map(printable, whole))}; "
            "save the weights of one of them alone"
        )
    layout = origin.best_layout(names)
    inside = {name: tensor for name, tensor in weights.tensors.items() if name.startswith(layout.prefix)}
    tensors = {name.removeprefix(layout.prefix): tensor for name, tensor in inside.items()}
    return replace(weights, tensors=tensors), layout.keys


def _check_names(weights: Weights, keys: list[Keys], origin: Origin) -> None:
    """ModelError unless all tensors that the network needs are there and no others."""
    source, tensors = weights.source, weights.tensors
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


def _config(source: Path, keys: list[Keys], kernels: list[Numbers], origin: Origin) -> NetConfig:
    """Widths, depth and kernels as the weights have them, the rest as the project has it."""
    for kernel, stage in zip(kernels, keys, strict=True):
        if kernel.ndim != 4:
            raise ModelError(
                f"{printable(source)}: {printable(stage.weight)} is {kernel.shape} but must be a convolution's"
            )
    size, outputs = (0, -1) if origin.tensorflow else (-1, 0)  # axes
    widths = tuple(kernel.shape[outputs] for kernel in kernels[:3])
    try:
        return NetConfig(
            channels=widths,
            blocks=len(keys[3:-3]) // 2,
            kernels=(kernels[0].shape[size], kernels[-1].shape[size]),
            **{**PLAIN, **origin.net},
        )
    except UsageError as error:
        raise ModelError(f"{printable(source)} holds a network that fastnst cannot build: {error}") from error


def _layer_state(weights: Weights, layer: Layer, stage: Keys, kernel: Numbers) -> dict[str, Numbers]:
    """A layer's tensors by our names, from the project's."""

    def fitting(values: Numbers, needed: tuple[int, ...], key: str) -> Numbers:
        if values.shape != needed:
            raise ModelError(
                f"{printable(weights.source)}: {printable(key)} is {values.shape} but must be {needed} "
                "in a network of this build"
            )
        return values

    shape = (layer.outputs, layer.inputs, layer.learned, layer.learned)
    state = {layer.weight: fitting(kernel, shape, stage.weight)}
    if layer.norm is not None:
        for name, key in (("weight", stage.scale), ("bias", stage.shift)):
            assert key is not None
            state[f"{layer.norm}.{name}"] = fitting(weights.numbers(key), (layer.outputs,), key)
    if layer.bias is not None:  # others' are subtracted again by the normalization
        state[layer.bias] = np.zeros(layer.outputs)
        if stage.bias is not None and stage.bias in weights.tensors:
            state[layer.bias] = fitting(weights.numbers(stage.bias), (layer.outputs,), stage.bias)
    return state


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
