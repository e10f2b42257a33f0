"""One process that paints what it is handed: read, decode, paint, encode and put in place, all at the same time."""

import logging
import os
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

from fastnst.ahead import each_ahead, read_ahead
from fastnst.batch import clips
from fastnst.batch.items import Item, output_name
from fastnst.batch.paintings import Painting
from fastnst.batch.rows import Row, failed
from fastnst.batch.spec import GivenFile, Spec
from fastnst.batch.stores import is_of_name, open_store
from fastnst.batch.tables import read_item
from fastnst.batch.tasks import Clip, Contents, Copies, Done, Join, Pictures, Task
from fastnst.config import ClipOptions, StylizeOptions
from fastnst.device import limit_threads
from fastnst.errors import FastnstError, OutputError, UnavailableError, first_line
from fastnst.files import printable
from fastnst.image import Picture, encode_picture, output_format
from fastnst.storage.addresses import join, read
from fastnst.stylize import Stylizer, content_limits, decode_content

log = logging.getLogger(__name__)

READS = 8  # at the same time: a store takes its time for each, however small
IN_HAND = 3  # pictures being read, painted or written, beside those that wait for others of their size
_WAITING = 50_000_000  # pixels of those

Mark = Callable[[int], bool]  # hears which picture of a block is begun, and whether it may be

T = TypeVar("T")


@dataclass
class _Read:
    """The bytes of a picture, or why there are none."""

    item: Item
    data: bytes | None
    error: FastnstError | None
    seconds: float


@dataclass
class _Decoded:
    """A picture on its way, or why there is none; the seconds are those it took so far."""

    item: Item
    picture: Picture | None
    error: FastnstError | None
    seconds: float


