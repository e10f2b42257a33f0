"""Imported networks against the originals, built here anew from what is known of them and saved as they save."""

import hashlib
import json
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.material import PAINTINGS, PHOTOS
from helpers.networks import MAKERS, Examples, photo, randomized, save, wide
from torch import nn

from fastnst.config import DEFAULT_STYLE_LAYERS, EvaluateOptions, Family, ImportOptions
from fastnst.engine import OnnxEngine, TorchEngine
from fastnst.errors import ModelError, OutputError, UsageError
from fastnst.evaluate import evaluate
from fastnst.export import export
from fastnst.foreign.convert import import_model
from fastnst.foreign.projects import ORIGINS
from fastnst.info import describe
from fastnst.losses import DEFAULT_WEIGHTS
from fastnst.nets.spec import NetConfig
from fastnst.nets.torch_net import TransformerNet

GRAY = 1 / 255  # one gray level of 256
SIZES = [(64, 96), (61, 83), (34, 47)]  # height and width, also of no multiple of four


def stylized_by(family, net, image):
    """What the project makes of an image 0..1, before it is rounded to 8 bits, in the image's size.

    Sizes of no multiple of four come out larger, to the right and below, which is cut off. TensorFlow's zeros also move
    the picture by a pixel or two then, so there the image is first extended by reflection.
    """
    x = torch.from_numpy(image)
    height, width = x.shape[-2:]
    if family == "lengstrom":
        x = F.pad(x, [0, -width % 4, 0, -height % 4], mode="reflect")
    with torch.inference_mode():
        stylized = MAKERS[family][1](net, x)[..., :height, :width].clamp(0, 1).numpy()
    assert stylized.std() > 0.05  # a picture, not a plain color, on which anything would agree
    return stylized


def test_every_family_has_an_original_here():
    assert set(ORIGINS) == set(get_args(Family)) == set(MAKERS)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("family", MAKERS)
def test_an_imported_network_paints_what_the_original_paints(originals, family, size):
    net, _, checkpoint = originals(family)
    image = photo(*size)

    stylized = TorchEngine(checkpoint, "cpu")(image)

    np.testing.assert_allclose(stylized, stylized_by(family, net, image), rtol=0, atol=0.1 * GRAY)


@pytest.mark.parametrize("family", MAKERS)
def test_an_imported_network_is_exported_and_paints_the_same(originals, family, tmp_path):
    net, _, checkpoint = originals(family)
    image = photo(61, 83)

    exported = export(checkpoint, tmp_path / "style.onnx").path

    stylized = OnnxEngine(exported, "cpu")(image)
    np.testing.assert_allclose(stylized, stylized_by(family, net, image), rtol=0, atol=GRAY)
    assert describe(exported)["origin"]["family"] == family


@pytest.mark.parametrize("family", MAKERS)
def test_an_imported_network_paints_the_same_in_bands(originals, family):
    net, _, checkpoint = originals(family)
    image = photo(61, 83)
    rgb = np.rint(image[0].transpose(1, 2, 0) * 255).astype(np.uint8)

    stylized = TorchEngine(checkpoint, "cpu").banded.stylize(rgb, 32) / 255

    np.testing.assert_allclose(stylized.transpose(2, 0, 1)[None], stylized_by(family, net, image), rtol=0, atol=GRAY)


@pytest.mark.parametrize("photograph", sorted(path.name for path in PHOTOS.glob("*.jpg"))[:4])
def test_a_wide_network_paints_real_photographs_as_the_original(tmp_path, photograph):
    net = wide(Examples(widths=(32, 64, 128)))
    source = save("pytorch-examples", net, tmp_path)
    checkpoint = import_model(source, tmp_path / "a.safetensors").path
    image = photo(121, 163, photograph)

    stylized = TorchEngine(checkpoint, "cpu")(image)

    np.testing.assert_allclose(stylized, stylized_by("pytorch-examples", net, image), rtol=0, atol=0.1 * GRAY)


