import os
import signal

import numpy as np
import pytest
from helpers.material import PAINTINGS, PHOTOS
from PIL import Image

from fastnst.config import TradeoffConfig
from fastnst.errors import Interrupted, OutputError, UsageError
from fastnst.optimize.tradeoff import tradeoff


@pytest.fixture
def configure(tmp_path):
    """A sheet of pictures of 48x32 pixels."""

    def make(**options):
        with Image.open(PHOTOS / "castle.jpg") as photo:
            photo.resize((48, 32)).save(tmp_path / "photo.png")
        given = {
            "content": tmp_path / "photo.png",
            "style": PAINTINGS / "great-wave.jpg",
            "output": tmp_path / "sheet.png",
            "iterations": 3,
            "content_layers": ("conv2_2",),
            "style_layers": ("conv1_1", "conv2_1"),
            "depths": (2,),
            "precision": "fp32",
            "device": "cpu",
        }
        return TradeoffConfig(**{**given, **options})

    return make


def tile(path, row, column):
    top, left = 10 + row * (32 + 34 + 10), 10 + column * (48 + 10)
    with Image.open(path) as sheet:
        return np.asarray(sheet).astype(int)[top : top + 32, left : left + 48]


def test_less_weight_on_the_content_moves_the_painting_away_from_it(configure):
    config = configure(ratios=(100, 1, 0.01), iterations=8)

    tradeoff(config)

    content = tile(config.output, 0, 0)
    distances = [np.abs(tile(config.output, 1, column) - content).mean() for column in range(3)]
    assert distances == sorted(distances)
    assert distances[2] > 1.5 * distances[0]


def test_each_depth_has_a_row(configure):
    config = configure(ratios=(1, 0.01), depths=(1, 2))
    seen = []

    tradeoff(config, lambda number, report: seen.append((number, report.step)))

    assert seen == [(number, step) for number in range(4) for step in range(4)]
    with Image.open(config.output) as sheet:
        assert sheet.size == (2 * 58 + 10, 3 * 76 + 10)
    assert np.abs(tile(config.output, 1, 1) - tile(config.output, 2, 1)).mean() > 1


def test_trained_networks_are_painted_in_the_order_of_their_ratios(configure, checkpoint):
    config = configure(style=(), networks=(checkpoint, checkpoint))

    tradeoff(config)

    with Image.open(config.output) as sheet:
        assert sheet.size[0] > 2 * 58


def test_a_signal_writes_the_sheet_with_what_is_done(configure):
    config = configure(ratios=(1, 0.1, 0.01))

    with pytest.raises(Interrupted, match="the pictures that were done are in"):
        tradeoff(config, lambda number, report: number == 1 and os.kill(os.getpid(), signal.SIGINT))

    assert (tile(config.output, 1, 1) < 250).any()
    assert (tile(config.output, 1, 2) == 255).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"style": ()}, "one content and one style, or one content and --networks"),
        ({"depths": (3,)}, "--depths is 3 but must be at least 1 and at most 2"),
        ({"ratios": (0,)}, "--ratios is 0 but must be above 0"),
        ({"ratios": ()}, "0 ratios and 1 depths"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(configure, options, message):
    with pytest.raises(UsageError, match=message):
        configure(**options)


def test_an_existing_sheet_stays(configure):
    config = configure()
    config.output.write_bytes(b"mine")

    with pytest.raises(OutputError, match="exists already"):
        tradeoff(config)


def test_the_command_writes_a_sheet(fastnst, configure):
    config = configure()
    options = ["--ratios", "1,0.1", "--depths", "1,5", "--iterations", 1, "--size", 40]

    done = fastnst("tradeoff", config.content, config.style[0], "-o", "sheet.jpg", *options)

    assert (done.returncode, done.stdout) == (0, b"sheet.jpg\n"), done.stderr
