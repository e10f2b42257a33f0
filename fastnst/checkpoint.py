"""Trained networks and interrupted runs as safetensors files that explain themselves. Nothing here unpickles.

Both kinds are one file: tensors, and under the header key `fastnst` JSON that says what they are. A digest in that JSON
finds flipped bits: of the tensors, and in a resume state of the other values too.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from fastnst.errors import FastnstError, ModelError, OutputError, UnsafeModelError
from fastnst.files import move, printable, write_bytes
from fastnst.image import open_regular
from fastnst.meta import FORMAT
from fastnst.meta import CheckpointMeta as CheckpointMeta  # imported from here by whoever reads or writes checkpoints
from fastnst.nets.spec import NetConfig
from fastnst.nets.torch_net import TransformerNet

_LARGEST = 1 << 30  # bytes; a `base` network has 7 MB, its resume state 20 MB
_PICKLED = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK")  # how pickles and torch's archives of them begin


def save_checkpoint(path: Path, net: TransformerNet, meta: CheckpointMeta, *, exact: bool = False) -> None:
    """Write weights and metadata atomically; OutputError if that fails, and the old file stays.

    Unless `exact`, convolution weights are rounded to float16, which halves the file and moves no pixel by a gray
    level.
    """
    tensors = {
        name: (tensor.half() if tensor.ndim == 4 and tensor.dtype == torch.float32 and not exact else tensor)
        .detach()
        .cpu()
        .contiguous()
        for name, tensor in net.state_dict().items()
    }
    write_bytes(path, _to_bytes(tensors, {**asdict(meta), "digest": _digest(tensors)}))


def load_checkpoint(path: Path) -> tuple[TransformerNet, CheckpointMeta]:
    """Rebuild the network a checkpoint describes, in eval mode on the CPU, every tensor checked.

    Raises ModelError for a damaged or foreign file, UnsafeModelError for a pickle.
    """
    tensors, header = _read(path)
    meta = CheckpointMeta.from_json(header, path)
    try:
        config = NetConfig(**meta.net)
        # A header may claim any size, so nothing is allocated before the tensors are known to fit.
        with torch.device("meta"):
            net = TransformerNet(replace(config, blocks=min(config.blocks, len(tensors))))
    except (TypeError, ValueError, RuntimeError, FastnstError) as error:
        raise ModelError(
            f"{printable(path)} describes a network fastnst does not know ({printable(error)}); train it again"
        ) from error
    _check_tensors(tensors, net.state_dict(), path)
    _check_digest(_digest(tensors), meta.digest, path)
    net.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    return net.eval(), meta


@dataclass(frozen=True)
class TrainState:
    """Everything a run needs to go on as if it had never stopped: tensors by name, and plain values."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]


def save_state(path: Path, state: TrainState) -> None:
    """Write the resume state; the one before it stays as PATH.previous, so that one is valid at any moment."""
    previous = previous_state(path)
    if path.exists():
        spare = previous.with_suffix(".link")
        with suppress(OSError):  # a file system without hard links keeps one state only
            spare.unlink(missing_ok=True)
            os.link(path, spare)
            move(spare, previous)
    write_bytes(path, state_to_bytes(state))


def load_state(path: Path) -> TrainState:
    """Read a resume state; ModelError if damaged."""
    return state_from_bytes(_read_bytes(path), path)


def state_to_bytes(state: TrainState) -> bytes:
    """The content of a resume state's file."""
    values = {**state.values, "format": FORMAT}
    return _to_bytes(state.tensors, {**values, "digest": _digest(state.tensors, values)})


def state_from_bytes(data: bytes, source: Path) -> TrainState:
    """Inverse of `state_to_bytes`; ModelError, naming the source, if damaged."""
    tensors, header = _parse(data, source)
    try:
        values = json.loads(header)
        digest = values.pop("digest")
        if not {"step", "config"} <= values.keys():
            raise ValueError("no step")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{printable(source)} is not a resume state; remove it and start again") from error
    _check_digest(_digest(tensors, values), digest, source)
    return TrainState(tensors, values)


