"""Fixtures every test file shares: real photographs, and small networks with random weights where any style will do."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.material import Run

from fastnst.checkpoint import CheckpointMeta, save_checkpoint
from fastnst.config import ExportOptions
from fastnst.export import export
from fastnst.nets.spec import NetConfig
from fastnst.nets.torch_net import TransformerNet

# A shell lets what it starts in the background ignore Ctrl-C, and so would the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run what takes half a minute or more each")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="takes long; scripts/test --long runs it"))


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Each command line run in this process sets logging up anew."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in the same order in every run, and the fastest way to compute little."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow network with random weights, as a .safetensors file."""
    torch.manual_seed(0)
    net = TransformerNet(NetConfig(channels=(8, 8, 16), blocks=1))
    path = tmp_path_factory.mktemp("style") / "random.safetensors"
    save_checkpoint(path, net, CheckpointMeta("custom", net.config.to_json(), {"name": "random", "credit": "nobody"}))
    return path


@pytest.fixture(scope="session")
def onnx_style(checkpoint: Path) -> Path:
    """The same network as an .onnx file."""
    return export(checkpoint, checkpoint.with_suffix(".onnx"), ExportOptions()).path


@pytest.fixture
def fastnst(tmp_path: Path) -> Run:
    """Run the command line in a process of its own, inside tmp_path: fastnst("info", path, stdin=b"")."""

    def run(*arguments: object, stdin: bytes = b"", timeout: float = 120) -> "subprocess.CompletedProcess[bytes]":
        command = [sys.executable, "-m", "fastnst", *map(os.fspath, map(_text, arguments))]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
        return subprocess.run(
            command, input=stdin, capture_output=True, timeout=timeout, cwd=tmp_path, env=environment, check=False
        )

    return run


def _text(argument: object) -> "str | bytes | os.PathLike[str]":
    return argument if isinstance(argument, (bytes, os.PathLike)) else str(argument)
