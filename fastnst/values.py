"""Values that callers give: what a message calls them, and whether a word is one of the choices."""

from collections.abc import Sequence
from typing import Any

from fastnst.errors import UsageError

_LONGEST = 60  # characters of a value that a message repeats


def in_words(value: object) -> str:
    """A plain value as Python writes it, anything else by its type and, if it has them, kind of numbers and shape."""
    if value is None or isinstance(value, (bool, int, float, complex, str)):
        text = repr(value)
        return text if len(text) <= _LONGEST else text[: _LONGEST - 4] + " ..."
    given: Any = value
    kind = type(given).__name__.removeprefix("nd")
    article = "an" if kind[:1].lower() in tuple("aeiou") else "a"
    shape = getattr(given, "shape", None)
    if isinstance(shape, tuple):
        return f"{article} {kind} of {getattr(given, 'dtype', 'unknown')} ({', '.join(map(str, shape))})"
    return f"{article} {kind}"


def listed(choices: Sequence[object]) -> str:
    """Choices as a sentence lists them: a, b or c."""
    *most, last = map(str, choices)
    return f"{', '.join(most)} or {last}" if most else last


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """UsageError unless a value is one of the choices, of the same type."""
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise UsageError(f"{name} is {in_words(value)} but must be {listed(choices)}")
