"""Imported networks against the originals, built here anew from what is known of them and saved as they save."""

import hashlib
import io
import json
import os
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.material import PAINTINGS, PHOTOS
from helpers.networks import (
    WIDTHS,
    Examples,
    Reflecting,
    Wrapped,
    in_255,
    instance_norm,
    normalized,
    photo,
    randomized,
    wide,
)
from safetensors.torch import save_file
from torch import nn

from fastnst.checkpoint import load_checkpoint
from fastnst.cli import main
from fastnst.config import EvaluateOptions, Family, ImportOptions, TrainConfig
from fastnst.engine import OnnxEngine, TorchEngine
from fastnst.errors import InputError, ModelError, OutputError, UnsafeModelError, UsageError
from fastnst.evaluate import evaluate
from fastnst.export import export
from fastnst.foreign.convert import import_model
from fastnst.foreign.projects import ORIGINS
from fastnst.info import describe
from fastnst.losses import DEFAULT_WEIGHTS
from fastnst.nets.spec import NetConfig
from fastnst.nets.torch_net import TransformerNet

GRAY = 1 / 255  # one gray level of 256
MEAN, DEVIATION = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
SIZES = [(64, 96), (61, 83), (34, 47)]  # height and width, also of no multiple of four


class ScaleShift(nn.Module):
    """Instance normalization with other names and hardly an epsilon."""

    def __init__(self, channels):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, correction=0)
        return (x - mean) / (variance + 1e-9).sqrt() * self.scale[:, None, None] + self.shift[:, None, None]


class RrminaLayer(nn.Module):
    def __init__(self, inputs, outputs, kernel=3, stride=1, norm=True, transposed=False):
        super().__init__()
        self.margin = kernel // 2
        if transposed:
            self.conv_transpose = nn.ConvTranspose2d(inputs, outputs, kernel, 2, self.margin, 1)
        else:
            self.conv_layer = nn.Conv2d(inputs, outputs, kernel, stride)
        if norm:
            self.norm_layer = instance_norm(outputs)

    def forward(self, x):
        if hasattr(self, "conv_transpose"):
            x = self.conv_transpose(x)
        else:
            x = self.conv_layer(F.pad(x, [self.margin] * 4, mode="reflect"))
        return self.norm_layer(x) if hasattr(self, "norm_layer") else x


class RrminaBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1, self.conv2 = RrminaLayer(channels, channels), RrminaLayer(channels, channels)

    def forward(self, x):
        return self.conv2(self.conv1(x).relu()) + x


class Rrmina(nn.Module):
    def __init__(self, tanh=False):
        super().__init__()
        a, b, c = WIDTHS
        down = [RrminaLayer(3, a, 9), RrminaLayer(a, b, stride=2), RrminaLayer(b, c, stride=2)]
        self.ConvBlock = nn.Sequential(*(part for layer in down for part in (layer, nn.ReLU())))
        self.ResidualBlock = nn.Sequential(*(RrminaBlock(c) for _ in range(5)))
        up = [RrminaLayer(c, b, transposed=True), RrminaLayer(b, a, transposed=True)]
        end = [RrminaLayer(a, 3, 9, norm=False), *([nn.Tanh()] if tanh else [])]
        self.DeconvBlock = nn.Sequential(*(part for layer in up for part in (layer, nn.ReLU())), *end)
        self.scale = 150 if tanh else 1

    def forward(self, x):
        return self.DeconvBlock(self.ResidualBlock(self.ConvBlock(x))) * self.scale


class Igreat(nn.Module):
    def __init__(self):
        super().__init__()
        a, b, c = WIDTHS

        def upsampled(inputs, outputs):
            return Wrapped("conv", Reflecting("conv", inputs, outputs, 3, factor=2))

        self.layers = nn.Sequential(
            *(Reflecting("conv", 3, a, 9), instance_norm(a), nn.ReLU()),
            *(Reflecting("conv", a, b, 3, 2), instance_norm(b), nn.ReLU()),
            *(Reflecting("conv", b, c, 3, 2), instance_norm(c), nn.ReLU()),
            *(IgreatBlock(c) for _ in range(5)),
            *(upsampled(c, b), instance_norm(b), nn.ReLU()),
            *(upsampled(b, a), instance_norm(a), nn.ReLU()),
            Reflecting("conv", a, 3, 9),
        )

    def forward(self, x):
        return self.layers(x)


class IgreatBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1, self.conv2 = (Reflecting("conv", channels, channels, 3) for _ in range(2))
        self.instance_norm1, self.instance_norm2 = instance_norm(channels), instance_norm(channels)

    def forward(self, x):
        return self.instance_norm2(self.conv2(self.instance_norm1(self.conv1(x)).relu())) + x


class ErikLayer(nn.Module):
    def __init__(self, inputs, outputs, kernel=3, stride=1, upsample=False, norm=True, relu=True):
        super().__init__()
        self.block = nn.Sequential(nn.ReflectionPad2d(kernel // 2), nn.Conv2d(inputs, outputs, kernel, stride))
        self.norm = instance_norm(outputs) if norm else None
        self.upsample, self.relu = upsample, relu

    def forward(self, x):
        x = self.block(F.interpolate(x, scale_factor=2) if self.upsample else x)
        x = x if self.norm is None else self.norm(x)
        return x.relu() if self.relu else x


class ErikBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.block = nn.Sequential(ErikLayer(channels, channels), ErikLayer(channels, channels, relu=False))

    def forward(self, x):
        return self.block(x) + x


class Erik(nn.Module):
    def __init__(self):
        super().__init__()
        a, b, c = WIDTHS
        self.model = nn.Sequential(
            *(ErikLayer(3, a, 9), ErikLayer(a, b, stride=2), ErikLayer(b, c, stride=2)),
            *(ErikBlock(c) for _ in range(5)),
            *(ErikLayer(c, b, upsample=True), ErikLayer(b, a, upsample=True)),
            ErikLayer(a, 3, 9, norm=False, relu=False),
        )

    def forward(self, x):
        return self.model(x)


class Lengstrom:
    """TensorFlow's network in numpy's layout: variables by name, zeros around as its SAME puts them."""

    def __init__(self):
        random = np.random.default_rng(4)
        a, b, c = WIDTHS
        shapes = [(9, 9, 3, a), (3, 3, a, b), (3, 3, b, c), *[(3, 3, c, c)] * 10, (3, 3, b, c), (3, 3, a, b)]
        shapes.append((9, 9, a, 3))
        self.variables = {}
        for n, shape in enumerate(shapes):
            outputs = shape[2] if n in (13, 14) else shape[3]
            values = (0.1 * random.standard_normal(shape), 0.3 * random.standard_normal(outputs))
            for i, value in enumerate((*values, random.uniform(0.3, 1.7, outputs))):
                number = 3 * n + i
                self.variables[f"Variable_{number}" if number else "Variable"] = value.astype(np.float32)

    def __call__(self, image):
        x, n = image, 0

        def normalized(x, relu):
            shift, scale = (torch.from_numpy(self.variables[f"Variable_{3 * n + i}"]) for i in (1, 2))
            mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, correction=0)
            x = scale[:, None, None] * (x - mean) / (variance + 1e-3) ** 0.5 + shift[:, None, None]
            return x.relu() if relu else x

        def convolution(x, stride=1, relu=True):
            nonlocal n
            kernel = torch.from_numpy(self.variables[f"Variable_{3 * n}" if n else "Variable"]).permute(3, 2, 0, 1)
            pads = []
            for side in (x.shape[3], x.shape[2]):
                total = max((-(-side // stride) - 1) * stride + kernel.shape[-1] - side, 0)
                pads += [total // 2, total - total // 2]
            x = normalized(F.conv2d(F.pad(x, pads), kernel, stride=stride), relu)
            n += 1
            return x

        def transposed(x):
            nonlocal n
            kernel = torch.from_numpy(self.variables[f"Variable_{3 * n}"]).permute(3, 2, 0, 1)  # inputs, outputs
            x = normalized(F.conv_transpose2d(x, kernel, stride=2)[..., :-1, :-1], relu=True)
            n += 1
            return x

        x = convolution(convolution(convolution(x), 2), 2)
        for _ in range(5):
            x = x + convolution(convolution(x), relu=False)
        x = convolution(transposed(transposed(x)), relu=False)
        return torch.tanh(x) * 150 + 127.5


def in_bgr(net, x):
    return net(x.flip(1) * 255).flip(1) / 255


def in_imagenet(net, x):
    return net((x - MEAN) / DEVIATION) * DEVIATION + MEAN


MAKERS = {
    "pytorch-examples": (lambda: wide(Examples()), in_255),
    "rrmina": (lambda: wide(Rrmina()), in_bgr),
    "rrmina-tanh": (lambda: randomized(Rrmina(tanh=True), 1, 0.5), in_bgr),
    "gordicaleksa": (lambda: normalized(Examples("up")), in_imagenet),
    "igreat": (lambda: normalized(Igreat()), in_imagenet),
    "eriklindernoren": (lambda: normalized(Erik()), in_imagenet),
    "lengstrom": (Lengstrom, in_255),
    "yakhyo": (lambda: wide(Examples("upsample_conv", times=2)), in_255),
    "yakhyo-once": (lambda: wide(Examples("upsample_conv")), in_255),
    "abhiskk": (lambda: wide(Examples(norm=ScaleShift)), in_bgr),
}
TOLD = {"rrmina-tanh", "yakhyo-once"}  # whose keys are another's


def save(family, net, folder):
    """As the project saves it."""
    if family == "lengstrom":
        return dump(net.variables, folder / "wave")
    weights = net.state_dict()
    if family == "gordicaleksa":
        weights = {"state_dict": weights, "content_weight": 1.0, "commit_hash": "abc", "num_of_epochs": 2}
    if family == "igreat":
        weights = {"model_state_dict": weights, "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 1e-3}]}}
    path = folder / ("style.model" if family == "abhiskk" else "style.pth")
    torch.save(weights, path)
    return path


def dump(variables, folder):
    """As deeplearn.js dumps a checkpoint of TensorFlow."""
    folder.mkdir()
    for name, values in variables.items():
        (folder / name).write_bytes(values.tobytes())
    manifest = {name: {"filename": name, "shape": list(values.shape)} for name, values in variables.items()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Family -> the original network, its file, and the checkpoint that was imported from it; made once."""
    made = {}

    def of(family):
        if family not in made:
            folder = tmp_path_factory.mktemp("foreign")
            net = MAKERS[family][0]()
            source = save(family, net, folder)
            options = ImportOptions(family=family if family in TOLD else None)
            imported = import_model(source, folder / "style.safetensors", options)
            assert imported.family == family
            made[family] = net, source, imported.path
        return made[family]

    return of


def painted_by(family, net, image):
    """What the project makes of an image 0..1, before it is rounded to 8 bits, in the image's size.

    Sizes of no multiple of four come out larger, to the right and below, which is cut off. TensorFlow's zeros also move
    the picture by a pixel or two then, so there the image is first extended by reflection.
    """
    x = torch.from_numpy(image)
    height, width = x.shape[-2:]
    if family == "lengstrom":
        x = F.pad(x, [0, -width % 4, 0, -height % 4], mode="reflect")
    with torch.inference_mode():
        painted = MAKERS[family][1](net, x)[..., :height, :width].clamp(0, 1).numpy()
    assert painted.std() > 0.05  # a picture, not a plain color, on which anything would agree
    return painted


def test_every_family_has_an_original_here():
    assert set(ORIGINS) == set(get_args(Family)) == set(MAKERS)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("family", MAKERS)
def test_an_imported_network_paints_what_the_original_paints(originals, family, size):
    net, _, checkpoint = originals(family)
    image = photo(*size)

    painted = TorchEngine(checkpoint, "cpu")(image)

    np.testing.assert_allclose(painted, painted_by(family, net, image), rtol=0, atol=0.1 * GRAY)


@pytest.mark.parametrize("family", MAKERS)
def test_an_imported_network_is_exported_and_paints_the_same(originals, family, tmp_path):
    net, _, checkpoint = originals(family)
    image = photo(61, 83)

    exported = export(checkpoint, tmp_path / "style.onnx").path

    painted = OnnxEngine(exported, "cpu")(image)
    np.testing.assert_allclose(painted, painted_by(family, net, image), rtol=0, atol=GRAY)
    assert describe(exported)["origin"]["family"] == family


@pytest.mark.parametrize("family", MAKERS)
def test_an_imported_network_paints_the_same_in_bands(originals, family):
    net, _, checkpoint = originals(family)
    image = photo(61, 83)
    rgb = np.rint(image[0].transpose(1, 2, 0) * 255).astype(np.uint8)

    painted = TorchEngine(checkpoint, "cpu").tiler.stylize(rgb, 32) / 255

    np.testing.assert_allclose(painted.transpose(2, 0, 1)[None], painted_by(family, net, image), rtol=0, atol=GRAY)


@pytest.mark.parametrize("photograph", sorted(path.name for path in PHOTOS.glob("*.jpg"))[:4])
def test_a_wide_network_paints_real_photographs_as_the_original(tmp_path, photograph):
    net = wide(Examples(widths=(32, 64, 128)))
    source = save("pytorch-examples", net, tmp_path)
    checkpoint = import_model(source, tmp_path / "a.safetensors").path
    image = photo(121, 163, photograph)

    painted = TorchEngine(checkpoint, "cpu")(image)

    np.testing.assert_allclose(painted, painted_by("pytorch-examples", net, image), rtol=0, atol=0.1 * GRAY)


@pytest.mark.parametrize(("widths", "blocks", "kernel"), [((4, 4, 4), 5, 9), ((16, 32, 64), 3, 5), ((8, 8, 8), 7, 9)])
def test_width_depth_and_kernels_are_read_off_the_weights(tmp_path, widths, blocks, kernel):
    net = wide(Examples(widths=widths, blocks=blocks, kernel=kernel))
    image = photo(40, 52)

    imported = import_model(save("pytorch-examples", net, tmp_path), tmp_path / "a.safetensors")

    assert (imported.net.channels, imported.net.blocks, imported.net.kernels) == (widths, blocks, (kernel, kernel))
    painted = TorchEngine(imported.path, "cpu")(image)
    np.testing.assert_allclose(painted, painted_by("pytorch-examples", net, image), rtol=0, atol=0.1 * GRAY)


def same_weights(path, other):
    a, b = (load_checkpoint(p)[0].state_dict() for p in (path, other))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def running_statistics(weights):
    """As torch before 0.4 saved instance normalization."""
    norms = [name.removesuffix(".weight") for name in weights if ".in" in f".{name}" and name.endswith(".weight")]
    extra = {
        f"{name}.running_{kind}": torch.rand(len(weights[f"{name}.weight"]))
        for name in norms
        for kind in ("mean", "var")
    }
    assert len(extra) == 30
    return OrderedDict({**weights, **extra})


WRAPPINGS = {
    "zip": lambda weights, path: torch.save(weights, path),
    "legacy": lambda weights, path: torch.save(weights, path, _use_new_zipfile_serialization=False),
    "legacy of protocol 3": lambda weights, path: torch.save(
        weights, path, pickle_protocol=3, _use_new_zipfile_serialization=False
    ),
    "running statistics": lambda weights, path: torch.save(running_statistics(weights), path),
    "running statistics, legacy": lambda weights, path: torch.save(
        running_statistics(weights), path, _use_new_zipfile_serialization=False
    ),
    "several GPUs": lambda weights, path: torch.save({f"module.{k}": v for k, v in weights.items()}, path),
    "training state": lambda weights, path: torch.save(
        {"epoch": 3, "optimizer": {"state": {}, "param_groups": []}, "model": weights, "loss": torch.tensor(1.0)}, path
    ),
    "parameters": lambda weights, path: torch.save({k: nn.Parameter(v) for k, v in weights.items()}, path),
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("suffix", [".pth", ".model"])
def test_the_same_weights_are_read_however_they_were_saved(originals, tmp_path, wrapping, suffix):
    net, _, checkpoint = originals("pytorch-examples")
    source = tmp_path / f"candy{suffix}"
    WRAPPINGS[wrapping](net.state_dict(), source)

    imported = import_model(source, tmp_path / "a.safetensors")

    assert same_weights(imported.path, checkpoint)


def test_weights_of_half_precision_are_read(tmp_path):
    net = wide(Examples()).half()

    imported = import_model(save("pytorch-examples", net, tmp_path), tmp_path / "a.safetensors")

    image = photo(40, 52)
    expected = painted_by("pytorch-examples", net.float(), image)
    np.testing.assert_allclose(TorchEngine(imported.path, "cpu")(image), expected, rtol=0, atol=0.1 * GRAY)


@pytest.mark.parametrize("names", ["plain", "tensorflow"])
def test_a_lengstrom_network_is_read_from_an_npz_file(originals, tmp_path, names):
    net, _, checkpoint = originals("lengstrom")
    ending = "" if names == "plain" else ":0"
    arrays = {f"{name}{ending}": values for name, values in net.variables.items()}
    np.savez_compressed(tmp_path / "wave.npz", **arrays, **{"beta1_power": np.float32(0.9)})

    imported = import_model(tmp_path / "wave.npz", tmp_path / "a.safetensors")

    assert same_weights(imported.path, checkpoint)


def test_weights_in_a_safetensors_file_are_read(originals, tmp_path):
    net, _, checkpoint = originals("rrmina")
    save_file(dict(net.state_dict()), tmp_path / "rr.safetensors")

    assert same_weights(import_model(tmp_path / "rr.safetensors", tmp_path / "a.safetensors").path, checkpoint)


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


def run(capsys, *words):
    """Exit status, standard output and standard error of a command line."""
    status = main([str(word) for word in words])
    return (status, *capsys.readouterr())


def test_a_checkpoint_says_where_it_came_from(capsys, originals, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, source, _ = originals("pytorch-examples")
    told = ["--name", "candy", "--credit", "pytorch/examples, BSD-3-Clause"]

    status, out, err = run(capsys, "import", source, "-o", "candy.safetensors", *told)

    assert (status, err) == (0, "")
    assert out.startswith("candy.safetensors: a network of pytorch/examples fast_neural_style, 8, 12, 16 channels, 5 b")
    found = json.loads(run(capsys, "info", "candy.safetensors", "--json")[1])
    sha = hashlib.sha256(source.read_bytes()).hexdigest()
    assert found["style"] == {"name": "candy", "credit": "pytorch/examples, BSD-3-Clause"}
    assert found["origin"] == {
        "project": "pytorch/examples fast_neural_style",
        "family": "pytorch-examples",
        "file": "style.pth",
        "sha256": sha,
    }
    assert "family pytorch-examples" in run(capsys, "info", "candy.safetensors")[1]
    painted = run(capsys, "stylize", PHOTOS / "cat.jpg", "-o", "out.png", "--max-size", 64, "-s", "candy.safetensors")
    assert painted == (0, "out.png\n", "")


def test_a_folder_has_one_checksum_over_all_its_files(originals, tmp_path):
    net, source, checkpoint = originals("lengstrom")
    before = load_checkpoint(checkpoint)[1].origin["sha256"]
    assert before == load_checkpoint(import_model(source, tmp_path / "a.safetensors").path)[1].origin["sha256"]
    changed = {**net.variables, "Variable_1": net.variables["Variable_1"] + 1}

    other = import_model(dump(changed, tmp_path / "wave"), tmp_path / "b.safetensors")

    assert load_checkpoint(other.path)[1].origin["sha256"] != before


# release test 45
class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def payload(kind, target, folder):
    path = folder / "evil.pth"
    content = {"conv1.conv2d.weight": torch.zeros(1), "x": Payload(target)}
    if kind == "raw":
        path.write_bytes(pickle.dumps(content["x"], 2))
    elif kind == "in a name":
        torch.save({Wicked(target): torch.zeros(1)}, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    return path


class Wicked(str):
    """A key that runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, (f"touch {self}",)


# release test 45
@pytest.mark.parametrize("kind", ["zip", "legacy", "raw", "in a name"])
def test_a_pickle_that_runs_code_is_refused_and_not_run(capsys, tmp_path, kind):
    target = tmp_path / "payload"
    source = payload(kind, target, tmp_path)

    with pytest.raises(UnsafeModelError, match=r"runs code of its own \((posix|nt)\.system\)"):
        import_model(source, tmp_path / "a.safetensors")

    assert not target.exists()
    status, _, err = run(capsys, "import", source, "-o", tmp_path / "a.safetensors")
    assert (status, err.count("\n"), target.exists()) == (4, 1, False)
    assert not (tmp_path / "a.safetensors").exists()


# release test 44
@pytest.mark.parametrize("kind", ["zip", "legacy", "raw"])
def test_a_pickle_given_as_a_style_is_refused_and_not_run(capsys, tmp_path, kind):
    target = tmp_path / "payload"
    source = payload(kind, target, tmp_path)

    status, _, err = run(capsys, "stylize", PHOTOS / "cat.jpg", "-o", tmp_path / "out.png", "--style", source)

    assert (status, target.exists(), (tmp_path / "out.png").exists()) == (4, False, False)
    assert "fastnst import" in err


def damaged(kind, whole):
    """A damaged version of what torch saved."""
    return {
        "empty": b"",
        "one byte": whole[:1],
        "cut": whole[: len(whole) // 2],
        "almost whole": whole[:-30],
        "garbage": np.random.default_rng(0).bytes(5000),
        "text": b"<html>not found</html>",
        "zeros": bytes(4096),
    }[kind]


# release test 46
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", ["empty", "one byte", "cut", "almost whole", "garbage", "text", "zeros"])
def test_a_damaged_file_is_refused(originals, tmp_path, kind, legacy):
    net, _, _ = originals("pytorch-examples")
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer, _use_new_zipfile_serialization=not legacy)
    source = tmp_path / "a.pth"
    source.write_bytes(damaged(kind, buffer.getvalue()))

    with pytest.raises(ModelError, match="damaged") as caught:
        import_model(source, tmp_path / "b.safetensors")

    assert not isinstance(caught.value, UnsafeModelError)
    assert not (tmp_path / "b.safetensors").exists()


# release test 46
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_whole_network_is_refused_with_how_to_save_it_instead(tmp_path, legacy):
    torch.save(Examples("upsample_conv", times=2), tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)

    with pytest.raises(ModelError, match=r"networks\.Examples\); .*torch\.save\(network\.state_dict\(\), FILE\)"):
        import_model(tmp_path / "a.pth", tmp_path / "b.safetensors")


def test_an_archive_that_would_fill_the_memory_is_refused(tmp_path):
    for name in ("a.pth", "a.npz"):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", bytes(300 << 20))

        with pytest.raises(ModelError, match="unpacks to more than 256 MiB"):
            import_model(tmp_path / name, tmp_path / "b.safetensors")


def test_a_weight_that_claims_more_than_the_file_holds_is_refused(originals, tmp_path):
    net, _, _ = originals("pytorch-examples")
    weights = {**net.state_dict(), "conv1.conv2d.weight": torch.zeros(1).expand(1 << 20, 3, 9, 9)}
    torch.save(weights, tmp_path / "a.pth")

    with pytest.raises(ModelError, match="more weights than any style has"):
        import_model(tmp_path / "a.pth", tmp_path / "b.safetensors")


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


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "has no manifest.json"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "is not deeplearn.js's"),
        (lambda folder: (folder / "manifest.json").write_text('["Variable"]'), "is not deeplearn.js's"),
        (lambda folder: (folder / "Variable_3").write_bytes(bytes(7)), "Variable_3 has 7 bytes but"),
        (lambda folder: (folder / "Variable_3").unlink(), "cannot read .*Variable_3"),
        (
            lambda folder: (folder / "manifest.json").write_text(
                json.dumps({"Variable": {"filename": "../secret", "shape": [1]}})
            ),
            "the manifest's entry Variable is none",
        ),
    ],
    ids=["no manifest", "broken", "a list", "short", "missing", "outside"],
)
def test_a_damaged_folder_is_refused(originals, tmp_path, change, reason):
    folder = dump(originals("lengstrom")[0].variables, tmp_path / "wave")
    (tmp_path / "secret").write_bytes(bytes(4))
    change(folder)

    with pytest.raises(InputError, match=reason):
        import_model(folder, tmp_path / "a.safetensors")


def test_an_npz_file_with_pickles_in_it_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", Variable=np.array([Payload(tmp_path / "payload")], dtype=object))

    with pytest.raises(ModelError, match="plain arrays"):
        import_model(tmp_path / "a.npz", tmp_path / "a.safetensors")

    assert not (tmp_path / "payload").exists()


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
    options = EvaluateOptions(content=PHOTOS, painting=PAINTINGS, device="cpu")

    with pytest.raises(
        ModelError, match=r"imported and does not say with which loss .*--loss relative --painting FILE"
    ):
        evaluate([checkpoint], photos, options)
    with pytest.raises(ModelError, match="--painting FILE"):  # a folder cannot tell which painting
        evaluate([checkpoint], photos, replace(options, loss="relative"))


def test_an_imported_style_is_evaluated_with_the_loss_that_is_given(originals):
    _, _, checkpoint = originals("pytorch-examples")
    painting = PAINTINGS / "great-wave.jpg"
    given = EvaluateOptions(content=PHOTOS, painting=painting, device="cpu", loss="paper", style_size=64, size=64)

    (found,) = evaluate([checkpoint], {"cat": photo(64, 64)}, given)

    assert (found.settings.loss, found.settings.weights) == ("paper", DEFAULT_WEIGHTS["paper"])
    assert (found.settings.style_size, found.settings.style_layers) == (64, TrainConfig.style_layers)
    assert np.isfinite(found.mean["total"])
