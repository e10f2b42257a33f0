"""One thing to paint, wherever it is: plain values, small, and the same in every run."""

from dataclasses import dataclass
from pathlib import PurePosixPath

from fastnst.config import StylizeOptions
from fastnst.folder import clip_name, painted_name
from fastnst.video.movie import VIDEOS


@dataclass(frozen=True, slots=True)
class Item:
    """A picture or a clip: where its bytes are, and what it is called.

    Undecodable bytes of local names are lone surrogates in `key`, `place` and `kept`, as os.fsdecode makes them.
    """

    key: str  # what the manifest calls it: a path as given, an address, TAR::MEMBER, TABLE::ROW
    place: str  # the local path or the address of the file that holds it
    kept: str  # its name below the output folder, with the suffix of the input: "a/b.jpg"; never absolute, never ".."
    clip: bool = False
    start: int = 0  # where its bytes begin in `place`
    length: int | None = None  # and how many they are; None is all
    row: tuple[int, int] | None = None  # row group, and row in it, of a Parquet file whose column has bytes
    column: str | None = None  # that column; without `row` it is one of the line of JSON that begins at `start`
    error: str | None = None  # what is to be reported of it, as is known before any work
    code: str | None = None  # of that error: what FastnstError.code says


def output_name(item: Item, options: StylizeOptions) -> str:
    """Below the output folder, what becomes of an item: "a/b.png"; what `fastnst stylize` calls it."""
    kept = PurePosixPath(item.kept)
    if not item.clip:
        return painted_name(kept, options).as_posix()
    return clip_name(kept, suffix if (suffix := kept.suffix.lower()) in VIDEOS else ".mp4").as_posix()
