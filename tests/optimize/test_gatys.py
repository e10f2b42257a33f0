import json
import os
import signal

import numpy as np
import pytest
import torch
from helpers.material import PAINTINGS, PHOTOS
from PIL import Image
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fastnst.cli import main
from fastnst.config import OptimizeConfig
from fastnst.errors import DivergedError, InputError, Interrupted, OutputError, UsageError
from fastnst.image import Picture
from fastnst.optimize.gatys import OptimizeReport, Step, follow, optimize, pairs, weights_of
from fastnst.vgg import BUNDLED


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A content of 61x45 pixels and two paintings."""
    folder = tmp_path_factory.mktemp("pictures")
    for source, name in (
        (PHOTOS / "castle.jpg", "content"),
        (PAINTINGS / "cafe-terrace.jpg", "style"),
        (PAINTINGS / "great-wave.jpg", "other"),
    ):
        with Image.open(source) as picture:
            side = 61 if name == "content" else 64
            picture.crop((0, 0, 610, 450)).resize((side, 45)).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def configure(pictures, tmp_path):
    """A config of a second's work: configure(start="noise")."""

    def make(**options):
        given = {
            "content": pictures / "content.png",
            "style": (pictures / "style.png",),
            "output": tmp_path / "painting.png",
            "iterations": 4,
            "content_layers": ("conv2_2",),
            "style_layers": ("conv1_1", "conv2_1"),
            "precision": "fp32",
            "device": "cpu",
        }
        return OptimizeConfig(**{**given, **options})

    return make


def run(config):
    """The reports of each iteration."""
    reports = []
    assert optimize(config, reports.append) == config.output
    return reports


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_lbfgs_from_noise_lowers_the_loss_every_iteration_and_more_than_adam_in_as_many_evaluations(
    configure, tmp_path
):
    lbfgs = run(configure(start="noise", iterations=25))
    adam = run(configure(start="noise", optimizer="adam", iterations=lbfgs[-1].evaluations, output=tmp_path / "a.png"))

    totals = [report.total for report in lbfgs]
    assert totals == sorted(totals, reverse=True)
    assert totals[-1] < 0.1 * totals[0]
    assert totals[-1] < adam[-1].total < adam[0].total
    assert adam[-1].evaluations >= lbfgs[-1].evaluations
    for report in lbfgs:
        assert report.total == pytest.approx(report.content + report.style + report.tv, rel=1e-5)


@pytest.mark.parametrize("form", ["relative", "paper", "gatys"])
def test_each_form_of_the_loss_goes_down(configure, form):
    reports = run(configure(loss=form, start="noise"))

    assert reports[-1].total < 0.7 * reports[0].total


def test_the_painting_has_the_size_of_the_content_and_other_pixels(configure, pictures, tmp_path):
    run(configure())

    painted, content = pixels(tmp_path / "painting.png"), pixels(pictures / "content.png")
    assert painted.shape == content.shape == (45, 61, 3)
    assert np.abs(painted.astype(int) - content).mean() > 5


def test_size_scales_the_content_down(configure, tmp_path):
    run(configure(size=40))

    assert pixels(tmp_path / "painting.png").shape == (30, 40, 3)


