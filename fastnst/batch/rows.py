"""What became of one input: a row of the manifest, and its line of JSON."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from fastnst.errors import InputError, SizeError, UnsupportedFormatError

# What is the fault of an input stays so, however often it is tried; all else that fails may go well another time.
FINAL_CODES = frozenset({InputError.code, SizeError.code, UnsupportedFormatError.code})


@dataclass(frozen=True, slots=True)
class Row:
    """One input. Painted rows have `output` and `sha256`, failed ones `error` and `code`.

    `output` is posix and relative to the output folder: "a/b.jpg", "part-0123456789ab.tar::a/b.jpg" or, in Parquet,
    "part-0123456789ab.parquet::17". `seconds` is what painting took, `sha256` that of the output's bytes, in hex.
    `same_as` is the input with the same content whose painting this is, `frames` those of a clip, `problem` what was
    wrong with a clip that was painted all the same.
    """

    input: str
    output: str | None
    status: Literal["painted", "failed"]
    error: str | None = None
    code: str | None = None
    seconds: float = 0.0
    sha256: str | None = None
    same_as: str | None = None
    frames: int | None = None
    problem: str | None = None

    @property
    def painted(self) -> bool:
        return self.status == "painted"

    def is_settled(self, *, retry_failed: bool) -> bool:
        """Whether a run that finds this row leaves the input alone."""
        return self.painted or (not retry_failed and self.code in FINAL_CODES)

    def without_seconds(self) -> "dict[str, Any]":
        """Its values but for the time, which is another in every run."""
        return {name: value for name, value in asdict(self).items() if name != "seconds"}


REQUIRED = ("input", "output", "status", "error", "code", "seconds", "sha256")
OPTIONAL = tuple(field.name for field in fields(Row) if field.name not in REQUIRED)
_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("input", "status"), (str,)),
    **dict.fromkeys(("output", "error", "code", "sha256", "same_as", "problem"), (str, type(None))),
    "seconds": (int, float),
    "frames": (int, type(None)),
}


def failed(key: str, error: BaseException | str, code: str, seconds: float = 0.0) -> Row:
    """The row of an input that was not painted."""
    return Row(key, None, "failed", str(error), code, round(seconds, 3))


def to_json(row: Row) -> "dict[str, Any]":
    """The values of a line of a manifest: those that most rows do not have are left out where they are None."""
    values = {name: getattr(row, name) for name in REQUIRED}
    for name in OPTIONAL:
        if (value := getattr(row, name)) is not None:
            values[name] = value
    return values


def to_line(row: Row) -> bytes:
    """A line of a manifest, with its end; undecodable bytes of names come back as they were."""
    return _encoded(to_json(row)) + b"\n"


def to_journal_line(rows: Sequence[Row]) -> bytes:
    """Several rows in one line, which a torn write spoils all together or not at all."""
    return _encoded([to_json(row) for row in rows]) + b"\n"


def _encoded(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a name of bytes that are no UTF-8: surrogates, which JSON has as \udcff
        return json.dumps(value).encode()


def from_line(line: bytes) -> list[Row]:
    """The rows of a line, one or, in a journal, several; ValueError says what is wrong with it."""
    try:
        value = json.loads(line)
    except ValueError as error:  # also of undecodable bytes
        raise ValueError("is not JSON") from error
    except RecursionError as error:
        raise ValueError("is not a row of a manifest") from error
    return [from_json(one) for one in value] if isinstance(value, list) else [from_json(value)]


def from_json(value: Any) -> Row:
    """A row from its values; ValueError says what is wrong with them."""
    if not isinstance(value, dict):
        raise ValueError("is not a row of a manifest")
    for name in value:
        if name not in _TYPES:
            raise ValueError(f"has {name!r}, which this version of fastnst does not know")
    for name in REQUIRED:
        if name not in value:
            raise ValueError(f"has no {name!r}")
    for name, one in value.items():
        if not isinstance(one, _TYPES[name]) or isinstance(one, bool):
            raise ValueError(f"has {name!r} of another type than a manifest's")
    row = Row(**value)
    if row.status not in ("painted", "failed"):
        raise ValueError(f"has the status {row.status!r}, which must be painted or failed")
    if row.painted and row.output is None:
        raise ValueError("is painted but has no output")
    return row


def better(a: Row, b: Row) -> Row:
    """Which of two rows of one input counts: painted before failed, else the later one, `b`."""
    return a if a.painted and not b.painted else b


def digest(text: str) -> bytes:
    """16 bytes that stand for an input or an output."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
