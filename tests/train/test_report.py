import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.material import PROGRAMS, SMALL_RUN, small_material
from helpers.pages import Page

from fastnst.checkpoint import load_checkpoint
from fastnst.config import TrainConfig
from fastnst.evaluate import measure, open_loss, read_photo
from fastnst.scores import LossSettings
from fastnst.train.loop import train
from fastnst.train.report import leave_report, write_report


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A small style image and twelve small photos, one of which is held out by default."""
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


def test_report_of_a_finished_run(finished):
    page = Page(write_report(finished).read_text())

    assert "12 of 12" in page.text
    assert "Never seen in training; stylized after 12 steps." in page.text
    assert len(page.all("svg")) == 1
    described = [image["alt"] for image in page.all("img")]
    (held_out,) = [text.removesuffix(", a photograph") for text in described if text.endswith(", a photograph")]
    assert described == [
        "the style",
        f"{held_out}, a photograph",
        f"{held_out}, stylized",
        "photo 0",
        *(f"photo 0 stylized after {steps} steps" for steps in (0, 10, 12)),
    ]
    net, meta = load_checkpoint(finished.output)
    loss = open_loss(LossSettings.of(meta), finished.style, torch.device("cpu"))
    (score,) = measure(net, loss, {held_out: read_photo(Path(finished.content) / held_out, finished.size)})
    assert f"{held_out}{''.join(f'{number:.3g}' for number in score.numbers.values())}\n" in page.text + "\n"
    for option, value in {"--batch-size": "1", "--style-weight": "15.0", "--style": "painting.png"}.items():
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
