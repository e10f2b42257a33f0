"""Photographs as they are and as they should not be."""

import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fastnst.evaluate import read_photo
from fastnst.image import Array, Pixels
from helpers.material import PHOTOS


def photo(name: str = "owl", size: int = 64) -> Array:
    """The middle of a photograph of the repository, float32 (1, 3, size, size) 0..1."""
    return read_photo(PHOTOS / f"{name}.jpg", size)


def noise(height: int = 20, width: int = 24, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def noise_tensor(size: int = 64, seed: int = 0) -> torch.Tensor:
    """Float32 (1, 3, size, size) 0..1."""
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(seed))


def noise_file(path: Path, height: int = 20, width: int = 24, **options: object) -> Path:
    """A picture in a new file, folders and all; Pillow takes the options."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(height, width)).save(path, **options)
    return path


def save_plain(path: Path, color: tuple[int, int, int], size: tuple[int, int] = (48, 40)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)
    return path


def save_noise(path: Path, seed: int = 0, side: int = 64) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(side, side, seed)).save(path, quality=95)
    return path


def cut_off(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    return path


def bomb() -> bytes:
    """A PNG of 57 bytes that claims 50,000 x 50,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