@pytest.mark.parametrize(("widths", "blocks", "kernel"), [((4, 4, 4), 5, 9), ((16, 32, 64), 3, 5), ((8, 8, 8), 7, 9)])
def test_width_depth_and_kernels_are_read_off_the_weights(tmp_path, widths, blocks, kernel):
    net = wide(Examples(widths=widths, blocks=blocks, kernel=kernel))
    image = photo(40, 52)

    imported = import_model(save("pytorch-examples", net, tmp_path), tmp_path / "a.safetensors")

    assert (imported.net.channels, imported.net.blocks, imported.net.kernels) == (widths, blocks, (kernel, kernel))
    stylized = TorchEngine(imported.path, "cpu")(image)
    np.testing.assert_allclose(stylized, stylized_by("pytorch-examples", net, image), rtol=0, atol=0.1 * GRAY)


def test_weights_of_half_precision_are_read(tmp_path):
    net = wide(Examples()).half()

    imported = import_model(save("pytorch-examples", net, tmp_path), tmp_path / "a.safetensors")

    image = photo(40, 52)
    expected = stylized_by("pytorch-examples", net.float(), image)
    np.testing.assert_allclose(TorchEngine(imported.path, "cpu")(image), expected, rtol=0, atol=0.1 * GRAY)


def test_values_and_order_can_be_told(tmp_path):
    net = randomized(Examples(), 0.25, 0.5)
    source = save("pytorch-examples", net, tmp_path)
    image = photo(40, 52)

    imported = import_model(source, tmp_path / "a.safetensors", ImportOptions(values="1", order="bgr"))

    with torch.inference_mode():
        expected = net(torch.from_numpy(image).flip(1)).flip(1).clamp(0, 1).numpy()
    np.testing.assert_allclose(TorchEngine(imported.path, "cpu")(image), expected, rtol=0, atol=0.1 * GRAY)


def test_zeros_around_layers_and_a_mean_to_subtract_do_not_go_together(originals, tmp_path):
    _, source, _ = originals("lengstrom")

    with pytest.raises(UsageError, match="--values imagenet is invalid"):
        import_model(source, tmp_path / "a.safetensors", ImportOptions(values="imagenet"))


