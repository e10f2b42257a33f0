import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from helpers.material import PAINTINGS, PHOTOS
from helpers.photos import noise_tensor, photo
from PIL import Image

from fastnst.checkpoint import load_checkpoint, save_checkpoint
from fastnst.cli import main
from fastnst.config import DEFAULT_STYLE_LAYERS, EvaluateOptions
from fastnst.engine import open_engine
from fastnst.errors import FastnstError, InputError, ModelError, UsageError
from fastnst.evaluate import equivalent, evaluate, measure, measure_temporal, open_loss, read_photo, read_photos
from fastnst.image import read_picture, resize, to_array
from fastnst.losses import DEFAULT_WEIGHTS, LossWeights, PerceptualLoss
from fastnst.optimize.descent import descend_lbfgs
from fastnst.scores import Equivalent, Evaluation, LossSettings, PhotoScore, mean
from fastnst.styles import bundled_style
from fastnst.vgg import VGGFeatures

PAINTING = PAINTINGS / "great-wave.jpg"
SETTINGS = LossSettings("relative", LossWeights(1, 2, 0.05), 64, ("relu2_2",), ("relu1_2", "relu2_2"), "bundled", "max")
CPU = torch.device("cpu")


def options(**changes: object) -> EvaluateOptions:
    return EvaluateOptions(content=PHOTOS, style_image=PAINTINGS, size=64, photos=2, device="cpu", **changes)


def same(images: np.ndarray) -> np.ndarray:
    return images


@pytest.fixture(scope="module")
def loss() -> PerceptualLoss:
    return open_loss(SETTINGS, PAINTING, CPU)


@pytest.fixture(scope="module")
def trained(checkpoint, tmp_path_factory):
    """The small random network as if trained on the great wave."""
    net, meta = load_checkpoint(checkpoint)
    values = asdict(SETTINGS)
    train = {**values, "style": "great-wave.jpg", "content_layers": ["relu2_2"], "style_layers": ["relu1_2", "relu2_2"]}
    path = tmp_path_factory.mktemp("trained") / "trained.safetensors"
    save_checkpoint(path, net, replace(meta, train=train, weights=values["weights"]))
    return path


def test_the_photo_itself_has_no_content_loss_and_is_like_itself(loss):
    (score,) = measure(same, loss, {"owl": photo()})

    assert (score.photo, score.content) == ("owl", 0)
    assert score.ssim == pytest.approx(1)
    assert score.style > 0
    assert score.total == pytest.approx(score.style + score.tv)


def test_the_losses_are_those_of_the_loss_called_by_hand(trained):
    net, _ = load_checkpoint(trained)
    painting = read_picture(PAINTING)
    scale = 64 / max(painting.size)
    painting = resize(painting, *(round(side * scale) for side in painting.size))
    by_hand = PerceptualLoss(
        VGGFeatures(["relu1_2", "relu2_2"]),
        torch.from_numpy(to_array(painting.rgb)),
        SETTINGS.weights,
        "relative",
        SETTINGS.content_layers,
        SETTINGS.style_layers,
    )
    content = torch.from_numpy(photo())
    with torch.no_grad():
        terms = by_hand(net(content).clamp(0, 1), content)

    (score,) = measure(net, open_loss(SETTINGS, PAINTING, CPU), {"owl": photo()})

    expected = [*map(float, terms), float(terms.total)]
    assert [score.content, score.style, score.tv, score.total] == pytest.approx(expected, rel=1e-5)


def test_a_network_and_an_engine_score_the_same(trained, loss):
    net, _ = load_checkpoint(trained)

    by_net, by_engine = (measure(style, loss, {"owl": photo()})[0] for style in (net, open_engine(trained)))

    assert by_net.numbers == pytest.approx(by_engine.numbers, rel=1e-4)


def test_what_is_painted_is_scored_as_it_would_be_saved(loss):
    brighter, clipped = (measure(style, loss, {"owl": photo()}) for style in (lambda x: x + 2, lambda x: x * 0 + 1))

    assert brighter == clipped


def test_values_that_are_not_numbers_are_refused(loss):
    with pytest.raises(FastnstError, match="owl that are not numbers"):
        measure(lambda images: images * np.float32(np.nan), loss, {"owl": photo()})


def test_the_colors_of_a_painting_are_far_from_gray_and_none_from_its_own(loss):
    painting = to_array(resize(read_picture(PAINTING), 64, 64).rgb)

    own, gray = (
        measure(style, loss, {"owl": photo()}, painting)[0] for style in (lambda _: painting, lambda x: x * 0 + 0.5)
    )

    assert own.numbers["colors"] == 0
    assert gray.numbers["colors"] > 5


