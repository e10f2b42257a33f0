"""The photographs and paintings of the repository, and small ones made of them."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parent.parent.parent
DATA = ROOT / "tests" / "data"
PHOTOS = ROOT / "examples" / "photos"
PAINTINGS = ROOT / "examples" / "paintings"
PROGRAMS = ROOT / "tests" / "programs"  # what tests run in processes of their own

# Options of a training run that takes a second.
SMALL_RUN = {
    "preset": "tiny",
    "init": Path("none"),
    "size": 32,
    "batch_size": 1,
    "content_layers": ("relu1_2",),
    "style_layers": ("relu1_2",),
    "precision": "fp32",
    "device": "cpu",
}

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


def small_material(folder: Path, photos: int) -> Path:
    """The folder, with a small painting.png in it and so many small photos in photos/."""
    (folder / "photos").mkdir()
    sources = {folder / "photos" / path.name: path for path in sorted(PHOTOS.glob("*.jpg"))[:photos]}
    for copy, source in {**sources, folder / "painting.png": min(PAINTINGS.glob("*.jpg"))}.items():
        with Image.open(source) as picture:
            picture.thumbnail((96, 96))
            picture.save(copy)
    return folder
