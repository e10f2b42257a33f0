import os
import signal

import numpy as np
import pytest
import torch
from helpers.material import PHOTOS
from PIL import Image

from fastnst.cli import main
from fastnst.config import FeatureOptions, FilterOptions
from fastnst.dream.filters import (
    STRONGEST,
    before_relu,
    brightness,
    draw,
    feature_sheet,
    filter_sheet,
    planned_filters,
    render,
    start,
    vary,
)
from fastnst.dream.objective import extract
from fastnst.errors import Interrupted, OutputError, UsageError
from fastnst.image import Picture, read_picture, resize, to_array
from fastnst.sheet import arrange
from fastnst.vgg import VGGFeatures

GAP, LABEL = 10, 34


def filters(**options: object) -> FilterOptions:
    small = {"layer": "relu1_2", "filters": "0-3", "size": 32, "iterations": 2, "precision": "fp32", "device": "cpu"}
    return FilterOptions(**{"output": "sheet.png", **small, **options})


def features(**options: object) -> FeatureOptions:
    return FeatureOptions(PHOTOS / "owl.jpg", **{"output": "sheet.png", "max_size": 64, "tile_size": 64, **options})


def size(rows: int, columns: int, height: int, width: int) -> tuple[int, int]:
    """Height and width of a sheet."""
    return GAP + rows * (height + LABEL + GAP), GAP + columns * (width + GAP)


def pixels(name: str) -> np.ndarray:
    with Image.open(name) as image:
        return np.asarray(image).astype(int)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_no_waves_are_gray():
    torch.testing.assert_close(render(torch.zeros(2, 3, 8, 5, 2), 8), torch.full((2, 3, 8, 8), 0.5))


def test_contrast_is_bounded():
    noise = torch.randn(1, 3, 32, 17, 2, generator=torch.Generator().manual_seed(0))

    torch.testing.assert_close(render(noise * 1e2, 32), render(noise * 1e6, 32), rtol=1e-3, atol=1e-4)


def test_noise_at_the_start_is_that_of_the_filter_alone():
    torch.testing.assert_close(start([3, 7, 9], filters())[1:2], start([7], filters()), rtol=0, atol=0)
    assert not torch.equal(start([7], filters()), start([7], filters(seed=1)))


def test_variations_keep_shape_and_range_and_do_not_return():
    random = torch.Generator().manual_seed(0)
    patterns = torch.rand(2, 3, 32, 32, generator=random)

    first, second = vary(patterns, 4, random), vary(patterns, 4, random)

    assert first.shape == second.shape
    assert first.min() >= 0
    assert first.max() <= 1
    assert (first - second).abs().mean() > 0.05


@pytest.mark.parametrize("layer", ["relu1_2", "conv2_2", "pool2"])
def test_patterns_excite_their_filters_more_and_more(layer):
    network = VGGFeatures([before_relu(layer)])
    options = filters(iterations=10)

    patterns = list(draw(network, layer, [0, 5, 9], options))

    assert len(patterns) == 10
    values = []
    for pictures in (patterns[0], patterns[-1]):
        maps = extract(network, pictures, network.layers, torch.float32)[before_relu(layer)]
        values.append(torch.stack([maps[index, number].mean() for index, number in enumerate([0, 5, 9])]))
    assert (values[1] > values[0]).all()


def test_filter_without_activation_at_the_start_is_drawn_through_the_convolution_below():
    assert before_relu("relu5_3") == "conv5_3"
    assert [before_relu(name) for name in ("pool3", "inception4c", "relu9_9")] == ["pool3", "inception4c", "relu9_9"]


def test_sheet_has_a_square_of_filters_or_a_row_for_each_layer(folder):
    told = []
    filter_sheet(filters(), told.append)
    filter_sheet(filters(output="rows.png", layer="relu1_1,relu1_2", filters="0-2"))

    assert told == [4, 4]
    assert pixels("sheet.png").shape[:2] == size(2, 3, 32, 32)
    assert pixels("rows.png").shape[:2] == size(2, 3, 32, 32)


def test_more_filters_than_a_batch_are_all_there(folder):
    filter_sheet(filters(filters="0-16", iterations=1, layer="relu1_1"))

    sheet = pixels("sheet.png")
    assert planned_filters(filters(filters="0-16"))[-1] == ("relu1_2", 16)
    assert sheet.shape[:2] == size(3, 6, 32, 32)
    top, left = (2 * (32 + LABEL + GAP) + GAP, 4 * (32 + GAP) + GAP)
    assert (sheet[top : top + 32, left : left + 32] < 255).any(axis=2).all()  # the seventeenth
    assert (sheet[top : top + 32, left + 32 + GAP :] == 255).all()


def test_same_seed_same_bytes(folder):
    paths = [filter_sheet(filters(output=f"{index}.png", seed=seed)) for index, seed in enumerate((1, 1, 2))]

    first, second, other = (path.read_bytes() for path in paths)
    assert first == second
    assert first != other


def test_interrupted_sheet_is_saved(folder):
    with pytest.raises(Interrupted, match=r"stopped by SIGINT; sheet\.png holds what was drawn so far"):
        filter_sheet(filters(), lambda _: signal.raise_signal(signal.SIGINT))

    assert pixels("sheet.png").shape[:2] == size(2, 3, 32, 32)


