"""What painters hand to stores, and the rows that come of it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastnst.batch.rows import Row, failed
from fastnst.errors import FastnstError


@dataclass(frozen=True, slots=True)
class Painting:
    """What became of an input, on its way into a store.

    `key` is what the manifest calls the input, `name` what the painting is called below the output folder, posix
    ("a/b.png"). `content`: its encoded bytes, or the path of a local file that has them (a clip), or why there is none.
    """

    key: str
    name: str
    content: bytes | Path | FastnstError
    seconds: float = 0.0
    frames: int | None = None
    problem: str | None = None

    def row(self, output: str, sha256: str) -> Row:
        """The row of one that is in place."""
        seconds = round(self.seconds, 3)
        return Row(self.key, output, "painted", None, None, seconds, sha256, frames=self.frames, problem=self.problem)

    def failed(self, error: FastnstError) -> Row:
        """The row of one that is not."""
        return failed(self.key, error, error.code, self.seconds)


def sha256_of(content: bytes | Path) -> str:
    """In hex, of bytes or of a file."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with open(content, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
