import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from helpers.material import PHOTOS
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fastnst.config import TrainConfig
from fastnst.data import Photographs
from fastnst.image import read_picture, to_array, to_pixels
from fastnst.logs import RunLogs, StepReport, find_previews, read_metrics, shows_preview
from fastnst.nets.spec import NetConfig
from fastnst.nets.torch_net import TransformerNet


def report(step: int) -> StepReport:
    return StepReport(step, 4 * (step + 1), 0.5, 0.25, 0.125, 0.875, 1e-3, 10.0)


@pytest.fixture
def config(tmp_path):
    return TrainConfig(tmp_path / "painting.jpg", content=PHOTOS, output=tmp_path / "style.safetensors")


@pytest.fixture
def photographs():
    return Photographs(PHOTOS, 32, 0, 3)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return TransformerNet(NetConfig(channels=(4, 4, 4), blocks=0, kernels=(3, 3)))


def steps_of(folder):
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_previews_are_painted_at_growing_intervals():
    painted = [step for step in range(3001) if shows_preview(step, 1000)]

    assert painted == [0, 10, 20, 50, 100, 200, 500, 1000, 2000, 3000]


def test_preview_every_bounds_the_interval():
    painted = [step for step in range(101) if shows_preview(step, 30)]

    assert painted == [0, 10, 20, 30, 50, 60, 90, 100]


def test_previews_show_the_held_out_photos(config, photographs, net):
    with RunLogs(config, photographs, 0) as logs:
        logs.preview(0, net)
        logs.preview(1_000_000, net)

    found = find_previews(config.log_folder)
    assert [(preview.step, preview.photo) for preview in found] == [(s, i) for s in (0, 1_000_000) for i in range(3)]
    with Image.open(found[0].path) as row, Image.open(photographs.held_out[0]) as photo:
        photo.thumbnail((512, 512))
        assert row.size == (2 * photo.width, photo.height)


def test_previews_of_a_folder_without_held_out_photos_show_two_others(config, net):
    with RunLogs(config, Photographs(PHOTOS, 32, 0), 0) as logs:
        logs.preview(0, net)

    assert len(find_previews(config.log_folder)) == 2


def test_previews_are_painted_with_the_margin_and_training_goes_on_without(config, photographs):
    torch.manual_seed(0)
    net = TransformerNet(NetConfig(channels=(4, 4, 4), blocks=0, kernels=(3, 3), margin=20))

    with RunLogs(config, photographs, 0) as logs:
        logs.preview(0, net)

    assert net.training
    rgb = read_picture(photographs.held_out[0], max_size=512).rgb
    with Image.open(find_previews(config.log_folder)[0].path) as row:
        preview = np.asarray(row)[:, rgb.shape[1] :].astype(float)
    with torch.no_grad():
        without = to_pixels(net(torch.from_numpy(to_array(rgb))).numpy())
        painted = to_pixels(net.eval()(torch.from_numpy(to_array(rgb))).numpy())
    assert np.abs(preview - painted).mean() < 0.9 * np.abs(preview - without).mean()  # the rest is JPEG


def test_a_network_that_paints_no_numbers_leaves_no_preview(config, photographs, net):
    torch.nn.init.constant_(net.paint.weight, math.nan)
    with RunLogs(config, photographs, 0) as logs:
        logs.preview(0, net)

    assert find_previews(config.log_folder) == []


def test_rewind_forgets_what_is_done_again(config, photographs, net):
    with RunLogs(config, photographs, 0) as logs:
        for step in range(30):
            if shows_preview(step, 1000):
                logs.preview(step, net)
            logs.write(report(step))
        logs.rewind(10)
        logs.write(report(10))

    assert steps_of(config.log_folder) == list(range(11))
    assert {preview.step for preview in find_previews(config.log_folder)} == {0, 10}
    events = EventAccumulator(str(config.log_folder)).Reload()
    assert [scalar.step for scalar in events.Scalars("loss/total")] == list(range(11))


def test_a_new_run_forgets_the_logs_of_an_older_one(config, photographs, net):
    with RunLogs(config, photographs, 0) as logs:
        logs.preview(0, net)
        logs.preview(500, net)
        logs.write(report(0))

    with RunLogs(config, photographs, 0):
        pass

    assert steps_of(config.log_folder) == []
    assert {preview.step for preview in find_previews(config.log_folder)} == {0}


def test_metrics_of_an_earlier_version_are_read_with_their_old_name(tmp_path):
    line = {**asdict(report(3)), "steadiness": 0.25}
    del line["temporal"]
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")

    assert read_metrics(tmp_path) == [replace(report(3), temporal=0.25)]
