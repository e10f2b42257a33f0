"""The Inception networks of torchvision by module name, beside the VGGs: what DeepDream was first dreamed with.

No other module knows the values they want.
"""

from bisect import bisect_left
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastnst.errors import ModelError, UsageError
from fastnst.vgg import VGGFeatures, check_size, torchvision_weights

NETWORKS = ("inception_v3", "googlenet")

_LARGEST_NEED = 300  # pixels; both were made for pictures of 224 or 299


class InceptionFeatures(nn.Module):
    """Frozen GoogLeNet or Inception v3: (N, 3, H, W) RGB 0..1 -> {"inception4c": (N, 512, H/16, W/16), ...}.

    Layers are torchvision's modules before the classifier, in depth order. Weights are torchvision's. Modules run one
    after the other, as both networks are built, and not by torchvision's `create_feature_extractor`, which would trace
    the network again (0.3 to 1.2 seconds) for each layer that a call may stop at and replace no more than that loop.

    Raises UsageError for a layer the network does not have, ModelError for weights that do not fit, and
    UnavailableError if they are neither cached nor can be downloaded.
    """

    def __init__(self, layers: Sequence[str], network: str) -> None:
        super().__init__()
        with torch.device("meta"):
            model = _model(network)
        modules = dict(model.named_children())
        names = list(modules)
        self.names = [name for name in names[: names.index("avgpool")] if not name.lower().startswith("aux")]
        unknown = sorted(set(layers) - set(self.names))
        if unknown or not layers:
            raise UsageError(
                f"unknown {network} layer {', '.join(unknown) or '(none)'}; choose from {', '.join(self.names)}"
            )
        self.layers = tuple(name for name in self.names if name in layers)
        depth = self.names.index(self.layers[-1]) + 1
        self.body = nn.ModuleDict({name: modules[name] for name in self.names[:depth]})
        self.eval().requires_grad_(False)
        self._smallest = {layer: self._find_smallest(layer) for layer in self.layers}
        _load(model, self.body, network)

    def forward(self, images: Tensor, layers: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Features of all layers, or of some of them."""
        wanted = self.layers if layers is None else tuple(layers)
        deepest = max(wanted, key=self.names.index)
        check_size(images, deepest, self.smallest(deepest))
        return self._features(images, wanted, deepest)

    def smallest(self, layer: str) -> int:
        """The side in pixels of the smallest picture that has features there."""
        return self._smallest[layer]

    def _features(self, images: Tensor, wanted: Sequence[str], deepest: str) -> dict[str, Tensor]:
        x = images * 2 - 1
        features = {}
        for name, module in self.body.items():
            x = module(x)
            if name in wanted:
                features[name] = x
            if name == deepest:
                break
        return features

    def _find_smallest(self, layer: str) -> int:
        """By trial, on the meta device, which computes shapes alone."""

        def fits(size: int) -> bool:
            try:
                self._features(torch.empty(1, 3, size, size, device="meta"), (layer,), layer)
            except RuntimeError:
                return False
            return True

        return bisect_left(range(_LARGEST_NEED), True, lo=1, key=fits)


Features = VGGFeatures | InceptionFeatures


def open_features(network: str, layers: Sequence[str]) -> Features:
    """The network of that name, or a VGG from a safetensors file; see the classes for errors."""
    return InceptionFeatures(layers, network) if network in NETWORKS else VGGFeatures(layers, network)


def _model(network: str) -> nn.Module:
    from torchvision.models import get_model

    model: nn.Module = get_model(network, weights=None, init_weights=False)
    return model


def _load(model: nn.Module, body: nn.Module, network: str) -> None:
    try:
        model.load_state_dict(torchvision_weights(network), strict=False, assign=True)
    except RuntimeError as error:
        raise ModelError(f"torchvision's weights for {network} are other ones; remove them from its cache") from error
    missing = [name for name, tensor in body.state_dict().items() if tensor.is_meta]
    if missing:
        raise ModelError(f"torchvision's weights for {network} lack {missing[0]}; remove them from its cache")
    body.requires_grad_(False)
