"""ONNX files written, node by node.

Ours, because the runtime, which writes single layers and mixed styles, needs no onnx package.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fastnst.nets.onnx_proto import KINDS
from fastnst.nets.protobuf import message

IR_VERSION = 8  # of opset 17 and 18
_NUMBERS = {np.dtype(kind).newbyteorder("="): number for number, kind in KINDS.items()}

Attribute = int | float | str | Sequence[int]


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
        self._nodes.append(message(parts))
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
        self._constants[name] = message(
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
        model: list[tuple[int, int | bytes]] = [(1, IR_VERSION), (2, b"fastnst"), (7, message(graph))]
        model.append((8, message([(1, b""), (2, self.opset)])))
        for key, text in (metadata or {}).items():
            model.append((14, message([(1, key.encode()), (2, text.encode())])))
        return message(model)


def _value(name: str, kind: npt.DTypeLike, shape: Sequence[int | str]) -> bytes:
    """A ValueInfoProto."""
    sides = [message([(2, side.encode()) if isinstance(side, str) else (1, side)]) for side in shape]
    tensor = message([(1, _NUMBERS[np.dtype(kind)]), (2, message((1, side) for side in sides))])
    return message([(1, name.encode()), (2, message([(1, tensor)]))])


def _attribute(name: str, value: Attribute) -> bytes:
    """An AttributeProto: its value under the field of its type, and the type's number."""
    if isinstance(value, float):
        held, number = b"\x15" + struct.pack("<f", value), 1
    elif isinstance(value, int):
        held, number = message([(3, value)]), 2
    elif isinstance(value, str):
        held, number = message([(4, value.encode())]), 3
    else:
        held, number = message((8, item) for item in value), 7
    return message([(1, name.encode())]) + held + message([(20, number)])
