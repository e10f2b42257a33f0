"""Clips as items of a batch run: one goes whole, or in parts that any actor paints, and that are joined at the end."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastnst.config import ClipOptions, StylizeOptions
from fastnst.stylize import Stylizer
from fastnst.video.stylize import OnFrame

if TYPE_CHECKING:
    from fastnst.batch.items import Item
    from fastnst.batch.manifest import Row
    from fastnst.video.parts import Part


@dataclass(frozen=True, slots=True)
class Piece:
    """What one task paints of a clip: all of it (no part), or one of several parts. Small, and can be pickled."""

    item: "Item"
    part: "Part | None" = None


def target_of(item: "Item") -> str:
    """The name of a clip's output below the output folder, posix: that of the input, its suffix one that is written."""
    raise NotImplementedError


def cut(item: "Item", clip: ClipOptions, seconds: float | None) -> "list[Piece]":
    """The pieces of a clip, in order, each about so many seconds long; one without a part if it is not cut.

    Whole are clips without `seconds` or not longer, and those that cannot be cut: animations, one key frame, times in
    the file that cannot be relied on. The same file and arguments give the same pieces. Reads all packets of the file,
    but decodes nothing beyond its first frames. Raises InputError if it cannot be opened or read.
    """
    raise NotImplementedError


def missing(pieces: Sequence[Piece], output: str) -> "list[Piece]":
    """Of the pieces of one clip, those that are not there yet below OUTPUT/.parts; a whole clip always is missing."""
    raise NotImplementedError


def paint(
    stylizer: Stylizer,
    piece: Piece,
    output: str,
    options: StylizeOptions,
    clip: ClipOptions,
    on_frame: OnFrame = lambda _, __: None,
) -> "Row | None":
    """Paint a piece: a whole clip to its place below the output, a part to OUTPUT/.parts; both local or remote.

    The row of a whole clip, or of what failed because of the input; None for a part that is painted. Problems of the
    output or of storage, and Interrupted, are raised.
    """
    raise NotImplementedError


def join(pieces: Sequence[Piece], output: str, options: StylizeOptions, clip: ClipOptions) -> "Row":
    """Join the parts of one clip, all of which are painted, into its output, and remove them; its row.

    A part that is not there any more is a FastnstError, as is an output that cannot be written.
    """
    raise NotImplementedError
