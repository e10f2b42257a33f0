from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.material import PHOTOS
from helpers.runs import STEPS, metrics, weights
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fastnst.checkpoint import load_checkpoint, load_state
from fastnst.config import DEFAULT_STYLE_LAYERS, TrainConfig
from fastnst.engine import open_engine
from fastnst.errors import UsageError
from fastnst.evaluate import measure_temporal, read_photo
from fastnst.losses import DEFAULT_WEIGHTS
from fastnst.nets import droplets
from fastnst.nets.droplets import Droplets
from fastnst.nets.grain import drawn_grain
from fastnst.nets.spec import PRESETS
from fastnst.styles import bundled_style, trunk_file
from fastnst.train.loop import train
from fastnst.train.photographs import open_photographs
from fastnst.train.run import TrainingRun
from fastnst.train.start import start_file


def test_learning_rate_falls_like_a_cosine_to_a_twentieth(finished):
    rates = [line["lr"] for line in metrics(finished)]

    assert rates[0] == 0.02
    assert rates[STEPS // 2] == pytest.approx(0.02 * (1 + 0.05) / 2)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0.05 * 0.02


@pytest.mark.parametrize(
    ("options", "rate"), [({}, 0.02), ({"optimizer": "adam"}, 1e-3), ({"learning_rate": 0.5}, 0.5)]
)
def test_constant_schedule_keeps_the_learning_rate(configure, output, options, rate):
    train(configure(output, steps=3, schedule="constant", **options))

    assert [line["lr"] for line in metrics(output)] == [rate] * 3


def test_loss_weights_given_are_the_ones_used_and_kept(configure, output):
    train(configure(output, steps=1, loss="paper", content_weight=2, tv_weight=0))

    assert load_checkpoint(output)[1].weights == {**vars(DEFAULT_WEIGHTS["paper"]), "content": 2, "tv": 0}
    assert metrics(output)[0]["tv"] == 0


def test_layers_weigh_as_they_are_told_and_the_file_says_how(configure, output):
    def style(*layers):
        train(configure(output, steps=1, style_layers=layers, overwrite=True))
        return metrics(output)[0]["style"]

    alone = style("relu1_2"), style("relu2_2")

    assert style("relu1_2:3", "relu2_2") == pytest.approx((3 * alone[0] + alone[1]) / 4, rel=1e-5)
    assert load_checkpoint(output)[1].train["style_layers"] == ["relu1_2:3", "relu2_2"]


@pytest.mark.parametrize("loss", ["relative", "paper"])
def test_layers_that_nobody_names_are_those_of_the_form_of_weighing(configure, output, loss):
    train(configure(output, steps=1, loss=loss, style_layers=None))

    assert load_checkpoint(output)[1].train["style_layers"] == list(DEFAULT_STYLE_LAYERS[loss])


@pytest.mark.parametrize(("loss", "even"), [("relative", True), ("paper", False)])
def test_only_with_the_weights_of_the_paper_is_there_an_edge_beyond_a_picture(configure, output, loss, even):
    run = TrainingRun(configure(output, loss=loss), torch.device("cpu"))

    targets = run.loss.targets(torch.full((1, 3, 32, 32), 0.3))

    assert [bool(values.std((-1, -2)).max() < 1e-4) for values in targets.values()] == [even]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_float32_weights(configure, finished, output, precision):
    train(configure(output, precision=precision, steps=4))

    state = load_state(configure(output).state_path).tensors
    assert {tensor.dtype for name, tensor in state.items() if name.startswith("net.")} == {torch.float32}
    ours, exact = metrics(output)[0]["total"], metrics(finished)[0]["total"]
    assert ours == pytest.approx(exact, rel=0.02)  # bfloat16 keeps eight bits
    assert ours != exact
    assert weights(output) != weights(finished)


def test_init_starts_from_the_weights_of_another_checkpoint(configure, finished, output):
    train(configure(output, steps=1, learning_rate=1e-12, init=finished))

    started, trained = load_file(output), load_file(finished)
    for name in trained:
        torch.testing.assert_close(started[name], trained[name], rtol=0, atol=1e-9)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_style_starts_from_the_trunk_of_its_preset_and_from_what_is_asked_for(configure, finished, output, preset):
    trunk = trunk_file(preset)

    assert TrainConfig(Path("painting.jpg"), content="photos", output=output, preset=preset).init == Path("trunk")
    assert start_file(configure(output, preset=preset, init=Path("trunk"))) == trunk
    assert start_file(configure(output, preset=preset, init=Path("none"))) is None
    assert start_file(configure(output, preset=preset, init=Path("poppies"))) == bundled_style("poppies").checkpoint
    assert start_file(configure(output, preset=preset, init=finished)) == finished
    run = TrainingRun(configure(output, preset=preset, init=Path("trunk")), torch.device("cpu"))
    net, expected = run.net, load_file(trunk)
    for name, weight in net.state_dict().items():
        torch.testing.assert_close(weight, expected[name].float(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("loss", "start", "learns"),
    [
        ("relative", "none", True),
        ("paper", "none", False),
        ("relative", "without droplets", True),
        ("relative", "with droplets", False),
    ],
)
def test_the_relative_form_learns_not_to_have_droplets_unless_it_starts_with_them_and_is_short(
    configure, finished, with_droplets, output, loss, start, learns, monkeypatch
):
    pixels = np.zeros((1, 32, 32, 3), np.uint8)
    pixels[:, 10:14, 20:24] = 255
    init = {"without droplets": finished, "with droplets": with_droplets}.get(start, Path(start))
    config = configure(output, loss=loss, init=init, batch_size=1)

    def of_a_step(weight):
        monkeypatch.setattr(droplets, "WEIGHT", weight)
        run = TrainingRun(config, torch.device("cpu"))
        run.step(0, pixels)
        return torch.cat([parameter.grad.flatten() for parameter in run.net.parameters()])

    net = TrainingRun(config, torch.device("cpu")).net
    found = Droplets()
    grain = torch.from_numpy(drawn_grain(config.seed, 0, 32, 32))[None]
    net(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255, grain, found)
    alone = torch.autograd.grad(torch.stack(found.energies).sum(), list(net.parameters()), allow_unused=True)
    expected = torch.cat(
        [
            (torch.zeros_like(parameter) if gradient is None else gradient).flatten()
            for gradient, parameter in zip(alone, net.parameters(), strict=True)
        ]
    )

    difference = of_a_step(1000.0) - of_a_step(0.0)

    assert expected.norm() > 0
    torch.testing.assert_close(
        difference, 1000 * expected if learns else torch.zeros_like(expected), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("micro_batch", [None, 1])
def test_the_loss_is_of_all_but_the_margin_of_a_crop(configure, output, micro_batch):
    config = configure(output, preset="base", size=32, micro_batch=micro_batch)
    margin = PRESETS["base"].margin
    pixels = next(open_photographs(config, ()).batches(0, 1, config.batch_size))
    run = TrainingRun(config, torch.device("cpu"))
    content = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    grain = torch.from_numpy(np.stack([drawn_grain(config.seed, place, *content.shape[-2:]) for place in (0, 1)]))
    with torch.no_grad():
        stylized, content = (
            images[..., margin:-margin, margin:-margin] for images in (run.net(content, grain), content)
        )
        expected = run.loss(stylized, content)

    found = run.step(0, pixels)

    assert stylized.shape == (2, 3, 32, 32)
    assert found[:4] == pytest.approx([*map(float, expected), float(expected.total)], rel=1e-3)


def test_init_of_another_preset_is_a_usage_error_that_names_it(configure, finished, output):
    with pytest.raises(UsageError, match="tiny network, not base; use --preset tiny") as caught:
        train(configure(output, preset="base", init=finished))

    assert caught.value.exit_status == 2


def test_float16_overflow_skips_a_step_and_goes_on(configure, output):
    run = TrainingRun(configure(output, precision="fp16"), torch.device("cpu"))
    run.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60, backoff_factor=2.0**-50)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    before = [parameter.detach().clone() for parameter in run.net.parameters()]

    run.step(0, pixels)
    assert all(torch.equal(*pair) for pair in zip(before, run.net.parameters(), strict=True))
    assert run.scaler.get_scale() == 2.0**10
    run.step(1, pixels)
    assert not any(torch.equal(*pair) for pair in zip(before, run.net.parameters(), strict=True))


def test_without_temporal_weight_nothing_says_so(finished):
    assert all("temporal" not in line for line in metrics(finished))


def test_temporal_weight_is_logged_beside_the_losses_and_trains(configure, output):
    train(configure(output, temporal_weight=20, steps=30, size=48, learning_rate=3e-3))

    lines = metrics(output)
    assert all(line["total"] == pytest.approx(line["content"] + line["style"] + line["tv"]) for line in lines)
    assert all(np.isfinite(line["temporal"]) and line["temporal"] > 0 for line in lines)
    assert "loss/temporal" in EventAccumulator(str(output.with_suffix(""))).Reload().Tags()["scalars"]


def test_steady_style_paints_a_pan_more_steadily_than_one_trained_alike(configure, finished, output, tmp_path):
    options = {"steps": 60, "size": 48, "init": finished, "learning_rate": 3e-3}
    photos = {"owl": read_photo(PHOTOS / "owl.jpg", 64)}

    plain = train(configure(tmp_path / "plain.safetensors", **options))
    steady = train(configure(output, temporal_weight=100, **options))

    before, after = (measure_temporal(open_engine(style), photos)[0].ratio for style in (plain, steady))
    assert after < before


def test_painting_larger_than_pictures_may_be_is_scaled_down_and_says_so(configure, output, tmp_path, caplog):
    large = tmp_path / "large.png"
    Image.new("L", (17_000, 400), 128).save(large)

    train(replace(configure(output, steps=1, style_size=768), style=large))

    assert "large.png has 17000x400 pixels and is scaled down to 768" in caplog.text
    assert output.exists()
