import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.material import PHOTOS
from PIL import Image
from torch import Tensor

from fastnst.cli import main
from fastnst.config import DreamConfig
from fastnst.dream.deepdream import deep_dream, dream, octave_sizes, resample, toned, zoom_in
from fastnst.dream.gradient import MARGIN, blur, cuts, smooth, tiled_gradient, tiles
from fastnst.dream.objective import Objective, likeness
from fastnst.errors import InputError, Interrupted, OutputError, UsageError
from fastnst.image import read_picture, to_array
from fastnst.vgg import VGGFeatures

CASTLE = PHOTOS / "castle.jpg"


def photo(height: int, width: int, path=CASTLE) -> Tensor:
    return resample(torch.from_numpy(to_array(read_picture(path, max_size=320).rgb)), (height, width)).clamp(0, 1)


def objective(*layers: str, guide: Tensor | None = None) -> Objective:
    return Objective(VGGFeatures(layers), dict.fromkeys(layers, 1.0), guide)


def config(**options: object) -> DreamConfig:
    small = {"layers": ("relu2_2",), "octaves": 2, "iterations": 3, "jitter": 4, "precision": "fp32", "device": "cpu"}
    return DreamConfig("photo.png", **{"output": "dream.png", **small, **options})


def pixels(name: str) -> np.ndarray:
    with Image.open(name) as image:
        return np.asarray(image).astype(int)