def previous_state(path: Path) -> Path:
    """Where the resume state before the last one lies."""
    return path.with_name(path.name + ".previous")


def _to_bytes(tensors: dict[str, Tensor], header: dict[str, Any]) -> bytes:
    try:
        return save(tensors, metadata={"fastnst": json.dumps(header)})
    except SafetensorError as error:
        raise OutputError(f"cannot make a safetensors file: {error}") from error


def _read(path: Path) -> tuple[dict[str, Tensor], str]:
    """Tensors and the text under the header key `fastnst`."""
    return _parse(_read_bytes(path), path)


def _read_bytes(path: Path) -> bytes:
    with open_regular(path) as file:
        return bytes(file.read(_LARGEST + 1))


def _parse(data: bytes, path: Path) -> tuple[dict[str, Tensor], str]:
    """Tensors and header text of a file's bytes; ModelError, or UnsafeModelError for a pickle, if there are none."""
    # The length of a safetensors header may begin with the same bytes, but then the header itself follows.
    pickled = data[:2] in _PICKLED and data[8:9] != b"{"
    if pickled or path.suffix in (".pth", ".pt", ".pkl", ".model"):
        raise UnsafeModelError(f"{printable(path)} is a pickle, which can run code; give a .safetensors file")
    if len(data) > _LARGEST:
        raise ModelError(f"{printable(path)} has more than {_LARGEST >> 20} MiB, which no fastnst checkpoint has")
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")], object_pairs_hook=_unique)
        tensors = load(data)
        metadata = header.get("__metadata__", {})
        text = metadata.get("fastnst")
    # KeyError: a type of numbers that torch does not have.
    except (SafetensorError, ValueError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise ModelError(
            f"{printable(path)} is not a readable safetensors file ({printable(error)}); train or copy it again"
        ) from error
    if text is None and "classifier" in metadata:
        raise ModelError(
            f"{printable(path)} is a loss network that fastnst finetune wrote, not a style; give it to --vgg"
        )
    if text is None:
        raise ModelError(f"{printable(path)} is a safetensors file but not a fastnst checkpoint (no 'fastnst' header)")
    return tensors, text


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs of a JSON object; ValueError for a name that is there twice."""
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise ValueError(f"tensor {name} is there twice")
        values[name] = value
    return values


def _check_tensors(tensors: Mapping[str, Tensor], needed: Mapping[str, Tensor], path: Path) -> None:
    for name in sorted(needed.keys() | tensors.keys()):
        if name not in tensors:
            raise ModelError(f"{printable(path)} lacks the tensor {name}; train or copy it again")
        if name not in needed:
            raise ModelError(f"{printable(path)} has the tensor {printable(name)}, which its network does not have")
        tensor = tensors[name]
        if tensor.shape != needed[name].shape:
            shapes = f"{tuple(tensor.shape)} but must be {tuple(needed[name].shape)}"
            raise ModelError(f"{printable(path)}: the tensor {name} is {shapes}")
        if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise ModelError(
                f"{printable(path)}: the tensor {name} is {tensor.dtype} but must be float32, float16 or bfloat16"
            )
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{printable(path)}: the tensor {name} holds values that are not finite; train it again")


def _check_digest(computed: str, stored: str, path: Path) -> None:
    if computed != stored:
        raise ModelError(
            f"{printable(path)} does not match its own checksum, so it was damaged; copy or train it again"
        )


def _digest(tensors: Mapping[str, Tensor], values: Mapping[str, Any] | None = None) -> str:
    """sha256 of tensors, in the order of their names, and of plain values."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        sha.update(name.encode())
        sha.update(tensors[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    if values is not None:
        sha.update(json.dumps(values, sort_keys=True).encode())
    return sha.hexdigest()
