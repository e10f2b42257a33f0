"""Tables in JSON Lines: one object a line, whose column has paths, addresses, or bytes in base64."""

import base64
import binascii
import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

from fastnst.batch.items import Item, Ours
from fastnst.batch.lists import Base
from fastnst.batch.table_rows import bytes_item, chosen_column, path_item, row_failed, suffix_for
from fastnst.decode.formats import HEAD
from fastnst.errors import InputError
from fastnst.files import printable
from fastnst.storage.addresses import open_input

_BYTES = ("bytes", "image_bytes", "base64", "b64", "data")  # columns whose text is base64, whatever it looks like
_LOOKED_AT = 100  # rows that tell which columns there are
_SHORTEST = 64  # characters of base64 that no picture is shorter than


def items_of_json(place: str, column: str | None, ours: Ours) -> Iterator[Item]:
    """The rows of JSON Lines, one object a line, whose column has paths, addresses, base64, or {"bytes", "path"}.

    A line that is broken is an item with an error. Raises UsageError if no row has the column.
    """
    column = _json_column(place, column)
    base = Base.of(place)
    for row, (start, line) in enumerate(_json_lines(place)):
        item = _json_item(place, base, row, start, line, column)
        if ours(item.kept):
            yield item


def _json_lines(place: str) -> Iterator[tuple[int, bytes]]:
    """Where each line that is not empty begins, and what it is."""
    start = 0
    with open_input(place) as file:
        for line in file:
            if line.strip():
                yield start, line
            start += len(line)


def _json_column(place: str, column: str | None) -> str:
    usable: dict[str, None] = {}
    others: dict[str, None] = {}
    for _, line in islice(_json_lines(place), _LOOKED_AT):
        if isinstance(values := parsed(line), dict):
            for name, value in values.items():
                (usable if isinstance(value, (str, dict)) else others)[name] = None
    if not usable and not others:
        raise InputError(f"{printable(place)} has no rows of JSON in its first lines; give one object a line")
    return chosen_column(place, column, usable, [name for name in others if name not in usable])


def parsed(line: bytes) -> Any:
    """What a line of JSON says; None if it is none."""
    try:
        return json.loads(line.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError):
        return None


def _json_item(place: str, base: Base, row: int, start: int, line: bytes, column: str) -> Item:
    values = parsed(line)
    if not isinstance(values, dict):
        return row_failed(place, row, "is no object in JSON; repair that line")
    value: Any = values.get(column)
    name: object = None
    if isinstance(value, dict):
        value, name = value.get("bytes"), value.get("path")
        if not isinstance(value, str):
            return path_item(place, base, row, name)
    elif not isinstance(value, str) or not _is_base64(column, value):
        return path_item(place, base, row, value)
    suffix = suffix_for(_head(value))
    return bytes_item(place, row, name, suffix, start=start, length=len(line), column=column)


def _is_base64(column: str, text: str) -> bool:
    if column.lower() in _BYTES or text.startswith("data:"):
        return True
    # A path may well look like base64, but not like that of a picture.
    return len(text) >= _SHORTEST and bool(suffix_for(_head(text)))


def _head(text: str) -> bytes:
    """The first bytes of base64; none of what is none."""
    text = _bare(text[: 2 * HEAD])
    return _decoded(text[: len(text) // 4 * 4]) or b""


def _bare(text: str) -> str:
    """Base64 without line breaks, or what a data: address puts before it, and with the usual two characters."""
    text = text.partition(",")[2] if text.startswith("data:") else text
    return "".join(text.split()).translate({ord("-"): "+", ord("_"): "/"})


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return None


def json_content(place: str, line: bytes, column: str) -> bytes:
    """The bytes of the picture in a line of JSON; InputError if it has none."""
    values = parsed(line)
    value = values.get(column) if isinstance(values, dict) else None
    value = value.get("bytes") if isinstance(value, dict) else value
    data = _decoded(_bare(value)) if isinstance(value, str) else None
    if data is None:
        raise InputError(f"the column {printable(column)} of {printable(place)} is no base64; encode the bytes again")
    return data