def dreamed(objective, photo, config):
    return list(deep_dream(objective, photo, config, torch.Generator().manual_seed(config.seed), config.iterations))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to be in, with a photo of 45x60 pixels."""
    monkeypatch.chdir(tmp_path)
    with Image.open(CASTLE) as image:
        image.resize((60, 45)).save("photo.png")
    return tmp_path


@pytest.fixture
def command(folder, capsys):
    """Run `dream photo.png` with options of a small dream, and return exit status, stdout and stderr."""

    def run(*arguments: object):
        words = ["dream", "photo.png", "--octaves=2", "--iterations=2", "--precision=fp32", "--device=cpu", "-q"]
        return main([*words, *map(os.fspath, map(str, arguments))]), *capsys.readouterr()

    return run


def test_every_octave_raises_every_layer():
    sees = objective("relu1_2", "relu2_2")
    small = config(octaves=3, iterations=4)
    picture = photo(61, 48)

    steps = dreamed(sees, picture, small)

    assert [(step.octave, step.step) for step in steps] == [(o, s) for o in (1, 2, 3) for s in (1, 2, 3, 4)]
    for octave in (1, 2, 3):
        own = [step for step in steps if step.octave == octave]
        assert own[0].loss < own[-1].loss
        last = own[-1].picture
        assert (sees(last) > sees(resample(picture, tuple(last.shape[-2:])))).all()
        assert last.min() >= 0
        assert last.max() <= 1


def test_what_was_dreamed_small_is_still_there_large():
    small = config(octaves=2, iterations=6)
    picture = photo(64, 64)

    steps = dreamed(objective("relu2_2"), picture, small)

    detail = steps[5].picture - resample(picture, (46, 46))
    start = steps[6].picture - picture  # after the first step at the full size
    kept = F.cosine_similarity(resample(detail, (64, 64)).flatten(), start.flatten(), dim=0)
    assert kept > 0.8


def test_octaves_grow_by_their_scale_to_the_size_of_the_picture():
    assert octave_sizes(100, 51, config(octaves=3, octave_scale=2), smallest=4) == [(25, 13), (50, 26), (100, 51)]


def test_octaves_too_small_for_the_network_are_left_out(caplog):
    assert octave_sizes(100, 50, config(octaves=3, octave_scale=2), smallest=16) == [(50, 25), (100, 50)]
    assert "1 of 3 octaves are left out" in caplog.text


@pytest.mark.parametrize(("height", "width"), [(45, 60), (33, 17), (16, 70)])
def test_size_stays(folder, height, width):
    Image.new("RGB", (width, height), "teal").save("photo.png")

    assert dream(config()).octaves[-1].size == (height, width)

    with Image.open("dream.png") as image:
        assert image.size == (width, height)


def test_same_seed_same_bytes(folder):
    pictures = [dream(config(output=f"{index}.png", seed=seed)).path for index, seed in enumerate((1, 1, 2))]

    first, second, other = (path.read_bytes() for path in pictures)
    assert first == second
    assert first != other


def test_cuts_keep_away_from_the_ends():
    assert cuts(100, tile=30, offset=0, least=10) == [30, 60, 90]
    assert cuts(100, tile=30, offset=5, least=10) == [35, 65]
    assert cuts(100, tile=200, offset=150, least=10) == []


def test_tiles_cover_each_pixel_once_and_see_their_neighbors():
    parts = list(tiles(100, 90, [40], [35, 70]))

    count = np.zeros((100, 90))
    for tile in parts:
        count[tile.own] += 1
        y, x = np.mgrid[:100, :90]
        assert (y[tile.seen][tile.inside] == y[tile.own]).all()
        assert (x[tile.seen][tile.inside] == x[tile.own]).all()
    assert (count == 1).all()
    assert sum(tile.share for tile in parts) == pytest.approx(1)
    assert parts[0].seen == (slice(0, 40 + MARGIN), slice(0, 35 + MARGIN))


def test_gradient_in_tiles_is_the_gradient():
    # A feature of relu2_2 sees 14 pixels, fewer than a tile sees of its neighbors.
    sees, picture = objective("relu2_2"), photo(120, 160)

    whole_loss, whole = tiled_gradient(sees, picture, torch.ones(1), [], [])
    loss, gradient = tiled_gradient(sees, picture, torch.ones(1), [50], [60, 110])

    # Where a ReLU of a tile rounds to the other side, the few pixels that its feature sees differ.
    differ = (gradient - whole).abs() > 1e-3 * whole.abs() + 1e-4 * whole.abs().max()
    assert differ.float().mean() < 0.003
    assert (gradient - whole).norm() < 0.003 * whole.norm()
    assert loss == pytest.approx(whole_loss, rel=0.2)  # of the margins counted twice


def test_tiles_leave_no_seam():
    picture = photo(150, 280)

    *_, last = dreamed(objective("relu3_3"), picture, config(octaves=1, iterations=5, tile=128, step_size=0.03))

    change = last.picture - picture
    for axis in (-1, -2):
        edges = change.diff(dim=axis).abs().mean(dim=(0, 1, -3 - axis))[8:-8]
        assert edges.max() < 2 * edges.median()


def test_gaussian_blur_keeps_the_sum_and_spreads_as_told():
    impulse = torch.zeros(1, 1, 41, 41)
    impulse[..., 20, 20] = 1

    blurred = blur(impulse, 3.0)[0, 0]

    distance = torch.arange(41.0) - 20
    assert blurred.sum() == pytest.approx(1, abs=1e-5)
    assert (blurred.sum(0) * distance**2).sum() == pytest.approx(9, rel=0.05)  # cut off at three deviations
    torch.testing.assert_close(blur(torch.full((1, 3, 5, 4), 0.3), 4.0), torch.full((1, 3, 5, 4), 0.3))


def test_steps_have_deviation_one_whatever_the_gradient():
    gradient = torch.randn(1, 3, 20, 30, generator=torch.Generator().manual_seed(0))

    for scale in (1e-6, 1.0, 1e6):
        assert float(smooth(gradient * scale, 1.0).std()) == pytest.approx(1, rel=1e-3)
    assert smooth(torch.zeros(1, 3, 4, 4), 1.0).abs().max() == 0


def test_likeness_is_the_product_with_what_fits_best():
    features = torch.tensor([[1.0, 0.0], [0.0, 2.0]])  # places (1, 0) and (0, 2)
    guide = torch.tensor([[3.0, 0.0, 1.0], [0.0, 5.0, 1.0]])

    assert float(likeness(features, guide)) == (1 * 3 + 2 * 5) / 4


def test_a_guide_makes_features_more_like_its_own():
    guide = photo(48, 64, PHOTOS / "owl.jpg")
    guided, free = objective("relu3_3", guide=guide), objective("relu3_3")
    small, picture = config(octaves=1, iterations=6, step_size=0.03), photo(48, 64)

    def cosine(dream: Tensor) -> float:
        ours, theirs = (F.normalize(free._features(image)["relu3_3"][0].flatten(1), dim=0) for image in (dream, guide))
        return float((ours.T @ theirs).amax(1).mean())

    end = dreamed(guided, picture, small)[-1].picture

    assert guided(end) > 1.2 * guided(picture)
    assert cosine(end) > cosine(picture)


def test_maximum_loss_ends_each_octave(folder):
    free = dream(config(iterations=6))
    limit = (free.octaves[1].first_loss + free.octaves[1].last_loss) / 2

    stopped = dream(config(iterations=6, maximum_loss=limit, overwrite=True))

    assert stopped.octaves[1].steps < 6
    assert stopped.octaves[1].last_loss > limit


def test_maximum_loss_that_the_photo_has_leaves_the_photo(folder):
    assert [octave.steps for octave in dream(config(maximum_loss=0)).octaves] == [0, 0]

    assert abs(pixels("dream.png") - pixels("photo.png")).max() <= 1


def test_weights_are_read_from_the_names():
    assert config(layers="relu4_3, relu5_2:0.5").weights == {"relu4_3": 1, "relu5_2": 0.5}


@pytest.mark.parametrize("layers", ["relu4_3:x", "relu4_3:nan", "relu4_3:inf", ":1", "relu4_3,,relu5_1"])
def test_layer_that_is_none_is_a_usage_error(layers):
    with pytest.raises(UsageError, match="is no layer with its weight"):
        config(layers=layers)


def test_weights_that_are_all_zero_are_a_usage_error(command):
    status, _, err = command("-o", "a.png", "--layers", "relu1_2:0,relu2_2:0")

    assert status == 2
    assert "no weight but 0" in err


def test_layer_of_weight_zero_does_not_count(folder):
    dream(config())
    dream(config(output="b.png", layers="relu2_2,relu1_2:0"))

    assert (folder / "dream.png").read_bytes() == (folder / "b.png").read_bytes()


def test_unknown_layer_lists_the_right_ones(command):
    status, out, err = command("-o", "a.png", "--layers", "relu6_1")

    assert (status, out) == (2, "")
    assert "relu6_1; choose from conv1_1, relu1_1" in err


def test_picture_smaller_than_the_layers_allow_names_the_smallest_size(command):
    Image.new("RGB", (40, 20)).save("photo.png")

    status, _, err = command("-o", "a.png", "--layers", "pool5")

    assert status == 4
    assert "image is 40x20 but the layers need at least 32x32" in err


def test_missing_weights_exit_3(command, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))

    status, _, err = command("-o", "a.png", "--network", "inception_v3")

    assert status == 3
    assert "https://download.pytorch.org/models/inception_v3" in err
    assert str(tmp_path / "hub" / "checkpoints") in err


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["-o", "a.bmp"], 2, r".jpg, .jpeg, .png, .webp"),
        (["-o", "a.gif"], 2, r".jpg, .jpeg, .png, .webp"),
        (["-o", "a.avi", "--zoom", "2"], 2, r".gif, .png, .webp"),
        (["-o", "a.png", "--octave-scale", "1"], 2, "--octave-scale is 1"),
        (["-o", "a.png", "--tile", "100"], 2, "--tile is 100"),
        (["-o", "a.png", "--guide", "none.jpg"], 4, "none.jpg"),
        (["-o", "photo.png"], 5, "--overwrite"),
        (["-o", "a.png", "--save-octaves", "."], 5, "octave-2.png exists already"),
    ],
)
def test_exit_status_and_message(command, folder, options, status, message):
    (folder / "octave-2.png").touch()

    done, out, err = command(*options)

    assert (done, out) == (status, "")
    assert message in err
    assert sorted(os.listdir()) == ["octave-2.png", "photo.png"]


def test_octaves_are_saved_at_their_sizes(folder):
    dream(config(save_octaves="octaves"))

    assert pixels("octaves/octave-1.png").shape == (32, 43, 3)
    assert (pixels("octaves/octave-2.png") == pixels("dream.png")).all()


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_zoom_is_an_animation(folder, suffix):
    small = config(output=f"zoom{suffix}", zoom=3, octaves=1, iterations=2)

    dream(small)

    with Image.open(small.output) as image:
        assert (image.n_frames, image.size, image.info.get("loop")) == (3, (60, 45), 0)


def test_zooming_in_enlarges_the_middle():
    picture = torch.zeros(1, 3, 40, 60)
    picture[..., 10:30, 15:45] = 1

    # Bicubic interpolation blurs the border.
    assert zoom_in(picture, 2.0)[..., 2:-2, 2:-2].min() > 0.99
    assert zoom_in(photo(17, 31), 1.001).shape == (1, 3, 17, 31)


def test_toned_pictures_have_the_mean_and_the_deviation_asked_for():
    deviation, mean = torch.tensor([0.1, 0.2, 0.05]).view(1, 3, 1, 1), torch.tensor([0.5, 0.4, 0.6]).view(1, 3, 1, 1)

    statistics = torch.std_mean(toned(photo(40, 60), deviation, mean), (2, 3), keepdim=True)

    torch.testing.assert_close(statistics, (deviation, mean), rtol=0.05, atol=0.01)  # a few pixels are cut off


def test_transparency_stays(folder):
    Image.new("RGBA", (40, 40), (200, 100, 0, 128)).save("photo.png")

    dream(config())

    assert (pixels("dream.png")[..., 3] == 128).all()


@pytest.mark.parametrize("zoom", [None, 3])
def test_interrupted_dream_is_saved(folder, zoom):
    small = config(output="dream.webp", zoom=zoom)

    def stop(frame, step):
        if (frame, step.octave) == ((zoom or 1) // 2, 1):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted, match=r"stopped by SIGINT; dream\.webp holds what was dreamed so far") as caught:
        dream(small, stop)

    assert caught.value.exit_status == 130
    with Image.open("dream.webp") as image:
        assert image.size == (60, 45)
        assert getattr(image, "n_frames", 1) == (2 if zoom else 1)


def test_existing_output_is_replaced_only_if_told(folder):
    dream(config())
    with pytest.raises(OutputError, match="--overwrite"):
        dream(config())

    dream(config(overwrite=True))


def test_unusable_picture_is_an_input_error(folder):
    with pytest.raises(InputError, match=r"none\.png"):
        dream(replace(config(), image="none.png"))


def test_command_prints_the_output_or_json(command):
    assert command("-o", "a.png", "--layers", "relu1_2:1,relu2_2:0.5") == (0, "a.png\n", "")

    status, out, _ = command("-o", "b.png", "--layers", "relu1_2", "--json")
    printed = json.loads(out)
    assert (status, printed["output"]) == (0, "b.png")
    assert [[octave["size"], octave["steps"]] for octave in printed["octaves"]] == [[[32, 43], 2], [[45, 60], 2]]


def test_standard_input_to_standard_output(fastnst, folder):
    done = fastnst(
        *("dream", "-", "-o", "-", "--layers", "relu1_2", "--octaves", "1", "--iterations", "1", "-q"),
        stdin=(folder / "photo.png").read_bytes(),
    )

    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"\x89PNG")
