"""What a request asks for: styles and options by their names, and the format of the answer."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from fastnst.config import StylizeOptions
from fastnst.errors import UsageError
from fastnst.serve.problems import (
    BadRequestError,
    Field,
    InvalidParameterError,
    NotAcceptableError,
    UnknownParameterError,
    UnknownStyleError,
)
from fastnst.stylize import inside_and_outside

MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}

_MOST_STYLES = 8
_MOST_PARAMETERS = 64
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)  # as in JSON
_FLAG = re.compile(r"--([a-z]+(?:-[a-z]+)*)")


@dataclass(frozen=True)
class Asked:
    """A painting that somebody wants."""

    styles: tuple[str, ...]  # one, or several that are mixed
    mix: tuple[float, ...] | None
    outside: str | None  # the style outside the mask
    options: StylizeOptions  # whose mask, if there is one, is a name alone


def _whole(text: str) -> Any:
    return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text, re.ASCII) else text


def _number(text: str) -> Any:
    return float(text) if _NUMBER.fullmatch(text) else text


def _yes_or_no(text: str) -> Any:
    return {"true": True, "false": False}.get(text, text)


def _color(text: str) -> Any:
    if not re.fullmatch(r"white|photo|transparent|#[0-9a-fA-F]{6}", text):
        raise UsageError(f"--background is {text[:60]!r} but must be white, photo, transparent or a color like #a0c4ff")
    return text


# The options of StylizeOptions that a request may give, and how they are read; one that is no number stays a text,
# which is refused there.
OPTIONS: dict[str, Callable[[str], Any]] = {
    "strength": _number,
    "stroke": _number,
    "preserve_color": str,
    "max_size": _whole,
    "invert_mask": _yes_or_no,
    "background": _color,
    "feather": _number,
    "quality": _whole,
}


def read_query(query: bytes) -> list[tuple[str, str]]:
    """The parameters of an address; BadRequestError if they are too many or no text."""
    try:
        text = query.decode("ascii")
        return parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS, errors="strict")
    except ValueError as error:
        raise BadRequestError(
            f"the parameters are not percent-encoded UTF-8, or more than {_MOST_PARAMETERS}; give name=value&name=value"
        ) from error


def read_asked(given: Sequence[tuple[str, str]], *, mask: bool, served: Collection[str], default: str) -> Asked:
    """Parameters as texts -> what is asked for.

    Raises UnknownParameterError, InvalidParameterError for a value that is not possible or is given twice,
    UnknownStyleError for a style that is not served.
    """
    texts: dict[str, list[str]] = {}
    for name, text in given:
        texts.setdefault(name, []).append(text)
    _check_names(texts)
    styles = _styles(texts.pop("style", []), served) or (default,)
    mix = _shares(texts.pop("mix", []))
    values = {name: _value(name, text, mask) for name, (text,) in texts.items()}
    options = _checked("mask", lambda: StylizeOptions(**values, mask=Path("mask") if mask else None))
    inside, outside = _checked("mix" if mix else "style", lambda: inside_and_outside(styles, options, mix))
    return Asked(tuple(map(str, inside or ())), mix, None if outside is None else str(outside), options)


def wrong_field(name: str, error: UsageError) -> InvalidParameterError:
    """An error of the options, told of a field of a request instead of a flag of the command line."""
    message = _FLAG.sub(lambda flag: flag[1].replace("-", "_"), str(error))
    return InvalidParameterError(message, fields=[Field(name, message)])


def _check_names(texts: dict[str, list[str]]) -> None:
    names = sorted({"style", "mix", *OPTIONS})
    if unknown := [name for name in texts if name not in names]:
        message = f"there is no parameter {unknown[0][:60]!r}; there are {', '.join(names)}"
        fields = [Field(name[:60], "there is no such parameter") for name in unknown]
        raise UnknownParameterError(message, fields=fields)
    for name in OPTIONS:
        if len(texts.get(name, [])) > 1:
            raise wrong_field(name, UsageError(f"{name} is given {len(texts[name])} times; give it once"))


def _styles(texts: Sequence[str], served: Collection[str]) -> tuple[str, ...]:
    names = [name.strip() for text in texts for name in text.split(",")]
    if len(names) > _MOST_STYLES:
        raise wrong_field("style", UsageError(f"{len(names)} styles are given but at most {_MOST_STYLES} are mixed"))
    for name in names:
        if name not in served:
            message = f"there is no style {name[:60]!r}; choose from {', '.join(served)}"
            raise UnknownStyleError(message, fields=[Field("style", message)])
    return tuple(names)


def _shares(texts: Sequence[str]) -> tuple[float, ...] | None:
    """The numbers of mix."""
    shares = [_number(share.strip()) for text in texts for share in text.split(",")]
    for share in shares:
        if isinstance(share, str) or not 0 <= share < float("inf"):
            raise wrong_field("mix", UsageError(f"--mix has the share {share!r:.60} but needs numbers, as in 0.7,0.3"))
    if shares and not sum(shares) > 0:
        raise wrong_field("mix", UsageError("--mix is 0 throughout; give one style a share above 0"))
    return tuple(shares) or None


def _value(name: str, text: str, mask: bool) -> Any:
    """The value of one option, possible by itself."""

    def read() -> Any:
        value = OPTIONS[name](text)
        StylizeOptions(**{name: value}, mask=Path("mask") if mask or name in ("invert_mask", "background") else None)
        return value

    return _checked(name, read)


def _checked(name: str, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except UsageError as error:
        raise wrong_field(name, error) from error


def acceptable(accept: str | None) -> dict[str, tuple[float, int]]:
    """The formats a client takes, each with how much it wants it and how exactly it says so; NotAcceptableError if
    none.
    """
    wanted: dict[str, tuple[float, int]] = {}
    for part in (accept or "*/*").lower().split(","):
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        weight = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        try:
            quality = min(1.0, max(0.0, float(weight)))
        except ValueError:
            continue
        for format, name in MEDIA_TYPES.items():
            exact = ("*/*", "image/*", name).index(media_type) if media_type in ("*/*", "image/*", name) else -1
            if exact >= 0 and exact >= wanted.get(format, (0, 0))[1]:
                wanted[format] = quality, exact
    wanted = {format: rank for format, rank in wanted.items() if rank[0] > 0}
    if not wanted:
        raise NotAcceptableError(f"paintings are {', '.join(MEDIA_TYPES.values())}; accept one of these")
    return wanted


def choose_format(wanted: dict[str, tuple[float, int]], given: str | None) -> str:
    """The format to answer in: the one that is wanted most, of several that of the given picture, else PNG."""
    order = [format for format in (given, *MEDIA_TYPES) if format in wanted]
    return max(order, key=lambda format: wanted[format])
