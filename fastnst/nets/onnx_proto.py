"""Reads and writes ONNX files without onnx, onnxruntime or torch: what one holds, whether it is safe, its weights.

An ONNX file is a protobuf message; the numbers below are those of onnx.proto. Nothing that a file names is opened.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnst.errors import ModelError, UnsafeModelError
from fastnst.files import printable
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

Array = npt.NDArray[Any]
Attribute = int | float | str | Sequence[int]

# Numbers of element types, and the little-endian numpy type of each.
_KINDS = {1: "<f4", 2: "u1", 3: "i1", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8"}
_NUMBERS = {np.dtype(kind).newbyteorder("="): number for number, kind in _KINDS.items()}
IR_VERSION = 8  # of opset 17 and 18


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
            f"{printable(path)} has more than {LARGEST >> 20} MiB, which no style has; give a style's ONNX file"
        )
    return data, check_onnx(data, path)


def check_onnx(data: bytes, path: Path) -> OnnxFile:
    """The structure of an ONNX file in memory; raises what `read_onnx` raises, with the path as its name."""
    found = OnnxFile(len(data))
    try:
        _walk(memoryview(data), "model", found, 0)
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise ModelError(f"{printable(path)} is not a readable ONNX file ({error}); export the style again") from error
    if not found.nodes:
        raise ModelError(f"{printable(path)} is not an ONNX file with a network in it; export the style again")
    if found.external:
        raise UnsafeModelError(f"{printable(path)} keeps weights in other files; export it again as one file")
    if foreign := found.domains - {"", "ai.onnx"}:
        raise UnsafeModelError(
            f"{printable(path)} needs operators of {', '.join(map(repr, sorted(foreign)))}; use a plain ONNX file"
        )
    return found


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


def _fields(data: memoryview, *, fixed: bool = False) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers and values of one protobuf message: integers as such, everything with a length as bytes.

    Numbers of fixed width are passed over unless asked for.
    """
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
            width = 8 if kind == 1 else 4
            if fixed and at + width <= len(data):
                yield number, data[at : at + width]
            at += width
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


def read_tensors(data: bytes) -> dict[str, Array]:
    """The constants of an ONNX file's graph by name, in the types and shapes they are stored in.

    Raises ModelError if one is damaged, is of a type no weights have, or lies in another file.
    """
    found: dict[str, Array] = {}
    try:
        for number, graph in _fields(memoryview(data)):
            if number != 7 or not isinstance(graph, memoryview):
                continue
            for inner, value in _fields(graph):
                if inner == 5 and isinstance(value, memoryview):
                    name, tensor = _tensor(value)
                    if name in found:
                        raise ValueError(f"two constants are called {name!r}")
                    found[name] = tensor
    except (ValueError, IndexError, OverflowError) as error:
        raise ModelError(f"the ONNX file has unreadable weights ({error}); export the style again") from error
    return found


def read_signature(data: bytes) -> tuple[dict[str, str], dict[str, str]]:
    """What an ONNX file takes and what it returns: names with type and shape, such as "uint8 (N, H, W, 3)".

    Raises ModelError if that is damaged.
    """
    inputs: dict[str, str] = {}
    outputs: dict[str, str] = {}
    constants = set()
    try:
        for graph in _parts(memoryview(data), 7):
            constants |= {str(name, "utf-8") for tensor in _parts(graph, 5) for name in _parts(tensor, 8)}
            for number, found in ((11, inputs), (12, outputs)):
                for value in _parts(graph, number):
                    found["".join(str(name, "utf-8") for name in _parts(value, 1))] = _described(value)
    except (ValueError, IndexError) as error:
        raise ModelError(f"the ONNX file has an unreadable signature ({error}); export the style again") from error
    return {name: text for name, text in inputs.items() if name not in constants}, outputs


def _parts(message: memoryview, number: int) -> Iterator[memoryview]:
    """The fields of one number that have a length."""
    return (value for found, value in _fields(message) if found == number and isinstance(value, memoryview))


