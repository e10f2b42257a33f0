"""fastnst serve in a process of its own, and requests to it, as they should be and as they should not."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import httpx

T = TypeVar("T")

PATIENCE = 60  # seconds for what takes one or two


class Server:
    """A running service: `url`, what it said on stderr in `lines`, `client` for requests."""

    def __init__(self, *arguments: object, port: int = 0) -> None:
        command = [sys.executable, "-m", "fastnst", "serve", "--port", *map(str, (port, *arguments))]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, text=True)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = self.said(r"listening on (http://\S+)")[1]
        self.host, port = re.fullmatch(r"http://(.+):(\d+)/", self.url).groups()
        self.port = int(port)
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE, trust_env=False)

    def _read(self) -> None:
        with self.process.stderr as stream:
            self.lines.extend(stream)  # line by line, as they come

    def said(self, pattern: str) -> re.Match[str]:
        """Wait until a line of stderr matches."""

        def found() -> re.Match[str] | None:
            return next((match for line in [*self.lines] if (match := re.search(pattern, line))), None)

        return until(found, lambda: self.process.poll() is None or self._reader.is_alive())

    def ready(self) -> "Server":
        """Wait until every style is open."""
        until(lambda: self.client.get("readyz").status_code == 200)
        return self

    def requests(self) -> list[dict[str, object]]:
        """Its log so far."""
        return [json.loads(line) for line in [*self.lines] if line.startswith("{")]

    def stylize(self, picture: bytes, **options: object) -> httpx.Response:
        return self.client.post("v1/stylize", content=picture, params=options)

    def metric(self, name: str) -> float:
        """The value of one sample, with its labels as they are printed."""
        for line in self.client.get("metrics").text.splitlines():
            if line.rpartition(" ")[0] == name:
                return float(line.rpartition(" ")[2])
        return 0.0

    def connect(self) -> socket.socket:
        """A connection for requests that no library makes."""
        return socket.create_connection((self.host, self.port), timeout=PATIENCE)

    def exchange(self, request: bytes) -> bytes:
        """All that comes back until the connection is closed."""
        with self.connect() as connection:
            connection.sendall(request)
            return read_all(connection)

    def children(self) -> list[int]:
        """Its processes that decode."""
        return [pid for pid in descendants(self.process.pid) if not _is_fork_server(pid)]

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Stop it, at once if it does not listen to reason; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.client.close()
        status = self.process.wait()
        self._reader.join(PATIENCE)
        return status


@contextmanager
def serving(*arguments: object, port: int = 0) -> Iterator[Server]:
    """A service that has opened its styles."""
    server = Server(*arguments, port=port)
    try:
        yield server.ready()
    finally:
        server.end()


def until(probe: Callable[[], T], hopeful: Callable[[], bool] = lambda: True) -> T:
    """What the probe gives as soon as it is something."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if value := probe():
            return value
        if not hopeful() and not probe():
            break
        time.sleep(0.01)
    raise AssertionError("this did not happen")


def read_all(connection: socket.socket) -> bytes:
    """What a connection gives until its end, or its reset."""
    parts = []
    try:
        while part := connection.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def status_of(answer: bytes) -> int:
    """The status of an HTTP answer."""
    return int(answer.split(b" ", 2)[1])


def post(body: bytes = b"", *headers: str, target: str = "/v1/stylize") -> bytes:
    """A request whose headers are what they are."""
    lines = [f"POST {target} HTTP/1.1", "Host: localhost", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def descendants(pid: int) -> list[int]:
    """Processes that a process started, and those that they started."""
    tasks = Path(f"/proc/{pid}/task")
    try:
        children = [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]
    except OSError:
        return []
    return [one for child in children for one in (child, *descendants(child))]


def _is_fork_server(pid: int) -> bool:
    return bool(descendants(pid)) or b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
