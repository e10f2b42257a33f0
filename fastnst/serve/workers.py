"""Processes that decode and encode: one that hangs or crashes is replaced, and only its own job fails."""

import asyncio
import json
import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import numpy as np

from fastnst import errors
from fastnst.config import ServeLimits
from fastnst.errors import FastnstError, InputError
from fastnst.image import Picture
from fastnst.serve import jobs
from fastnst.serve.bound import worker_memory
from fastnst.serve.problems import DeadlineError, DecodeError

T = TypeVar("T")

PATIENCE = 10.0  # seconds for one job; 50 megapixels take about one


class Crashed(Exception):
    """A worker that ended in the middle of a job."""


class Hanging(Exception):
    """A worker that did not end a job in time, and was ended."""


class _Worker:
    """A process and the connection to it."""

    def __init__(self, context: Any, memory: int | None) -> None:
        self.connection, other = context.Pipe()
        self.process = context.Process(target=jobs.work, args=(other, memory), name="fastnst-decoder", daemon=True)
        self.process.start()
        other.close()

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.process.close()
        self.connection.close()


class Workers:
    """So many processes, each with one job at a time; the others wait."""

    def __init__(self, limits: ServeLimits, patience: float = PATIENCE) -> None:
        self.limits, self.patience = limits, patience
        self._context: Any = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
        if sys.platform != "win32":
            self._context.set_forkserver_preload([jobs.__name__])
        self._threads = ThreadPoolExecutor(2 * limits.workers, thread_name_prefix="worker")
        self._all: set[_Worker] = set()
        self._replacing: set[asyncio.Future[None]] = set()
        self._idle: asyncio.Queue[_Worker | None] = asyncio.Queue()  # None is one that could not be started

    async def start(self) -> None:
        """Start all of them; jobs wait until then."""
        if sys.platform != "win32":
            forkserver.ensure_running()  # by this thread, since it ends with the one that starts it
        await asyncio.gather(*(self._start_one() for _ in range(self.limits.workers)))

    async def decode(self, data: bytes, name: str, max_size: int | None = None) -> Picture:
        """What decode_picture gives.

        Raises its errors, DecodeError if the picture crashes the decoder, DeadlineError if it takes too long.
        """
        most = {"pixels": self.limits.max_pixels, "size": self.limits.max_bytes}
        job = partial(_decoded, {"job": "decode", "name": name, "max_size": max_size, **most}, data)
        try:
            return await self._run(job)
        except Crashed as error:
            raise DecodeError(f"{name} crashes its decoder; save it again, or in another format") from error
        except Hanging as error:
            raise DeadlineError(f"{name} took more than {self.patience:g} seconds to decode; save it again") from error

    async def encode(self, picture: Picture, format: str, quality: int) -> bytes:
        """What encode_picture gives, in another process if the first one fails, which no picture is to blame for.

        Raises FastnstError if both crash, DeadlineError if the second takes too long.
        """
        said = {"job": "encode", "shape": picture.size, "format": format, "quality": quality}
        job = partial(_encoded, said, picture)
        with suppress(Crashed, Hanging):
            return await self._run(job)
        try:
            return await self._run(job)
        except Crashed as error:
            raise FastnstError(f"the encoder of {format} failed on a picture of {picture.size}") from error
        except Hanging as error:
            raise DeadlineError(
                f"the painting took more than {self.patience:g} seconds to encode; try again"
            ) from error

    async def _run(self, job: Callable[[Connection], T]) -> T:
        """Do a job in an idle process. Whoever is canceled meanwhile leaves none behind that is still at it."""
        worker = await self._idle.get()
        if worker is None:
            self._replace()
            raise FastnstError("a process to decode in could not be started")
        try:
            done = asyncio.wrap_future(self._threads.submit(job, worker.connection))
            async with asyncio.timeout(self.patience):
                result = await done
        except FastnstError:
            self._idle.put_nowait(worker)
            raise
        except BaseException as error:
            # Whatever it was, this process is in the middle of something.
            self._discard(worker)
            self._replace()
            if isinstance(error, TimeoutError):
                raise Hanging from error
            if isinstance(error, (EOFError, OSError, ValueError, KeyError, TypeError)):
                raise Crashed from error
            raise
        self._idle.put_nowait(worker)
        return result

    def _replace(self) -> None:
        replacing = asyncio.ensure_future(self._start_one())
        self._replacing.add(replacing)
        replacing.add_done_callback(self._replacing.discard)

    async def _start_one(self) -> None:
        worker, memory = None, worker_memory(self.limits)
        with suppress(OSError, RuntimeError):  # no process to be had: the next job tries again
            worker = await asyncio.wrap_future(self._threads.submit(_Worker, self._context, memory))
            self._all.add(worker)
        self._idle.put_nowait(worker)

    def _discard(self, worker: _Worker) -> None:
        self._all.discard(worker)
        worker.process.kill()  # at once, so that the thread that waits for it ends
        with suppress(RuntimeError):  # at the end of all
            self._threads.submit(worker.end)

    def close(self) -> None:
        """End all of them, whatever they do."""
        for worker in self._all:
            worker.process.kill()
        self._threads.shutdown(wait=False, cancel_futures=True)


def _decoded(job: dict[str, Any], data: bytes, connection: Connection) -> Picture:
    """The answer to a decode job, read into the arrays that hold it; ValueError if it is not what it should be."""
    jobs.send(connection, job, data)
    answer = _answer(connection)
    height, width = answer["shape"]
    if not 0 < height * width <= job["pixels"]:
        raise ValueError("a shape that was not asked for")
    parts = [np.empty((height, width, 3), np.uint8), np.empty((height, width), np.uint8)][: answer["parts"]]
    for part in parts:
        if connection.recv_bytes_into(part.data.cast("B")) != part.nbytes:
            raise ValueError("pixels are missing")
    return Picture(*parts)


def _encoded(job: dict[str, Any], picture: Picture, connection: Connection) -> bytes:
    parts = [picture.rgb] if picture.alpha is None else [picture.rgb, picture.alpha]
    jobs.send(connection, job, *map(np.ascontiguousarray, parts))
    _answer(connection)
    return connection.recv_bytes()


def _answer(connection: Connection) -> dict[str, Any]:
    """What a worker says of the parts that follow; the error that it tells, if it does."""
    answer: dict[str, Any] = json.loads(connection.recv_bytes())
    if "error" in answer:
        raise _error(answer["error"], answer["message"])
    return answer


def _error(name: str, message: str) -> FastnstError:
    """An error by the name of its class; a picture that is unusable without more is one that cannot be decoded."""
    kind: Any = getattr(errors, name, None)
    if kind is InputError:
        return DecodeError(message)
    known = isinstance(kind, type) and issubclass(kind, InputError)
    error: FastnstError = kind(message) if known else FastnstError(message)
    return error