@pytest.mark.parametrize(
    ("text", "numbers"), [("7", (7,)), ("0,3,8-10", (0, 3, 8, 9, 10)), ("1,1,0-2", (1, 0, 2)), ("4-4", (4,))]
)
def test_filters_are_numbers_and_ranges_each_once(text, numbers):
    assert filters(filters=text).filters == numbers


@pytest.mark.parametrize("text", ["", "x", "3-1", "-1", "1,,2", "1-2-3", "1.5"])
def test_filters_that_are_none_are_a_usage_error(text):
    with pytest.raises(UsageError, match=r"--filters has .* but takes numbers and ranges"):
        filters(filters=text)


def test_no_filters_from_python_are_a_usage_error():
    with pytest.raises(UsageError, match="--filters"):
        filters(filters=())


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["filters", "--layer", "relu9_9"], 2, "relu9_9; choose from conv1_1, relu1_1"),
        (
            ["filters", "--layer", "relu1_2", "--filters", "3,64"],
            2,
            "relu1_2 has no filter 64; its filters are 0 to 63",
        ),
        (["filters", "--filters", "9-3"], 2, "'9-3'"),
        (["filters", "--size", "7"], 2, "--size is 7"),
        (["filters", "-o", "sheet.bmp"], 2, "must end in .jpg, .jpeg, .png, .webp"),
        (["filters", "-o", "taken.png"], 5, "--overwrite"),
        (["features", PHOTOS / "owl.jpg", "--layer", "relu9_9"], 2, "relu9_9; choose from conv1_1"),
        (["features", PHOTOS / "owl.jpg", "--filters", "500"], 2, "its filters are 0 to 127"),
        (["features", "none.jpg"], 4, "none.jpg"),
        (["features", PHOTOS / "owl.jpg", "--layer", "pool5", "--max-size", "40"], 4, "at least 32x32"),
        (["features", PHOTOS / "owl.jpg", "-o", "taken.png"], 5, "--overwrite"),
    ],
)
def test_exit_status_and_message(folder, capsys, arguments, status, message):
    (folder / "taken.png").touch()
    output = [] if "-o" in arguments else ["-o", "sheet.png"]

    done = main(["visualize", *map(os.fspath, arguments), *output, "--device", "cpu"])

    out, err = capsys.readouterr()
    assert (done, out) == (status, "")
    assert message in err
    assert os.listdir() == ["taken.png"]


def test_brightness_goes_from_nothing_to_the_strongest_hundredth():
    values = torch.cat([torch.tensor([-1.0, 0.0, 0.5]), torch.ones(197)]).view(20, 10)

    pixels = brightness(values)

    assert pixels.shape == (20, 10, 3)
    assert [int(pixels[0, index, 0]) for index in range(4)] == [0, 0, 128, 255]
    assert brightness(torch.zeros(4, 4)).max() == 0


def test_feature_sheet_shows_the_picture_and_the_filters_asked_for(folder):
    feature_sheet(features(filters="5,9"))

    picture = read_picture(PHOTOS / "owl.jpg", max_size=64)
    height, width = picture.size
    maps = VGGFeatures(["relu2_2"])(torch.from_numpy(to_array(picture.rgb)))["relu2_2"][0]
    shown = [picture, *(resize(Picture(brightness(maps[number])), height, width) for number in (5, 9))]
    sheet = pixels("sheet.png")
    assert sheet.shape[:2] == size(2, 2, height, width)
    for tile, (x, y) in zip(shown, [(0, 0), (1, 0), (0, 1)], strict=True):
        left, top = GAP + x * (width + GAP), GAP + y * (height + LABEL + GAP)
        # float32 in another order
        assert abs(sheet[top : top + height, left : left + width] - tile.rgb).max() <= 1


def test_feature_sheet_shows_the_strongest_filters_first(folder, capsys):
    picture = read_picture(PHOTOS / "owl.jpg", max_size=64)
    maps = VGGFeatures(["relu2_2"])(torch.from_numpy(to_array(picture.rgb)))["relu2_2"][0]
    strongest = maps.mean((1, 2)).topk(STRONGEST).indices.tolist()
    feature_sheet(features(output="named.png", filters=strongest))

    command = ["features", os.fspath(PHOTOS / "owl.jpg"), "-o", "sheet.png", "--max-size", "64", "--tile-size", "64"]
    assert main(["visualize", *command]) == 0

    assert capsys.readouterr().out == "sheet.png\n"
    assert (folder / "sheet.png").read_bytes() == (folder / "named.png").read_bytes()


def test_existing_sheet_is_replaced_only_if_told(folder):
    feature_sheet(features(filters="5"))
    with pytest.raises(OutputError, match="--overwrite"):
        feature_sheet(features(filters="5"))

    feature_sheet(features(filters="5", overwrite=True))


def test_sheet_has_the_number_of_columns_asked_for():
    tile = ("tile", Picture(np.zeros((20, 30, 3), np.uint8)))

    assert arrange([tile] * 5, columns=2).size == size(3, 2, 20, 30)
