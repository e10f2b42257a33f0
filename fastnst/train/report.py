"""What a training run leaves to read: report.html, one offline file with its losses, pictures, numbers and options."""

import base64
import json
import logging
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

import numpy as np

from fastnst import __version__
from fastnst.checkpoint import CheckpointMeta, load_checkpoint
from fastnst.config import TrainConfig
from fastnst.device import torch_device
from fastnst.errors import FastnstError
from fastnst.evaluate import measure, middle, open_loss
from fastnst.files import printable, write_bytes
from fastnst.image import Array, Picture, decode_picture, encode_picture, read_picture, shrink
from fastnst.logs import Preview, StepReport, find_previews, read_metrics
from fastnst.losses import LossWeights
from fastnst.scores import NUMBERS, LossSettings, PhotoScore, mean
from fastnst.stylize import Stylizer
from fastnst.train.chart import loss_chart
from fastnst.train.photographs import named_photographs
from fastnst.train.resume import FREE_TO_CHANGE

log = logging.getLogger(__name__)

# Pictures, so that a report has a few megabytes at most.
LARGE, SMALL = 512, 176  # pixels, longer side
STAGES = 8  # of each photo, from the first preview to the last
PAIRS = 4  # held-out photos that are shown; all are measured

_TEMPLATE = Path(__file__).with_name("report.html")


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
    page = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=_text(config.style_name), body="\n".join(sections), version=_text(__version__)
    )
    write_bytes(path, page.encode())
    return path


def _meta(config: TrainConfig) -> CheckpointMeta | None:
    """What the checkpoint of this run says; None if there is none, or only that of an older run with other options."""
    try:
        meta = load_checkpoint(config.output)[1]
    except FastnstError:
        return None
    options = {name: value for name, value in config.to_json().items() if name not in FREE_TO_CHANGE}
    return meta if options.items() <= meta.train.items() else None


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
        style = _figure(read_picture(config.style, max_size=LARGE), "the style", "the style")
    except FastnstError:  # removed since
        style = ""
    lines = [
        f"<h1>{_text(config.style_name)}</h1>",
        f"<p>{_text(config.credit)}</p>" if config.credit else "",
        f'<p class="note">{_text(ended)}</p>' if ended else "",
        f'<dl class="facts">{listed}</dl>',
    ]
    return f'<header class="head">\n<div>{"".join(lines)}</div>\n{style}\n</header>'


def _held_out(config: TrainConfig, meta: CheckpointMeta | None) -> str:
    if meta is None:
        return "<p>There is no checkpoint of this run.</p>"
    shown: dict[str, Picture] = {}
    measured: dict[str, Array] = {}
    for name, data in named_photographs(config, meta.held_out):
        try:
            picture = decode_picture(data, name, max_size=LARGE)
            measured[name] = middle(decode_picture(data, name, short_side=config.size), config.size)
        except FastnstError:  # damaged since
            continue
        if len(shown) < PAIRS:
            shown[name] = picture
    if not measured:
        return "<p>No photographs were held out of training (--held-out), so there is nothing to judge it by.</p>"
    stylizer = Stylizer.open(config.output, engine="torch", device=config.device)
    parts = [f"<p>Never seen in training; stylized after {meta.steps} steps.</p>"]
    for name, photo in shown.items():
        pair = _figure(photo, name, f"{name}, a photograph") + _figure(
            stylizer.stylize_picture(photo), "", f"{name}, stylized"
        )
        parts.append(f'<div class="pair">{pair}</div>')
    loss = open_loss(LossSettings.of(meta), config.style, torch_device(config.device))
    parts += [
        f"<p>Measured on the middle of each, scaled to {config.size}x{config.size} pixels: the weighted losses; the "
        "similarity with the photograph (SSIM), where 1 is the same; and a grid of 4 pixels, where 1 is none.</p>",
        _scores(measure(stylizer.engine, loss, measured)),
    ]
    return "\n".join(parts)


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
            stylized = shrink(Picture(row[:, middle:]), SMALL)
            steps = f"{preview.step} step{'s' * (preview.step != 1)}"
            figures.append(_figure(stylized, steps, f"photo {photo} stylized after {steps}"))
        strips.append(f'<div class="strip">{"".join(figures)}</div>')
    return "\n".join(strips) or "<p>There are none.</p>"


def _options(config: TrainConfig, meta: CheckpointMeta | None) -> str:
    values = config.to_json()
    weights = LossWeights.resolve(config.loss, config.content_weight, config.style_weight, config.tv_weight)
    values |= {f"{name}_weight": weight for name, weight in vars(weights).items()}
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
