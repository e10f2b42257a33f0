import math
import os
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from helpers.material import PROGRAMS, SMALL_RUN, small_material

from fastnst.checkpoint import load_checkpoint
from fastnst.config import TrainConfig
from fastnst.evaluate import LossSettings, measure, open_loss, read_photo
from fastnst.logs import StepReport
from fastnst.train.loop import train
from fastnst.train.report import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    leave_report,
    log_ticks,
    loss_chart,
    ticks,
    write_report,
)

EMPTY = {"meta", "img", "br"}  # elements without an end


class Page(HTMLParser):
    """An HTML document whose elements must all be closed, in order; `tags` with their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def step(number, total, **terms):
    return StepReport(
        number,
        4 * (number + 1),
        **{"content": total, "style": 0.0, "tv": 0.0, **terms},
        total=total,
        lr=1,
        images_per_second=10,
    )


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A small painting and twelve small photos, one of which is held out by default."""
    return small_material(tmp_path_factory.mktemp("material"), photos=12)


@pytest.fixture(scope="module")
def config(material, tmp_path_factory):
    return TrainConfig(
        material / "painting.png",
        content=material / "photos",
        output=tmp_path_factory.mktemp("run") / "style.safetensors",
        **SMALL_RUN,
        steps=12,
        style_size=64,
        credit="<b>nobody</b> & co",
    )


@pytest.fixture(scope="module")
def finished(config):
    train(config)
    return config


def test_ticks_are_round_numbers_from_zero_to_the_last_step():
    assert ticks(1) == [0, 1]
    assert ticks(59) == [0, 10, 20, 30, 40, 50]
    assert ticks(2000) == [0, 500, 1000, 1500, 2000]


def test_ticks_of_a_logarithm_are_as_many_as_fit():
    assert log_ticks(0.3, 6) == [0.5, 1, 2, 5]
    assert log_ticks(0.01, 100) == [0.01, 0.1, 1, 10, 100]
    assert log_ticks(1e-10, 1e10) == [1e-10, 1e-7, 1e-4, 0.1, 100, 1e5, 1e8]


def curves(reports):
    """Points of each curve in the chart, as fractions of its area from the left and from the top."""
    found = {}
    for line in Page(loss_chart(reports)).all("polyline"):
        points = [tuple(map(float, point.split(","))) for point in line["points"].split()]
        across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        found[line["class"].split()[1]] = [((x - LEFT) / across, (y - TOP) / down) for x, y in points]
    return found


def test_chart_is_linear_in_steps_and_logarithmic_in_losses():
    points = curves([step(0, 1.0), step(1, 0.1), step(2, 0.01)])["total"]

    assert [x for x, _ in points] == [0, 0.5, 1]
    # Two decades, and a twentieth of 2.1 above and below.
    assert [y for _, y in points] == pytest.approx([0.105 / 2.21, 0.5, 1 - 0.105 / 2.21], abs=1e-3)


def test_chart_leaves_out_what_has_no_logarithm():
    found = curves([step(0, 1.0, style=0.5), step(1, math.nan, style=math.inf), step(2, 0.5, style=0.0)])

    assert {name: len(points) for name, points in found.items()} == {"total": 2, "content": 2, "style": 1}


def test_a_long_run_is_drawn_in_few_points():
    points = curves([step(number, 1.0 + number % 2) for number in range(24_000)])["total"]

    assert len(points) == 240
    assert {round(y, 2) for _, y in points} == {0.5}  # each the mean of ones and twos


def test_nothing_to_draw_is_no_chart():
    assert loss_chart([]) == ""


def test_report_of_a_finished_run(finished):
    page = Page(write_report(finished).read_text())

    assert "12 of 12" in page.text
    assert "Never seen in training; painted after 12 steps." in page.text
    assert len(page.all("svg")) == 1
    described = [image["alt"] for image in page.all("img")]
    (held_out,) = [text.removesuffix(", a photograph") for text in described if text.endswith(", a photograph")]
    assert described == [
        "the painting",
        f"{held_out}, a photograph",
        f"{held_out}, painted",
        "photo 0",
        *(f"photo 0 painted after {steps} steps" for steps in (0, 10, 12)),
    ]
    net, meta = load_checkpoint(finished.output)
    loss = open_loss(LossSettings.of(meta), finished.style, torch.device("cpu"))
    (score,) = measure(net, loss, {held_out: read_photo(finished.content / held_out, finished.size)})
    assert f"{held_out}{''.join(f'{number:.3g}' for number in score.numbers.values())}\n" in page.text + "\n"
    for option, value in {"--batch-size": "1", "--style-weight": "2.0", "--style": "painting.png"}.items():
        assert f"{option}{value}\n" in page.text


def test_report_needs_nothing_from_outside_and_runs_nothing(finished):
    text = write_report(finished).read_text()
    page = Page(text)

    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in page.all("img"))
    assert "http:" not in text
    assert "https:" not in text
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    assert str(finished.content) not in text


def test_report_escapes_what_it_is_given(finished):
    page = Page(write_report(finished, "stopped by <i>&").read_text())

    assert "<b>nobody</b> & co" in page.text
    assert "stopped by <i>&" in page.text
    assert not {"b", "i"} & {tag for tag, _ in page.tags}


def test_report_of_a_run_without_held_out_photos_says_so(finished, tmp_path):
    config = replace(finished, output=tmp_path / "style.safetensors", held_out=0, steps=1)
    train(config)

    assert "No photographs were held out" in write_report(config).read_text()


def test_report_of_a_run_that_did_nothing_has_what_there_is(config, tmp_path):
    empty = replace(config, output=tmp_path / "style.safetensors")

    page = Page(write_report(empty, "the loss is not finite").read_text())

    for text in ("the loss is not finite", "0 of 12", "No step was done", "There is no checkpoint of this run"):
        assert text in page.text


def test_checkpoint_of_a_run_with_other_options_is_not_shown(finished):
    other = replace(finished, learning_rate=0.5)

    assert "There is no checkpoint of this run" in write_report(other).read_text()


def test_report_that_cannot_be_written_is_a_warning(config, tmp_path, caplog):
    (tmp_path / "logs" / "report.html").mkdir(parents=True)

    leave_report(replace(config, logdir=tmp_path / "logs"))

    assert "no report was written" in caplog.text


def test_interrupted_run_leaves_a_report_too(config, tmp_path):
    given = ["train", config.style, "--content", config.content, "-o", "a.safetensors", "--preset", "tiny"]
    given += ["--size", "32", "--batch-size", "1", "--style-size", "64", "--steps", "9", "--device", "cpu"]

    done = subprocess.run(
        [sys.executable, PROGRAMS / "interrupt_training.py", *map(os.fspath, given)],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )

    assert done.returncode == 130
    page = Page((tmp_path / "a" / "report.html").read_text())
    assert "1 of 9" in page.text
    assert "stopped by SIGINT after step 1 and saved; continue with --resume" in page.text
