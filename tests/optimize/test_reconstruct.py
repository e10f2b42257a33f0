import json
import os
import signal

import numpy as np
import pytest
import torch
from helpers.material import PHOTOS
from PIL import Image

from fastnst.config import ReconstructConfig
from fastnst.errors import InputError, Interrupted, OutputError, UsageError
from fastnst.image import read_picture, to_array
from fastnst.metrics import ssim
from fastnst.optimize.reconstruct import DEPTHS, TEXTURES, reconstruct


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """48x40 pixels."""
    path = tmp_path_factory.mktemp("photo") / "castle.png"
    with Image.open(PHOTOS / "castle.jpg") as picture:
        picture.resize((48, 40)).save(path)
    return path


@pytest.fixture
def configure(photo, tmp_path):
    def make(**options):
        given = {"image": photo, "output": tmp_path / "out.png", "iterations": 30, "precision": "fp32", "device": "cpu"}
        return ReconstructConfig(**{**given, **options})

    return make


def run(config):
    reports = []
    reconstruct(config, lambda number, report: reports.append((number, report)))
    return reports


def likeness(path, photo):
    a, b = (torch.from_numpy(to_array(read_picture(one).rgb)) for one in (path, photo))
    return float(ssim(a, b))


def test_features_of_the_first_block_say_what_the_picture_is(configure, photo):
    reports = run(configure(layer=("relu1_2",), iterations=60))

    assert likeness(configure().output, photo) > 0.9
    assert reports[-1][1].style == 0


def test_texture_has_the_gram_matrices_and_not_the_places(configure, photo):
    reports = run(configure(style_layers=TEXTURES[:2], iterations=60))

    assert reports[-1][1].style < 0.02 * reports[0][1].style
    assert likeness(configure().output, photo) < 0.5


def test_the_sheet_has_a_column_for_each_depth(configure):
    reports = run(configure(iterations=1))

    assert [number for number, report in reports if report.step] == list(range(10))
    with Image.open(configure().output) as sheet:
        width, height = sheet.size
    assert width == (len(DEPTHS) + 1) * (48 + 10) + 10
    assert height == 2 * (40 + 34 + 10) + 10


def test_a_signal_writes_the_sheet_with_what_is_done(configure):
    def interrupt(number, report):
        if (number, report.step) == (3, 1):
            os.kill(os.getpid(), signal.SIGINT)

    config = configure(iterations=2)
    with pytest.raises(Interrupted, match="the pictures that were done are in"):
        reconstruct(config, interrupt)

    with Image.open(config.output) as sheet:
        pixels = np.asarray(sheet)
    fourth, fifth = (pixels[10:50, 10 + 58 * column : 58 + 58 * column] for column in (4, 5))
    assert (fourth < 250).any()
    assert (fifth == 255).all()


def test_the_way_is_kept_when_asked(configure, tmp_path):
    run(configure(layer=("relu1_1",), iterations=4, save_every=2, animation=tmp_path / "way.webp"))

    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["000002.png", "000004.png"]
    assert len((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()) == 5
    assert json.loads((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()[0])["style"] == 0
    with Image.open(tmp_path / "way.webp") as clip:
        assert clip.size == (48, 40)


def test_same_seed_same_bytes(configure, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for name in ("a.png", "b.png"):
        run(configure(layer=("relu1_2",), iterations=3, output=tmp_path / name))
    torch.set_num_threads(before)

    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_an_unknown_layer_is_a_usage_error_that_lists_the_right_ones(configure):
    with pytest.raises(UsageError, match="unknown VGG layer relu9_1; choose from conv1_1"):
        reconstruct(configure(layer=("relu9_1",)))


def test_a_picture_too_small_for_the_layer_is_an_input_error(configure, tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "small.png")

    with pytest.raises(InputError, match="needs at least 32x32"):
        reconstruct(configure(image=tmp_path / "small.png", layer=("pool5",)))


def test_a_sheet_has_no_animation(tmp_path):
    with pytest.raises(UsageError, match="a sheet has no --animation"):
        ReconstructConfig("photo.png", output=tmp_path / "a.png", animation=tmp_path / "a.gif")


def test_an_existing_output_stays(configure):
    config = configure(layer=("relu1_1",))
    config.output.write_bytes(b"mine")

    with pytest.raises(OutputError, match="exists already"):
        reconstruct(config)


def test_the_command_writes_a_texture(fastnst, photo):
    done = fastnst("reconstruct", photo, "-o", "texture.png", "--style-layers", "relu1_1", "relu2_1", "--iterations", 2)

    assert (done.returncode, done.stdout) == (0, b"texture.png\n"), done.stderr
