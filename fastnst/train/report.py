"""What a training run leaves to read: report.html, one offline file with its losses, pictures, numbers and options."""

import base64
import json
import logging
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from fastnst import __version__
from fastnst.checkpoint import CheckpointMeta, load_checkpoint
from fastnst.config import TrainConfig
from fastnst.device import torch_device
from fastnst.errors import FastnstError
from fastnst.evaluate import NUMBERS, LossSettings, PhotoScore, mean, measure, open_loss, read_photo
from fastnst.files import printable, write_bytes
from fastnst.image import Array, Picture, encode_picture, read_picture, shrink
from fastnst.logs import Preview, StepReport, find_previews, read_metrics
from fastnst.losses import DEFAULT_WEIGHTS
from fastnst.stylize import Stylizer
from fastnst.train.loop import FREE_TO_CHANGE

log = logging.getLogger(__name__)

LOSSES = ("total", "content", "style", "tv")
POINTS = 240  # of a curve, each the mean of what lies between
# Pictures, so that a report has a few megabytes at most.
LARGE, SMALL = 512, 176  # pixels, longer side
STAGES = 8  # of each photo, from the first preview to the last
PAIRS = 4  # held-out photos that are shown; all are measured

# The chart, in its own units.
WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 60, 60, 12, 48

STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf7; --ink: #23211d; --faint: #6d6960; --line: #dcd8ce;
  --total: #23211d; --content: #1f6fb2; --style: #c2571a; --tv: #3f8a4d; }
@media (prefers-color-scheme: dark) { :root { --paper: #191816; --ink: #ece8df; --faint: #a09a8d; --line: #3a3833;
  --total: #ece8df; --content: #6cb2ec; --style: #f09a5d; --tv: #84c990; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 68rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { margin: 0; font-size: 2rem; line-height: 1.2; }
h2 { margin: 2.5rem 0 .75rem; font-size: 1.2rem; }
p { margin: .4rem 0; }
.faint, figcaption, th { color: var(--faint); }
.note { border-left: 4px solid var(--style); padding: .4rem .8rem; }
.head { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: center; }
.head > div { flex: 1 1 20rem; }
figure { margin: 0; }
figcaption { font-size: .85rem; }
img { display: block; max-width: 100%; height: auto; border-radius: 4px; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: .75rem; margin: 1.5rem 0 0; }
.facts div { border-top: 1px solid var(--line); padding-top: .4rem; }
.facts dt { color: var(--faint); font-size: .85rem; }
.facts dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); gap: .5rem;
  margin-bottom: 1rem; }
.pair img { width: 100%; }
.strip { display: flex; gap: .5rem; overflow-x: auto; padding-bottom: .5rem; margin-bottom: .5rem; }
.strip figure { flex: 0 0 auto; }
.strip img { max-width: none; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem 1.25rem .25rem 0; text-align: left; font-weight: normal;
  border-bottom: 1px solid var(--line); }
.numbers td, .numbers th[scope=col] { text-align: right; }
svg { display: block; width: 100%; max-width: 42rem; height: auto; }
svg text { fill: var(--faint); font-size: 13px; }
.grid { stroke: var(--line); }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
""" + "\n".join(f".curve.{name} {{ stroke: var(--{name}); }} text.{name} {{ fill: var(--{name}); }}" for name in LOSSES)


def leave_report(config: TrainConfig, ended: str = "") -> None:
    """Write the report of a run that may have ended early, for the reason given; a report that fails is a warning."""
    try:
        write_report(config, ended)
    except Exception as error:  # whatever it is, the run is done and its checkpoint written
        where = log.isEnabledFor(logging.INFO)
        log.warning("no report was written to %s: %s", printable(config.log_folder), printable(error), exc_info=where)


def write_report(config: TrainConfig, ended: str = "") -> Path:
    """Write report.html into the log folder, from what the run has left there and from its checkpoint, if any.

    Raises OutputError if it cannot be written.
    """
    reports = read_metrics(config.log_folder)
    meta = _meta(config)
    sections = [
        _head(config, reports, ended),
        _section("Held-out photographs", _held_out(config, meta)),
        _section("Losses", _losses(reports)),
        _section("Previews", _previews(find_previews(config.log_folder))),
        _section("Options", _options(config, meta)),
    ]
    path = config.log_folder / "report.html"
    write_bytes(path, _page(config.style_name, "\n".join(sections)).encode())
    return path


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

    bottom, middle = HEIGHT - BOTTOM, (HEIGHT - BOTTOM + TOP) / 2
    drawn = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Losses over the steps, logarithmic">']
    for value in log_ticks(10**low, 10**high):
        drawn.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        drawn.append(f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    for step in ticks(last):
        drawn.append(f'<line class="grid" x1="{x(step):.1f}" x2="{x(step):.1f}" y1="{bottom}" y2="{bottom + 5}"/>')
        drawn.append(f'<text x="{x(step):.1f}" y="{bottom + 19}" text-anchor="middle">{step}</text>')
    drawn.append(f'<text x="{x(last / 2):.1f}" y="{HEIGHT - 6}" text-anchor="middle">steps</text>')
    drawn.append(f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">weighted loss</text>')
    lowest_label = math.inf
    for name, points in sorted(curves.items(), key=lambda item: -item[1][-1][1]):  # from the top down
        path = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
        drawn.append(f'<polyline class="curve {name}" points="{path}"/>')
        height = y(points[-1][1]) + 4
        height = height if lowest_label == math.inf else max(height, lowest_label + 14)  # labels do not overlap
        lowest_label = height
        drawn.append(f'<text class="{name}" x="{WIDTH - RIGHT + 6}" y="{height:.1f}">{name}</text>')
    return "\n".join([*drawn, "</svg>"])


def ticks(last: int) -> list[int]:
    """At most seven round numbers from 0 to the last step."""
    step = next(base * 10**power for power in range(20) for base in (1, 2, 5) if last <= 6 * base * 10**power)
    return list(range(0, last + 1, step))


def log_ticks(low: float, high: float) -> list[float]:
    """At most nine round numbers from low to high for a logarithmic axis: 1, 2, 5, 10 ..., or only powers of ten."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [value for power in powers for base in (1, 2, 5) if low <= (value := float(f"{base}e{power}")) <= high]
    if len(found) <= 9:
        return found
    found = [value for value in found if math.log10(value).is_integer()]
    return found[:: math.ceil(len(found) / 9)]


def _curve(reports: Sequence[StepReport], name: str) -> list[tuple[float, float]]:
    size = math.ceil(len(reports) / POINTS)
    points = []
    for start in range(0, len(reports), max(size, 1)):
        chunk = reports[start : start + size]
        values = [value for report in chunk if math.isfinite(value := getattr(report, name)) and value > 0]
        if values:
            points.append(((chunk[0].step + chunk[-1].step) / 2, sum(values) / len(values)))
    return points


def _meta(config: TrainConfig) -> CheckpointMeta | None:
    """What the checkpoint of this run says; None if there is none, or only that of an older run with other options."""
    try:
        meta = load_checkpoint(config.output)[1]
    except FastnstError:
        return None
    options = {name: value for name, value in config.to_json().items() if name not in FREE_TO_CHANGE}
    return meta if options.items() <= meta.train.items() else None


def _page(title: str, body: str) -> str:
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{_text(title)}</title>
<style>{STYLE}</style>
</head>
<body>
{body}
<p class="faint">fastnst {_text(__version__)}</p>
</body>
</html>
"""


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{_text(title)}</h2>\n{content}\n</section>"


def _head(config: TrainConfig, reports: Sequence[StepReport], ended: str) -> str:
    done = reports[-1].step + 1 if reports else 0
    facts = {"steps": f"{done} of {config.steps}", "images seen": f"{done * config.batch_size}"}
    if reports:
        recent = reports[-20:]
        facts["images a second"] = f"{np.median([report.images_per_second for report in reports]):.3g}"
        facts["total loss at first"] = f"{reports[0].total:.3g}"
        facts["total loss at last"] = f"{sum(report.total for report in recent) / len(recent):.3g}"
    listed = "".join(f"<div><dt>{name}</dt><dd>{_text(value)}</dd></div>" for name, value in facts.items())
    try:
        painting = _figure(read_picture(config.style, max_size=LARGE), "the painting", "the painting")
    except FastnstError:  # removed since
        painting = ""
    lines = [
        f"<h1>{_text(config.style_name)}</h1>",
        f"<p>{_text(config.credit)}</p>" if config.credit else "",
        f'<p class="note">{_text(ended)}</p>' if ended else "",
        f'<dl class="facts">{listed}</dl>',
    ]
    return f'<header class="head">\n<div>{"".join(lines)}</div>\n{painting}\n</header>'


def _held_out(config: TrainConfig, meta: CheckpointMeta | None) -> str:
    if meta is None:
        return "<p>There is no checkpoint of this run.</p>"
    shown: dict[str, Picture] = {}
    measured: dict[str, Array] = {}
    for name in meta.held_out:
        try:
            picture = read_picture(config.content / name, max_size=LARGE)
            measured[name] = read_photo(config.content / name, config.size)
        except FastnstError:  # removed or damaged since
            continue
        if len(shown) < PAIRS:
            shown[name] = picture
    if not measured:
        return "<p>No photographs were held out of training (--held-out), so there is nothing to judge it by.</p>"
    stylizer = Stylizer.open(config.output, engine="torch", device=config.device)
    found = [f"<p>Never seen in training; painted after {meta.steps} steps.</p>"]
    for name, photo in shown.items():
        pair = _figure(photo, name, f"{name}, a photograph") + _figure(
            stylizer.stylize_picture(photo), "", f"{name}, painted"
        )
        found.append(f'<div class="pair">{pair}</div>')
    loss = open_loss(LossSettings.of(meta), config.style, torch_device(config.device))
    found += [
        f"<p>Measured on the middle of each, scaled to {config.size}x{config.size} pixels: the weighted losses; the "
        "similarity with the photograph (SSIM), where 1 is the same; and a grid of 4 pixels, where 1 is none.</p>",
        _scores(measure(stylizer.engine, loss, measured)),
    ]
    return "\n".join(found)


def _scores(scores: Sequence[PhotoScore]) -> str:
    rows = [(score.photo, score.numbers) for score in scores]
    if len(rows) > 1:
        rows.append(("mean", mean(scores)))
    head = "".join(f'<th scope="col">{name}</th>' for name in NUMBERS)
    body = "\n".join(
        f'<tr><th scope="row">{_text(name)}</th>{"".join(f"<td>{numbers[each]:.3g}</td>" for each in NUMBERS)}</tr>'
        for name, numbers in rows
    )
    return f'<div class="wide"><table class="numbers"><tr><td></td>{head}</tr>\n{body}</table></div>'


def _losses(reports: Sequence[StepReport]) -> str:
    return loss_chart(reports) or "<p>No step was done.</p>"


def _previews(previews: Sequence[Preview]) -> str:
    strips = []
    for photo in sorted({preview.photo for preview in previews}):
        stages = [preview for preview in previews if preview.photo == photo]
        count = min(STAGES, len(stages))
        stages = [stages[round(index * (len(stages) - 1) / max(count - 1, 1))] for index in range(count)]
        figures: list[str] = []
        for preview in stages:
            try:
                row = read_picture(preview.path).rgb
            except FastnstError:
                continue
            middle = row.shape[1] // 2
            if not figures:
                figures.append(_figure(shrink(Picture(row[:, :middle]), SMALL), "photo", f"photo {photo}"))
            painted = shrink(Picture(row[:, middle:]), SMALL)
            steps = f"{preview.step} step{'s' * (preview.step != 1)}"
            figures.append(_figure(painted, steps, f"photo {photo} painted after {steps}"))
        strips.append(f'<div class="strip">{"".join(figures)}</div>')
    return "\n".join(strips) or "<p>There are none.</p>"


def _options(config: TrainConfig, meta: CheckpointMeta | None) -> str:
    values = config.to_json()
    default = DEFAULT_WEIGHTS[config.loss]
    for name in ("content", "style", "tv"):
        if values[f"{name}_weight"] is None:
            values[f"{name}_weight"] = getattr(default, name)
    rows = {f"--{name.replace('_', '-')}": _plain(value) for name, value in values.items()}
    if meta is not None:
        rows |= {"fastnst": meta.fastnst, "torch": meta.torch}
    return f'<div class="wide"><table>{_rows(rows)}</table></div>'


def _rows(values: Mapping[str, str]) -> str:
    return "\n".join(
        f'<tr><th scope="row">{_text(name)}</th><td>{_text(value)}</td></tr>' for name, value in values.items()
    )


def _plain(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)


def _figure(picture: Picture, caption: str, description: str) -> str:
    data = base64.b64encode(encode_picture(picture, "JPEG", 82)).decode()
    height, width = picture.size
    text = f"<figcaption>{_text(caption)}</figcaption>" if caption else ""
    image = f'<img src="data:image/jpeg;base64,{data}" width="{width}" height="{height}" alt="{_text(description)}">'
    return f"<figure>{image}{text}</figure>"


def _text(value: str) -> str:
    return escape(printable(value))
