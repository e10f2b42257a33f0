"""A checkpoint as an ONNX file in memory, without torch: where styles are served, it need not be installed."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnst.errors import ModelError, UsageError
from fastnst.files import printable
from fastnst.image import open_regular
from fastnst.meta import CheckpointMeta
from fastnst.nets.onnx_graph import build, weight_shapes
from fastnst.nets.spec import NetConfig

_LARGEST = 64 << 20  # bytes; a `base` network has 3.4 MB
_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # the last one is the upper half of a float32


def export_checkpoint(path: Path) -> tuple[bytes, CheckpointMeta]:
    """The ONNX file that `fastnst export` writes by default, and what the checkpoint says of itself.

    Raises ModelError for a damaged or foreign file.
    """
    with open_regular(path) as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise ModelError(
            f"{printable(path)} has more than {_LARGEST >> 20} MiB, which no style has; give a style's file"
        )
    try:
        tensors, text = _parse(data)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{printable(path)} is not a readable safetensors file ({printable(error)}); train or copy it again"
        ) from error
    if text is None:
        raise ModelError(f"{printable(path)} is a safetensors file but not a style (no 'fastnst' header)")
    meta = CheckpointMeta.from_json(text, path)
    if _digest(tensors) != meta.digest:
        raise ModelError(
            f"{printable(path)} does not match its own checksum, so it was damaged; copy or train it again"
        )
    weights = {name: _float32(values) for name, values in tensors.items()}
    try:
        config = NetConfig(**meta.net)
        if unknown := sorted(weights.keys() - weight_shapes(config).keys()):
            raise UsageError(f"its network has no tensor {unknown[0]}")
        if not all(np.isfinite(values).all() for values in weights.values()):
            raise UsageError("it holds values that are not finite")
        return build(config, weights, metadata={"fastnst": meta.to_json()}), meta
    except (TypeError, ValueError, UsageError) as error:
        raise ModelError(
            f"{printable(path)} describes a network fastnst does not know ({printable(error)}); train it again"
        ) from error


def _parse(data: bytes) -> tuple[dict[str, npt.NDArray[Any]], str | None]:
    """Tensors as they are stored, and the text under the header key `fastnst`; ValueError for what is no such file."""
    start = 8 + int.from_bytes(data[:8], "little")
    if not 8 < start <= len(data):
        raise ValueError("its header is cut off")
    header = json.loads(data[8:start])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, about in header.items():
        kind, shape, (begin, end) = np.dtype(_TYPES[about["dtype"]]), about["shape"], about["data_offsets"]
        count = int(np.prod(shape, dtype=object))
        if (
            not 0 <= begin <= end <= len(data) - start
            or min(shape, default=0) < 0
            or end - begin != count * kind.itemsize
        ):
            raise ValueError(f"the tensor {name} is not where it should be")
        tensors[name] = np.frombuffer(data, kind, count, start + begin).reshape(shape)
    return tensors, metadata.get("fastnst")


def _float32(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if values.dtype == np.uint16:
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)


def _digest(tensors: dict[str, npt.NDArray[Any]]) -> str:
    """The checksum of a checkpoint: of names and stored values, in the order of the names."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        sha.update(name.encode())
        sha.update(tensors[name].tobytes())
    return sha.hexdigest()
