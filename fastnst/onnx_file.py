"""Reads the structure of an ONNX file without onnx, onnxruntime or torch: what it holds, and whether it is safe.

An ONNX file is a protobuf message; the numbers below are those of onnx.proto. Only lengths are followed, no tensor
is decoded, and nothing the file names is opened.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fastnst.errors import ModelError, UnsafeModelError
from fastnst.files import show
from fastnst.image import open_regular

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
    if len(data) > LARGEST:
        raise ModelError(
            f"{show(path)} has more than {LARGEST >> 20} MiB, which no style has; give a style's ONNX file"
        )
    found = OnnxFile(len(data))
    try:
        _walk(memoryview(data), "model", found, 0)
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise ModelError(f"{show(path)} is not a readable ONNX file ({error}); export the style again") from error
    if not found.nodes:
        raise ModelError(f"{show(path)} is not an ONNX file with a network in it; export the style again")
    if found.external:
        raise UnsafeModelError(f"{show(path)} keeps weights in other files; export it again as one file")
    if foreign := found.domains - {"", "ai.onnx"}:
        raise UnsafeModelError(
            f"{show(path)} needs operators of {', '.join(map(repr, sorted(foreign)))}; use a plain ONNX file"
        )
    return data, found


def _walk(data: memoryview, message: str, found: OnnxFile, depth: int) -> None:
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    pair: dict[str, str] = {}
    domain, version = "", 0
    for number, value in _fields(data):
        name, inner = _SCHEMA[message].get(number, ("", ""))
        if inner and isinstance(value, memoryview):
            if name == "node":
                found.nodes += 1
            found.external |= name == "external"
            _walk(value, inner, found, depth + 1)
        elif name == "location":
            found.external |= value != 0
        elif name == "domain" and isinstance(value, memoryview):
            found.domains.add(str(value, "utf-8"))
        elif name in ("key", "value") and isinstance(value, memoryview):
            pair[name] = str(value, "utf-8", "replace")
        elif name == "opset_domain" and isinstance(value, memoryview):
            domain = str(value, "utf-8")
        elif name == "opset_version" and isinstance(value, int):
            version = value
    if message == "opset":
        found.opsets[domain] = version
    if message == "pair" and depth == 1:
        found.metadata[pair.get("key", "")] = pair.get("value", "")


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers and values of one protobuf message: integers as such, everything with a length as bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        # A reader that keeps 32 bits of a longer number would see another field here.
        if not 0 < number < 1 << 29:
            raise ValueError(f"field number {number}")
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise ValueError("cut off")
            yield number, data[at : at + length]
            at += length
        else:
            raise ValueError(f"wire type {kind}")
    if at > len(data):
        raise ValueError("cut off")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("number too long")
