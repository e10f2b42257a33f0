"""A share of many files, by a hash of their names: the same on any machine, in any order, whatever else there is."""

import re
from dataclasses import dataclass
from hashlib import blake2b

from fastnst.errors import UsageError


@dataclass(frozen=True)
class Shard:
    """Share `index` of `count`, 1 to count. Every name is in one of them, and always in the same."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """I/N with I from 1 to N; 0/N is N/N, so that jobs that are counted from 0 work as well.

        Raises UsageError for anything else.
        """
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text.strip())
        index, count = map(int, match.groups()) if match else (0, 0)
        if not 0 <= index <= count or count == 0:
            raise UsageError(f"{text!r} is no share; give I/N, the share and how many there are, from 1/N to N/N: 3/8")
        return cls(index or count, count)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def tag(self) -> str:
        """As part of the name of a file."""
        return f"{self.index}-of-{self.count}"

    def has(self, name: str) -> bool:
        """Whether what is called so belongs to this share."""
        digest = blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.index - 1


def normalized(text: str) -> str:
    """A share as it is written in options; UsageError if it is none."""
    return str(Shard.parse(text))
