import json
from dataclasses import replace

import pytest
import torch
from helpers.material import PAINTINGS
from helpers.photos import photo

from fastnst.config import LossWeights
from fastnst.evaluate import open_loss
from fastnst.image import read_style, to_array
from fastnst.optimize.descent import descend_lbfgs
from fastnst.optimum import find_optimum
from fastnst.scores import LossSettings, Optimum

PAINTING = PAINTINGS / "great-wave.jpg"
SETTINGS = LossSettings("relative", LossWeights(1, 2, 0.05), 64, ("relu2_2",), ("relu1_2", "relu2_2"), "bundled", "max")


@pytest.fixture(scope="module")
def loss():
    return open_loss(SETTINGS, PAINTING, torch.device("cpu"))


@pytest.fixture
def find(loss, tmp_path, monkeypatch):
    """find(photo, settings): the optimum, with a cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    painting = to_array(read_style(PAINTING, 64).rgb)
    return lambda name="owl", settings=SETTINGS: find_optimum(loss, settings, painting, photo(name, 48))


def test_no_descent_as_long_gets_further_and_a_longer_one_hardly(find, loss):
    found = find()

    content = torch.from_numpy(photo(size=48))
    totals = [step.loss for step in descend_lbfgs(lambda x: loss(x, content).total, content, 2 * found.iterations)]
    assert found.photo == pytest.approx(totals[0], rel=1e-5)
    assert found.best == pytest.approx(totals[found.iterations], rel=1e-3)
    assert totals[-1] > 0.9 * found.best


def test_an_optimum_is_remembered_for_the_same_photo_and_loss_alone(find, tmp_path):
    found = find()
    (path,) = tmp_path.rglob("*.json")
    path.write_text(json.dumps({"photo": 3.0, "best": 1.0, "iterations": 7}))

    assert find() == Optimum(3.0, 1.0, 7)
    assert find("cat") != Optimum(3.0, 1.0, 7)
    assert find(settings=replace(SETTINGS, weights=LossWeights(1, 3, 0.05))) != Optimum(3.0, 1.0, 7)
    for damaged in (
        "",
        "{}",
        '{"photo": NaN, "best": 1, "iterations": 7}',
        '{"photo": [], "best": 1, "iterations": 7}',
    ):
        path.write_text(damaged)
        assert find() == found


def test_a_cache_that_cannot_be_written_costs_a_warning(find, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file")

    assert find().best > 0
    assert "an optimum is not remembered" in caplog.text


def test_the_share_of_the_way_that_is_closed():
    optimum = Optimum(photo=2.0, best=0.5, iterations=90)

    assert [optimum.closed(total) for total in (2.0, 1.25, 0.5, 2.3)] == pytest.approx([0, 50, 100, -20])
