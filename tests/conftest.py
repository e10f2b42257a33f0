"""Fixtures every test file shares: real photographs, and small networks with random weights where any style will do."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from fastnst.checkpoint import CheckpointMeta, save_checkpoint
from fastnst.config import ExportOptions
from fastnst.export import export
from fastnst.layers import NetConfig
from fastnst.nets import TransformerNet

ROOT = Path(__file__).parent.parent
PHOTOS = ROOT / "examples" / "photos"
PAINTINGS = ROOT / "examples" / "paintings"

# A shell lets what it starts in the background ignore Ctrl-C, and so would the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Options of a training run that takes a second.
SMALL_RUN = {
    "preset": "tiny",
    "size": 32,
    "batch_size": 1,
    "content_layers": ("relu1_2",),
    "style_layers": ("relu1_2",),
    "precision": "fp32",
    "device": "cpu",
}

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Each command line run in this process sets logging up anew."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def small_material(folder: Path, photos: int) -> Path:
    """The folder, with a small painting.png in it and so many small photos in photos/."""
    (folder / "photos").mkdir()
    sources = {folder / "photos" / path.name: path for path in sorted(PHOTOS.glob("*.jpg"))[:photos]}
    for copy, source in {**sources, folder / "painting.png": min(PAINTINGS.glob("*.jpg"))}.items():
        with Image.open(source) as picture:
            picture.thumbnail((96, 96))
            picture.save(copy)
    return folder


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
