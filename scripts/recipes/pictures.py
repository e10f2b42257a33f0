"""Make the pictures of the docs that show the bundled styles: docs/sheet.jpg and docs/controls.jpg.

Usage: python scripts/recipes/pictures.py, from the root of the checkout.
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from fastnst.image import Picture, read_picture, resize, write_picture
from fastnst.sheet import arrange

PHOTO = Path("examples/photos/castle.jpg")
WIDTH = 1380  # pixels, of the sheet
PIXELS = 800  # longer side at which controls are shown
SCALE = 0.375  # of it in the picture
CONTROLS = (  # option and styles
    ("--strength 0.3", "composition-viii"),
    ("--strength 0.6", "composition-viii"),
    ("", "composition-viii"),
    ("--stroke 0.5", "cafe-terrace"),
    ("", "cafe-terrace"),
    ("--stroke 2", "cafe-terrace"),
    ("--stroke 3", "cafe-terrace"),
    ("--preserve-color luma", "cafe-terrace"),
    ("--preserve-color histogram", "cafe-terrace"),
    ("--mix 0.6,0.4", "cafe-terrace composition-viii"),
    ("--mix 0.3,0.7", "cafe-terrace composition-viii"),
)


def fastnst(*given: object) -> None:
    """Run the command line."""
    subprocess.run([sys.executable, "-m", "fastnst", *map(str, given), "--quiet"], check=True)


def write(picture: Picture, name: str) -> None:
    """As docs/NAME.jpg, in place of the one before."""
    path = Path("docs", f"{name}.jpg")
    path.unlink(missing_ok=True)
    write_picture(picture, path, quality=82)


def small(picture: Picture, scale: float) -> Picture:
    """The picture at that share of its size."""
    height, width = picture.size
    return resize(picture, round(height * scale), round(width * scale))


def main() -> None:
    """Make both."""
    with TemporaryDirectory() as folder:
        made = Path(folder, "made.png")
        fastnst("sheet", PHOTO, "-o", made)
        sheet = read_picture(made)
        write(small(sheet, WIDTH / sheet.size[1]), "sheet")
        tiles = [("photo", small(read_picture(PHOTO, max_size=PIXELS), SCALE))]
        for option, names in CONTROLS:
            styles = [word for name in names.split() for word in ("--style", name)]
            fastnst("stylize", PHOTO, *styles, "--max-size", PIXELS, "-o", made, "--overwrite", *option.split())
            tiles.append((option or names, small(read_picture(made), SCALE)))
        write(arrange(tiles, columns=4), "controls")


if __name__ == "__main__":
    main()
