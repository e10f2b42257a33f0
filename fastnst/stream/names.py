"""Millions of names in little memory."""

from array import array
from collections.abc import Iterable

import numpy as np


class Names:
    """Names in their order, about as many bytes as they have in a file; those with a line break are left out."""

    def __init__(self, names: Iterable[str]) -> None:
        text, ends = bytearray(b"\n"), array("q", [0])
        for name in names:
            if "\n" not in name:
                text += name.encode(errors="surrogateescape") + b"\n"
                ends.append(len(text) - 1)
        self.text = bytes(text)
        self._ends = np.frombuffer(ends, np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> str:
        return self.text[self._ends[number] + 1 : self._ends[number + 1]].decode(errors="surrogateescape")

    def find(self, name: str) -> list[int]:
        """The numbers of a name, none if it is not there."""
        wanted = b"\n" + name.encode(errors="surrogateescape") + b"\n"
        found, at = [], self.text.find(wanted)
        while at >= 0:
            found.append(int(np.searchsorted(self._ends, at)))
            at = self.text.find(wanted, at + 1)
        return found
