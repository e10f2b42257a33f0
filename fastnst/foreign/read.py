"""Files and folders of weights that other projects saved, read without running their code.

Knows nothing of networks: what comes out are named tensors.
"""

import hashlib
import io
import json
import math
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from fastnst.errors import ModelError, UnsafeModelError
from fastnst.files import is_folder, printable
from fastnst.image import open_regular

_LARGEST = 1 << 28  # bytes, packed or not; a network with its optimizer's state has 20 MB
_MOST_TENSORS = 1000  # a network of 32 blocks with its loss network has some hundreds
# What TensorFlow keeps beside the weights.
_TRAINING = re.compile(r"(/Adam(_\d)?|(^|/)beta\d_power(_\d)?|(^|/)global_step)$")

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Weights:
    """Named tensors, the file or folder that holds them, and the sha256 of what was read."""

    tensors: dict[str, Tensor]
    source: Path
    sha256: str

    def numbers(self, name: str) -> Numbers:
        """The values of a tensor as float64; ModelError unless all are finite."""
        values: Numbers = self.tensors[name].double().numpy()
        if not np.isfinite(values).all():
            raise ModelError(
                f"{printable(self.source)}: {printable(name)} holds values that are not finite; get it again"
            )
        return values


def read_weights(source: Path) -> Weights:
    """Read a file that torch saved, in either of its formats, a .safetensors or .npz file, or a folder of deeplearn.js.

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
    return Weights(_checked(tensors, source), source, hashlib.sha256(data).hexdigest())


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
    """The largest dict of tensors, at the top or further down, where training states keep it."""
    dicts = [
        {str(name): value for name, value in candidate.items() if isinstance(value, Tensor)}
        for candidate in _mappings(loaded)
    ]
    tensors = max(dicts, key=len, default={})
    if not tensors:
        raise ModelError(
            f"{printable(source)} holds no named weights; save them with torch.save(network.state_dict(), FILE)"
        )
    return tensors


def _mappings(loaded: Any) -> list[Mapping[Any, Any]]:
    """All dicts, from the top down, each once: a pickle may hold one in many places, and in itself."""
    found = [loaded] if isinstance(loaded, Mapping) else []
    seen = set(map(id, found))
    for mapping in found:
        inside = [value for value in mapping.values() if isinstance(value, Mapping) and id(value) not in seen]
        seen.update(map(id, inside))
        found += inside
    return found


def _read_npz(data: bytes, source: Path) -> dict[str, Tensor]:
    _check_unpacked(data, source)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name.removesuffix(":0"): archive[name] for name in archive.files}
        return {name: torch.from_numpy(array) for name, array in arrays.items() if not _TRAINING.search(name)}
    except Exception as error:  # zipfile's, zlib's and numpy's
        raise ModelError(f"{printable(source)} is not a readable .npz file of plain arrays; write it again") from error


def _read_manifest(folder: Path) -> Weights:
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
    return Weights(_checked(tensors, folder), folder, sha.hexdigest())


def _checked(tensors: dict[str, Tensor], source: Path) -> dict[str, Tensor]:
    """The tensors; ModelError unless they are plain ones of numbers, no more of them than a style has."""
    if not tensors:
        raise ModelError(f"{printable(source)} holds no weights; give a style's")
    if len(tensors) > _MOST_TENSORS:
        raise ModelError(f"{printable(source)} holds {len(tensors)} tensors, more than any style has; give a style's")
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
