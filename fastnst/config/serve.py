"""Options of the service: where it listens, what it takes, how much at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fastnst.config.ranges import Checked, Range
from fastnst.config.shared import DeviceOption, Duration
from fastnst.device import cores
from fastnst.errors import UsageError


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ServeLimits(Checked):
    """What the service takes, and how much at once; together they bound its memory."""

    workers: Annotated[int, Range(1, 64), Parameter(show_default=lambda _: "a core each, at most 4")] = min(4, cores())
    """processes that decode and encode pictures beside the one that paints"""
    queue: Annotated[int, Range(0, 1000)] = 8
    """requests that may wait while others are painted; more are answered 503"""
    max_pixels: Annotated[int, Range(256, 500_000_000)] = 50_000_000
    """pixels of a picture"""
    max_bytes: Annotated[int, Range(1024, 1 << 30)] = 20 << 20
    """bytes of a request"""
    deadline: Annotated[Duration, Parameter(show_default=lambda seconds: f"{seconds:g} seconds")] = 30.0
    """time from the arrival of a picture to its painting, such as 30s or 2m; later it is answered 504"""
    drain: Annotated[Duration, Parameter(show_default=lambda seconds: f"{seconds:g} seconds")] = 30.0
    """time for what is begun, once the service is told to stop"""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ServeOptions(ServeLimits, DeviceOption):
    """How styles are served."""

    host: str = "127.0.0.1"
    """address to listen on; any but this machine's own needs --token"""
    port: Annotated[int, Range(0, 65_535)] = 8000
    """port to listen on; 0 is any that is free"""
    styles: Path | None = None
    """folder of styles, .onnx or .safetensors files, to serve instead of the bundled ones"""
    token: Path | None = None
    """file with the word, 16 characters or more, that requests to paint must give as Authorization: Bearer"""
    origin: Annotated[tuple[str, ...], Parameter(show_default=False)] = ()
    """address, such as https://paint.example.org, under which a proxy shows this service; several may be given"""
    open: bool = False
    """show the page in the browser"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.deadline is None or self.drain is None:
            raise UsageError("--deadline and --drain need a length of time; give seconds, or for example 2m")
        for origin in self.origin:
            scheme, _, rest = origin.partition("://")
            if scheme not in ("http", "https") or not rest or "/" in rest or origin != origin.lower():
                raise UsageError(f"--origin is {origin!r} but must be an address such as https://paint.example.org")
