import json
import sys

import numpy as np
import pytest
import torch
from helpers.material import PHOTOS
from torch import nn

from fastnst.benchmark import (
    benchmark_stylize,
    benchmark_train,
    multiply_adds,
    plain_features,
    plain_net,
    ratio,
    speeds,
    take_turns,
)
from fastnst.cli import main
from fastnst.config import STYLE_LAYERS, StylizeBenchmark, TrainBenchmark
from fastnst.errors import UsageError
from fastnst.memory import peak_memory
from fastnst.nets.spec import PRESETS
from fastnst.nets.torch_net import TransformerNet
from fastnst.vgg import VGGFeatures


def test_works_take_turns_and_the_first_round_does_not_count():
    done = []

    def work(name):
        def run():
            done.append(name)
            return float(len(done))

        return run

    times = take_turns({"a": work("a"), "b": work("b")}, 2)

    assert "".join(done) == "ababab"
    assert times == {"a": [3.0, 5.0], "b": [4.0, 6.0]}


def test_speeds_and_ratios_are_medians_over_the_rounds():
    times = {"plain": [3.0, 8.0, 4.0], "ours": [1.0, 4.0, 1.0]}

    assert vars(speeds(times, 2)[0]) == {
        "name": "plain",
        "seconds": 4.0,
        "fastest": 3.0,
        "slowest": 8.0,
        "images_per_second": 0.5,
        "peak_memory": None,
        "gray_levels": None,
    }
    assert vars(ratio(times, "ours", "plain")) == {
        "name": "ours",
        "reference": "plain",
        "median": 3.0,
        "lowest": 2.0,
        "highest": 4.0,
    }


def test_multiply_adds_of_three_convolutions_computed_by_hand():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),  # 8 x 12 places, 8 * 3 * 9 each
        nn.Conv2d(8, 4, 1),  # 8 x 12 places, 4 * 8 each
        nn.Upsample(scale_factor=2),
        nn.Conv2d(4, 2, 3, padding=1, groups=2),  # 16 x 24 places, 2 * 2 * 9 each
    )

    assert multiply_adds(net, 16, 24) == 96 * 216 + 96 * 32 + 384 * 36


@pytest.mark.parametrize("preset", PRESETS)
def test_plain_network_is_as_large_and_paints_as_large(preset):
    ours = TransformerNet(PRESETS[preset])
    plain = plain_net(ours)

    sizes = [sorted(parameter.numel() for parameter in net.parameters()) for net in (plain, ours)]
    assert sizes[0] == sizes[1]
    assert plain(torch.rand(2, 3, 32, 48)).shape == (2, 3, 32, 48)
    assert multiply_adds(plain, 64, 64) >= multiply_adds(ours, 64, 64)
    kinds = {type(module) for module in plain.modules() if isinstance(module, nn.InstanceNorm2d | nn.Conv2d)}
    assert kinds == {nn.InstanceNorm2d, nn.Conv2d}


def test_plain_loss_network_is_made_of_torchs_convolutions_and_computes_the_same():
    plain, ours, pictures = plain_features(), VGGFeatures(STYLE_LAYERS), torch.rand(1, 3, 64, 64)

    assert {type(module) for module in plain.body if isinstance(module, nn.Conv2d)} == {nn.Conv2d}
    for name, values in plain(pictures).items():
        assert (values - ours(pictures)[name]).norm() < 1e-5 * values.norm()


@pytest.mark.parametrize("kind", [TrainBenchmark, StylizeBenchmark])
def test_no_rounds_are_wrong_usage(kind):
    with pytest.raises(UsageError, match="--rounds is 0 but must be at least 1"):
        kind(rounds=0)


def test_training_is_compared_with_a_plain_loop_and_loading_with_cached_crops():
    rounds = []
    options = TrainBenchmark(preset="tiny", size=32, batch_size=1, rounds=1, content=PHOTOS, device="cpu")

    found = benchmark_train(options, rounds.append)

    assert rounds == [0, 1]
    assert [speed.name for speed in found.speeds] == [
        "plain base",
        "plain tiny",
        "fastnst tiny",
        "cached crops",
        "photographs",
    ]
    assert [(one.name, one.reference) for one in found.ratios] == [
        ("fastnst tiny", "plain base"),
        ("fastnst tiny", "plain tiny"),
        ("photographs", "cached crops"),
    ]
    assert all(speed.fastest <= speed.seconds <= speed.slowest for speed in found.speeds)
    assert found.setting["threads"] == torch.get_num_threads()


def test_painting_is_compared_in_both_engines():
    (found,) = benchmark_stylize(StylizeBenchmark(size=(32,), preset=("tiny",), rounds=1, device="cpu"))

    names = ["base torch", "base onnx", "tiny torch", "tiny onnx"]
    assert [speed.name for speed in found.speeds] == names
    assert [(one.name, one.reference) for one in found.ratios] == [
        ("base onnx", "base torch"),
        ("tiny torch", "base torch"),
        ("tiny onnx", "base onnx"),
        ("tiny onnx", "base torch"),
    ]
    sizes = found.setting["networks"]
    assert sizes["tiny"]["parameters"] < sizes["base"]["parameters"]
    assert sizes["tiny"]["multiply_adds"] < sizes["base"]["multiply_adds"]
    memory = {speed.name: speed.peak_memory for speed in found.speeds}
    if sys.platform == "linux":
        # torch alone is larger than all that ONNX Runtime needs for so small a picture
        assert 20e6 < memory["tiny onnx"] < memory["tiny torch"] < 20e9


@pytest.mark.skipif(sys.platform != "linux", reason="needs the peak that Linux keeps of a process")
def test_memory_is_that_of_the_process_that_paints(onnx_style, tmp_path):
    mine = np.ones(60_000_000)  # 480 MB, which are none of its business

    small, large = peak_memory(onnx_style, 32), peak_memory(onnx_style, 1024)

    assert mine.size
    assert small is not None
    assert large is not None
    # at least eight channels at full resolution
    assert 20e6 < small < 400e6
    assert large > small + 8 * 1024 * 1024 * 4
    assert peak_memory(tmp_path / "missing.onnx", 32) is None


@pytest.mark.parametrize("preset", PRESETS)
def test_the_network_in_torch_layers_is_the_same(preset):
    torch.manual_seed(0)
    net = TransformerNet(PRESETS[preset])
    image = torch.rand(2, 3, 33, 50)

    with torch.inference_mode():
        torch.testing.assert_close(plain_net(net)(image), net(image), atol=1e-4, rtol=0)


def test_command_prints_numbers_or_json(capsys):
    quick = ["benchmark", "train", "--size", "32", "--batch-size", "1", "--rounds", "1", "--device", "cpu", "-q"]

    assert main(quick) == 0
    printed = capsys.readouterr().out
    assert "fastnst base" in printed
    assert "times as fast as plain base" in printed
    assert main([*quick, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert set(found) == {"speeds", "ratios", "setting"}
