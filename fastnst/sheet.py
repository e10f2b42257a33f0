"""Labeled sheets: one photo in many styles, or a table of pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fastnst.config import SheetConfig
from fastnst.files import check_output
from fastnst.image import Picture, output_format, read_picture, write_picture
from fastnst.styles import bundled_names
from fastnst.stylize import Stylizer

_LABEL = 34  # pixels of height under each picture
_GAP = 10


def stylize_sheet(config: SheetConfig) -> Path:
    """The photo itself, then stylized in each style, all bundled ones by default; returns the output's path.

    Raises OutputError if the output exists or cannot be written, InputError for an unusable photo.
    """
    output_format(config.output)
    check_output(config.output, overwrite=config.overwrite)
    content = read_picture(config.image, max_size=config.tile_size)
    tiles = [("photo", content)]
    for style in config.style or bundled_names():
        stylizer = Stylizer.open(style, engine=config.engine, device=config.device)
        tiles.append((Path(style).stem, stylizer.stylize_picture(content)))
    write_picture(arrange(tiles), config.output)
    return config.output


def arrange_table(corner: Picture, labels: Sequence[str], rows: Sequence[Sequence[Picture | None]]) -> Picture:
    """Pictures in rows on white, a label of some lines above each column but the first, which has a picture there."""
    font = ImageFont.load_default(size=18)
    everything = [corner, *(picture for row in rows for picture in row if picture is not None)]
    width = max(picture.size[1] for picture in everything) + _GAP
    lines = max(label.count("\n") + 1 for label in labels)
    heights = [max(corner.size[0], lines * 26)]
    heights += [max(picture.size[0] for picture in row if picture is not None) for row in rows]
    sheet = Image.new("RGB", ((len(labels) + 1) * width + _GAP, sum(heights) + (len(heights) + 1) * _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for column, label in enumerate(labels, start=1):
        place = (_GAP + column * width + (width - _GAP) / 2, _GAP + heights[0])
        draw.text(place, label, fill="black", font=font, anchor="md", align="center")
    top = _GAP
    for row, height in zip([[corner], *rows], heights, strict=True):
        for column, picture in enumerate(row):
            if picture is not None:
                sheet.paste(Image.fromarray(picture.rgb), (_GAP + column * width, top))
        top += height + _GAP
    return Picture(np.asarray(sheet))


def arrange(tiles: Sequence[tuple[str, Picture]], columns: int | None = None) -> Picture:
    """Labeled pictures of one size in rows on white, in this number of columns or a shape near a square."""
    height, width = tiles[0][1].size
    columns = columns or max(1, round((len(tiles) * (height + _LABEL) / width) ** 0.5))
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * (width + _GAP) + _GAP, rows * (height + _LABEL + _GAP) + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = _fitting_font([label for label, _ in tiles], width + _GAP // 2)
    for index, (label, picture) in enumerate(tiles):
        x = _GAP + index % columns * (width + _GAP)
        y = _GAP + index // columns * (height + _LABEL + _GAP)
        sheet.paste(Image.fromarray(picture.rgb), (x, y))
        draw.text((x + width / 2, y + height + _LABEL / 2), label, fill="black", font=font, anchor="mm")
    return Picture(np.asarray(sheet))


def _fitting_font(labels: Sequence[str], width: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """As large as 20 pixels, and smaller so that every label fits, down to 10."""
    sizes = range(20, 9, -1)
    fonts = (ImageFont.load_default(size=size) for size in sizes)
    return next((f for f in fonts if max(map(f.getlength, labels)) <= width), ImageFont.load_default(size=sizes[-1]))
