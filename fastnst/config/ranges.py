"""What every class of options checks of its fields: numbers in their ranges, paths as paths; and lengths of time."""

import math
import re
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from fastnst.errors import UsageError

Number = int | float


@dataclass(frozen=True)
class Range:
    """What a number, or each of several, may be: `size: Annotated[int, Range(32, 4096)] = 256`."""

    low: Number
    high: Number = math.inf
    above: bool = False  # whether low itself is too low


class Checked:
    """A dataclass of options, checked when it is made, by whomever: UsageError for a number out of its range.

    From Python, paths may be given as text; the command line gives paths.
    """

    def __post_init__(self) -> None:
        options: Any = type(self)
        for name in _paths(options):
            value = getattr(self, name)
            if isinstance(value, str):
                object.__setattr__(self, name, Path(value))
        for name in _several_paths(options):
            value = getattr(self, name)
            values = (value,) if isinstance(value, (str, Path)) else value
            object.__setattr__(self, name, tuple(map(Path, values)))
        for name, allowed in _ranges(options).items():
            value = getattr(self, name)
            for number in value if isinstance(value, tuple) else (value,):
                check_range(name, number, allowed.low, allowed.high, above=allowed.above)


def check_range(name: str, value: Number | None, low: Number, high: Number = math.inf, *, above: bool = False) -> None:
    """UsageError unless low <= value <= high (low < value with `above`); None passes, NaN never does."""
    if value is None:
        return
    fits = (low < value if above else low <= value) and value <= high and value != math.inf
    if not fits:
        flag = "--" + name.replace("_", "-")
        lowest = f"above {low}" if above else f"at least {low}"
        highest = "" if high == math.inf else f" and at most {high}"
        raise UsageError(f"{flag} is {value} but must be {lowest}{highest}")


def seconds(text: str) -> float:
    """A length of time such as 90, 30m, 8h or 1h30m in seconds; UsageError if it is none."""
    number = r"(\d+(?:\.\d+)?)"
    match = re.fullmatch(rf"(?:{number}d)?(?:{number}h)?(?:{number}m)?(?:{number}s?)?", text.strip())
    if not match or not any(match.groups()):
        raise UsageError(f"{text!r} is not a length of time; give seconds, or for example 30m, 8h or 1h30m")
    return sum(float(part or 0) * unit for part, unit in zip(match.groups(), (86400, 3600, 60, 1), strict=True))


@cache
def _ranges(options: Any) -> dict[str, Range]:
    """Field -> its range, of those that have one."""
    return {
        field.name: extra
        for field in fields(options)
        if get_origin(field.type) is Annotated
        for extra in get_args(field.type)[1:]
        if isinstance(extra, Range)
    }


@cache
def _paths(options: Any) -> list[str]:
    return [field.name for field in fields(options) if _plain(field.type) in (Path, Path | None)]


@cache
def _several_paths(options: Any) -> list[str]:
    return [field.name for field in fields(options) if _plain(field.type) == tuple[Path, ...]]


def _plain(kind: Any) -> Any:
    """The type of a field without what is annotated."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind
