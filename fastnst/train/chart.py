"""The loss terms of a run over its steps, drawn as SVG."""

import math
from collections.abc import Callable, Mapping, Sequence

from fastnst.logs import StepReport

LOSSES = ("total", "content", "style", "tv")  # drawn in the colors that report.html gives them
POINTS = 240  # of a curve, each the mean of what lies between

# In the chart's own units.
WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 60, 60, 12, 48

Point = tuple[float, float]  # a step, and a loss
Scale = Callable[[float], float]  # to the chart's units


def loss_chart(reports: Sequence[StepReport]) -> str:
    """The loss terms over the steps as an SVG element, logarithmic; empty if there is nothing to draw.

    Values that a logarithm does not have, of a term without weight say, are left out.
    """
    curves = {name: points for name in LOSSES if (points := _curve(reports, name))}
    if not curves:
        return ""
    values = [value for points in curves.values() for _, value in points]
    low, high = math.log10(min(values)), math.log10(max(values))
    low, high = low - 0.05 * (high - low + 0.1), high + 0.05 * (high - low + 0.1)
    last = max(reports[-1].step, 1)

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / last

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - math.log10(value)) / (high - low)

    return "\n".join(
        [
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Losses over the steps, logarithmic">',
            *_axes(x, y, last, log_ticks(10**low, 10**high)),
            *_curves(x, y, curves),
            "</svg>",
        ]
    )


def _axes(x: Scale, y: Scale, last: int, values: Sequence[float]) -> list[str]:
    bottom, middle = HEIGHT - BOTTOM, (HEIGHT - BOTTOM + TOP) / 2
    drawn = []
    for value in values:
        drawn.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        drawn.append(f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    for step in ticks(last):
        drawn.append(f'<line class="grid" x1="{x(step):.1f}" x2="{x(step):.1f}" y1="{bottom}" y2="{bottom + 5}"/>')
        drawn.append(f'<text x="{x(step):.1f}" y="{bottom + 19}" text-anchor="middle">{step}</text>')
    drawn.append(f'<text x="{x(last / 2):.1f}" y="{HEIGHT - 6}" text-anchor="middle">steps</text>')
    drawn.append(f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">weighted loss</text>')
    return drawn


def _curves(x: Scale, y: Scale, curves: Mapping[str, Sequence[Point]]) -> list[str]:
    """The curves with their names at their ends, from the top down."""
    drawn = []
    lowest_label = -math.inf
    for name, points in sorted(curves.items(), key=lambda item: -item[1][-1][1]):
        path = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
        drawn.append(f'<polyline class="curve {name}" points="{path}"/>')
        lowest_label = max(y(points[-1][1]) + 4, lowest_label + 14)  # labels do not overlap
        drawn.append(f'<text class="{name}" x="{WIDTH - RIGHT + 6}" y="{lowest_label:.1f}">{name}</text>')
    return drawn


def ticks(last: int) -> list[int]:
    """At most seven round numbers from 0 to the last step."""
    step = next(base * 10**power for power in range(20) for base in (1, 2, 5) if last <= 6 * base * 10**power)
    return list(range(0, last + 1, step))


def log_ticks(low: float, high: float) -> list[float]:
    """At most nine round numbers from low to high for a logarithmic axis: 1, 2, 5, 10 ..., or only powers of ten."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [value for power in powers for base in (1, 2, 5) if low <= (value := float(f"{base}e{power}")) <= high]
    if len(values) <= 9:
        return values
    values = [value for value in values if math.log10(value).is_integer()]
    return values[:: math.ceil(len(values) / 9)]


def _curve(reports: Sequence[StepReport], name: str) -> list[Point]:
    size = math.ceil(len(reports) / POINTS)
    points = []
    for start in range(0, len(reports), max(size, 1)):
        chunk = reports[start : start + size]
        values = [value for report in chunk if math.isfinite(value := getattr(report, name)) and value > 0]
        if values:
            points.append(((chunk[0].step + chunk[-1].step) / 2, sum(values) / len(values)))
    return points
