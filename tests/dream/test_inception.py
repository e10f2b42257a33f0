from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import nn
from torchvision.models import get_model, get_model_weights

from fastnst.dream.inception import NETWORKS, InceptionFeatures, open_features
from fastnst.errors import InputError, ModelError, UnavailableError, UsageError
from fastnst.vgg import VGGFeatures

FILES = {network: Path(get_model_weights(network)["IMAGENET1K_V1"].url).name for network in NETWORKS}


def cache(folder: Path, network: str, weights: dict[str, torch.Tensor]) -> None:
    """Put weights where torchvision looks for its own."""
    (folder / "hub" / "checkpoints").mkdir(parents=True, exist_ok=True)
    torch.save(weights, folder / "hub" / "checkpoints" / FILES[network])


def random_model(network: str) -> nn.Module:
    torch.manual_seed(0)
    return get_model(network, weights=None, init_weights=False).eval().requires_grad_(False)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of torchvision's, and no net."""

    def no_network(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", no_network)
    return tmp_path


@pytest.mark.parametrize("network", NETWORKS)
def test_features_are_those_of_torchvisions_model(hub, network):
    model = random_model(network)
    model.transform_input = True  # as torchvision sets it with its weights: from ImageNet's normalization to -1..1
    cache(hub, network, model.state_dict())
    seen = {}
    for name, module in model.named_children():
        module.register_forward_hook(lambda _, __, output, name=name: seen.__setitem__(name, output))
    image = torch.rand(1, 3, 80, 96, generator=torch.Generator().manual_seed(1))
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)

    model((image - mean) / std)
    names = InceptionFeatures(["maxpool1"], network).names
    features = InceptionFeatures(names, network)(image)

    assert list(features) == names
    assert len(names) > 12
    for name in names:
        tolerance = 1e-4 * float(seen[name].abs().max())  # float32 in another order
        torch.testing.assert_close(features[name], seen[name], rtol=1e-4, atol=tolerance)


def test_layers_may_be_asked_for_again_and_stop_at_the_deepest(hub):
    cache(hub, "googlenet", random_model("googlenet").state_dict())
    features = open_features("googlenet", ["inception4a", "conv1"])

    assert list(features.body)[-1] == "inception4a"
    assert list(features(torch.zeros(1, 3, 32, 32), ["conv1"])) == ["conv1"]


def test_smallest_size_is_the_smallest_that_works(hub):
    cache(hub, "inception_v3", random_model("inception_v3").state_dict())
    features = open_features("inception_v3", ["Mixed_7a"])

    assert features.smallest("Mixed_7a") == 75
    assert features(torch.zeros(1, 3, 75, 75))["Mixed_7a"].shape == (1, 1280, 1, 1)
    with pytest.raises(InputError, match="image is 90x74 but Mixed_7a needs at least 75x75"):
        features(torch.zeros(1, 3, 74, 90))


@pytest.mark.parametrize(("network", "right"), [("googlenet", "inception4c"), ("inception_v3", "Mixed_5b")])
def test_unknown_layer_lists_the_right_ones_before_any_download(hub, network, right):
    with pytest.raises(UsageError, match=rf"unknown {network} layer relu3_3; choose from .*{right}.*") as caught:
        open_features(network, ["relu3_3"])

    assert not any(name in str(caught.value).lower() for name in ("aux", "avgpool", "fc"))


@pytest.mark.parametrize("network", NETWORKS)
def test_missing_weights_say_which_file_to_put_where(hub, network):
    with pytest.raises(UnavailableError) as caught:
        open_features(network, ["maxpool1"])

    assert get_model_weights(network)["IMAGENET1K_V1"].url in str(caught.value)
    assert str(hub / "hub" / "checkpoints") in str(caught.value)


@pytest.mark.parametrize("weights", [{}, {"conv1.conv.weight": torch.zeros(1)}])
def test_foreign_weights_are_refused(hub, weights):
    cache(hub, "googlenet", weights)

    with pytest.raises(ModelError, match="googlenet"):
        open_features("googlenet", ["conv1"])


def test_other_names_are_those_of_vggs():
    assert isinstance(open_features("bundled", ["relu1_1"]), VGGFeatures)
