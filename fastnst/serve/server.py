"""The service as a process: where it listens, how it begins, how it ends."""

import asyncio
import contextlib
import ipaddress
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import uvicorn

from fastnst.config import ServeOptions
from fastnst.errors import FastnstError, InputError, Interrupted, UnavailableError, UsageError
from fastnst.files import printable
from fastnst.image import Limits
from fastnst.serve.api import application
from fastnst.serve.bound import Bound, memory_bound
from fastnst.serve.painters import Painters
from fastnst.serve.protocol import KEEP_ALIVE, Protocol
from fastnst.serve.runtime import runtime_folder
from fastnst.serve.security import Guard, Log
from fastnst.serve.service import Service
from fastnst.serve.site import Published, StaticFile, published_styles, site_files
from fastnst.serve.workers import Workers

_SHORTEST_TOKEN = 16  # characters
_LAST_ANSWERS = 5  # seconds for answers that are on their way when everything is painted
_HEADERS = 32_768  # bytes of a request's line and headers


@dataclass(frozen=True)
class Started:
    """What there is to say of a service that listens."""

    url: str
    bound: Bound
    in_browser: bool  # whether the page can paint by itself


@dataclass(frozen=True)
class Hooks:
    """What a caller hears of the service."""

    on_start: Callable[[Started], object]
    on_ready: Callable[[], object]
    on_trouble: Callable[[FastnstError], object]  # a style that is unusable, so that it will not be ready
    log: Log


def serve(options: ServeOptions, hooks: Hooks) -> NoReturn:
    """Serve until a signal, then finish what is begun; raises Interrupted at the end.

    Raises UsageError for an address beyond this machine without a token and for an unusable token, UnavailableError for
    an address that cannot be listened on, and what published_styles raises.
    """
    token = None if options.token is None else read_token(options.token)
    listener, local = _listen(options.host, options.port, token is not None)
    with listener:
        styles = published_styles(() if options.styles is None else [options.styles])
        runtime = runtime_folder()
        limits = {"pixels": options.max_pixels, "bytes": options.max_bytes, "side": Limits.side}
        files = site_files(styles, runtime=runtime, api=True, limits=limits, token=token is not None)
        host, port = listener.getsockname()[:2]
        name = f"[{host}]" if ":" in host else host
        hooks.on_start(Started(f"http://{name}:{port}/", memory_bound(options), runtime is not None))
        guard = Guard(_names(options) if local else None, options.origin, token)
        number = asyncio.run(_Run(options, hooks, styles, files, guard).until_signal(listener))
    raise Interrupted(f"stopped by {signal.Signals(number).name}", number)


def read_token(path: Path) -> str:
    """The word in a file; InputError if it cannot be read, UsageError if it is too short or no word."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise InputError(f"the token file {printable(path)} cannot be read: {error.strerror or error}") from error
    except ValueError:
        token = ""
    if len(token) < _SHORTEST_TOKEN or not all("!" <= character <= "~" for character in token):
        raise UsageError(
            f"the token file {printable(path)} must hold one word of {_SHORTEST_TOKEN} or more plain characters; make "
            f"one with: openssl rand -hex 32 > {printable(path)}"
        )
    return token


def _listen(host: str, port: int, has_token: bool) -> tuple[socket.socket, bool]:
    """A socket that is bound, and whether only this machine reaches it."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise UsageError(f"--host {host!r} is no address; give one of this machine, such as 127.0.0.1") from error
    local = all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)
    if not local and not has_token:
        raise UsageError(
            f"--host {host} can be reached from other machines, for which a token is needed; make one with: "
            "openssl rand -hex 32 > token.txt, and add --token token.txt"
        )
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":  # where it would let two programs listen on one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1)  # only now it is known that nobody else does
    except OSError as error:
        listener.close()
        raise UnavailableError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; choose another --port"
        ) from error
    return listener, local


def _names(options: ServeOptions) -> set[str]:
    """The names under which a service that only this machine reaches is asked for."""
    host = f"[{options.host}]" if ":" in options.host else options.host
    public = (origin.partition("://")[2] for origin in options.origin)
    return {"localhost", "127.0.0.1", "[::1]", host.lower(), *(name.rsplit(":", 1)[0] for name in public)}


class _Server(uvicorn.Server):
    """uvicorn without its own idea of signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Run:
    """One service from its start to its end."""

    def __init__(
        self,
        options: ServeOptions,
        hooks: Hooks,
        styles: list[Published],
        files: Mapping[str, StaticFile],
        guard: Guard,
    ) -> None:
        self.options, self.hooks, self.guard = options, hooks, guard
        self.styles, self.files = styles, files
        self.received: list[int] = []

    async def until_signal(self, listener: socket.socket) -> int:
        """Serve on a socket; the number of the signal that ended it."""
        self.signaled = asyncio.Event()
        workers = Workers(self.options)
        painters = Painters(self.styles, self.options.device, self.options.max_pixels)
        self.service = Service(self.options, painters, workers, self.files)
        self.server = self._server()
        handlers = self._catch_signals()
        opening = asyncio.create_task(self._open(workers))
        ending = asyncio.create_task(self._end())
        try:
            await self.server.serve(sockets=[listener])
        finally:
            for task in (opening, ending):
                task.cancel()
            self.service.lane.close()
            workers.close()
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return self.received[0]

    def _server(self) -> _Server:
        config = uvicorn.Config(
            application(self.service, self.guard, self.hooks.log),
            http=Protocol,
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",  # what goes wrong is in our own log
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=_LAST_ANSWERS,
            h11_max_incomplete_event_size=_HEADERS,
        )
        return _Server(config)

    async def _open(self, workers: Workers) -> None:
        await workers.start()
        wrong = await self.service.open_styles()
        for error in wrong:
            self.hooks.on_trouble(error)
        if not wrong:
            self.hooks.on_ready()

    def _catch_signals(self) -> dict[int, Any]:
        """What a signal does from now on; what it did before."""
        loop = asyncio.get_running_loop()

        def receive(number: int, _: object) -> None:
            loop.call_soon_threadsafe(self._receive, number)

        return {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}

    def _receive(self, number: int) -> None:
        """The first signal lets everything that is begun end, the second ends it."""
        self.received.append(number)
        self.service.line.drain()
        self.signaled.set()
        if len(self.received) > 1:
            self.service.lane.close()
            self.server.should_exit = self.server.force_exit = True

    async def _end(self) -> None:
        await self.signaled.wait()
        try:
            async with asyncio.timeout(self.options.drain):
                await self.service.line.empty()
        except TimeoutError:
            self.service.lane.close()
        self.server.should_exit = True