def _described(value: memoryview) -> str:
    """Type and shape of a ValueInfoProto."""
    for tensor in (tensor for kind in _parts(value, 2) for tensor in _parts(kind, 1)):
        number = next((item for key, item in _fields(tensor) if key == 1 and isinstance(item, int)), 0)
        name = np.dtype(_KINDS[number]).name if number in _KINDS else f"type {number}"
        sides = []
        for side in (side for shape in _parts(tensor, 2) for side in _parts(shape, 1)):
            known = [str(item) if isinstance(item, int) else str(item, "utf-8") for _, item in _fields(side)]
            sides.append(known[0] if known else "?")
        return f"{name} ({', '.join(sides)})"
    return "no tensor"


def _tensor(message: memoryview) -> tuple[str, Array]:
    """Name and values of a TensorProto; its arrays are copies."""
    name, number = "", 0
    shape: list[int] = []
    pieces: dict[int, bytearray] = {}  # field -> its values, which may come in several pieces
    for field_number, value in _fields(message, fixed=True):
        if field_number == 1:
            shape += [value] if isinstance(value, int) else _varints(value).tolist()
        elif field_number == 2 and isinstance(value, int):
            number = value
        elif field_number == 8 and isinstance(value, memoryview):
            name = str(value, "utf-8")
        elif field_number in (4, 5, 7, 9, 10):
            pieces.setdefault(field_number, bytearray()).extend(
                _varint_bytes(value) if isinstance(value, int) else value
            )
    if number not in _KINDS:
        raise ValueError(f"{name!r} is of element type {number}")
    kind = np.dtype(_KINDS[number])
    if set(pieces) <= {9}:
        raw = bytes(pieces.get(9, b""))
        if len(raw) % kind.itemsize:
            raise ValueError(f"{name!r} is cut off")
        values = np.frombuffer(raw, kind)
    elif len(pieces) == 1 and kind == {4: "<f4", 7: "<i8", 10: "<f8"}.get(next(iter(pieces))):
        ((stored, piece),) = pieces.items()
        values = _varints(piece).view(kind) if stored == 7 else np.frombuffer(bytes(piece), kind)
    elif set(pieces) == {5} and number not in (1, 7, 11):
        values = _varints(pieces[5]).astype(np.uint16 if number == 10 else kind)
        values = values.view(np.float16) if number == 10 else values
    else:
        raise ValueError(f"{name!r} does not hold its values as its type says")
    size = 1
    for side in shape:
        size *= side
    if size != values.size or max(shape, default=0) > LARGEST:
        raise ValueError(f"{name!r} has {values.size} values for the shape {shape}"[:200])
    return name, values.reshape(shape).astype(kind.newbyteorder("="))