def test_means_are_over_the_photos():
    scores = [PhotoScore("a", 1, 2, 3, 4, 0.5, 1), PhotoScore("b", 3, 2, 1, 6, 0.7, 2)]

    expected = {"content": 2, "style": 2, "tv": 2, "total": 5, "ssim": 0.6, "grid": 1.5}
    assert mean(scores) == pytest.approx(expected)


@pytest.mark.parametrize("k", [0, 1, 4])
def test_the_equivalent_of_the_kth_iterate_is_k(loss, k):
    content, start = torch.from_numpy(photo(size=32)), noise_tensor(32)
    iterates = list(descend_lbfgs(lambda picture: loss(picture, content).total, start, 5))

    (score,) = measure(lambda _: iterates[k].picture.numpy(), loss, {"owl": content.numpy()})

    target = score.total * (1 + 1e-6)  # the same pixels, but without a gradient another order of sums
    assert equivalent(loss, content, start, target, 5) == Equivalent(k, iterates[k].evaluations)


def test_bfloat16_reaches_the_same_loss_as_soon(loss):
    content, start = torch.from_numpy(photo()), noise_tensor()
    *_, last = descend_lbfgs(lambda picture: loss(picture, content).total, start, 8)

    found = equivalent(loss, content, start, last.loss, 20, torch.bfloat16)

    assert found.iterations == pytest.approx(8, abs=1)


def test_an_equivalent_that_is_not_reached_is_none(loss):
    content = torch.from_numpy(photo(size=32))

    found = equivalent(loss, content, noise_tensor(32), target=0, iterations=2)

    assert found.iterations is None
    assert found.evaluations >= 3


def test_a_clip_differs_by_its_noise_alone():
    # The noise of two frames, of which one is moved, and the rounding to 8 bits.
    (found,) = measure_temporal(lambda images: images, {"owl": photo(size=128)})

    assert found.clip == found.painted == pytest.approx(math.hypot(2, 2), rel=0.06)
    assert found.ratio == 1


def test_a_painting_that_moves_with_the_clip_is_steady_and_one_that_does_not_is_not():
    generator = np.random.default_rng(0)
    texture = generator.random((1, 3, 200, 200), dtype=np.float32)

    def contrast(images: np.ndarray) -> np.ndarray:
        return np.clip(images * 2 - 0.5, 0.02, 0.98)

    def curtain(images: np.ndarray) -> np.ndarray:
        """A texture that stays on the screen."""
        return 0.5 * images + 0.5 * texture[..., : images.shape[2], : images.shape[3]]

    def boiling(images: np.ndarray) -> np.ndarray:
        return images + generator.normal(0, 0.1, images.shape).astype(np.float32)

    photos = {"owl": photo(size=128)}
    steady, hung, boiled = (measure_temporal(style, photos)[0].ratio for style in (contrast, curtain, boiling))

    assert steady < 3  # noise twice as strong, and edges sharpened by clipping
    assert hung > 10
    assert boiled == pytest.approx(math.hypot(25.5, 2) / 2, rel=0.15)


def test_a_grid_that_stays_on_the_screen_is_seen():
    def screened(images: np.ndarray) -> np.ndarray:
        marked = images.copy()
        marked[..., ::4, ::4] = 1
        return marked

    (found,) = measure_temporal(screened, {"owl": photo(size=96)})

    assert found.ratio > 5


@pytest.mark.parametrize("size", [32, 45])
def test_small_photos_can_be_panned_over(size):
    (found,) = measure_temporal(lambda images: images, {"owl": photo(size=size)})

    assert 1 < found.clip < 6


@pytest.mark.parametrize(
    ("counts", "middle"), [([3, 9, 4], 4), ([3, 4], 3.5), ([3, None, 4], 4), ([3, None], None), ([None], None)]
)
def test_the_median_takes_what_was_not_reached_for_infinite(counts, middle):
    scores = [PhotoScore("a", 1, 1, 1, 3, 1, 1, Equivalent(count, 10), Equivalent(count, 20)) for count in counts]
    found = Evaluation("a", "base", "a.jpg", SETTINGS, 64, 10, scores)

    assert found.median("from_noise") == Equivalent(middle, 10)
    assert found.median("from_content") == Equivalent(middle, 20)


