"""Lists of files, one path or address a line; and patterns that stand for many names."""

import codecs
import io
import os
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import cast

from fastnst.errors import InputError, UsageError
from fastnst.files import printable
from fastnst.storage.addresses import is_remote, list_files, local_path, open_input

SUFFIXES = (".txt", ".lst")

_ENCODINGS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_MOST = 1_000_000  # names that braces may stand for
_BRACES = re.compile(r"\{([^{}]*)\}")
_NUMBERS = re.compile(r"(\d+)\.\.(\d+)")


def is_list(name: str) -> bool:
    """Whether a file is a list, by its name."""
    return PurePosixPath(name.replace(os.sep, "/")).suffix.lower() in SUFFIXES


def lines(place: str) -> Iterator[str]:
    """What the lines of a list name, in UTF-8, UTF-16 or whatever bytes names have, with lines ended in any way.

    Left out are blank lines and those that begin with #. Quotes around a name and spaces are none of it. But what is
    really there, on this machine, under a name as it stands counts first. Raises what addresses.read does.
    """
    yield from (name for _, name in numbered(place))


def numbered(place: str) -> Iterator[tuple[int, str]]:
    """The same with the number of each line, from 1."""
    with open_input(place) as file:
        start = file.read(4)
        file.seek(0)
        encoding = next((encoding for mark, encoding in _ENCODINGS if start.startswith(mark)), "utf-8")
        text = io.TextIOWrapper(cast(io.BufferedReader, file), encoding, "surrogateescape", newline=None)
        for number, line in enumerate(text, 1):
            if (name := _name(line.removesuffix("\n"), place)) is not None:
                yield number, name


def _name(line: str, list_place: str) -> str | None:
    bare = line.strip()
    if not bare:
        return None
    quoted = len(bare) > 2 and bare[0] == bare[-1] and bare[0] in "\"'"
    if bare == line and not quoted and not bare.startswith("#"):
        return line
    if not is_remote(list_place) and os.path.lexists(place_of(list_place, line)):
        return line
    if bare.startswith("#"):
        return None
    return bare[1:-1] if quoted else bare


def place_of(list_place: str, line: str) -> str:
    """The path or address that a line of a list means: relative ones are below the folder of the list."""
    if is_remote(line) or os.path.isabs(local_path(line)):  # noqa: PTH117
        return line
    if is_remote(list_place):
        return f"{list_place.rpartition('/')[0]}/{line}"
    return os.path.join(os.path.dirname(local_path(list_place)), line)  # noqa: PTH118, PTH120


def expand(pattern: str) -> list[str]:
    """The names that a pattern stands for: all of {000..099} and {a,b}, there or not; of *, ? and [...] what is there.

    What is really called so stands for itself. Raises InputError if nothing fits, UsageError for too many names.
    """
    if not is_remote(pattern) and os.path.lexists(local_path(pattern)):
        return [pattern]
    names: list[str] = []
    for name in braced(pattern):
        if not re.search(r"[*?\[]", name.partition("://")[2] or name):
            names.append(name)
        elif found := sorted(file for file, _ in list_files(name)):
            names += found
        else:
            raise InputError(f"nothing fits {printable(name)}; check the pattern")
    return list(dict.fromkeys(names))


def braced(pattern: str) -> list[str]:
    """All that braces stand for, the leftmost changing least often."""
    if (match := _BRACES.search(pattern)) is None:
        return [pattern]
    inner = match[1]
    if numbers := _NUMBERS.fullmatch(inner):
        first, last = int(numbers[1]), int(numbers[2])
        width = max(map(len, numbers.groups())) if inner.startswith("0") else 0
        step = 1 if first <= last else -1
        _check_number(pattern, abs(last - first) + 1)
        choices = [f"{number:0{width}}" for number in range(first, last + step, step)]
    elif "," in inner:
        choices = inner.split(",")
    else:  # no pattern
        return [pattern[: match.end()] + rest for rest in braced(pattern[match.end() :])]
    rests = braced(pattern[match.end() :])
    _check_number(pattern, len(choices) * len(rests))
    return [pattern[: match.start()] + choice + rest for choice in choices for rest in rests]


def _check_number(pattern: str, number: int) -> None:
    if number > _MOST:
        raise UsageError(f"{printable(pattern)} stands for {number} names, but at most {_MOST} are taken; write a list")