def _varints(data: memoryview | bytearray) -> npt.NDArray[np.uint64]:
    """All numbers of a packed field."""
    read = np.frombuffer(data, np.uint8)
    if not read.size:
        return np.zeros(0, np.uint64)
    last = np.flatnonzero(read < 0x80)
    if not last.size or last[-1] != read.size - 1:
        raise ValueError("cut off")
    starts = np.concatenate([[0], last[:-1] + 1])
    lengths = last - starts + 1
    if lengths.max() > 10:
        raise ValueError("number too long")
    place = np.arange(read.size) - np.repeat(starts, lengths)
    parts = (read & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.add.reduceat(parts, starts)


@dataclass
class OnnxGraph:
    """An ONNX graph being written; what adds to it returns the name of the value it adds.

    >>> graph = OnnxGraph()
    >>> image = graph.input("image", np.float32, ["N", 3, "H", "W"])
    >>> graph.output(graph.add("Relu", image, name="stylized"), np.float32, ["N", 3, "H", "W"])
    >>> data = graph.to_bytes()
    """

    opset: int = 18
    _nodes: list[bytes] = field(default_factory=list)
    _constants: dict[str, bytes] = field(default_factory=dict)
    _known: dict[tuple[str, tuple[int, ...], bytes], str] = field(default_factory=dict)
    _inputs: list[bytes] = field(default_factory=list)
    _outputs: list[bytes] = field(default_factory=list)

    def add(self, operator: str, *inputs: str, name: str | None = None, **attributes: Attribute) -> str:
        """Add a node with one output; an input that is left out is "". The output is named like the node."""
        name = name or f"{operator.lower()}.{len(self._nodes)}"
        parts = [(1, given.encode()) for given in inputs]
        parts += [(2, name.encode()), (3, name.encode()), (4, operator.encode())]
        parts += [(5, _attribute(key, value)) for key, value in attributes.items()]
        self._nodes.append(_message(parts))
        return name

    def constant(self, values: npt.ArrayLike, name: str | None = None) -> str:
        """Add a constant; the same values without a name are stored once."""
        array = np.asarray(values)
        if name is None:
            key = (array.dtype.str, array.shape, array.tobytes())
            if key in self._known:
                return self._known[key]
            name = self._known[key] = f"constant.{len(self._known)}"
        if name in self._constants:
            raise ValueError(f"two constants are called {name!r}")
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        number = _NUMBERS[array.dtype.newbyteorder("=")]
        self._constants[name] = _message(
            [*((1, side) for side in array.shape), (2, number), (8, name.encode()), (9, little.tobytes())]
        )
        return name

    def input(self, name: str, kind: npt.DTypeLike, shape: Sequence[int | str]) -> str:
        """Add an input; sides with a name are free."""
        self._inputs.append(_value(name, kind, shape))
        return name

    def output(self, name: str, kind: npt.DTypeLike, shape: Sequence[int | str]) -> None:
        """Make a value an output."""
        self._outputs.append(_value(name, kind, shape))

    def to_bytes(self, metadata: Mapping[str, str] | None = None) -> bytes:
        """The finished file."""
        graph = [(1, node) for node in self._nodes]
        graph += [(2, b"fastnst"), *((5, tensor) for tensor in self._constants.values())]
        graph += [*((11, value) for value in self._inputs), *((12, value) for value in self._outputs)]
        model: list[tuple[int, int | bytes]] = [(1, IR_VERSION), (2, b"fastnst"), (7, _message(graph))]
        model.append((8, _message([(1, b""), (2, self.opset)])))
        for key, text in (metadata or {}).items():
            model.append((14, _message([(1, key.encode()), (2, text.encode())])))
        return _message(model)


def _value(name: str, kind: npt.DTypeLike, shape: Sequence[int | str]) -> bytes:
    """A ValueInfoProto."""
    sides = [_message([(2, side.encode()) if isinstance(side, str) else (1, side)]) for side in shape]
    tensor = _message([(1, _NUMBERS[np.dtype(kind)]), (2, _message((1, side) for side in sides))])
    return _message([(1, name.encode()), (2, _message([(1, tensor)]))])


def _attribute(name: str, value: Attribute) -> bytes:
    """An AttributeProto: its value under the field of its type, and the type's number."""
    if isinstance(value, float):
        held, number = b"\x15" + struct.pack("<f", value), 1
    elif isinstance(value, int):
        held, number = _message([(3, value)]), 2
    elif isinstance(value, str):
        held, number = _message([(4, value.encode())]), 3
    else:
        held, number = _message((8, item) for item in value), 7
    return _message([(1, name.encode())]) + held + _message([(20, number)])


def _message(fields: Iterable[tuple[int, int | bytes]]) -> bytes:
    """A protobuf message of numbers and of bytes with their length."""
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts += [_varint_bytes(number << 3), _varint_bytes(value)]
        else:
            parts += [_varint_bytes(number << 3 | 2), _varint_bytes(len(value)), value]
    return b"".join(parts)


def _varint_bytes(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers as their two's complement
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
