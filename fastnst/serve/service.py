"""One painting from the bytes of a request to the bytes of its answer, and what all of them share."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from fastnst.config import ServeLimits
from fastnst.decode.formats import looks_like_image
from fastnst.engine import Stop
from fastnst.errors import FastnstError, InputError, StoppedError
from fastnst.image import Picture
from fastnst.serve.asked import Asked, choose_format
from fastnst.serve.bound import pictures_at_once
from fastnst.serve.forms import Form
from fastnst.serve.line import Lane, Line
from fastnst.serve.metrics import Metrics
from fastnst.serve.painters import Painters
from fastnst.serve.problems import (
    DeadlineError,
    DecodeError,
    DrainingError,
    Field,
    InvalidParameterError,
    NotReadyError,
)
from fastnst.serve.site import StaticFile
from fastnst.serve.workers import Workers


@dataclass
class Service:
    """Everything a request needs."""

    limits: ServeLimits
    painters: Painters
    workers: Workers
    files: Mapping[str, StaticFile]
    line: Line = field(init=False)
    lane: Lane = field(default_factory=Lane)
    metrics: Metrics = field(init=False)
    trouble: FastnstError | None = None  # why it is not ready

    def __post_init__(self) -> None:
        self.line = Line(self.limits.queue)
        self.metrics = Metrics(lambda: max(0, self.line.taken - self.lane.busy), lambda: self.lane.busy)
        self.trouble = NotReadyError("the styles are being opened; try again in a moment")
        self.pictures = asyncio.Semaphore(pictures_at_once(self.limits))

    async def open_styles(self) -> list[FastnstError]:
        """Let every style paint its test picture; ready then, unless one cannot. What is wrong with those."""
        wrong = []
        for name in self.painters.styles:
            try:
                await self.lane.run(partial(self._open, name))
            except FastnstError as error:
                self.trouble = error
                wrong.append(error)
        if not wrong:
            self.trouble = None
        return wrong

    def _open(self, name: str, _: Stop) -> None:
        self.painters.open(name)


class Painting:
    """One painting as it is made."""

    def __init__(self, service: Service, form: Form, asked: Asked, wanted: dict[str, tuple[float, int]]) -> None:
        if "image" not in form.files:
            message = "the form has no image; send the picture as its field image"
            raise InvalidParameterError(message, fields=[Field("image", message)])
        self.service, self.form, self.asked = service, form, asked
        self.format = choose_format(wanted, looks_like_image(form.files["image"]))
        self.timing: dict[str, float] = {}  # what took how long, seconds

    async def make(self) -> tuple[bytes, str]:
        """Its bytes and their format; raises DeadlineError if that takes too long."""
        seconds = self.service.limits.deadline
        assert seconds is not None
        try:
            async with asyncio.timeout(seconds):
                return await self._made(), self.format
        except TimeoutError as error:
            raise DeadlineError(f"painting it took more than {seconds:g} seconds; give a smaller max_size") from error
        except StoppedError as error:
            raise DrainingError("the service was stopped before the painting was done; send it again") from error

    async def _made(self) -> bytes:
        service, options = self.service, self.asked.options
        begun = time.perf_counter()
        async with service.pictures:
            begun = self._tell("wait", begun)
            picture = await self._decoded("image", options.max_size)
            mask = await self._decoded("mask") if "mask" in self.form.files else None
            begun = self._tell("decode", begun)
            painted = await service.lane.run(lambda stop: self._painted(picture, mask, stop))
            begun = self._tell("line", begun)
            self.timing["line"] -= self.timing["paint"]
            data = await service.workers.encode(painted, self.format, options.quality)
            self._tell("encode", begun)
            return data

    def _painted(self, picture: Picture, mask: Picture | None, stop: Stop) -> Picture:
        begun = time.perf_counter()
        painted = self.service.painters.paint(self.asked, picture, mask, stop)
        self._tell("paint", begun)
        return painted

    def _tell(self, name: str, begun: float) -> float:
        """Note how long something took; the time now."""
        now = time.perf_counter()
        self.timing[name] = now - begun
        return now

    async def _decoded(self, name: str, max_size: int | None = None) -> Picture:
        try:
            return await self.service.workers.decode(self.form.files.pop(name), name, max_size)
        except (InputError, DecodeError, DeadlineError) as error:
            self.service.metrics.decode_failures.labels(error.code).inc()
            raise
