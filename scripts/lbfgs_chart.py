"""Draw how far L-BFGS on the pixels gets in so many iterations, with the single pass of each style as a line across.

After Johnson et al. 2016, figure 5: medians over photographs that training never saw, from noise and from the photo,
under the loss of the first style. All styles must have learned the same style image.

Usage: python scripts/lbfgs_chart.py great-wave-base great-wave great-wave-tiny --content PHOTOS -o docs/lbfgs.svg
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from cyclopts import App, Parameter

from fastnst.device import autocast, pick_precision, torch_device
from fastnst.engine import open_engine
from fastnst.evaluate import measure, open_loss, read_photos
from fastnst.image import Array
from fastnst.losses import PerceptualLoss
from fastnst.optimize.descent import descend_lbfgs
from fastnst.scores import LossSettings
from fastnst.train.chart import log_ticks, ticks

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 150, 16, 52
COLORS = ("#1f6fb2", "#c2571a", "#3a8a3a", "#8b4fb0", "#777700")


@dataclass(frozen=True)
class Line:
    """A median loss at each iteration, or one value for all of them."""

    name: str
    values: list[float]


def descents(
    loss: PerceptualLoss, photos: Sequence[Array], iterations: int, noise: bool, dtype: torch.dtype
) -> list[float]:
    """The median total loss over photographs, (1, 3, H, W) 0..1, at each iteration of L-BFGS from noise, or from them.

    An L-BFGS that stands still keeps its last loss.
    """
    curves = []
    for number, photo in enumerate(photos):
        content = torch.from_numpy(photo).to(memory_format=torch.channels_last)
        with autocast(torch.device("cpu"), dtype):
            targets = loss.targets(content)

        def total(picture: torch.Tensor, targets: dict[str, torch.Tensor] = targets) -> torch.Tensor:
            with autocast(torch.device("cpu"), dtype):
                return loss(picture, targets).total

        start = torch.rand(content.shape, generator=torch.Generator().manual_seed(number)) if noise else content
        losses = [iterate.loss for iterate in descend_lbfgs(total, start.to(content), iterations)]
        curves.append(losses + [losses[-1]] * (iterations + 1 - len(losses)))
        print(f"photo {number + 1}: {losses[0]:.2f} to {losses[-1]:.2f}", file=sys.stderr, flush=True)
    return [float(value) for value in np.median(curves, axis=0)]


def reached(curve: Sequence[float], value: float) -> str:
    """The iteration at which a curve has fallen to a value."""
    found = next((number for number, loss in enumerate(curve) if loss <= value), None)
    return f"> {len(curve) - 1}" if found is None else str(found)


def draw(curves: Sequence[Line], passes: Sequence[Line]) -> str:
    """The chart as SVG, with a logarithmic loss."""
    iterations = len(curves[0].values) - 1
    least = min(value for line in (*curves, *passes) for value in line.values)
    most = 4 * max(line.values[0] for line in passes)  # noise begins far above
    low, high = np.log10(least) - 0.04, np.log10(most)

    def x(iteration: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * iteration / iterations

    def y(loss: float) -> float:
        return float(TOP + (HEIGHT - TOP - BOTTOM) * (high - np.log10(min(loss, most))) / (high - low))

    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="13" fill="#555">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for value in log_ticks(10**low, 10**high):
        drawn.append(f'<line x1="{LEFT}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#ddd"/>')
        drawn.append(f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    drawn += [
        f'<text x="{x(step):.1f}" y="{bottom + 20}" text-anchor="middle">{step}</text>' for step in ticks(iterations)
    ]
    drawn.append(f'<text x="{x(iterations / 2):.1f}" y="{HEIGHT - 8}" text-anchor="middle">L-BFGS iterations</text>')
    middle = (TOP + bottom) / 2
    drawn.append(f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">total loss</text>')
    lowest = 0.0
    for color, line in zip(COLORS, sorted((*curves, *passes), key=lambda line: -line.values[-1]), strict=False):
        values = line.values if line in curves else line.values * (iterations + 1)
        points = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in enumerate(values) if value <= most)
        dashes = "" if line in curves else ' stroke-dasharray="6 4"'
        drawn.append(f'<polyline fill="none" stroke="{color}" stroke-width="2"{dashes} points="{points}"/>')
        lowest = max(y(values[-1]) + 4, lowest + 15)  # names do not overlap
        drawn.append(f'<text x="{right + 6}" y="{lowest:.1f}" fill="{color}">{escape(line.name)}</text>')
    return "\n".join([*drawn, "</svg>"]) + "\n"


def main(
    styles: Annotated[list[str], Parameter(consume_multiple=True)],
    /,
    *,
    content: Path,
    output: Annotated[Path, Parameter(alias="-o")],
    style_images: Path = Path("examples/paintings"),
    size: int = 256,
    photos: int = 12,
    iterations: int = 150,
) -> None:
    """Draw the chart, and print what it shows.

    Parameters
    ----------
    styles
        names of bundled styles, or files, that learned one style image
    content
        folder of photographs that training never saw
    output
        the SVG file
    style_images
        folder of the style image
    size
        side of the middle square of each photograph, pixels
    photos
        how many photographs
    iterations
        of L-BFGS
    """
    engines = [open_engine(style) for style in styles]
    learned = {Path(str(engine.meta.train.get("style"))).name for engine in engines}
    if len(learned) != 1:
        sys.exit(f"these styles learned different style images: {', '.join(sorted(learned))}")
    device = torch_device("cpu")
    loss = open_loss(LossSettings.of(engines[0].meta, styles[0]), style_images / learned.pop(), device)
    pixels, _ = read_photos(content, size, photos)
    passes = []
    for engine in engines:
        median = float(np.median([score.total for score in measure(engine, loss, pixels)]))
        passes.append(Line(f"{engine.meta.preset}: {median:.2f}", [median]))
    dtype = pick_precision("auto", device)
    curves = [
        Line(f"L-BFGS from {name}", descents(loss, list(pixels.values()), iterations, noise, dtype))
        for name, noise in (("noise", True), ("the photo", False))
    ]
    for line in passes:
        (value,) = line.values
        print(f"{line.name}: {reached(curves[0].values, value)} from noise, {reached(curves[1].values, value)} from it")
    for line in curves:
        print(line.name, *(f"{step}: {line.values[step]:.2f}" for step in range(0, iterations + 1, 10)))
    output.write_text(draw(curves, passes), encoding="utf-8")


if __name__ == "__main__":
    app = App(help=__doc__)
    app.default(main)
    app()
