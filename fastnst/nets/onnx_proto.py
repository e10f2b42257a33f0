"""ONNX files read: what one holds, whether it is safe, its weights.

Ours, because the runtime needs no onnx package. An ONNX file is a protobuf message; the numbers below are those of
onnx.proto. Nothing that a file names is opened.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnst.errors import ModelError, UnsafeModelError
from fastnst.files import printable
from fastnst.image import open_regular
from fastnst.nets.protobuf import fields, parts, varint_bytes, varints

LARGEST = 64 << 20  # bytes; a float32 `base` network has 7 MB

# message -> field number -> (what it is called here, message it holds or "" for a leaf)
_SCHEMA: dict[str, dict[int, tuple[str, str]]] = {
    "model": {
        7: ("graph", "graph"),
        8: ("opset", "opset"),
        14: ("metadata", "pair"),
        20: ("training", "training"),
        25: ("function", "function"),
    },
    "training": {1: ("initialization", "graph"), 2: ("algorithm", "graph")},
    "opset": {1: ("opset_domain", ""), 2: ("opset_version", "")},
    "pair": {1: ("key", ""), 2: ("value", "")},
    "graph": {1: ("node", "node"), 5: ("initializer", "tensor"), 15: ("sparse", "sparse")},
    "function": {7: ("node", "node"), 11: ("attribute", "attribute")},
    "node": {4: ("op_type", ""), 5: ("attribute", "attribute"), 7: ("domain", "")},
    "attribute": {
        5: ("t", "tensor"),
        6: ("g", "graph"),
        10: ("tensors", "tensor"),
        11: ("graphs", "graph"),
        22: ("s", "sparse"),
        23: ("ss", "sparse"),
    },
    "sparse": {1: ("values", "tensor"), 2: ("indices", "tensor")},
    "tensor": {13: ("external", "pair"), 14: ("location", "")},
}
_DEEPEST = 32

Array = npt.NDArray[Any]

# Numbers of element types, and the little-endian numpy type of each.
KINDS = {1: "<f4", 2: "u1", 3: "i1", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8"}
# Numbers of the fields of a tensor that may hold its values, and the types of which the last three are for one alone.
_RAW, _INT32S, _FLOATS, _INT64S, _DOUBLES = 9, 5, 4, 7, 10
_TYPED = {_FLOATS: np.dtype("<f4"), _INT64S: np.dtype("<i8"), _DOUBLES: np.dtype("<f8")}


@dataclass
class OnnxFile:
    """What is known of a file: metadata, opset versions by domain, operator domains, whether data lies elsewhere."""

    size: int
    metadata: dict[str, str] = field(default_factory=dict)
    opsets: dict[str, int] = field(default_factory=dict)
    domains: set[str] = field(default_factory=set)
    nodes: int = 0
    external: bool = False


def read_onnx(path: Path) -> tuple[bytes, OnnxFile]:
    """The bytes of an ONNX file and its structure.

    Raises UnsafeModelError if it would read other files or needs operators that are not ONNX's own, ModelError if it is
    no ONNX file or larger than 64 MiB.
    """
    with open_regular(path) as file:
        data = file.read(LARGEST + 1)
    return data, check_onnx(data, path)


def check_onnx(data: bytes, path: Path) -> OnnxFile:
    """The structure of an ONNX file in memory; raises what `read_onnx` raises, with the path as its name."""
    if len(data) > LARGEST:
        raise ModelError(
            f"{printable(path)} has more than {LARGEST >> 20} MiB, which no style has; give a style's ONNX file"
        )
    file = OnnxFile(len(data))
    try:
        _walk(memoryview(data), "model", file, 0)
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise ModelError(f"{printable(path)} is not a readable ONNX file ({error}); export the style again") from error
    if not file.nodes:
        raise ModelError(f"{printable(path)} is not an ONNX file with a network in it; export the style again")
    if file.external:
        raise UnsafeModelError(f"{printable(path)} keeps weights in other files; export it again as one file")
    if foreign := file.domains - {"", "ai.onnx"}:
        raise UnsafeModelError(
            f"{printable(path)} needs operators of {', '.join(map(repr, sorted(foreign)))}; use a plain ONNX file"
        )
    return file


def _walk(data: memoryview, message: str, file: OnnxFile, depth: int) -> None:
    """Note what a message holds, and those inside it."""
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    pair: dict[str, str] = {}
    domain, version = "", 0
    for number, value in fields(data):
        name, inner = _SCHEMA[message].get(number, ("", ""))
        if inner and isinstance(value, memoryview):
            if name == "node":
                file.nodes += 1
            file.external |= name == "external"
            _walk(value, inner, file, depth + 1)
        elif name == "location":
            file.external |= value != 0
        elif name == "domain" and isinstance(value, memoryview):
            file.domains.add(str(value, "utf-8"))
        elif name in ("key", "value") and isinstance(value, memoryview):
            pair[name] = str(value, "utf-8", "replace")
        elif name == "opset_domain" and isinstance(value, memoryview):
            domain = str(value, "utf-8")
        elif name == "opset_version" and isinstance(value, int):
            version = value
    if message == "opset":
        file.opsets[domain] = version
    if message == "pair" and depth == 1:
        file.metadata[pair.get("key", "")] = pair.get("value", "")


def read_tensors(data: bytes) -> dict[str, Array]:
    """The constants of an ONNX file's graph by name, in the types and shapes they are stored in.

    Raises ModelError if one is damaged, is of a type no weights have, or lies in another file.
    """
    tensors: dict[str, Array] = {}
    try:
        for number, graph in fields(memoryview(data)):
            if number != 7 or not isinstance(graph, memoryview):
                continue
            for inner, value in fields(graph):
                if inner == 5 and isinstance(value, memoryview):
                    name, tensor = _tensor(value)
                    if name in tensors:
                        raise ValueError(f"two constants are called {name!r}")
                    tensors[name] = tensor
    except (ValueError, IndexError, OverflowError) as error:
        raise ModelError(f"the ONNX file has unreadable weights ({error}); export the style again") from error
    return tensors


def read_signature(data: bytes) -> tuple[dict[str, str], dict[str, str]]:
    """What an ONNX file takes and what it returns: names with type and shape, such as "uint8 (N, H, W, 3)".

    Raises ModelError if that is damaged.
    """
    inputs: dict[str, str] = {}
    outputs: dict[str, str] = {}
    constants = set()
    try:
        for graph in parts(memoryview(data), 7):
            constants |= {str(name, "utf-8") for tensor in parts(graph, 5) for name in parts(tensor, 8)}
            for number, ends in ((11, inputs), (12, outputs)):
                for value in parts(graph, number):
                    ends["".join(str(name, "utf-8") for name in parts(value, 1))] = _described(value)
    except (ValueError, IndexError) as error:
        raise ModelError(f"the ONNX file has an unreadable signature ({error}); export the style again") from error
    return {name: text for name, text in inputs.items() if name not in constants}, outputs


def _described(value: memoryview) -> str:
    """Type and shape of a ValueInfoProto."""
    for tensor in (tensor for kind in parts(value, 2) for tensor in parts(kind, 1)):
        number = next((item for key, item in fields(tensor) if key == 1 and isinstance(item, int)), 0)
        name = np.dtype(KINDS[number]).name if number in KINDS else f"type {number}"
        sides = []
        for side in (side for shape in parts(tensor, 2) for side in parts(shape, 1)):
            known = [str(item) if isinstance(item, int) else str(item, "utf-8") for _, item in fields(side)]
            sides.append(known[0] if known else "?")
        return f"{name} ({', '.join(sides)})"
    return "no tensor"


def _tensor(message: memoryview) -> tuple[str, Array]:
    """Name and values of a TensorProto; its arrays are copies."""
    name, number = "", 0
    shape: list[int] = []
    held: dict[int, bytearray] = {}  # field -> its values, which may come in several pieces
    for key, value in fields(message, fixed=True):
        if key == 1:
            shape += [value] if isinstance(value, int) else varints(value).tolist()
        elif key == 2 and isinstance(value, int):
            number = value
        elif key == 8 and isinstance(value, memoryview):
            name = str(value, "utf-8")
        elif key in (_RAW, _INT32S, *_TYPED):
            held.setdefault(key, bytearray()).extend(varint_bytes(value) if isinstance(value, int) else value)
    if number not in KINDS:
        raise ValueError(f"{name!r} is of element type {number}")
    kind = np.dtype(KINDS[number])
    values = _values(name, kind, held)
    if math.prod(shape) != values.size or max(shape, default=0) > LARGEST:
        raise ValueError(f"{name!r} has {values.size} values for the shape {shape}"[:200])
    return name, values.reshape(shape).astype(kind.newbyteorder("="))


def _values(name: str, kind: np.dtype[Any], held: Mapping[int, bytearray]) -> Array:
    """The values of a TensorProto, from the one field that may hold those of its type."""
    if set(held) <= {_RAW}:
        raw = bytes(held.get(_RAW, b""))
        if len(raw) % kind.itemsize:
            raise ValueError(f"{name!r} is cut off")
        return np.frombuffer(raw, kind)
    (key, data), *others = held.items()
    if not others and key in _TYPED and kind == _TYPED[key]:
        return varints(data).view(kind) if key == _INT64S else np.frombuffer(bytes(data), kind)
    if not others and key == _INT32S and kind not in _TYPED.values():
        half = kind == np.dtype("<f2")  # held as its bits
        return varints(data).astype(np.uint16).view(np.float16) if half else varints(data).astype(kind)
    raise ValueError(f"{name!r} does not hold its values as its type says")
