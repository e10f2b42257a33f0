"""Tars of pictures, as data sets for training come."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from helpers.photos import noise
from helpers.tars import tar_of


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


def write_tar(path: Path, files: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_of(files))
    return path
