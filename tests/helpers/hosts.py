"""Two static hosts that have nothing in common: folder -> address, as long as the block lasts."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from helpers.material import PROGRAMS


@contextmanager
def python_host(folder: Path) -> Iterator[str]:
    program = (
        "import functools, http.server as web, sys\n"
        "handler = functools.partial(web.SimpleHTTPRequestHandler, directory=sys.argv[1])\n"
        "server = web.ThreadingHTTPServer(('127.0.0.1', 0), handler)\n"
        "print(server.server_port, flush=True); server.serve_forever()"
    )
    with started([sys.executable, "-c", program, str(folder)]) as address:
        yield address


@contextmanager
def node_host(folder: Path) -> Iterator[str]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("the second static host needs Node.js")
    with started([node, str(PROGRAMS / "static_server.mjs"), str(folder)]) as address:
        yield address


@contextmanager
def started(command: list[str]) -> Iterator[str]:
    """A server that prints its port."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.communicate()


HOSTS: dict[str, Callable[[Path], AbstractContextManager[str]]] = {"python": python_host, "node": node_host}