class Painter:
    """Opens its style with the first picture, and keeps it."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.store = open_store(spec.store, spec.output, spec.tag)
        with suppress(OSError):  # another machine, which has no such folder
            os.chdir(spec.folder)

    @cached_property
    def stylizer(self) -> Stylizer:
        """The style, opened; raises what Stylizer.open raises."""
        limit_threads(self.spec.threads)
        style, outside = self.spec.style, self.spec.outside
        return Stylizer.open(
            None if style is None else [self._unpacked(one) for one in style],
            mix=self.spec.mix,
            outside=None if outside is None else self._unpacked(outside),
            engine=self.spec.engine,
            device=self.spec.device,
            onnx=self.spec.onnx,
        )

    @cached_property
    def options(self) -> StylizeOptions:
        mask = self.spec.mask
        return self.spec.options if mask is None else replace(self.spec.options, mask=Path(self._unpacked(mask)))

    @cached_property
    def _kept(self) -> "tempfile.TemporaryDirectory[str]":
        return tempfile.TemporaryDirectory(prefix="fastnst.", ignore_cleanup_errors=True)

    def _unpacked(self, style: str | GivenFile) -> str:
        if isinstance(style, str):
            return style
        path = Path(self._kept.name, style.name)
        path.write_bytes(style.data)
        return str(path)

    def do(self, task: Task, mark: Mark | None = None) -> Done:
        """One task. With `mark`, pictures are painted one by one; it gets the number of each before, and may refuse.

        Raises what concerns all of them: a style that cannot be opened, an output that cannot be written to.
        """
        match task.work:
            case Pictures(items):
                return Done(task.number, tuple(self.paint(items, mark)))
            case Clip(piece):
                stylizer = self.stylizer  # an error of opening it is none of a clip
                row = _row_of(piece.item, lambda: clips.paint(stylizer, piece, *self._target))
                return Done(task.number, () if row is None else (row,))
            case Join(pieces):
                row = _row_of(pieces[0].item, lambda: clips.join(pieces, *self._target))
                return Done(task.number, () if row is None else (row,))
            case Contents(items):
                with closing(each_ahead(self._digest, items, IN_HAND, 2 * IN_HAND)) as digests:
                    return Done(task.number, digests=tuple(digests))
            case Copies(pairs):
                return Done(task.number, tuple(self._copies(pairs)))

    def close(self) -> None:
        """Let go of the style and its memory; the next picture opens it again."""
        self.__dict__.pop("stylizer", None)
        if (kept := self.__dict__.pop("_kept", None)) is not None:
            kept.cleanup()

    @property
    def _target(self) -> tuple[str, StylizeOptions, ClipOptions]:
        return self.spec.output, self.options, self.spec.clip

    def paint(self, items: Sequence[Item], mark: Mark | None = None) -> Iterator[Row]:
        """Paint pictures and put them in place: a row each, in no order; raises as `do`."""
        paintings = self._all_at_once(items) if mark is None else self._one_by_one(items, mark)
        yield from self.store.put(paintings)

    def paint_blocks(self, blocks: Sequence[Sequence[Item]]) -> Generator[list[Row]]:
        """Paint one block after the other without a pause between them; the rows of each."""
        if self.spec.clip.batch_size > 1:  # pictures of one size wait for each other, within a block
            yield from (list(self.paint(block)) for block in blocks)
            return
        with closing(self._all_at_once(chain.from_iterable(blocks))) as paintings:
            for block in blocks:
                yield list(self.store.put(islice(paintings, len(block))))

    def _all_at_once(self, items: Iterable[Item]) -> Generator[Painting]:
        stylizer = self.stylizer  # an error of opening it is none of a picture
        batch = self.spec.clip.batch_size
        with (
            closing(each_ahead(self._read, items, READS, READS)) as given,
            closing(each_ahead(self._decoded, given, 2, IN_HAND + batch - 1)) as decoded,
            closing(self._stylized(stylizer, decoded)) as stylized,
            closing(each_ahead(self._painting, stylized, 2, IN_HAND)) as painted,
            closing(read_ahead(painted, 1)) as paintings,
        ):
            yield from paintings

    def _one_by_one(self, items: Iterable[Item], mark: Mark) -> Iterator[Painting]:
        for number, item in enumerate(items):
            if not mark(number):
                yield Painting(item.key, output_name(item, self.options), died_of(item))
                continue
            decoded = self._decoded(self._read(item))
            yield self._painting(decoded if decoded.picture is None else self._together(self.stylizer, [decoded])[0])

    def _read(self, item: Item) -> _Read:
        started = time.perf_counter()
        data, error = _tried(item, lambda: read_item(item, content_limits(self.options).size))
        return _Read(item, data, error, time.perf_counter() - started)

    def _decoded(self, given: _Read) -> _Decoded:
        started = time.perf_counter()
        item, data, picture, error = given.item, given.data, None, given.error
        if data is not None:
            picture, error = _tried(item, lambda: decode_content(data, printable(item.key), self.options))
        return _Decoded(item, picture, error, given.seconds + time.perf_counter() - started)

    def _stylized(self, stylizer: Stylizer, decoded: Iterable[_Decoded]) -> Generator[_Decoded]:
        """The same pictures painted, those of one size together, in the order in which enough of them are there."""
        batch = self.spec.clip.batch_size
        waiting: dict[tuple[int, int], list[_Decoded]] = {}
        for one in decoded:
            if one.picture is None:
                yield one
                continue
            group = waiting.setdefault(one.picture.size, [])
            group.append(one)
            pixels = sum(len(many) * height * width for (height, width), many in waiting.items())
            if len(group) == batch or pixels > _WAITING:
                yield from self._together(stylizer, waiting.pop(one.picture.size))
        for group in waiting.values():
            yield from self._together(stylizer, group)

    def _together(self, stylizer: Stylizer, group: Sequence[_Decoded]) -> list[_Decoded]:
        started = time.perf_counter()
        pictures = [one.picture for one in group if one.picture is not None]
        stylized, error = _tried(group[0].item, lambda: stylizer.stylize_pictures(pictures, self.options))
        if stylized is None and len(group) > 1:  # who spoils it for the others?
            return [painted for one in group for painted in self._together(stylizer, [one])]
        seconds = (time.perf_counter() - started) / len(group)
        return [
            replace(
                one, picture=None if stylized is None else stylized[number], error=error, seconds=one.seconds + seconds
            )
            for number, one in enumerate(group)
        ]

    def _painting(self, one: _Decoded) -> Painting:
        """A stylized picture encoded."""
        started = time.perf_counter()
        name, content, picture = output_name(one.item, self.options), None, one.picture
        error = one.error
        if picture is not None:
            content, error = _tried(
                one.item, lambda: encode_picture(picture, output_format(name), self.options.quality)
            )
        seconds = one.seconds + time.perf_counter() - started
        return Painting(one.item.key, name, error or content or b"", seconds)

    def _digest(self, item: Item) -> bytes | None:
        data = self._read(item).data
        return None if data is None else blake2b(data, digest_size=16).digest()

    def _copies(self, pairs: Sequence[tuple[Item, Row]]) -> Iterator[Row]:
        """Files of pictures that look like others, of which these are the painted rows."""
        for item, row in pairs:
            place = join(self.spec.output, row.output or "")
            data, error = _tried(item, lambda place=place: read(place))  # type: ignore[misc]
            painting = Painting(item.key, output_name(item, self.options), error or data or b"")
            yield from (replace(copied, same_as=row.input) for copied in self.store.put([painting]))


def died_of(item: Item) -> FastnstError:
    """What is told of an input at which the process died again and again."""
    return _coded("died", f"{printable(item.key)} ended the process that painted it three times; try a --max-size")


def _coded(code: str, message: str) -> FastnstError:
    error = FastnstError(message)
    error.code = code
    return error


def _tried(item: Item, work: Callable[[], T]) -> tuple[T | None, FastnstError | None]:
    """What comes of work on a picture, or why nothing does: a bad picture is a row, never the end."""
    name = printable(item.key)
    try:
        return work(), None
    except FastnstError as error:
        return None, error
    except MemoryError:
        return None, _coded("memory", f"{name} needs more memory than there is; use --tile 256, or fewer --actors")
    except Exception as error:
        log.exception("%s", name)
        return None, FastnstError(
            f"{name} failed for a reason that nobody foresaw: {type(error).__name__}: {first_line(error)}"
        )


def _row_of(item: Item, work: Callable[[], Row | None]) -> Row | None:
    """The row of a clip; what concerns all of the output is raised."""
    started = time.perf_counter()

    def missed() -> Row | None:
        try:
            return work()
        except ModuleNotFoundError as error:
            raise UnavailableError(
                f"{printable(item.key)} is a video, which needs the package {error.name}; "
                'run: pip install "fastnst[video]", and this again'
            ) from error

    row, error = _tried(item, missed)
    if error is None:
        return row
    if isinstance(error, OutputError) and not is_of_name(error):
        raise error
    return failed(item.key, error, error.code, time.perf_counter() - started)
