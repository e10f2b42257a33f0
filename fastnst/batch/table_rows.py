"""Items of rows: which column of a table has pictures, and what a row with a path, or with bytes, stands for."""

from collections.abc import Iterable
from typing import Any

from fastnst.batch.items import Item, failed, is_clip_name, safe
from fastnst.batch.lists import Base
from fastnst.batch.tars import tar_stem
from fastnst.decode.formats import MAGIC, looks_like_image
from fastnst.errors import InputError, UsageError
from fastnst.files import printable

# What columns of pictures are called by those who make tables, in lower case.
CANDIDATES = (
    *("image", "img", "picture", "photo", "path", "file", "filename", "file_name", "file_path", "filepath", "url"),
    *(
        "uri",
        "image_path",
        "image_file",
        "image_url",
        "image_uri",
        "bytes",
        "image_bytes",
        "jpg",
        "jpeg",
        "png",
        "webp",
    ),
)
_SUFFIXES = {"JPEG": ".jpg", "TIFF": ".tif", "HEIF": ".heic"}


def chosen_column(place: str, column: str | None, usable: Iterable[str], others: Iterable[str]) -> str:
    """The column to take: the one that was named, or the only one whose name says that it has pictures.

    `usable` are those with texts or bytes, `others` the rest. Raises UsageError if there is none, or not only one.
    """
    usable, others, name = list(usable), list(others), printable(place)
    there = ", ".join(map(printable, [*usable, *others])) or "none"
    if column is None:
        likely = [one for one in usable if one.lower() in CANDIDATES]
        if len(likely) == 1:
            return likely[0]
        if likely:
            raise UsageError(f"{name} has several columns that may be meant: {', '.join(likely)}; add --column NAME")
        raise UsageError(f"{name} has no column of pictures that is known by its name; add --column, one of: {there}")
    if column in usable:
        return column
    if column in others:
        raise UsageError(f"the column {printable(column)} of {name} has neither paths nor bytes; give another: {there}")
    raise UsageError(f"{name} has no column {printable(column)}; give one of those that it has: {there}")


def bytes_name(place: str, row: int, suffix: str) -> str:
    """What the bytes in a row without a name are called below the output folder."""
    return f"{tar_stem(place)}/{row:07}{suffix}"


def suffix_for(head: bytes) -> str:
    """The suffix for bytes that begin so; none for what is no picture."""
    format = looks_like_image(head)
    return _SUFFIXES.get(format, f".{format.lower()}") if format in MAGIC and format else ""


def path_item(place: str, base: Base, row: int, name: object) -> Item:
    """The item of a row that has a path or an address, or should have."""
    if not isinstance(name, str) or not name.strip():
        return row_failed(place, row, "has no path, no address and no bytes; fill it in, or leave the row out")
    try:
        return base.item(name)
    except InputError as error:
        return failed(f"{place}::{row}", bytes_name(place, row, ""), error)


def bytes_item(place: str, number: int, name: object, suffix: str, **where: Any) -> Item:
    """The item of a row, by its number, that has the bytes of a picture, and its name if the table has one.

    `where` are the fields of Item that tell where the bytes are.
    """
    key = f"{place}::{number}"
    if not isinstance(name, str) or not name:
        return Item(key, place, bytes_name(place, number, suffix), **where)
    try:
        kept = f"{tar_stem(place)}/{safe(name)}"
    except InputError as error:
        return failed(key, bytes_name(place, number, suffix), error)
    return Item(key, place, kept, is_clip_name(name), **where)


def row_failed(place: str, row: int, problem: str) -> Item:
    """An item for a row that is only reported; rows are counted from 0."""
    return failed(
        f"{place}::{row}", bytes_name(place, row, ""), InputError(f"row {row} of {printable(place)} {problem}")
    )
