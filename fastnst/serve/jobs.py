"""Decoding and encoding in a process of their own, which may hang, crash or be taken over and holds nothing.

A job is a line of JSON and the bytes that it is about; so is its answer, with which nothing but pixels and words can
come back.
"""

import json
import logging
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from fastnst.errors import FastnstError
from fastnst.image import Limits, Picture, Pixels, decode_picture, encode_picture
from fastnst.serve.nursery import die_with_parent

Answer = tuple[dict[str, Any], list[Any]]  # what is said of the parts, and the parts


def work(connection: Connection, memory: int | None) -> None:
    """Do jobs until the other end is closed; `memory` is how many bytes they may take beyond those that there are."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the service's, which ends this process
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    logging.disable()  # a file has no say in what is logged
    die_with_parent(signal.SIGKILL)  # even in the middle of a job
    if memory is not None:
        _limit_memory(memory)
    while True:
        try:
            job, parts = receive(connection)
        except EOFError:
            return
        try:
            answer, made = JOBS[job.pop("job")](*parts, **job)
        except FastnstError as error:
            answer, made = {"error": type(error).__name__, "message": str(error)}, []
        send(connection, answer, *made)


def send(connection: Connection, about: dict[str, Any], *parts: Any) -> None:
    """A message: something JSON can say, and buffers of bytes."""
    connection.send_bytes(json.dumps({"parts": len(parts), **about}).encode())
    for part in parts:
        connection.send_bytes(memoryview(part).cast("B"))


def receive(connection: Connection) -> tuple[dict[str, Any], list[bytes]]:
    """A message that send sent; EOFError if the other end is closed."""
    about = json.loads(connection.recv_bytes())
    return about, [connection.recv_bytes() for _ in range(about.pop("parts"))]


def _decode(data: bytes, *, name: str, max_size: int | None, pixels: int, size: int) -> Answer:
    limits = Limits(pixels=pixels, side=min(Limits.side, pixels), size=size)
    picture = decode_picture(data, name, limits=limits, max_size=max_size)
    made = [picture.rgb] if picture.alpha is None else [picture.rgb, picture.alpha]
    return {"shape": picture.size}, [np.ascontiguousarray(part) for part in made]


def _encode(rgb: bytes, *alpha: bytes, shape: tuple[int, int], format: str, quality: int) -> Answer:
    def pixels(data: bytes, *channels: int) -> Pixels:
        return np.frombuffer(data, np.uint8).reshape(*shape, *channels)

    picture = Picture(pixels(rgb, 3), pixels(alpha[0]) if alpha else None)
    return {}, [encode_picture(picture, format, quality)]


JOBS: dict[str, Callable[..., Answer]] = {"decode": _decode, "encode": _encode}


def _limit_memory(more: int) -> None:
    try:
        import resource
    except ImportError:  # on Windows
        return
    status = Path("/proc/self/statm")
    if status.exists():  # elsewhere nobody says how much there is
        used = int(status.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + more, used + more))
