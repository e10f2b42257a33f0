import hashlib
import re
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fastnst.errors import InputError, ModelError, UnavailableError, UsageError
from fastnst.vgg import BUNDLED, VGGFeatures, layer_names

MEANS = torch.tensor([123.68, 116.779, 103.939]).view(3, 1, 1)
IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
IMAGENET_STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def torchvision_features(network: str, weights: dict[str, Tensor]) -> nn.Sequential:
    with torch.device("meta"):  # the classifier's 120 million weights are not needed
        features = torchvision.models.get_model(network, weights=None).features
    own = {key.removeprefix("features."): tensor.float() for key, tensor in weights.items()}
    features.load_state_dict(own, strict=True, assign=True)
    return features.requires_grad_(False).eval()


def all_values(features: nn.Sequential, x: Tensor) -> list[Tensor]:
    values = []
    for module in features:
        x = module(x)
        values.append(x.clone())  # because torchvision's ReLU works in place
    return values


def random_weights(network: str) -> dict[str, Tensor]:
    with torch.device("meta"):
        shapes = torchvision.models.get_model(network, weights=None).features.state_dict()
    random = torch.Generator().manual_seed(0)
    weights = {}
    for key, tensor in shapes.items():
        fan_in = tensor[0].numel()
        scale = 0.1 if key.endswith("bias") else (2 / fan_in) ** 0.5
        weights[f"features.{key}"] = (scale * torch.randn(tensor.shape, generator=random)).half()
    return weights


