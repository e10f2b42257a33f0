"""Numbers in their ranges, and lengths of time."""

import math
import re

from fastnst.errors import UsageError

Number = int | float


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
