"""Protobuf messages as bytes: the numbered fields of one that is read, and one written from its fields.

It knows no message in particular.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt


def fields(data: memoryview, *, fixed: bool = False) -> Iterator[tuple[int, int | memoryview]]:
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
    """The number that begins at a place, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("number too long")


def parts(data: memoryview, number: int) -> Iterator[memoryview]:
    """The fields of a message that have one number and a length."""
    return (value for key, value in fields(data) if key == number and isinstance(value, memoryview))


def varints(data: memoryview | bytearray) -> npt.NDArray[np.uint64]:
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
    bits = (read & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.add.reduceat(bits, starts)


def message(content: Iterable[tuple[int, int | bytes]]) -> bytes:
    """A protobuf message of fields by their numbers: integers, and bytes with their length."""
    pieces = []
    for number, value in content:
        if isinstance(value, int):
            pieces += [varint_bytes(number << 3), varint_bytes(value)]
        else:
            pieces += [varint_bytes(number << 3 | 2), varint_bytes(len(value)), value]
    return b"".join(pieces)


def varint_bytes(value: int) -> bytes:
    """A number of 64 bits, seven to a byte."""
    value &= (1 << 64) - 1  # negative numbers as their two's complement
    septets = bytearray()
    while value > 0x7F:
        septets.append(value & 0x7F | 0x80)
        value >>= 7
    septets.append(value)
    return bytes(septets)