def test_the_middle_of_a_photo_is_taken(tmp_path):
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, 32:96] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")

    middle = read_photo(tmp_path / "a.png", 32)

    assert (middle.shape, middle.dtype) == ((1, 3, 32, 32), np.float32)
    assert middle[..., 2:-2].min() > 0.99


def test_the_first_photos_are_taken_and_damaged_ones_reported(tmp_path):
    for name in ("c", "a", "d"):
        Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / f"{name}.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "e.jpg").write_text("no picture")
    (tmp_path / "notes.txt").write_text("of nobody's interest")

    photos, failed = read_photos(tmp_path, 32, 2)

    assert list(photos) == ["a.png", "c.png"]
    assert [path.name for path in failed] == ["e.jpg", "b.png"]
    assert all(path.name in reason for path, reason in failed.items())


def test_settings_are_those_of_the_training_unless_the_options_say_else(trained):
    settings = LossSettings.of(load_checkpoint(trained)[1])

    assert settings == SETTINGS
    assert settings.replaced(options()) == SETTINGS
    assert settings.replaced(options(style_weight=7.0)).weights == LossWeights(1, 7, 0.05)
    assert settings.replaced(options(loss="paper")).weights == DEFAULT_WEIGHTS["paper"]
    assert settings.replaced(options(vgg="vgg19", pooling="average", style_size=512)) == replace(
        SETTINGS, vgg="vgg19", pooling="average", style_size=512
    )


def test_another_form_of_weighing_comes_with_its_own_layers(trained):
    settings = LossSettings.of(load_checkpoint(trained)[1])

    assert settings.replaced(options(loss="paper")).style_layers == DEFAULT_STYLE_LAYERS["paper"]
    assert settings.replaced(options(loss="paper", style_layers=("relu2_2",))).style_layers == ("relu2_2",)
    assert LossSettings.default("relative").style_layers == ("relu1_2:4", "relu2_2:4", "relu3_3")


def test_weights_of_layers_are_those_of_the_score(trained):
    def style(*layers):
        (evaluation,) = evaluate([trained], {"owl": photo()}, options(style_layers=layers, style_weight=1))
        return evaluation.mean["style"]

    assert style("relu1_2:3", "relu2_2") == pytest.approx((3 * style("relu1_2") + style("relu2_2")) / 4, rel=1e-5)


def test_a_style_without_metadata_is_refused(checkpoint):
    with pytest.raises(ModelError, match=r"random\.safetensors does not say with which loss it was trained"):
        evaluate([checkpoint], {"owl": photo()}, options())


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "l1"},
        {"style_size": "large"},
        {"style_size": 0},
        {"content_layers": 3},
        {"pooling": None},
        {"vgg": None},
    ],
)
def test_damaged_metadata_is_refused(trained, changes):
    _, meta = load_checkpoint(trained)
    train = {name: value for name, value in (meta.train | changes).items() if name != "vgg" or value}

    with pytest.raises(ModelError, match="does not say with which loss it was trained"):
        LossSettings.of(replace(meta, train=train))


def test_what_is_wrong_with_the_last_style_is_said_before_any_work(trained):
    with pytest.raises(UsageError, match="no bundled style 'great-wav'"):
        evaluate([trained, "great-wav"], {"owl": photo()}, options(), pytest.fail)


def test_a_missing_painting_is_an_error_that_names_the_remedy(trained, tmp_path):
    with pytest.raises(InputError, match=r"great-wave\.jpg of .* is not there; name it with --style-image"):
        evaluate([trained], {"owl": photo()}, replace(options(), style_image=tmp_path))


@pytest.mark.parametrize("name", ["size", "photos", "iterations"])
def test_nothing_to_do_is_wrong_usage(name):
    with pytest.raises(UsageError, match=f"--{name} is 0"):
        EvaluateOptions(content=PHOTOS, **{name: 0})


def test_an_exported_style_scores_like_its_checkpoint():
    exported = bundled_style("great-wave").onnx

    found = evaluate(["great-wave", exported], {"owl": photo()}, options(style_size=64))

    assert found[0].settings == found[1].settings
    assert found[0].mean == pytest.approx(found[1].mean, rel=1e-2)
    assert [one.painting for one in found] == ["great-wave.jpg"] * 2


