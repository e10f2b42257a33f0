"""Pictures stylized in bands against the same pictures stylized whole, in both engines."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastnst.checkpoint import CheckpointMeta, save_checkpoint
from fastnst.engine import OnnxEngine, TorchEngine, open_engine
from fastnst.errors import ModelError, UsageError
from fastnst.export import export
from fastnst.image import to_array, to_pixels
from fastnst.nets import bands
from fastnst.nets.bands import BandedNetwork, Moments, memory_needed
from fastnst.nets.onnx_writer import OnnxGraph
from fastnst.nets.spec import PRESETS, NetConfig, layers
from fastnst.nets.torch_net import TransformerNet

from helpers.material import PHOTOS  # isort: skip

CONFIGS = {
    "paper": NetConfig(channels=(8, 8, 16), blocks=2),
    "half": NetConfig(channels=(8, 16), blocks=2, stride=2, kernels=(5, 9)),
    "grain": NetConfig(channels=(8, 16), blocks=1, stride=2, kernels=(5, 9), grain=0.05),
    "flat": NetConfig(channels=(8,), blocks=0),
    "margin": NetConfig(channels=(8, 8, 16), blocks=1, grain=0.05, margin=24),
    "margin of a half": NetConfig(channels=(8, 16), blocks=1, stride=2, kernels=(5, 9), margin=7),
    "nearest": NetConfig(channels=(8, 16), blocks=1, upsample="nearest", output="linear", even_out=False),
    "tensorflow": NetConfig(
        channels=(8, 8, 16), blocks=2, upsample="transposed", padding="same", even_out=False, center=0, last_norm=True
    ),
    "doubled": NetConfig(channels=(8, 16), blocks=2, skip=2.0),
}


@pytest.fixture(scope="module", params=CONFIGS)
def style(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, beside its ONNX file, with norms that do something."""
    torch.manual_seed(1)
    net = TransformerNet(CONFIGS[request.param])
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    path = tmp_path_factory.mktemp("tiled") / f"{request.param}.safetensors"
    save_checkpoint(path, net, CheckpointMeta("custom", net.config.to_json(), {"name": "random", "credit": ""}))
    export(path, path.with_suffix(".onnx"))
    return path


def photo(height: int, width: int) -> np.ndarray:
    with Image.open(PHOTOS / "castle.jpg") as picture:
        return np.ascontiguousarray(np.asarray(picture.convert("RGB"))[:height, :width])


def difference(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b).max())


@pytest.mark.parametrize("kept", [None, np.float16, np.float32], ids=["computed again", "half", "single"])
@pytest.mark.parametrize("suffix", [".onnx", ".safetensors"])
def test_bands_give_what_the_whole_gives(style, suffix, kept, monkeypatch):
    monkeypatch.setattr(bands._Pass, "_kept", lambda self, shape: kept)
    engine = open_engine(style.with_suffix(suffix))
    for height, width in [(131, 94), (16, 16), (17, 90), (33, 250)]:
        rgb = photo(height, width)
        whole = to_pixels(engine(to_array(rgb)))

        for tile in (16, 48, 1000):
            stylized = engine.banded.stylize(rgb, tile)

            assert stylized.shape == rgb.shape
            assert difference(stylized, whole) <= 1
            # Sums in another order, or rounding in every layer, but not another picture.
            assert (stylized != whole).mean() < (0.1 if kept is np.float16 else 0.01)


def test_statistics_that_are_known_give_the_same_in_one_pass(style):
    engine, rgb = open_engine(style), photo(120, 70)
    known = {}

    def learn(norm, mean, variance):
        known[norm] = mean, variance
        return mean, variance

    whole = engine.banded.stylize(rgb, 32, on_moments=learn)
    streamed = bands._Pass(engine.banded, rgb, 32, None, None).stream(known)

    assert list(known) == [layer.norm for layer in layers(engine.banded.config) if layer.norm]
    assert difference(streamed, whole) <= 1


def test_the_moments_that_come_back_are_those_used(style):
    engine, rgb = open_engine(style), photo(40, 40)

    changed = engine.banded.stylize(rgb, 32, on_moments=lambda _, mean, variance: (mean, variance * 4))

    assert difference(changed, engine.banded.stylize(rgb, 32)) > 3


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_bundled_styles_in_bands(preset, engine):
    names = {"base": "great-wave-base", "fast": "great-wave", "tiny": "great-wave-tiny"}
    style, rgb = open_engine(names[preset], engine), photo(203, 330)

    assert difference(style.banded.stylize(rgb, 100), to_pixels(style(to_array(rgb)))) <= 1


