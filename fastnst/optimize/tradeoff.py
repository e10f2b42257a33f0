"""Content against style: one photo and one style at several ratios of their weights, on one sheet."""

from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from fastnst.checkpoint import load_checkpoint
from fastnst.config import OptimizeConfig, TradeoffConfig
from fastnst.errors import Interrupted
from fastnst.files import check_output, printable
from fastnst.image import Picture, output_format, read_picture, resize, shrink, write_picture
from fastnst.interrupt import caught_signals
from fastnst.optimize.gatys import OptimizeReport, descend, last_of
from fastnst.sheet import arrange
from fastnst.styles import style_file
from fastnst.stylize import Stylizer

OnStep = Callable[[int, OptimizeReport], None]


def tradeoff(config: TradeoffConfig, on_step: OnStep | None = None) -> Path:
    """Stylize the content at each ratio and depth, by optimization, or with each network; write a labeled sheet.

    Labels are the number of style layers, or the network's name, and the content weight over the style weight.
    `on_step` sees the number of the picture and each iteration.

    Source: Gatys et al. 2015, figure 3.

    Raises InputError for unusable pictures, UsageError for unknown layers, OutputError for an output that exists,
    Interrupted after a signal, with the pictures done so far on the sheet.
    """
    output_format(config.output)
    check_output(config.output, overwrite=config.overwrite)
    content = shrink(read_picture(config.content or Path()), config.size, printable(config.content))
    if config.networks:
        write_picture(arrange([("content", content), *_by_networks(config, content)]), config.output)
        return config.output
    white = Picture(np.full_like(content.rgb, 255))
    columns = max(len(config.ratios), 2)
    tiles = [("content", content), ("style", _within(read_picture(config.style[0]), content.size))]
    tiles += [("", white)] * (columns - 2)
    with caught_signals() as received:
        for number, (depth, ratio) in enumerate(product(config.depths, config.ratios)):
            picture = white
            if not received:
                callback = None if on_step is None else partial(on_step, number)
                picture = last_of(descend(_run(config, depth, ratio), content), callback, received)
            tiles.append((f"{depth} layer{'s' * (depth != 1)}, {ratio:g}", picture))
        write_picture(arrange(tiles, columns=columns), config.output)
        if received:
            raise Interrupted(f"stopped; the pictures that were done are in {printable(config.output)}", received[0])
    return config.output


def _run(config: TradeoffConfig, depth: int, ratio: float) -> OptimizeConfig:
    names = ("content", "style", "output", "loss", "content_layers", "size", "iterations", "vgg", "pooling")
    same = {name: getattr(config, name) for name in (*names, "precision", "device")}
    return OptimizeConfig(**same, ratio=ratio, style_layers=config.style_layers[:depth])


def _by_networks(config: TradeoffConfig, content: Picture) -> list[tuple[str, Picture]]:
    """Labeled with their ratios, the largest first."""
    pictures = []
    for path in config.networks:
        weights = load_checkpoint(style_file(path, "checkpoint"))[1].weights
        content_weight, style_weight = (float(weights.get(name, 0)) for name in ("content", "style"))
        ratio = content_weight / style_weight if style_weight else float("inf")
        stylized = Stylizer.open(path, engine="torch", device=config.device).stylize_picture(content)
        pictures.append((ratio, f"{path.stem}, {ratio:.3g}", stylized))
    return [(label, stylized) for _, label, stylized in sorted(pictures, key=lambda one: -one[0])]


def _within(picture: Picture, size: tuple[int, int]) -> Picture:
    """Scaled to fit, in the middle of white."""
    height, width = size
    scale = min(height / picture.size[0], width / picture.size[1])
    small = resize(picture, *(max(1, round(side * scale)) for side in picture.size))
    sheet = np.full((height, width, 3), 255, np.uint8)
    top, left = (height - small.size[0]) // 2, (width - small.size[1]) // 2
    sheet[top : top + small.size[0], left : left + small.size[1]] = small.rgb
    return Picture(sheet)