def test_a_checkpoint_says_where_it_came_from(run, originals, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, source, _ = originals("pytorch-examples")
    told = ["--name", "candy", "--credit", "pytorch/examples, BSD-3-Clause"]

    status, out, err = run("import", source, "-o", "candy.safetensors", *told)

    assert (status, err) == (0, "")
    assert out.startswith("candy.safetensors: a network of pytorch/examples fast_neural_style, 8, 12, 16 channels, 5 b")
    description = json.loads(run("info", "candy.safetensors", "--json")[1])
    sha = hashlib.sha256(source.read_bytes()).hexdigest()
    assert description["style"] == {"name": "candy", "credit": "pytorch/examples, BSD-3-Clause"}
    assert description["origin"] == {
        "project": "pytorch/examples fast_neural_style",
        "family": "pytorch-examples",
        "file": "style.pth",
        "sha256": sha,
    }
    assert "family pytorch-examples" in run("info", "candy.safetensors")[1]
    stylized = run("stylize", PHOTOS / "cat.jpg", "-o", "out.png", "--max-size", 64, "-s", "candy.safetensors")
    assert stylized == (0, "out.png\n", "")


def changed(weights, kind):
    weights = dict(weights)
    if kind == "missing":
        del weights["res3.in2.bias"]
    elif kind == "unknown":
        weights["attention.weight"] = torch.zeros(3)
    elif kind == "shape":
        weights["res3.conv1.conv2d.weight"] = torch.zeros(16, 16, 5, 5)
    elif kind == "norm":
        weights["in2.weight"] = torch.zeros(13)
    elif kind == "not a number":
        weights["res1.conv1.conv2d.weight"] = torch.full((16, 16, 3, 3), torch.nan)
    elif kind == "even kernel":
        weights["conv1.conv2d.weight"] = torch.zeros(8, 3, 4, 4)
    elif kind == "running":
        weights["in1.num_batches_tracked"] = torch.tensor(5)
    elif kind == "flat":
        weights["conv2.conv2d.weight"] = torch.zeros(12)
    elif kind == "complex":
        weights["in2.weight"] = torch.zeros(12, dtype=torch.complex64)
    elif kind == "others":
        weights = {f"features.{i}.weight": torch.zeros(3) for i in range(4)}
    elif kind == "none":
        weights = {"epoch": 3}
    return weights


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", r"has no res3\.in2\.bias, which a network of pytorch/examples .* needs"),
        ("unknown", r"has attention\.weight, which no network of pytorch/examples .* has"),
        ("shape", r"res3\.conv1\.conv2d\.weight is \(16, 16, 5, 5\) but must be \(16, 16, 3, 3\)"),
        ("norm", r"in2\.weight is \(13,\) but must be \(12,\)"),
        ("not a number", r"res1\.conv1\.conv2d\.weight holds values that are not finite"),
        ("even kernel", "holds a network that fastnst cannot build"),
        ("running", r"normalizes with running statistics \(in1\.num_batches_tracked\)"),
        ("flat", r"conv2\.conv2d\.weight is \(12,\) but must be a convolution's"),
        ("complex", r"in2\.weight is no plain tensor"),
        ("others", r"features\.0\.weight, .*none of the networks that can be imported: those of pytorch/examples, rrm"),
        ("none", "holds no named weights"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(originals, tmp_path, kind, reason):
    net, _, _ = originals("pytorch-examples")
    torch.save(changed(net.state_dict(), kind), tmp_path / "a.pth")

    with pytest.raises(ModelError, match=reason):
        import_model(tmp_path / "a.pth", tmp_path / "b.safetensors")

    assert not (tmp_path / "b.safetensors").exists()


def test_the_weights_of_one_family_are_refused_as_those_of_another(originals, tmp_path):
    _, source, _ = originals("igreat")

    with pytest.raises(ModelError, match=r"has no ConvBlock\.0\.conv_layer\.weight, which a network of rrmina"):
        import_model(source, tmp_path / "a.safetensors", ImportOptions(family="rrmina"))


def test_outputs_are_checked_before_anything_is_read(originals, tmp_path):
    _, source, _ = originals("pytorch-examples")
    taken = tmp_path / "a.safetensors"
    taken.write_bytes(b"mine")

    with pytest.raises(OutputError, match="exists already"):
        import_model(source, taken)
    with pytest.raises(UsageError, match=r"must end in \.safetensors"):
        import_model(source, tmp_path / "a.pth")

    assert taken.read_bytes() == b"mine"
    assert import_model(source, taken, ImportOptions(overwrite=True)).path == taken


def test_a_middle_of_zero_makes_black_of_what_tanh_has_below():
    net = TransformerNet(NetConfig(channels=(4, 4), blocks=0, gain=1, reach=150 / 255, middle=0, even_out=False))
    nn.init.zeros_(net.paint.weight)
    nn.init.constant_(net.paint.bias, -1)

    with torch.inference_mode():
        assert net(torch.rand(1, 3, 16, 16)).max() == pytest.approx(150 / 255 * np.tanh(-1))


def test_evaluating_an_imported_style_says_that_its_loss_is_not_known(originals):
    _, _, checkpoint = originals("pytorch-examples")
    photos = {"cat": photo(64, 64)}
    options = EvaluateOptions(content=PHOTOS, style_image=PAINTINGS, device="cpu")

    with pytest.raises(
        ModelError, match=r"imported and does not say with which loss .*--loss relative --style-image FILE"
    ):
        evaluate([checkpoint], photos, options)
    with pytest.raises(ModelError, match="--style-image FILE"):  # a folder cannot tell which painting
        evaluate([checkpoint], photos, replace(options, loss="relative"))


def test_an_imported_style_is_evaluated_with_the_loss_that_is_given(originals):
    _, _, checkpoint = originals("pytorch-examples")
    painting = PAINTINGS / "great-wave.jpg"
    given = EvaluateOptions(content=PHOTOS, style_image=painting, device="cpu", loss="paper", style_size=64, size=64)

    (evaluation,) = evaluate([checkpoint], {"cat": photo(64, 64)}, given)

    assert (evaluation.settings.loss, evaluation.settings.weights) == ("paper", DEFAULT_WEIGHTS["paper"])
    assert (evaluation.settings.style_size, evaluation.settings.style_layers) == (64, DEFAULT_STYLE_LAYERS["paper"])
    assert np.isfinite(evaluation.mean["total"])