def test_same_seed_same_bytes_and_another_seed_others(configure, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    outputs = []
    for number, seed in enumerate((1, 1, 2)):
        run(configure(start="noise", seed=seed, output=tmp_path / f"{number}.png"))
        outputs.append((tmp_path / f"{number}.png").read_bytes())
    torch.set_num_threads(before)

    assert outputs[0] == outputs[1] != outputs[2]


@pytest.mark.parametrize("start", ["content", "noise", "white", "style", "file"])
def test_first_report_is_the_loss_of_the_start(configure, pictures, start):
    name = str(pictures / "content.png") if start == "file" else start

    (first, *_) = run(configure(start=name, iterations=1, content_layers=("relu1_1",)))

    assert (first.content < 1e-6) == (start in ("content", "file"))
    assert first.step == 0


def test_scales_go_from_coarse_to_fine_and_start_where_the_last_one_ended(configure):
    reports = run(configure(scales=(24, 40), start="noise", iterations=6))

    assert [report.step for report in reports] == list(range(19))
    assert [report.scale for report in reports] == [24] * 7 + [40] * 6 + [61] * 6
    (alone, *_) = run(configure(start="noise", iterations=1, overwrite=True))
    assert reports[13].total < 0.5 * alone.total


def test_adam_keeps_its_moments_between_scales(configure):
    reports = run(configure(scales=(32,), optimizer="adam", iterations=3))

    assert [report.evaluations for report in reports] == [1, 2, 3, 4, 2, 3, 4]


def test_two_styles_are_blended(configure, pictures, tmp_path):
    both = (pictures / "style.png", pictures / "other.png")
    for name, blend in (("even", ()), ("first", (1, 0)), ("second", (0, 1))):
        run(configure(style=both, blend=blend, output=tmp_path / f"{name}.png"))
    run(configure(output=tmp_path / "alone.png"))

    np.testing.assert_allclose(pixels(tmp_path / "first.png"), pixels(tmp_path / "alone.png"), atol=2)
    even, first, second = (pixels(tmp_path / f"{name}.png").astype(int) for name in ("even", "first", "second"))
    assert min(np.abs(even - first).mean(), np.abs(even - second).mean(), np.abs(first - second).mean()) > 1


def test_colors_of_the_content_can_be_kept(configure, pictures, tmp_path):
    run(configure(preserve_color="luma"))

    painted, content = (pixels(path).astype(float) for path in (tmp_path / "painting.png", pictures / "content.png"))
    chroma = [picture - (picture @ [0.299, 0.587, 0.114])[..., None] for picture in (painted, content)]
    inside = ((painted > 2) & (painted < 253)).all(-1)  # where nothing was clipped
    np.testing.assert_allclose(chroma[0][inside], chroma[1][inside], atol=1.5)


def test_transparency_of_the_content_stays(configure, pictures, tmp_path):
    with Image.open(pictures / "content.png") as content:
        content.putalpha(Image.linear_gradient("L").resize(content.size))
        content.save(tmp_path / "clear.png")

    run(configure(content=tmp_path / "clear.png"))

    painted = pixels(tmp_path / "painting.png")
    np.testing.assert_array_equal(painted[..., 3], pixels(tmp_path / "clear.png")[..., 3])


def test_a_mask_keeps_the_painting_inside_and_the_paper_white(configure, tmp_path):
    mask = Image.new("L", (61, 45))
    mask.paste(255, (20, 10, 40, 30))
    mask.save(tmp_path / "mask.png")

    run(configure(mask=tmp_path / "mask.png", feather=1))
    run(configure(output=tmp_path / "whole.png"))

    masked, whole = pixels(tmp_path / "painting.png"), pixels(tmp_path / "whole.png")
    np.testing.assert_array_equal(masked[14:26, 24:36], whole[14:26, 24:36])
    assert (masked[:5] == 255).all()
    assert (masked[:, 46:] == 255).all()


def test_the_way_is_kept_as_pictures_numbers_events_and_an_animation(configure, tmp_path):
    config = configure(save_every=2, iterations=5, scales=(30,), animation=tmp_path / "way.gif")

    reports = run(config)

    folder = tmp_path / "painting"
    assert sorted(path.name for path in folder.glob("*.png")) == [f"{step:06d}.png" for step in (2, 4, 6, 8, 10)]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(11))
    assert [line["total"] for line in lines] == [report.total for report in reports]
    events = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    assert [event.step for event in events.Scalars("loss/total")] == list(range(11))
    assert [event.step for event in events.Images("picture")] == [2, 4, 6, 8, 10]
    with Image.open(tmp_path / "way.gif") as clip:
        assert (clip.size, clip.n_frames) == ((61, 45), 6)  # 0, 2, ... 10


def test_without_a_wish_for_logs_there_is_the_painting_alone(configure, tmp_path):
    run(configure())

    assert [path.name for path in tmp_path.iterdir()] == ["painting.png"]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_saves_the_painting_as_it_is(configure, tmp_path, name):
    def interrupt(report):
        if report.step == 2:
            os.kill(os.getpid(), signal.Signals[name])

    with pytest.raises(Interrupted, match="stopped after iteration 2") as error:
        optimize(configure(iterations=50), interrupt)

    assert error.value.exit_status == 128 + signal.Signals[name]
    run(configure(iterations=2, output=tmp_path / "two.png"))
    np.testing.assert_array_equal(pixels(tmp_path / "painting.png"), pixels(tmp_path / "two.png"))


def test_a_loss_that_is_not_finite_saves_the_last_good_picture(configure, tmp_path):
    def step(number, total, gray):
        return Step(OptimizeReport(number, 8, number, 0.0, 0.0, 0.0, total), torch.full((1, 3, 8, 8), gray))

    config = configure()
    steps = iter([step(0, 3.0, 0.1), step(1, 2.0, 0.6), step(2, float("nan"), 0.9), step(3, 1.0, 1.0)])

    with pytest.raises(DivergedError, match="not finite at iteration 2; the last good picture is in") as error:
        follow(steps, Picture, config, config.output)

    assert error.value.exit_status == 6
    assert (pixels(config.output) == 153).all()


def test_weights_that_overflow_exit_with_six_and_leave_the_start(configure, pictures, tmp_path, capsys):
    weights = load_file(BUNDLED)
    weights["features.2.weight"] = torch.full_like(weights["features.2.weight"], float("inf"))
    save_file(weights, tmp_path / "vgg.safetensors")

    command = ["optimize", pictures / "content.png", pictures / "style.png", "-o", tmp_path / "out.png", "--vgg"]
    status = main([*map(str, command), str(tmp_path / "vgg.safetensors"), "--iterations", "3"])

    assert status == 6
    assert "not finite at iteration 0" in capsys.readouterr().err
    np.testing.assert_array_equal(pixels(tmp_path / "out.png"), pixels(pictures / "content.png"))


