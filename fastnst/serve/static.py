"""The page's files by their addresses, as HTTP wants them: named by their content, compressed once, cached."""

import asyncio
import gzip
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.responses import Response, StreamingResponse

from fastnst.serve.problems import NotFoundError
from fastnst.serve.site import StaticFile

PIECE = 1 << 18  # bytes that are read or sent at once

_A_YEAR = "public, max-age=31536000, immutable"
_COMPRESSED = ("text/", "application/json", "application/wasm", "application/manifest+json", "image/svg+xml")
_SMALL = 1024  # bytes; less is not worth it


@dataclass(frozen=True)
class _Known:
    """What is known of a file once somebody has asked for it."""

    tag: str
    size: int
    compressed: bytes | None


class Static:
    """Files in memory or on disk; what is not among them is not found, whatever its name says."""

    def __init__(self, files: Mapping[str, StaticFile]) -> None:
        self.files = files
        self._known: dict[str, asyncio.Task[_Known]] = {}

    async def answer(self, address: str, headers: Mapping[str, str]) -> Response:
        """A file, or that the client has it; NotFoundError if there is none."""
        file = self.files.get(address)
        if file is None:
            raise NotFoundError("there is nothing at this address")
        if address not in self._known:
            self._known[address] = asyncio.create_task(asyncio.to_thread(_look_at, file))
        known = await asyncio.shield(self._known[address])
        zipped = known.compressed is not None and takes_gzip(headers.get("accept-encoding", ""))
        tag = f'"{known.tag}-gzip"' if zipped else f'"{known.tag}"'
        about = {"ETag": tag, "Cache-Control": _A_YEAR if file.immutable else "no-cache", "Vary": "Accept-Encoding"}
        if has_tag(headers.get("if-none-match", ""), tag):
            return Response(status_code=304, headers=about)
        if zipped:
            return Response(known.compressed, headers={**about, "Content-Encoding": "gzip"}, media_type=file.media_type)
        if isinstance(file.content, bytes):
            return Response(file.content, headers=about, media_type=file.media_type)
        about["Content-Length"] = str(known.size)
        return StreamingResponse(_pieces(file.content), headers=about, media_type=file.media_type)


def takes_gzip(accept_encoding: str) -> bool:
    """Whether a client says so."""
    for part in accept_encoding.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        if name == "gzip":
            return not any(text in ("q=0", "q=0.0", "q=0.00", "q=0.000") for text in parameters)
    return False


def has_tag(if_none_match: str, tag: str) -> bool:
    """Whether a client has what the tag names."""
    return any(given.strip().removeprefix("W/") in (tag, "*") for given in if_none_match.split(","))


def tag_of(data: bytes) -> str:
    """A short name of some content."""
    return hashlib.sha256(data).hexdigest()[:32]


def _look_at(file: StaticFile) -> _Known:
    data = file.content if isinstance(file.content, bytes) else file.content.read_bytes()
    compressed = None
    if file.media_type.startswith(_COMPRESSED) and len(data) >= _SMALL:
        compressed = gzip.compress(data, 6, mtime=0)
    return _Known(tag_of(data), len(data), compressed)


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    file: Any = await asyncio.to_thread(open, path, "rb")
    try:
        while piece := await asyncio.to_thread(file.read, PIECE):
            yield piece
    finally:
        file.close()