def assert_close_at_every_layer(ours: dict[str, Tensor], theirs: list[Tensor], names: list[str]) -> None:
    for name, expected in zip(names, theirs, strict=True):
        tolerance = 1e-4 * float(expected.abs().max())  # float32 sums in another order
        torch.testing.assert_close(ours[name], expected, rtol=1e-4, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


@pytest.fixture(scope="module")
def bundled_weights():
    with safe_open(BUNDLED, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def test_bundled_vgg16_equals_torchvisions_module_at_every_layer(bundled_weights):
    image = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    names = layer_names()

    ours = VGGFeatures(names)(image)

    theirs = all_values(torchvision_features("vgg16", bundled_weights), image * 255 - MEANS)
    assert_close_at_every_layer(ours, theirs, names)


def test_bundled_weights_are_the_published_ones(bundled_weights):
    table = (BUNDLED.parent / "LICENSE.md").read_text()
    rows = re.findall(r"^\| (features\S+) \| (\[[\d, ]+\]).*? \| (-?[\d.]+) \|$", table, re.MULTILINE)

    for key, position, value in rows:
        index = tuple(int(number) for number in position.strip("[]").split(","))
        assert float(bundled_weights[key][index]) == pytest.approx(float(value), rel=5e-4)  # float16

    assert len(rows) == 7


def test_bundled_file_is_the_one_its_license_describes():
    text = (BUNDLED.parent / "LICENSE.md").read_text()

    assert hashlib.sha256(BUNDLED.read_bytes()).hexdigest() in text


def test_file_with_torchvisions_keys_takes_imagenet_normalized_input(tmp_path):
    weights = random_weights("vgg16")
    save_file(weights, tmp_path / "vgg.safetensors")
    image = torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    names = layer_names()

    ours = VGGFeatures(names, tmp_path / "vgg.safetensors")(image)

    theirs = all_values(torchvision_features("vgg16", weights), (image - IMAGENET_MEAN) / IMAGENET_STD)
    assert_close_at_every_layer(ours, theirs, names)


def test_vgg19_file_is_recognized_by_its_keys(tmp_path):
    weights = random_weights("vgg19")
    save_file(weights, tmp_path / "vgg19.safetensors")
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    names = layer_names("vgg19")

    ours = VGGFeatures(names, tmp_path / "vgg19.safetensors")(image)

    theirs = all_values(torchvision_features("vgg19", weights), (image - IMAGENET_MEAN) / IMAGENET_STD)
    assert_close_at_every_layer(ours, theirs, names)


@pytest.mark.parametrize(("network", "deepest"), [("vgg16", "conv5_3"), ("vgg19", "conv5_4")])
def test_layer_names_are_those_of_torchvisions_modules(network, deepest):
    with torch.device("meta"):
        modules = torchvision.models.get_model(network, weights=None).features
    kinds = {"conv": nn.Conv2d, "relu": nn.ReLU, "pool": nn.MaxPool2d}

    names = layer_names(network)

    assert [kinds[name[:4]] for name in names] == [type(module) for module in modules]
    assert names[-3] == deepest


def test_network_ends_at_the_deepest_layer_asked_for():
    assert len(VGGFeatures(["relu1_2", "relu2_2"]).body) == layer_names().index("relu2_2") + 1


def test_a_call_stops_at_the_deepest_layer_it_asks_for():
    features = VGGFeatures(["relu1_2", "relu4_3"])

    # One pixel would not survive the pooling that follows.
    assert list(features(torch.rand(1, 3, 1, 1), ["relu1_2"])) == ["relu1_2"]


def test_features_come_in_depth_order_whatever_the_order_asked_for():
    features = VGGFeatures(["relu2_2", "pool1", "relu1_1", "relu2_2"])

    assert list(features(torch.rand(1, 3, 16, 16))) == ["relu1_1", "pool1", "relu2_2"]


def test_features_have_the_widths_and_sizes_of_the_paper():
    features = VGGFeatures(["relu1_2", "relu2_2", "relu3_3", "relu4_3"])(torch.rand(2, 3, 32, 48))

    assert [tuple(values.shape) for values in features.values()] == [
        (2, 64, 32, 48),
        (2, 128, 16, 24),
        (2, 256, 8, 12),
        (2, 512, 4, 6),
    ]


def test_convolution_asked_for_keeps_its_values_from_before_the_relu():
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    values = VGGFeatures(["conv1_1", "relu1_1", "conv1_2", "relu1_2"])(image)

    assert float(values["conv1_1"].min()) < 0
    assert float(values["conv1_2"].min()) < 0
    torch.testing.assert_close(values["relu1_1"], values["conv1_1"].relu(), rtol=0, atol=0)
    torch.testing.assert_close(values["relu1_2"], values["conv1_2"].relu(), rtol=0, atol=0)


def test_average_pooling_is_the_mean_of_each_square_of_four():
    image = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(0))

    values = VGGFeatures(["relu1_2", "pool1"], pooling="average")(image)

    before = values["relu1_2"]
    mean = (before[..., ::2, ::2] + before[..., 1::2, ::2] + before[..., ::2, 1::2] + before[..., 1::2, 1::2]) / 4
    torch.testing.assert_close(values["pool1"], mean)


def test_padding_is_zeros_or_what_is_nearest_within_the_picture():
    names = ["relu1_1", "relu1_2", "relu3_3", "relu5_3"]
    gray = torch.full((1, 3, 32, 48), 0.3)
    photo = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    zeros, replicate = VGGFeatures(names), VGGFeatures(names, padding="replicate")
    larger = torch.nn.functional.pad(photo, (1, 1, 1, 1), "replicate")

    for name, values in replicate(gray).items():
        torch.testing.assert_close(values, values[..., :1, :1].expand_as(values), rtol=1e-4, atol=1e-4, msg=name)
    assert all(values.std((-1, -2)).max() > 0.01 for values in zeros(gray).values())
    torch.testing.assert_close(replicate(photo)["relu1_1"], zeros(larger)["relu1_1"][..., 1:-1, 1:-1])


def test_padding_of_another_name_is_an_error_that_lists_the_two():
    with pytest.raises(UsageError, match=r"padding.*zeros.*replicate"):
        VGGFeatures(["relu1_2"], padding="reflect")


def test_weights_are_frozen_and_the_image_gets_a_gradient():
    features = VGGFeatures(["relu1_2"])
    image = torch.rand(1, 3, 8, 8, requires_grad=True)

    features(image)["relu1_2"].sum().backward()

    assert not any(parameter.requires_grad for parameter in features.parameters())
    assert image.grad is not None


@pytest.mark.parametrize("layers", [["relu1_3"], ["relu1_2", "features.3"], []])
def test_wrong_layer_name_is_an_error_that_lists_the_right_ones(layers):
    with pytest.raises(UsageError) as caught:
        VGGFeatures(layers)

    assert all(name in str(caught.value) for name in layer_names())


def test_image_too_small_is_an_error_that_says_the_smallest_size():
    features = VGGFeatures(["relu4_3"])

    with pytest.raises(InputError, match=r"12x7.*relu4_3 needs at least 8x8"):
        features(torch.rand(1, 3, 7, 12))


def test_smallest_size_named_is_enough():
    assert VGGFeatures(["relu4_3"])(torch.rand(1, 3, 8, 8))["relu4_3"].shape == (1, 512, 1, 1)


def test_weights_of_another_network_are_an_error_that_names_the_tensor(tmp_path):
    save_file({"features.0.weight": torch.zeros(8, 3, 3, 3)}, tmp_path / "other.safetensors")

    with pytest.raises(ModelError, match=r"other\.safetensors.*features.0.weight.*\(64, 3, 3, 3\)"):
        VGGFeatures(["relu1_1"], tmp_path / "other.safetensors")


@pytest.mark.parametrize("content", [None, b"", b"no tensors at all"])
def test_file_that_is_no_safetensors_file_is_a_model_error_with_its_path(tmp_path, content):
    path = tmp_path / "vgg.safetensors"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ModelError, match=r"vgg\.safetensors"):
        VGGFeatures(["relu1_1"], path)


@pytest.mark.parametrize(("vgg", "file"), [("torchvision", "vgg16-397923af.pth"), ("vgg19", "vgg19-dcbb9e9d.pth")])
def test_missing_torchvision_weights_say_which_file_to_put_where(tmp_path, monkeypatch, vgg, file):
    def no_network(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", no_network)

    with pytest.raises(UnavailableError) as caught:
        VGGFeatures(["relu1_1"], vgg)

    assert file in str(caught.value)
    assert str(Path(tmp_path, "hub", "checkpoints")) in str(caught.value)