def test_a_thumbnail_gives_similar_statistics(monkeypatch):
    style, rgb = open_engine(), photo(400, 600)
    monkeypatch.setattr(bands, "THUMBNAIL", 300)
    shares = []

    stylized = style.banded.stylize(rgb, 128, "thumbnail", on_progress=shares.append).astype(int)

    away = np.abs(stylized - style.banded.stylize(rgb, 128))
    assert 0 < away.mean() < 12
    assert away.max() > 1
    assert shares[-1] == 1
    assert shares == sorted(shares)


def test_a_picture_smaller_than_the_thumbnail_is_its_own():
    style, rgb = open_engine("great-wave-tiny"), photo(90, 60)

    np.testing.assert_array_equal(style.banded.stylize(rgb, 64, "thumbnail"), style.banded.stylize(rgb, 64))


def test_progress_comes_to_the_end(style):
    shares = []

    open_engine(style).banded.stylize(photo(150, 60), 40, on_progress=shares.append)

    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert shares[-2] > 0.9


def test_memory_does_not_grow_with_the_height(monkeypatch):
    """But for the picture, the stylized one and the lowest resolution."""
    monkeypatch.setattr(bands, "KEPT", 0)
    style = open_engine("great-wave-tiny", "torch")
    rgb = photo(256, 128)
    peaks = []
    for times in (4, 16):
        tall = np.tile(rgb, (times, 1, 1))
        tracemalloc.start()
        style.banded.stylize(tall, 64)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    lowest = 2 * 4 * 32 / 16  # bytes a pixel: two pictures of 32 channels, a sixteenth of the pixels
    assert (peaks[1] - peaks[0]) / (12 * rgb.size / 3) < lowest + 2 * 3


def test_moments_are_those_of_everything_at_once():
    values = np.random.default_rng(0).normal(1000, [[0.01], [3.0]], (2, 900)).astype(np.float32)
    moments = Moments(2)
    for block in np.split(values, [100, 101, 500], axis=1):
        moments.add(block.reshape(2, 1, -1))

    exact = values.astype(np.float64)
    np.testing.assert_allclose(moments.mean, exact.mean(1), rtol=1e-9)
    np.testing.assert_allclose(moments.variance, exact.var(1), rtol=1e-3)


def test_a_constant_channel_has_no_negative_variance():
    moments = Moments(1)
    for _ in range(3):
        moments.add(np.full((1, 5, 7), 0.1, np.float32))

    assert 0 <= moments.variance[0] < 1e-12


@pytest.mark.parametrize(("height", "width"), [(30, 40), (31, 40), (30, 41), (31, 41)])
def test_a_last_layer_in_blocks_gives_each_pixel_of_an_odd_size(height, width):
    engine = open_engine("great-wave-base")
    *_, last = layers(engine.banded.config)
    rows = np.random.default_rng(0).normal(size=(32, height + 8, width + 8)).astype(np.float32)

    made = engine.banded.convolve(last, rows, None, True)

    weights = (torch.from_numpy(engine.banded.weights[name]) for name in (last.weight, last.bias))
    expected = torch.nn.functional.conv2d(torch.from_numpy(rows)[None].relu(), *weights)[0].numpy()
    assert made.shape == (3, height, width)
    np.testing.assert_allclose(made, expected, atol=1e-4)


def test_memory_needed_is_that_of_the_largest_layer():
    config = PRESETS["base"]

    assert memory_needed(config, 952, 952) == 3 * 4 * 1_000_000 * (32 + 16)  # 32 channels, then 64 of a quarter


def test_a_foreign_network_has_no_layers(tmp_path):
    graph = OnnxGraph()
    shape = ("N", 3, "H", "W")
    image = graph.input("image", np.float32, shape)
    graph.output(graph.add("Relu", image), np.float32, shape)
    path = tmp_path / "foreign.onnx"
    path.write_bytes(graph.to_bytes())

    with pytest.raises(UsageError, match="fastnst import"):
        _ = OnnxEngine(path).banded


def test_a_file_without_its_weights_names_is_to_be_exported_again(style, tmp_path):
    path = tmp_path / "old.onnx"
    path.write_bytes(style.with_suffix(".onnx").read_bytes().replace(b"down.0.conv.weight", b"down.0.conv.w_ight"))

    with pytest.raises(ModelError, match="export the style again"):
        _ = OnnxEngine(path).banded


def test_a_torch_style_takes_its_own_layers(style):
    assert isinstance(TorchEngine(style).banded, BandedNetwork)
