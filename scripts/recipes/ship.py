"""Ship runs/NAME.safetensors as the bundled style NAME: checkpoint, ONNX file, and a preview on six photos.

Usage: python scripts/recipes/ship.py NAME, from the root of the checkout.
"""

import shutil
import sys
from pathlib import Path

from fastnst.config import ExportOptions
from fastnst.export import export
from fastnst.image import Picture, read_picture, resize, write_picture
from fastnst.sheet import arrange
from fastnst.stylize import Stylizer

PHOTOS = {
    "animal": "red-panda",
    "building": "castle",
    "landscape": "great-wallof-china",
    "night": "memorial-at-night",
    "detail": "reims-cathedral",
    "flat sky": "eiffel-tower",
}
SIDE = 512  # pixels, at which brushwork shows


def ship(name: str) -> None:
    folder = Path("checkpoints")
    checkpoint, onnx, preview = (folder / f"{name}.{kind}" for kind in ("safetensors", "onnx", "jpg"))
    shutil.copyfile(Path("runs") / checkpoint.name, checkpoint)
    export(checkpoint, onnx, ExportOptions(overwrite=True))
    stylizer = Stylizer.open(onnx)
    tiles = []
    for label, photo in PHOTOS.items():
        content = read_picture(Path("examples/photos") / f"{photo}.jpg")
        height, width = content.size
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        middle = resize(Picture(content.rgb[top : top + side, left : left + side]), SIDE, SIDE)
        tiles.append((label, stylizer.stylize_picture(middle)))
    write_picture(arrange(tiles), preview, quality=80)


if __name__ == "__main__":
    ship(sys.argv[1])
