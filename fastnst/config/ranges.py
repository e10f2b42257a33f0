"""What every class of options checks of its fields: kinds of values, choices, ranges, paths; and lengths of time."""

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from fastnst.errors import UsageError
from fastnst.files import refuse_address
from fastnst.values import in_words, listed

Number = int | float


@dataclass(frozen=True)
class Range:
    """What a number, or each of several, may be: `size: Annotated[int, Range(32, 4096)] = 256`."""

    low: Number
    high: Number = math.inf
    above: bool = False  # whether low itself is too low


@dataclass(frozen=True)
class FromText:
    """What a text from Python stands for where the option is something else, as on the command line."""

    read: Callable[[str], Any]


class Checked:
    """A dataclass of options, checked when it is made, by whomever, by the types of its fields: UsageError for a value
    of another kind, a word that is no choice, a number out of its range.

    From Python, paths may be given as text, several values as any sequence or as one alone, numbers as numpy has them.
    """

    def __post_init__(self) -> None:
        options: Any = type(self)
        for name, kind in _kinds(options):
            given = getattr(self, name)
            value = kind.checked(given)
            if value is not given:
                object.__setattr__(self, name, value)


@dataclass(frozen=True)
class _Kind:
    """What one option may be."""

    name: str
    label: str  # in messages
    type: Any  # of one value
    choices: tuple[Any, ...]
    optional: bool
    several: bool
    range: Range | None
    text: FromText | None

    @classmethod
    def of(cls, name: str, label: str, annotated: Any) -> "_Kind":
        """By the annotation of a field; TypeError for one that is not known here."""
        extras = get_args(annotated)[1:] if get_origin(annotated) is Annotated else ()
        kind = get_args(annotated)[0] if extras else annotated
        optional = get_origin(kind) in (Union, UnionType) and NoneType in get_args(kind)
        if optional:
            (kind,) = (part for part in get_args(kind) if part is not NoneType)
        several = get_origin(kind) is tuple
        if several:
            kind, _ = get_args(kind)
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        if not choices and kind not in _NEEDED:
            raise TypeError(f"an option cannot be {annotated}")
        allowed = next((extra for extra in extras if isinstance(extra, Range)), None)
        text = next((extra for extra in extras if isinstance(extra, FromText)), None)
        return cls(name, label, kind, choices, optional, several, allowed, text)

    def checked(self, value: Any) -> Any:
        """The value as the command line would give it."""
        if value is None and self.optional:
            return None
        if isinstance(value, str) and self.text is not None:
            value = self._read(self.text, value)
        if not self.several:
            return self._one(value)
        lone = isinstance(value, (str, bytes)) or not isinstance(value, Sequence)
        return tuple(map(self._one, (value,) if lone else value))

    def _read(self, text: FromText, value: str) -> Any:
        try:
            return text.read(value)
        except UsageError as error:
            raise error if self.label in str(error) else UsageError(f"{self.label}: {error}") from error

    def _one(self, value: Any) -> Any:
        if getattr(value, "shape", None) == ():  # a number of numpy
            value = value.item()
        if self.choices:
            for choice in self.choices:
                if isinstance(value, type(choice)) and value == choice:
                    return choice
            raise self._unlike(value, listed(self.choices))
        if self.type is Path or (self.type is str and isinstance(value, os.PathLike)):
            value = self._path(value)
        if not isinstance(value, (int, float) if self.type is float else self.type) or (
            isinstance(value, bool) and self.type is not bool
        ):
            raise self._unlike(value, _NEEDED[self.type])
        if self.range is not None:
            check_range(self.name, value, self.range.low, self.range.high, above=self.range.above)
        return value

    def _path(self, value: Any) -> Any:
        if not isinstance(value, (str, os.PathLike)):
            return value
        refuse_address(value)
        path = os.fsdecode(value)
        return path if self.type is str else value if isinstance(value, Path) else Path(path)

    def _unlike(self, value: object, needed: str) -> UsageError:
        return UsageError(f"{self.label} is {in_words(value)} but must be {needed}")


_NEEDED = {int: "a whole number", float: "a number", bool: "True or False", str: "text", Path: "a path"}


def check_range(name: str, value: Number | None, low: Number, high: Number = math.inf, *, above: bool = False) -> None:
    """UsageError unless low <= value <= high (low < value with `above`); None passes, NaN never does."""
    if value is None:
        return
    fits = (low < value if above else low <= value) and value <= high and value != math.inf
    if not fits:
        lowest = f"above {low}" if above else f"at least {low}"
        highest = "" if high == math.inf else f" and at most {high}"
        raise UsageError(f"{_flag(name)} is {value} but must be {lowest}{highest}")


def seconds(text: str) -> float:
    """A length of time such as 90, 30m, 8h or 1h30m in seconds; UsageError if it is none."""
    number = r"(\d+(?:\.\d+)?)"
    match = re.fullmatch(rf"(?:{number}d)?(?:{number}h)?(?:{number}m)?(?:{number}s?)?", text.strip())
    if not match or not any(match.groups()):
        raise UsageError(f"{text!r} is not a length of time; give seconds, or for example 30m, 8h or 1h30m")
    return sum(float(part or 0) * unit for part, unit in zip(match.groups(), (86400, 3600, 60, 1), strict=True))


@cache
def _kinds(options: Any) -> list[tuple[str, _Kind]]:
    """Each field and what it may be."""
    return [
        (field.name, _Kind.of(field.name, _flag(field.name) if field.kw_only else field.name, field.type))
        for field in fields(options)
    ]


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