def test_pairs_paint_each_content_in_each_style_with_a_folder_of_its_own(pictures, tmp_path, capsys):
    folder = tmp_path / "pairs"
    folder.mkdir()
    for name in ("content_a", "content_b", "style_x", "style_y"):
        with Image.open(pictures / f"{'style' if name[0] == 's' else 'content'}.png") as picture:
            picture.save(folder / f"{name}.png")

    options = ["--iterations", "2", "--save-every", "1", "--content-layers", "conv1_2", "--style-layers", "conv1_1"]
    assert main(["optimize", "--pairs", str(folder), "-o", str(tmp_path / "out"), *options]) == 0

    names = [f"{content}--{style}" for content in "ab" for style in "xy"]
    assert capsys.readouterr().out.split() == [str(tmp_path / "out" / f"{name}.png") for name in names]
    for name in names:
        assert (tmp_path / "out" / f"{name}.png").exists()
        assert sorted(path.name for path in (tmp_path / "out" / name).glob("*.png")) == ["000001.png", "000002.png"]


def test_a_pair_that_cannot_be_read_is_reported_and_the_others_are_painted(pictures, tmp_path, capsys):
    folder = tmp_path / "pairs"
    folder.mkdir()
    for name, source in (("content_a", "content"), ("style_x", "style")):
        (folder / f"{name}.png").write_bytes((pictures / f"{source}.png").read_bytes())
    (folder / "content_b.png").write_bytes(b"nothing")

    options = ["--iterations", "1", "--content-layers", "conv1_2", "--style-layers", "conv1_1"]
    assert main(["optimize", "--pairs", str(folder), "-o", str(tmp_path / "out"), *options]) == 1

    assert (tmp_path / "out" / "a--x.png").exists()
    assert "content_b.png" in capsys.readouterr().err


def test_a_folder_without_contents_or_styles_is_an_input_error(tmp_path):
    (tmp_path / "content_a.png").touch()

    with pytest.raises(InputError, match="has 1 pictures named content_\\* and 0 named style_\\*"):
        pairs(OptimizeConfig(pairs=tmp_path, output=tmp_path / "out"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"content_weight": 0, "style_weight": 0}, "both have the weight zero"),
        ({"content_layers": ("conv9_9",)}, "unknown VGG layer conv9_9; choose from conv1_1"),
        ({"style_layers": ("conv1_1:0",)}, "weights of layers must be zero or more"),
        ({"start": "nothing"}, "--start is nothing but must be content, noise, white, style or a picture"),
        ({"blend": (1, 2)}, "1 styles need as many shares"),
        ({"animation": "way.avi"}, "does not end in .gif"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error_and_writes_nothing(configure, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        optimize(configure(**options))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 0.1, "style_weight": 1}, "--ratio stands for both weights"),
        ({"scales": (40, 20)}, "must rise, coarse to fine"),
        ({"content_layers": ("conv1_1:a",)}, "is no layer with its weight; write a name, or name:weight"),
        ({"iterations": 0}, "--iterations is 0"),
        ({"content": None}, "needs a content and at least one style"),
        ({"background": "blueish"}, "--background is 'blueish' but must be photo"),
        ({"background": "black"}, "--background and --invert-mask go with --mask"),
    ],
)
def test_options_that_cannot_be_meant_are_a_usage_error(configure, options, message):
    with pytest.raises(UsageError, match=message):
        configure(**options)


def test_a_picture_too_small_for_the_deepest_layer_is_an_input_error_that_names_the_smallest(configure, tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "small.png")

    with pytest.raises(InputError, match="image is 16x16 but pool5 needs at least 32x32"):
        optimize(configure(content=tmp_path / "small.png", content_layers=("pool5",)))


def test_an_existing_output_stays_unless_told_otherwise(configure, tmp_path):
    (tmp_path / "painting.png").write_bytes(b"mine")

    with pytest.raises(OutputError, match="exists already"):
        optimize(configure())
    assert (tmp_path / "painting.png").read_bytes() == b"mine"


def test_one_ratio_stands_for_both_weights(configure):
    weights = weights_of(configure(ratio=0.05, loss="gatys"))

    assert (weights.content, weights.style, weights.tv) == (1, pytest.approx(20), 0)
    assert weights_of(configure(ratio=0)).content == 0


def test_the_command_takes_a_content_and_several_styles(fastnst, pictures, tmp_path):
    given = [pictures / f"{name}.png" for name in ("content", "style", "other")]

    done = fastnst("optimize", *given, "-o", "out.png", "--iterations", 2, "--scales", "32,48", "--blend", "1,2")

    assert (done.returncode, done.stdout) == (0, b"out.png\n"), done.stderr
    assert b"optimizing iteration 6/6" in done.stderr
    assert (tmp_path / "out.png").exists()
