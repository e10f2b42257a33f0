"""Painted frames of a part of a clip, as its encoder will take them, kept without any loss by FFV1.

After a mark, a file has blocks: a kind, a length and a checksum, then as many bytes. The first is a header in JSON,
then each frame has one, begin and length in ticks before its FFV1 data, and the last says in JSON how the part went: a
file without it is not whole.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

from fastnst.errors import StorageError
from fastnst.files import printable
from fastnst.video.frames import Frame
from fastnst.video.movie import Encodable, encodable

_MARK = b"fastnst part 1\n"
_BLOCK, _TIMES = struct.Struct(">cII"), struct.Struct(">qq")
_HEADER, _FRAME, _END = b"h", b"f", b"e"


class PartError(StorageError):
    """A painted part that is gone, damaged or not whole, and has to be painted again."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"the part of a clip in {printable(path)} {why}; run the same again, which paints it anew")
        self.path, self.why = path, why

    def __reduce__(self) -> tuple[type["PartError"], tuple[Path, str]]:
        return PartError, (self.path, self.why)


class LosslessWriter:
    """Frames for the encoder of a kind in VIDEOS, whose ticks last `unit` seconds."""

    def __init__(self, file: BinaryIO, suffix: str, unit: Fraction) -> None:
        self.file, self.suffix, self.unit = file, suffix, unit
        self.context: Any = None
        self.frames = 0
        self.file.write(_MARK)

    def write(self, frame: Frame) -> None:
        """One more frame, all of one size."""
        ready = encodable(frame, self.suffix, self.unit)
        if self.context is None:
            self._start(ready)
        ready.pixels.pts, ready.pixels.time_base = self.frames, self.context.time_base
        data = b"".join(map(bytes, self.context.encode(ready.pixels)))
        self._block(_FRAME, _TIMES.pack(ready.start, ready.length) + data)
        self.frames += 1

    def close(self) -> None:
        """Nothing is left over: each frame is complete when it is written."""

    def finish(self, problem: str | None, seconds: float) -> None:
        """Say how the part went: what was wrong with the input, if anything, and how long painting took."""
        said = {"frames": self.frames, "problem": problem, "seconds": round(seconds, 3)}
        self._block(_END, json.dumps(said).encode())

    def _start(self, first: Encodable) -> None:
        import av

        context: Any = av.CodecContext.create("ffv1", "w")
        context.width, context.height = first.pixels.width, first.pixels.height
        context.pix_fmt, context.time_base = first.pixels.format.name, Fraction(1, 25)
        context.options = {"level": "3"}
        context.open()
        self.context = context
        header = {
            "width": context.width,
            "height": context.height,
            "format": context.pix_fmt,
            "extradata": (context.extradata or b"").hex(),
            "aspect": str(first.aspect),
        }
        self._block(_HEADER, json.dumps(header).encode())

    def _block(self, kind: bytes, body: bytes) -> None:
        self.file.write(_BLOCK.pack(kind, len(body), zlib.crc32(body)) + body)


class LosslessReader:
    """What a LosslessWriter has kept; iterating gives the frames, once, and then `problem` and `seconds` are known.

    Raises PartError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem: str | None = None
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Encodable]:
        import av

        try:
            with self.path.open("rb") as file:
                yield from self._frames(file)
        except (av.FFmpegError, ValueError, KeyError, struct.error) as error:
            raise self._damaged() from error
        except OSError as error:
            raise PartError(self.path, f"cannot be read ({error.strerror or error})") from error

    def _frames(self, file: BinaryIO) -> Iterator[Encodable]:
        if file.read(len(_MARK)) != _MARK:
            raise self._damaged()
        context, aspect, count = None, Fraction(1), 0
        while True:
            kind, length, checksum = _BLOCK.unpack(file.read(_BLOCK.size))
            body = file.read(length)
            if len(body) < length or zlib.crc32(body) != checksum:
                raise self._damaged()
            if kind == _FRAME:
                start, lasts = _TIMES.unpack_from(body)
                yield Encodable(self._decoded(context, body[_TIMES.size :]), start, lasts, aspect)
                count += 1
            elif kind == _HEADER:
                context, aspect = _decoder(json.loads(body))
            else:
                said = json.loads(body)
                if kind != _END or said["frames"] != count:
                    raise self._damaged()
                self.problem, self.seconds = said["problem"], said["seconds"]
                return

    def _decoded(self, context: Any, data: bytes) -> Any:
        import av

        frames = [] if context is None else context.decode(av.Packet(data))
        if len(frames) != 1:
            raise self._damaged()
        return frames[0]

    def _damaged(self) -> PartError:
        return PartError(self.path, "is not whole")


def _decoder(header: dict[str, Any]) -> tuple[Any, Fraction]:
    """A decoder for the frames behind a header, and the aspect of their pixels."""
    import av

    context: Any = av.CodecContext.create("ffv1", "r")
    context.width, context.height, context.pix_fmt = header["width"], header["height"], header["format"]
    context.extradata = bytes.fromhex(header["extradata"])
    return context, Fraction(header["aspect"])
