"""Where the bytes of a clip are: a local file, or what another room can open as one."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from fastnst.image import open_regular


class Source(Protocol):
    """A clip that is no local file, or within one; its str() is its name."""

    def open(self) -> BinaryIO:
        """A file, seekable, that begins where the clip begins."""

    def check(self) -> None:
        """Raise what reading was refused meanwhile, which FFmpeg may have taken for the end of the file."""


def opened(path: Path | Source) -> AbstractContextManager[Any]:
    """The bytes of a clip as an open file; InputError for a path that leads to none."""
    return open_regular(path) if isinstance(path, Path) else path.open()
