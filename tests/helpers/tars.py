"""Tars of pictures, as data sets for training come."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from helpers.photos import noise


def encoded(seed: int = 0, side: int = 64, format: str = "JPEG", **options: object) -> bytes:
    """A picture of noise."""
    return saved(noise(side, side, seed), format, **options)


def plain(number: int) -> bytes:
    """A picture of one color, whose red is ten times the number."""
    return saved(np.full((40, 48, 3), (10 * number, 100, 200), np.uint8), "PNG")


def saved(pixels: np.ndarray, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A tar of these files, in their order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def write_tar(path: Path, files: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_of(files))
    return path
