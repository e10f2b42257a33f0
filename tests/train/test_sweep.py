import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
from helpers.material import PHOTOS, SMALL_RUN, small_material
from PIL import Image

from fastnst.checkpoint import load_checkpoint
from fastnst.cli import main
from fastnst.config import SweepConfig
from fastnst.errors import InputError, Interrupted, OutputError, UsageError
from fastnst.image import Picture
from fastnst.sheet import arrange_table
from fastnst.train.sweep import plan_runs, sweep


def plain(height, width, gray):
    return Picture(np.full((height, width, 3), gray, np.uint8))


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A small painting and three small photos."""
    return small_material(tmp_path_factory.mktemp("material"), photos=3)


@pytest.fixture
def config(material, tmp_path):
    return SweepConfig(
        material / "painting.png",
        content=material / "photos",
        output=tmp_path / "sheet.png",
        **SMALL_RUN,
        steps=3,
        style_size=(64,),
        style_weight=(1, 4),
        seed=1,
        tile_size=64,
    )


def seen(config):
    """Run a sweep and return which steps of which runs were done."""
    steps = []
    sweep(config, lambda run, report: steps.append((run, report.step)))
    return steps


def test_table_has_its_corner_its_labels_and_a_row_for_each_photo():
    rows = [[plain(30, 40, 10), plain(30, 40, 20), None], [plain(50, 20, 30), plain(50, 20, 40), plain(50, 20, 50)]]

    table = arrange_table(plain(60, 40, 0), ["one\ntwo", "three"], rows).rgb

    # Columns of 40, rows of 60, 30 and 50, ten between and around.
    assert table.shape == (10 + 70 + 40 + 60, 10 + 3 * 50, 3)
    places = {(10, 10): 0, (80, 10): 10, (80, 60): 20, (120, 10): 30, (120, 60): 40, (120, 110): 50, (80, 110): 255}
    for (y, x), gray in places.items():
        assert (table[y, x] == gray).all()
    assert (table[10:70, 60:100] < 128).any()  # a label
    assert (table[10:70, 110:150] < 128).any()


def test_every_combination_is_a_run_with_the_other_options_of_train(config):
    runs = plan_runs(replace(config, tv_weight=(0, 0.5), learning_rate=0.01))

    assert [(run.style_weight, run.tv_weight) for run in runs] == [(1, 0), (1, 0.5), (4, 0), (4, 0.5)]
    assert {run.content_weight for run in runs} == {None}
    assert {(run.learning_rate, run.preset, run.style_size) for run in runs} == {(0.01, "tiny", 64)}
    assert runs[1].output == config.output.parent / "sheet" / "style-weight-1-tv-weight-0.5-style-size-64.safetensors"
    assert len({run.output for run in runs}) == 4


def test_value_given_twice_is_one_run(config):
    assert len(plan_runs(replace(config, style_weight=(2, 2)))) == 1


def test_more_runs_than_fit_on_a_sheet_are_refused(config):
    with pytest.raises(UsageError, match="make 64 runs, but at most 60"):
        plan_runs(replace(config, style_weight=tuple(range(8)), tv_weight=tuple(range(8))))


def test_sheet_shows_each_run_and_finished_ones_are_not_done_again(config):
    assert seen(config) == [(run, step) for run in (0, 1) for step in range(3)]

    weights = [load_checkpoint(run.output)[1].weights["style"] for run in plan_runs(config)]
    assert weights == [1, 4]
    with Image.open(config.output) as sheet:
        assert sheet.width == 10 + 3 * (64 + 10)
    with pytest.raises(OutputError, match="--overwrite"):
        sweep(config)
    assert seen(replace(config, style_weight=(1, 2, 4), overwrite=True)) == [(1, 0), (1, 1), (1, 2)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_interrupted_sweep_goes_on_where_it_stopped(config, number):
    def stop(run, report):
        if (run, report.step) == (1, 1):
            signal.raise_signal(number)

    with pytest.raises(Interrupted, match=f"stopped by {number.name} in run 2 of 2, which is saved"):
        sweep(config, stop)

    assert not config.output.exists()
    assert seen(config) == [(1, 2)]
    assert config.output.exists()


def test_other_options_or_another_painting_in_the_same_folder_are_refused(config, tmp_path):
    painting = tmp_path / "painting.png"
    Image.open(config.style).save(painting)
    config = replace(config, style=painting, style_weight=(1,), overwrite=True)
    sweep(config)
    Image.open(min(PHOTOS.glob("*.jpg"))).save(painting)

    with pytest.raises(UsageError, match="differ in --batch-size, painting; remove that folder"):
        sweep(replace(config, batch_size=2))


def test_missing_initial_weights_are_an_error_before_any_run(config, tmp_path):
    with pytest.raises(InputError, match=r"none\.safetensors"):
        sweep(replace(config, init=tmp_path / "none.safetensors"))

    assert not config.output.with_suffix("").exists()


def test_run_that_diverges_leaves_its_column_empty(config):
    found = sweep(replace(config, style_weight=(1, 1e38)))

    assert found.diverged == ["style-weight-1e+38-style-size-64"]
    with Image.open(config.output) as sheet:
        columns = np.asarray(sheet)[-80:, 10:].reshape(80, 3, 74, 3)
    assert [bool((columns[:, index] < 255).any()) for index in range(3)] == [True, True, False]


def test_command_takes_lists_with_commas_and_prints_the_sheet(config, material, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    photo = min((material / "photos").glob("*.jpg"))
    given = [
        "sweep",
        config.style,
        "--content",
        config.content,
        "-o",
        "s.jpg",
        "--style-weight",
        "0.5,3",
        "--size",
        "32",
    ]
    given += ["--style-size", "64", "--steps", "1", "--batch-size", "1", "--preset", "tiny", "--photo", photo, "-q"]

    assert main([os.fspath(word) for word in given]) == 0

    assert capsys.readouterr() == ("s.jpg\n", "")
    assert len(list((tmp_path / "s").glob("*-size-64.safetensors"))) == 2
    assert json.loads((tmp_path / "s" / "sweep.json").read_text())["--steps"] == 1


@pytest.mark.parametrize("values", ["1,x", "1,,2", ""])
def test_list_that_is_none_is_wrong_usage_that_says_what_was_given(values, capsys):
    status = main(["sweep", "a.jpg", "--content", "photos", "-o", "s.jpg", "--style-weight", values])

    assert status == 2
    assert f"'{values}' is not a list of numbers with commas between them" in capsys.readouterr().err