def test_a_bundled_style_beside_lbfgs_as_json(capsys):
    arguments = ["evaluate", "great-wave", "--content", PHOTOS, "--style-image", PAINTING, "--size", 64, "--photos", 2]

    status = main([*map(str, arguments), "--lbfgs", "--iterations", "2", "--style-size", "64", "--json", "-q"])

    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    found = json.loads(out, parse_constant=pytest.fail)
    (style,) = found["styles"]
    assert found["failed"] == []
    assert style.keys() == set(Evaluation.__dataclass_fields__) | {"mean", "median"}
    assert (style["style"], style["painting"], style["size"], style["iterations"]) == (
        "great-wave",
        PAINTING.name,
        64,
        2,
    )
    assert style["settings"]["style_size"] == 64
    assert style["settings"]["weights"].keys() == {"content", "style", "tv"}
    assert [score["photo"] for score in style["photos"]] == sorted(path.name for path in PHOTOS.glob("*.jpg"))[:2]
    for score in style["photos"]:
        assert score.keys() == set(PhotoScore.__dataclass_fields__)
        assert score["total"] == pytest.approx(score["content"] + score["style"] + score["tv"])
        for start in ("from_noise", "from_content"):
            assert score[start]["iterations"] in (None, 0, 1, 2)
            assert score[start]["evaluations"] >= 1
    assert style["mean"]["total"] == pytest.approx(math.fsum(score["total"] for score in style["photos"]) / 2)
    assert style["median"].keys() == {"from_noise", "from_content"}


def test_the_share_of_the_way_to_the_optimum_is_measured_with_it(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    command = ["evaluate", trained, "--content", PHOTOS, "--style-image", PAINTING, "--photos", "1", "--size", "48"]
    command = [*map(str, command), "--optimum", "--precision", "fp32"]

    assert main([*command, "--json"]) == 0
    (style,) = json.loads(capsys.readouterr().out)["styles"]
    assert main(command) == 0

    (score,) = style["photos"]
    optimum = score["optimum"]
    assert optimum["best"] < min(optimum["photo"], score["total"])
    closed = 100 * (optimum["photo"] - score["total"]) / (optimum["photo"] - optimum["best"])
    assert style["mean"]["closed"] == pytest.approx(closed)
    assert f"{closed:.4g}" in capsys.readouterr().out
    assert len(list(tmp_path.rglob("*.json"))) == 1


def test_temporal_numbers_are_those_of_both_engines_and_in_the_table(capsys):
    exported = bundled_style("great-wave").onnx
    arguments = ["evaluate", "great-wave", exported, "--content", PHOTOS, "--style-image", PAINTING, "--size", 64]
    arguments += ["--photos", 2, "--style-size", 64, "--temporal", "-q"]

    assert main([*map(str, arguments), "--json"]) == 0
    one, other = json.loads(capsys.readouterr().out)["styles"]
    assert main([*map(str, arguments)]) == 0

    table = capsys.readouterr().out
    assert one["mean"]["temporal"] == pytest.approx(other["mean"]["temporal"], rel=1e-2)
    assert one["mean"]["temporal"] > 1
    for score in one["photos"]:
        assert 2 < score["temporal"]["clip"] < 4
    assert one["mean"]["flicker"] == pytest.approx(sum(score["temporal"]["painted"] for score in one["photos"]) / 2)
    assert table.count("temporal") == table.count("flicker") == 3


def test_frames_of_a_clip_are_photos(tmp_path):
    frames = [Image.fromarray(np.full((60, 80, 3), level, np.uint8)) for level in range(0, 200, 20)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], duration=100, lossless=True)

    photos, failed = read_photos(tmp_path / "a.webp", 32, 2)

    assert failed == {}
    assert list(photos) == ["a.webp at 0.20 s", "a.webp at 0.70 s"]
    assert [round(float(pixels.mean()) * 255) for pixels in photos.values()] == [40, 140]


def test_tables_of_two_styles_and_a_damaged_photo_end_with_exit_status_1(trained, tmp_path, capsys):
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    arguments = ["evaluate", trained, trained, "--content", tmp_path, "--style-image", PAINTING, "--size", 32]

    status = main([*map(str, arguments), "--lbfgs", "--iterations", "1", "-q"])

    out, err = capsys.readouterr()
    assert status == 1
    assert "b.jpg" in err
    assert "style 2" in out
    assert "L-BFGS from noise" in out
    assert len([line for line in out.splitlines() if line.strip().startswith("a.png")]) == 2
    assert len([line for line in out.splitlines() if line.strip().startswith(str(trained))]) == 4


@pytest.mark.parametrize("files", [[], ["notes.txt"]])
def test_a_folder_without_photos_is_exit_status_4(files, tmp_path, capsys):
    for name in files:
        (tmp_path / name).write_text("text")

    assert main(["evaluate", "great-wave", "--content", str(tmp_path)]) == 4
    assert "no usable picture" in capsys.readouterr().err
